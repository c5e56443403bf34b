"""Copies of SQLite files that are being written to, all as of the same moment.

In order: the write lock of each file is taken, a reader of each begins, the locks are let go. So
the readers see the files at one moment, at which nobody was between a write to one and a write to
another; they are copied while the writers go on.
"""

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from app.kernel.errors import StorageFull, Unavailable
from app.kernel.sqlite_files import check_sound

_TRY_SECONDS, _PAUSE_SECONDS = 1.0, 0.2


def copy_databases(
    files: Sequence[Path], folder: Path, *, patience: float = 60.0
) -> dict[Path, Path]:
    """Copy the files into a folder; the copy of each.

    Raises Unavailable when their write locks can't be had in ``patience`` seconds, or when a file
    is no database; DatabaseCorrupt when one is damaged; StorageFull when the folder's disk has no
    room.
    """
    with _translated(), ExitStack() as held:
        readers = [held.enter_context(closing(_opened(file))) for file in files]
        with _nobody_writing(files, patience):
            for reader in readers:
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
        copies = {}
        for number, (file, reader) in enumerate(zip(files, readers, strict=True)):
            copies[file] = folder / f"{number}.db"
            os.close(os.open(copies[file], os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            with closing(sqlite3.connect(copies[file])) as target:
                reader.backup(target)
            # Damage is copied like anything else: it must not take the place of a sound backup.
            check_sound(copies[file])
        return copies


def count_rows(file: Path) -> dict[str, int]:
    """How many rows each table of an SQLite file has."""
    with _translated(), closing(_opened(file)) as opened:
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        names = sorted(name for (name,) in opened.execute(query))
        return {
            name: int(opened.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0])  # noqa: S608 (our own tables)
            for name in names
        }


def _opened(file: Path) -> sqlite3.Connection:
    uri = f"{file.resolve().as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=_TRY_SECONDS, isolation_level=None)


@contextmanager
def _nobody_writing(files: Sequence[Path], patience: float) -> Iterator[None]:
    """Hold the write locks of several files; a single file is at one moment anyway."""
    if len(files) < 2:
        yield
        return
    until = time.monotonic() + patience
    with ExitStack() as held:
        writers = [held.enter_context(closing(_opened(file))) for file in files]
        while not _all_locked(writers):
            if time.monotonic() > until:
                raise Unavailable("The databases are too busy to be copied", retry_after=60)
            time.sleep(_PAUSE_SECONDS)
        yield


def _all_locked(writers: Sequence[sqlite3.Connection]) -> bool:
    """Lock all or none: who holds one and waits for another would wait for us."""
    try:
        for writer in writers:
            writer.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise
        for writer in writers:
            if writer.in_transaction:
                writer.execute("ROLLBACK")
        return False
    return True


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            raise StorageFull("There is no room for a copy of the database") from error
        raise Unavailable(f"The database can't be copied: {error}") from error
