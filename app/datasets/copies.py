"""Local files of stored tables: the store's own where it has some, else copies that are kept."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.kernel.artifacts import ArtifactStore
from app.kernel.stored import Stored, disk_errors

MOST_BYTES = 10 << 30


class Copies:
    """Copies below a folder of one process: the ones least recently used give way."""

    def __init__(self, store: ArtifactStore, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        # What an earlier process left may have been cut short by its end.
        shutil.rmtree(folder, ignore_errors=True)
        self._store = store
        self._folder = folder
        self._most = most_bytes
        self._lock = threading.Lock()
        self._fetching: dict[str, threading.Lock] = {}
        self._used: dict[str, int] = {}
        self._kept: dict[str, int] = {}

    @contextmanager
    def local(self, stored: Stored) -> Iterator[Path]:
        """A checked file that stays while the block runs; raises ArtifactCorrupt, Unavailable."""
        own = self._store.local_path(stored.key, stored.digest, size=stored.bytes)
        if own is not None:
            yield own
            return
        with self._in_use(stored):
            yield self._fetched(stored)

    @contextmanager
    def _in_use(self, stored: Stored) -> Iterator[None]:
        with self._lock:
            self._used[stored.digest] = self._used.get(stored.digest, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._used[stored.digest] -= 1
                if not self._used[stored.digest]:
                    del self._used[stored.digest]

    def _fetched(self, stored: Stored) -> Path:
        path = self._path(stored.digest)
        with self._lock:
            fetching = self._fetching.setdefault(stored.digest, threading.Lock())
        with fetching:
            with self._lock:
                present = stored.digest in self._kept
                self._kept[stored.digest] = self._kept.pop(stored.digest, stored.bytes)
                if not present:
                    self._make_room()
            if not present:
                self._fetch(stored, path)
        return path

    def _fetch(self, stored: Stored, path: Path) -> None:
        try:
            with disk_errors():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._store.fetch(stored.key, stored.digest, path, size=stored.bytes)
        except BaseException:
            with self._lock:
                del self._kept[stored.digest]
            raise

    def _make_room(self) -> None:
        """Drop copies that nobody uses, the oldest first; the lock is held."""
        for digest in list(self._kept):
            if sum(self._kept.values()) <= self._most:
                return
            if digest not in self._used:
                del self._kept[digest]
                self._path(digest).unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest.removeprefix('sha-256:')}.parquet"
