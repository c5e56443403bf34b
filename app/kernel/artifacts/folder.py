"""Artifacts in a folder of this machine.

How a file comes to be: it is written under ``.temporary/``, fsynced, hard-linked to its final name
(which fails if the name is taken), and the folder is fsynced. So a final name shows all bytes or
does not exist, whatever dies when. Folders have mode 0700, files 0600. Every step from the root
downwards refuses symbolic links, so nothing outside is ever read, written or deleted.
"""

import os
import shutil
import stat
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from app.kernel.artifacts.stored import (
    CHUNK,
    TEMPORARY,
    ArtifactCorrupt,
    ArtifactMissing,
    Digest,
    Listed,
    NotRegular,
    Source,
    Stored,
    chunks_of,
    disk_errors,
    end_of_range,
    is_segment,
    open_regular,
    segments_of,
    segments_of_prefix,
    write_all,
    write_checked,
)
from app.kernel.durable import make_folder
from app.kernel.errors import Conflict, Unavailable

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_REMEMBERED = 4096


class FolderStore:
    """An ArtifactStore in a local folder. The folder itself may be a link; nothing in it may."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        with disk_errors():
            make_folder(self._root)
        self._verified: dict[tuple[str, str], tuple[int, ...]] = {}

    def put(self, key: str, source: Source) -> Stored:
        """Store under a new key; the same bytes again are accepted, others are a Conflict."""
        segments = segments_of(key)
        seen = Digest()
        with _temporary_file(self._root) as (temporary, handle):
            for chunk in seen.through(chunks_of(source)):
                with disk_errors():
                    write_all(handle, chunk)
            with disk_errors():
                os.fsync(handle)
            stored = Stored(key, str(seen), seen.bytes)
            with disk_errors():
                _publish(self._root, temporary, segments, stored)
        return stored

    def open(self, key: str, digest: str, *, size: int | None = None) -> bytes:
        """The bytes under a key, read once and checked before they are handed over."""
        with _reading(self._root, key) as handle:
            found = os.fstat(handle).st_size
            if size is not None and found != size:
                raise ArtifactCorrupt(f"it has {found} bytes instead of {size}", key=key)
            seen = Digest()
            content = b"".join(seen.through(_pieces(handle, key, 0, found)))
        seen.check(key, digest, size)
        return content

    def fetch(self, key: str, digest: str, destination: Path, *, size: int | None = None) -> None:
        """Copy to a file that appears only once its bytes are checked."""
        with _reading(self._root, key) as handle:
            pieces = _pieces(handle, key, 0, os.fstat(handle).st_size)
            write_checked(pieces, key, digest, size, destination)

    def local_path(self, key: str, digest: str, *, size: int | None = None) -> Path | None:
        """The file itself, checked: for a reader that may be trusted not to write to it.

        The bytes are digested at first use, and again only if the file's inode, size or times
        have changed since.
        """
        with _reading(self._root, key) as handle:
            found = os.fstat(handle)
            state = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            if self._verified.get((key, digest)) != state:
                seen = Digest()
                for _ in seen.through(_pieces(handle, key, 0, found.st_size)):
                    pass
                seen.check(key, digest, size)
                while len(self._verified) >= _REMEMBERED:
                    self._verified.pop(next(iter(self._verified)), None)
                self._verified[key, digest] = state
        return self._root.joinpath(*segments_of(key))

    def stream(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from ``start`` up to, not including, ``end``; close it if not read out."""
        return FileRange(self._root, key, start, end)

    def delete(self, key: str) -> None:
        """Remove a key, and folders that have become empty; no error if it isn't there."""
        *folders, name = segments_of(key)
        absent = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
        with disk_errors(), suppress(*absent), _folder(self._root, folders) as folder:
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)
        with suppress(OSError, Unavailable):
            for depth in range(len(folders) - 1, -1, -1):
                with _folder(self._root, folders[:depth]) as folder:
                    os.rmdir(folders[depth], dir_fd=folder)

    def list(self, prefix: str = "") -> Iterator[Listed]:
        """Everything below a prefix (whole segments), in the order of names."""
        segments = segments_of_prefix(prefix)
        with disk_errors():
            yield from _listed(self._root, segments)

    def free_bytes(self) -> int | None:
        """How many bytes still fit."""
        with disk_errors():
            return shutil.disk_usage(self._root).free

    def check(self) -> None:
        """Raise StorageFull or Unavailable unless a file can be written and linked now."""
        name = f"check-{uuid.uuid4().hex}"
        with _temporary_file(self._root) as (temporary, handle), disk_errors():
            write_all(handle, b"x" * 4096)
            with _folder(self._root, [TEMPORARY]) as folder:
                os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
                os.unlink(name, dir_fd=folder)

    def sweep_temporary(self, older_than: float) -> int:
        """Remove what dead writers left behind ``older_than`` seconds ago; how many files."""
        limit, swept = time.time() - older_than, 0
        with disk_errors(), _folder(self._root, [TEMPORARY], create=True) as folder:
            for name, state in _entries(folder):
                if state.st_mtime <= limit:
                    with suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=folder)
                        swept += 1
        return swept


