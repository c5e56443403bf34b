"""Artifact stores: immutable bytes under keys that the server makes.

A row elsewhere keeps a thing's key, digest and size (``Stored``); the store keeps its bytes. What
is put is either all there or not there, and is never overwritten. What is read is checked against
the row's digest before it is believed.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from app.kernel.artifacts.folder import FolderStore
from app.kernel.artifacts.stored import (
    ArtifactCorrupt,
    ArtifactMissing,
    Digest,
    Listed,
    Source,
    Stored,
    digest_of,
)
from app.kernel.errors import ServiceError

__all__ = [
    "ArtifactCorrupt",
    "ArtifactMissing",
    "ArtifactStore",
    "Listed",
    "Source",
    "Stored",
    "check_bytes",
    "digest_of",
    "open_store",
    "put_all",
]


class ArtifactStore(Protocol):
    """Where artifacts are kept. Every method may raise Unavailable.

    A key that is not one (see ``stored.segments_of``) or an ill-spelt digest is a ValueError.
    Wherever bytes are read, a key without bytes is ArtifactMissing, and bytes of another digest
    or size are ArtifactCorrupt.
    """

    def put(self, key: str, source: Source) -> Stored:
        """Store a file's, a string's or an iterator's bytes under a new key.

        On return they have reached the disk. The same bytes again are accepted (a retry after an
        unknown outcome), other bytes are a Conflict. Raises StorageFull; an iterator's own error
        goes through. After any error nothing new lies under the key, or all of it.
        """

    def open(self, key: str, digest: str, *, size: int | None = None) -> bytes:
        """The bytes, read once and checked: what is returned is what was digested."""

    def fetch(self, key: str, digest: str, destination: Path, *, size: int | None = None) -> None:
        """Copy to a new file, in bounded memory; it appears only once it is checked."""

    def local_path(self, key: str, digest: str, *, size: int | None = None) -> Path | None:
        """The checked file itself for a reader that never writes, or None: then fetch it."""

    def stream(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from ``start`` up to, not including, ``end``, unchecked, in pieces.

        Raises RangeNotSatisfiable at once if nothing begins at ``start``. Close what has a
        ``close`` unless it is read to its end.
        """

    def delete(self, key: str) -> None:
        """Remove a key; no error if it isn't there."""

    def list(self, prefix: str = "") -> Iterator[Listed]:
        """Everything below a prefix of whole segments; unfinished things are never listed."""

    def free_bytes(self) -> int | None:
        """How many bytes still fit; None if the store does not say."""

    def check(self) -> None:
        """Raise Unavailable or StorageFull unless something can be put now."""

    def sweep_temporary(self, older_than: float) -> int:
        """Remove what writers that died left ``older_than`` seconds ago; how many things."""


def check_bytes(store: ArtifactStore, stored: Stored) -> None:
    """Raise ArtifactCorrupt unless these very bytes lie in the store; takes no memory."""
    seen = Digest()
    for _ in seen.through(store.stream(stored.key)):
        pass
    seen.check(stored.key, stored.digest, stored.bytes)


def put_all(store: ArtifactStore, sources: Mapping[str, Path]) -> list[Stored]:
    """Store files under new keys, all or none: what has no row would stay on a full disk."""
    try:
        return [store.put(key, source) for key, source in sources.items()]
    except ServiceError:
        for key in sources:
            with suppress(ServiceError):
                store.delete(key)
        raise


def open_store(url: str) -> ArtifactStore:
    """The store of a URL: ``file:///dir`` (taken literally) or ``s3://bucket/prefix``.

    Raises ValueError for any other URL, and for ``s3:`` when the extra ``s3`` is not installed.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "file" and rest.startswith("/"):
        return FolderStore(Path(rest))
    if scheme == "s3" and rest.partition("/")[0]:
        try:
            from app.kernel.artifacts.bucket import BucketStore  # noqa: PLC0415
        except ImportError as error:
            raise ValueError("an s3:// store needs `pip install modelyard[s3]`") from error
        bucket, _, prefix = rest.partition("/")
        return BucketStore(bucket, prefix.strip("/"))
    raise ValueError(f"{url!r} is no store: say file:///dir or s3://bucket/prefix")
