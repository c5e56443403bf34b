"""The stored bytes of versions: handed out only as they were signed, and told when they are not."""

import hmac
from functools import partial

from app.kernel.artifacts.store import ArtifactStore, check_bytes
from app.kernel.artifacts.stored import ArtifactCorrupt
from app.kernel.auth import Call
from app.kernel.changes import Changes
from app.kernel.errors import NotFound
from app.kernel.http.sendable import Sendable, sendable
from app.kernel.signing import KeyRing
from app.models.lookup import find_version, lock_version, refresh_newest
from app.models.tables import CORRUPT, FORMATS, READY, Artifact, Version


class Artifacts:
    """What can be done with the stored bytes."""

    def __init__(self, changes: Changes, ring: KeyRing, store: ArtifactStore) -> None:
        self._changes = changes
        self._ring = ring
        self._store = store

    def download(self, call: Call, model: str, number: int, format_: str) -> Sendable:
        """An artifact, its signature checked, and its bytes too where that is cheap.

        Raises NotFound; ArtifactCorrupt, after which the version is known to be corrupt;
        SecretRetired.
        """
        with self._changes.database.read() as session:
            version = find_version(session, call, model, number)
        found = [artifact for artifact in version.artifacts if artifact.format == format_]
        if not found:
            raise NotFound(f"{version.subject} has no artifact {format_}")
        on_fault = partial(self.mark_corrupt, call, version)
        try:
            found[0].identity(version).check(self._ring, found[0].mac)
        except ArtifactCorrupt as error:
            on_fault(error)
            raise
        name = f"{model}-{number}.{format_}"
        return sendable(self._store, found[0].stored, name, on_fault=on_fault)

    def verify(self, call: Call, model: str, number: int) -> Version:
        """Read all artifacts of a version and compare them with what was signed.

        A version whose bytes are wrong becomes ``corrupt``; one whose bytes were put back is
        ``ready`` again.
        """
        with self._changes.database.read() as session:
            version = find_version(session, call, model, number)
        if version.state not in (READY, CORRUPT):
            return version
        fault = self.fault_of(version)
        if fault is not None:
            return self.mark_corrupt(call, version, fault)
        return self.restore(call, version)

    def fault_of(self, version: Version, *, read: bool = True) -> ArtifactCorrupt | None:
        """The first thing wrong with a version's MACs and, with ``read``, with its bytes.

        Raises SecretRetired, Unavailable.
        """
        try:
            for artifact in version.artifacts:
                artifact.identity(version).check(self._ring, artifact.mac)
                if read:
                    check_bytes(self._store, artifact.stored)
        except ArtifactCorrupt as error:
            return error
        return None

    def mark_corrupt(self, call: Call, version: Version, fault: ArtifactCorrupt) -> Version:
        """Take a version out of service, once; the row as it is then. Raises NotFound."""
        return self._move(call, version, READY, CORRUPT, fault.detail)

    def restore(self, call: Call, version: Version) -> Version:
        """Take a corrupt version into service again; the row as it is then."""
        return self._move(call, version, CORRUPT, READY, None)

    def _move(
        self, call: Call, version: Version, before: str, after: str, detail: str | None
    ) -> Version:
        with self._changes.begin(call) as change:
            parent, row = lock_version(change.session, call, version.model, version.number)
            if row.id != version.id or row.state != before:
                return row
            row.state = after
            row.error = (
                None
                if detail is None
                else {"code": "corrupt", "detail": detail, "retryable": False}
            )
            refresh_newest(change.session, parent)
            change.record(
                "version.corrupt" if after == CORRUPT else "version.restored",
                row.subject,
                {"model": row.model, "version": row.number, "id": row.id},
            )
        return row


def sign(ring: KeyRing, version: Version, artifacts: list[Artifact]) -> None:
    """Vouch for artifacts whose bytes have been checked."""
    for artifact in artifacts:
        if artifact.format in FORMATS:
            artifact.mac = artifact.identity(version).sign(ring)


def is_signed_anew(ring: KeyRing, version: Version, artifact: Artifact) -> bool:
    """Whether the installation's present secret made the MAC, not an earlier one."""
    return hmac.compare_digest(artifact.mac, artifact.identity(version).sign(ring))
