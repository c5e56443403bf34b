"""Opening a version's artifacts: signature first, then the bytes, then their digest."""

from collections.abc import Mapping
from typing import Any

from app.kernel.artifacts.mac import ArtifactIdentity
from app.kernel.artifacts.store import ArtifactStore
from app.kernel.artifacts.stored import Stored
from app.kernel.errors import NotFound
from app.kernel.signing import KeyRing


class ArtifactReader:
    """Reads artifacts as the models service located them."""

    def __init__(self, store: ArtifactStore, ring: KeyRing) -> None:
        self._store = store
        self._ring = ring

    def open(self, location: Mapping[str, Any], format_: str) -> bytes:
        """The bytes of a version's artifact.

        Raises NotFound where the version has none of the format, ArtifactCorrupt where bytes or
        signature are wrong, SecretRetired.
        """
        found = [item for item in location["artifacts"] if item["format"] == format_]
        if not found:
            raise NotFound(f"{location['subject']} has no artifact {format_}")
        artifact = found[0]
        stored = Stored(artifact["key"], artifact["digest"], artifact["bytes"])
        identity = ArtifactIdentity(
            project=location["project"],
            owner=location["subject"],
            format=format_,
            stored=stored,
            library_versions=location["library_versions"],
        )
        identity.check(self._ring, artifact["mac"])
        return self._store.open(stored.key, stored.digest, size=stored.bytes)
