"""What every artifact store has in common: keys, digests, and how stored bytes fail.

ServiceError
└── ArtifactCorrupt               503  the bytes under a key are not those that were stored
    └── ArtifactMissing           503  nothing lies under the key

A key is made by the server, never by a client: segments of letters, digits, ``.``, ``_`` and
``-`` that begin with a letter or digit, joined by ``/``. No key may lie below another.
A digest reads ``sha-256:<64 hex digits>``.
"""

import errno
import hashlib
import hmac
import os
import re
import stat
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from app.kernel.errors import RangeNotSatisfiable, ServiceError, StorageFull, Unavailable

CHUNK = 1 << 20
TEMPORARY = ".temporary"
_DIGEST = re.compile(r"sha-256:[0-9a-f]{64}")
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

Source = Path | bytes | Iterator[bytes]


class ArtifactCorrupt(ServiceError):
    """The bytes under a key are not those that were stored; trying again does not help."""

    status, code, title = 503, "corrupt", "The stored artifact is corrupt"

    def __init__(self, reason: str, *, key: str = "") -> None:
        super().__init__(f"The stored artifact is corrupt: {reason}")
        self.key = key


class ArtifactMissing(ArtifactCorrupt):
    """Nothing lies under the key."""

    def __init__(self, key: str) -> None:
        super().__init__("it is missing from the store", key=key)


class NotRegular(ValueError):
    """What was to be read is no regular file."""


@dataclass(frozen=True)
class Stored:
    """One stored thing: what its row keeps of it."""

    key: str
    digest: str
    bytes: int


@dataclass(frozen=True)
class Listed:
    """One thing found in a store."""

    key: str
    bytes: int
    modified_at: datetime


def is_segment(name: str) -> bool:
    """Whether a name may stand between two slashes of a key."""
    return _SEGMENT.fullmatch(name) is not None


def segments_of(key: str) -> tuple[str, ...]:
    """The segments of a key; raises ValueError for what is not one."""
    segments = tuple(key.split("/"))
    if len(segments) > 16 or not all(map(is_segment, segments)):
        raise ValueError(f"not a storage key: {key[:80]!r}")
    return segments


def segments_of_prefix(prefix: str) -> tuple[str, ...]:
    """The segments of a folder of keys; the empty prefix is the whole store."""
    return segments_of(prefix) if prefix else ()


def end_of_range(size: int, start: int, end: int | None) -> int:
    """Where a range of ``size`` bytes really ends; raises RangeNotSatisfiable if it can't begin.

    The range of something empty is empty.
    """
    if start < 0 or start > size or (start == size and size > 0):
        raise RangeNotSatisfiable(extra={"size": size})
    return size if end is None else max(start, min(end, size))


class Digest:
    """The SHA-256 and size of bytes as they go by."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.bytes = 0

    def through(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same chunks, counted and digested."""
        for chunk in chunks:
            self._sha256.update(chunk)
            self.bytes += len(chunk)
            yield chunk

    def __str__(self) -> str:
        return f"sha-256:{self._sha256.hexdigest()}"

    def check(self, key: str, digest: str, size: int | None) -> None:
        """Raise ArtifactCorrupt unless these were the bytes of that digest (and size)."""
        if size is not None and size != self.bytes:
            raise ArtifactCorrupt(f"it has {self.bytes} bytes instead of {size}", key=key)
        if not hmac.compare_digest(str(self), checked_digest(digest)):
            raise ArtifactCorrupt("its bytes do not match their digest", key=key)


def checked_digest(digest: str) -> str:
    """The digest itself; raises ValueError if it is not spelt like one."""
    if not _DIGEST.fullmatch(digest):
        raise ValueError("a digest reads sha-256:<64 hex digits>")
    return digest


def digest_of(content: bytes) -> str:
    """The digest of bytes in memory."""
    return f"sha-256:{hashlib.sha256(content).hexdigest()}"


def chunks_of(source: Source) -> Iterator[bytes]:
    """The bytes to store, piece by piece.

    A path must name a regular file: what a sandboxed child left in its work folder may be a link
    to anywhere. Raises ValueError for anything else, Unavailable if it can't be read.
    """
    if isinstance(source, bytes):
        view = memoryview(source)
        return (bytes(view[at : at + CHUNK]) for at in range(0, len(view), CHUNK))
    if isinstance(source, Path):
        return _chunks_of_file(source)
    return source


def _chunks_of_file(path: Path) -> Iterator[bytes]:
    with disk_errors("The disk"):
        handle = open_regular(path)
    with os.fdopen(handle, "rb", buffering=0) as file:
        while True:
            with disk_errors("The disk"):
                chunk = file.read(CHUNK)
            if not chunk:
                return
            yield chunk


def open_regular(path: Path | str, *, folder: int | None = None) -> int:
    """A descriptor of a regular file, for reading.

    Raises NotRegular for a link, a folder, a pipe and the like; OSError as the system does.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotRegular("only a regular file can be stored") from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotRegular("only a regular file can be stored")
    return handle


@contextmanager
def disk_errors(what: str = "The artifact store") -> Generator[None]:
    """Turn the operating system's errors into ours; ``what`` is it that does not answer."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise StorageFull("No space left to keep it") from error
        reason = error.strerror or type(error).__name__
        raise Unavailable(f"{what} does not answer: {reason}") from error


def write_all(handle: int, chunk: bytes) -> None:
    """Write a chunk to a file descriptor, however many system calls it takes."""
    view = memoryview(chunk)
    while view:
        view = view[os.write(handle, view) :]


def write_checked(
    chunks: Iterable[bytes], key: str, digest: str, size: int | None, destination: Path
) -> None:
    """Write chunks to a file that appears only if they have that digest (and size).

    Raises ArtifactCorrupt, StorageFull or Unavailable; then nothing is left at the destination.
    """
    partial = destination.with_name(f"{destination.name}.{os.getpid()}.part")
    seen = Digest()
    try:
        with disk_errors():
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
            handle = os.open(partial, flags, 0o600)
        try:
            for chunk in seen.through(chunks):
                with disk_errors():
                    write_all(handle, chunk)
        finally:
            os.close(handle)
        seen.check(key, digest, size)
        with disk_errors():
            partial.replace(destination)
    finally:
        with suppress(OSError):
            partial.unlink()
