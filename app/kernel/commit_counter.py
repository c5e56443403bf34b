"""Whether anything has been committed to an SQLite file since one last looked, without a query.

``PRAGMA data_version`` differs when another connection has committed in between
(https://sqlite.org/pragma.html#pragma_data_version); the one that is asked here never writes. It
takes microseconds, where a query through the pool and the ORM takes more than a millisecond.
"""

import sqlite3
import threading
from contextlib import suppress
from pathlib import Path


class CommitCounter:
    """Thread-safe; opens the file when it is first asked."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._connections = 0

    def read(self) -> tuple[int, int] | None:
        """Numbers that stay the same as long as nobody commits; None where that can't be told."""
        with self._lock:
            try:
                if self._connection is None:
                    uri = f"{self._file.resolve().as_uri()}?mode=rw"
                    self._connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
                    self._connections += 1
                (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            except sqlite3.Error:
                self._forget()
                return None
            # Only numbers of one connection can be compared.
            return self._connections, version

    def close(self) -> None:
        """Let go of the file; it is opened again when asked again."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None
