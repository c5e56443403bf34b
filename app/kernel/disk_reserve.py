"""Room kept back on a disk, so that deleting works when it is full.

A database writes before it forgets: on a full disk not even a DELETE could be committed. So a file
of some megabytes lies beside the databases for nothing. Whoever deletes takes its room, where the
disk is short of it, and the last one gives it back. A lock on the file tells who is at it, in any
process of this host; it goes with the process.
"""

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from app.kernel.artifacts.stored import CHUNK
from app.kernel.errors import StorageFull, Unavailable

NAME = "reserve"
_LEAST_FREE = 1 << 20


class DiskReserve:
    """A file of ``size`` bytes on each disk that one of the folders lies on; 0: none."""

    def __init__(self, folders: Iterable[Path], size: int) -> None:
        disks: dict[int, Path] = {}
        for folder in folders:
            disks.setdefault(_device(folder), folder)
        self._folders = tuple(disks.values())
        self._size = size

    def take_back(self) -> None:
        """Fill the files up again, as far as there is room, unless somebody needs it."""
        for folder in self._folders if self._size else ():
            with suppress(OSError):
                _fill(folder, self._size)

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let the block have the room, where a disk is short of it."""
        short = [folder for folder in self._folders if _free(folder) < self._size]
        with ExitStack() as held:
            for folder in short:
                # Not there, or not to be opened: the block has to do without.
                with suppress(OSError):
                    held.enter_context(_emptied(folder / NAME))
            yield
        if short:
            self.take_back()

    def check(self) -> None:
        """Raise StorageFull where next to nothing can be written, Unavailable without a disk."""
        self.take_back()
        for folder in self._folders:
            try:
                free = shutil.disk_usage(folder).free
            except OSError as error:
                raise Unavailable(f"The disk does not answer: {error.strerror}") from error
            if free < _LEAST_FREE:
                raise StorageFull("No space left on the disk of the instance or the database")


def lending_to_deletions(app: WSGIApplication, reserve: DiskReserve) -> WSGIApplication:
    """The same app, whose DELETEs have the reserve's room."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "DELETE":
            return app(environ, start_response)
        with reserve.lent():
            return app(environ, start_response)

    return answer


def _fill(folder: Path, size: int) -> None:
    handle = os.open(folder / NAME, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        had = os.fstat(handle).st_blocks * 512
        if had >= size:
            return
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        room = min(size, had + shutil.disk_usage(folder).free)
        # A disk needs some of its last room for its own books: then a part is better than nothing.
        for wanted in (room, room * 3 // 4, room // 2):
            with suppress(OSError):
                _allocate(handle, wanted)
                return
    finally:
        os.close(handle)


def _allocate(handle: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, max(size, 1))
        return
    for place in range(0, size, CHUNK):
        os.pwrite(handle, bytes(min(CHUNK, size - place)), place)


@contextmanager
def _emptied(file: Path) -> Iterator[None]:
    handle = os.open(file, os.O_WRONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        os.ftruncate(handle, 0)
        yield
    finally:
        os.close(handle)


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def _device(folder: Path) -> int:
    """The disk of a folder, or of the nearest one above it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.stat().st_dev
