"""Whether an SQLite file is sound: looked at before it is used, and before a copy is kept.

SQLite itself notices damage only where it happens to read. A write-ahead log that was removed, and
with it what was acknowledged last, it does not notice at all. But it removes the log last when it
closes a file, so where the log's index is without its log, somebody else has removed that.
"""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from app.kernel.errors import DatabaseCorrupt

_HINT = "Restore a backup into an empty home: modelyard restore --home NEW_HOME FILE"
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_STEPS = 10_000


def is_damage(error: BaseException | None) -> bool:
    """Whether an error of SQLite says that the file's bytes are not what it wrote."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE


def check_sound(file: Path, *, deep: bool = False, seconds: float | None = None) -> None:
    """Raise DatabaseCorrupt where a file is damaged, or has lost its log; a missing one is sound.

    ``deep`` also compares the indexes with their tables. After ``seconds`` what has not been looked
    at is taken for sound.
    """
    if not file.exists():
        return
    log, index = (file.with_name(file.name + suffix) for suffix in ("-wal", "-shm"))
    if index.exists() and not log.exists():
        raise DatabaseCorrupt(
            f"{file} has lost its log {log.name}, and with it what was acknowledged last. {_HINT};"
            f" or remove {index}, and go on with what is left"
        )
    found = _look(file, "integrity_check" if deep else "quick_check", seconds)
    if found != "ok":
        raise DatabaseCorrupt(f"{file} is damaged: {found[:200]}. {_HINT}")


def _look(file: Path, check: str, seconds: float | None) -> str:
    """What the check says first, in one line; ``ok`` where it finds nothing, or not in time."""
    until = None if seconds is None else time.monotonic() + seconds
    uri = f"{file.resolve().as_uri()}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=20)) as opened:
            if until is not None:
                opened.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
            told = str(opened.execute(f"PRAGMA {check}(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            return str(error)
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            return "ok"
        raise DatabaseCorrupt(f"{file} can't be read: {error}. {_HINT}") from error
    return " ".join(told.split())
