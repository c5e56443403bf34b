"""Folders of this disk in which a process works on one thing, and their sweeping when it died.

Who works in a folder holds a lock on it, which goes with the process, whatever ends that. So a
folder that nobody holds is a leftover, and one that is held stays, however long the work takes.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.kernel.artifacts.stored import disk_errors
from app.kernel.errors import StorageFull
from app.kernel.sql import new_id

_SPARE_BYTES = 1 << 24


@contextmanager
def work_folder(root: Path, room: int = 0, name: str | None = None) -> Iterator[Path]:
    """A fresh folder below ``root`` for one piece of work; gone with all it holds at the end.

    What an earlier one of that name left goes first. Raises StorageFull when the disk can't take
    ``room`` bytes.
    """
    folder = root / (name or new_id())
    with disk_errors():
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if shutil.disk_usage(root).free < room + _SPARE_BYTES:
            raise StorageFull("No space left to keep it")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # A disk that knows no locks is never swept: see ``_is_held``.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def sweep_work(root: Path, older_than: float) -> int:
    """Remove folders that dead processes left ``older_than`` seconds ago; the count of them."""
    swept = 0
    if not root.is_dir():
        return swept
    for folder in root.iterdir():
        if _newest_change(folder) <= time.time() - older_than and not _is_held(folder):
            shutil.rmtree(folder, ignore_errors=True)
            swept += 1
    return swept


def _is_held(folder: Path) -> bool:
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _newest_change(folder: Path) -> float:
    changed = [0.0]
    for path in (folder, *folder.glob("*")):
        try:
            changed.append(path.lstat().st_mtime)
        except FileNotFoundError:
            # Its owner is just clearing it away: not ours to sweep.
            changed.append(time.time())
    return max(changed)