class FileRange:
    """An iterator over a part of a stored file; holds the file open until it ends or is closed."""

    def __init__(self, root: Path, key: str, start: int, end: int | None) -> None:
        self._handle = -1
        self._handle = _open_for_reading(root, key)
        try:
            stop = end_of_range(os.fstat(self._handle).st_size, start, end)
        except BaseException:
            self.close()
            raise
        self._pieces = _pieces(self._handle, key, start, stop)

    def __iter__(self) -> "FileRange":
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file; harmless when repeated."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def __del__(self) -> None:
        self.close()


@contextmanager
def _folder(root: Path, segments: Sequence[str], *, create: bool = False) -> Generator[int]:
    """A descriptor of a folder of the store, reached without following a link.

    Raises Unavailable if the store itself isn't there: nothing is missing from what isn't mounted.
    With ``create`` it is made where needed, and each entry on the way is brought to the disk: one
    that another process has just made may not have reached it yet.
    """
    with disk_errors():
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for segment in segments:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(segment, 0o700, dir_fd=handle)
                if segment != TEMPORARY:
                    os.fsync(handle)
            below = os.open(segment, _FOLDER, dir_fd=handle)
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _temporary_file(root: Path) -> Generator[tuple[str, int]]:
    """The name and descriptor of a new file under ``.temporary/``; removed at the end."""
    name = uuid.uuid4().hex
    with disk_errors(), _folder(root, [TEMPORARY], create=True) as folder:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        handle = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        yield name, handle
    finally:
        os.close(handle)
        with suppress(OSError, Unavailable), _folder(root, [TEMPORARY]) as folder:
            os.unlink(name, dir_fd=folder)


def _publish(root: Path, temporary: str, segments: Sequence[str], stored: Stored) -> None:
    """Give a finished temporary file its final name."""
    *folders, name = segments
    for _ in range(10):
        try:
            with (
                _folder(root, [TEMPORARY]) as source,
                _folder(root, folders, create=True) as target,
            ):
                _link(source, temporary, target, name, stored)
                os.fsync(target)
        except FileNotFoundError:
            # A delete that emptied the folder has just removed it: make it again.
            continue
        except NotADirectoryError as error:
            raise Conflict("A stored thing already lies above this key") from error
        return
    raise Unavailable("The artifact store is too busy to keep it")


def _link(source: int, temporary: str, target: int, name: str, stored: Stored) -> None:
    try:
        os.link(temporary, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except FileExistsError:
        if not _holds(target, name, stored.digest):
            raise Conflict("Other bytes are already stored under this key") from None
        # The same bytes again: ours take the name, because only of ours we know that they
        # have reached the disk.
        os.rename(temporary, name, src_dir_fd=source, dst_dir_fd=target)


def _holds(folder: int, name: str, digest: str) -> bool:
    """Whether a name is a regular file of just these bytes."""
    try:
        handle = open_regular(name, folder=folder)
    except NotRegular:
        return False
    with os.fdopen(handle, "rb", buffering=0) as file:
        seen = Digest()
        for _ in seen.through(iter(lambda: file.read(CHUNK), b"")):
            pass
    return str(seen) == digest


def _open_for_reading(root: Path, key: str) -> int:
    """A descriptor of a stored file; raises ArtifactMissing, ArtifactCorrupt, Unavailable."""
    *folders, name = segments_of(key)
    try:
        with disk_errors(), _absent_is_missing(key), _folder(root, folders) as folder:
            return open_regular(name, folder=folder)
    except NotRegular as error:
        raise ArtifactCorrupt("it is not a regular file", key=key) from error


@contextmanager
def _absent_is_missing(key: str) -> Generator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtifactMissing(key) from error


@contextmanager
def _reading(root: Path, key: str) -> Generator[int]:
    handle = _open_for_reading(root, key)
    try:
        yield handle
    finally:
        os.close(handle)


def _pieces(handle: int, key: str, start: int, stop: int) -> Iterator[bytes]:
    """The bytes of a file between two offsets; ArtifactCorrupt if it ends before."""
    while start < stop:
        with disk_errors():
            piece = os.pread(handle, min(CHUNK, stop - start), start)
        if not piece:
            raise ArtifactCorrupt("it ends too early", key=key)
        start += len(piece)
        yield piece


def _listed(root: Path, segments: tuple[str, ...]) -> Iterator[Listed]:
    try:
        with _folder(root, segments) as folder:
            found = sorted(_entries(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name, state in found:
        path = (*segments, name)
        if stat.S_ISREG(state.st_mode):
            modified = datetime.fromtimestamp(state.st_mtime, UTC)
            yield Listed("/".join(path), state.st_size, modified)
        elif stat.S_ISDIR(state.st_mode):
            yield from _listed(root, path)


def _entries(folder: int) -> list[tuple[str, os.stat_result]]:
    """What lies in a folder under names of ours, links not followed."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_segment(entry.name):
                with suppress(FileNotFoundError):
                    found.append((entry.name, entry.stat(follow_symlinks=False)))
    return found
