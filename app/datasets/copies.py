"""Files that one process keeps for a while: copies of stored tables, and tables as text.

The files least recently asked for give way to new ones. Nothing here is needed: what is gone is
made again.
"""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from app.datasets.ports import LocalFile
from app.kernel.artifacts.store import ArtifactStore
from app.kernel.artifacts.stored import Stored, disk_errors
from app.kernel.errors import StorageFull

MOST_BYTES = 10 << 30


class Copies:
    """Files below a folder that belongs to this process alone."""

    def __init__(self, store: ArtifactStore, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        # What an earlier process left may have been cut short by its end.
        shutil.rmtree(folder, ignore_errors=True)
        self._store = store
        self._folder = folder
        self._most = most_bytes
        self._lock = threading.Lock()
        self._makers: dict[str, threading.Lock] = {}
        self._used: dict[str, int] = {}
        self._kept: dict[str, LocalFile] = {}

    @contextmanager
    def table(self, stored: Stored) -> Iterator[Path]:
        """A checked file of a stored table, which stays while the block runs.

        It is the store's own where that has some. Raises ArtifactCorrupt, Unavailable, StorageFull.
        """
        own = self._store.local_path(stored.key, stored.digest, size=stored.bytes)
        if own is not None:
            yield own
            return
        name = f"{stored.digest.removeprefix('sha-256:')}.table"
        with self._in_use(name):
            with self.maker(name):
                kept = self.kept(name) or self._fetched(stored, name)
            yield kept.path

    def kept(self, name: str) -> LocalFile | None:
        """The file of that name, if it is there."""
        with self._lock:
            if name in self._kept:
                self._kept[name] = self._kept.pop(name)
            return self._kept.get(name)

    def maker(self, name: str) -> threading.Lock:
        """A lock for those who make the file of that name, so that one of them does."""
        with self._lock:
            return self._makers.setdefault(name, threading.Lock())

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A path to write a new file to; what still lies there at the end is removed."""
        path = self._folder / f"draft-{uuid4()}"
        with disk_errors():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A new folder for what a query can't hold in memory; gone when the block ends.

        On a full disk it is not there: most queries do without.
        """
        path = self._folder / f"scratch-{uuid4()}"
        with suppress(StorageFull), disk_errors():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.mkdir(mode=0o700)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def keep(self, name: str, draft: Path, digest: str) -> LocalFile:
        """Give a finished draft its name, and let older files give way."""
        path = self._folder / name
        with disk_errors(), self._lock:
            kept = self._kept[name] = LocalFile(path, draft.stat().st_size, digest)
            draft.replace(path)
            for other in list(self._kept):
                if sum(found.bytes for found in self._kept.values()) <= self._most:
                    break
                if other != name and other not in self._used:
                    self._kept.pop(other).path.unlink(missing_ok=True)
        return kept

    def _fetched(self, stored: Stored, name: str) -> LocalFile:
        with self.draft() as draft:
            self._store.fetch(stored.key, stored.digest, draft, size=stored.bytes)
            return self.keep(name, draft, stored.digest)

    @contextmanager
    def _in_use(self, name: str) -> Iterator[None]:
        with self._lock:
            self._used[name] = self._used.get(name, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._used[name] -= 1
                if not self._used[name]:
                    del self._used[name]
