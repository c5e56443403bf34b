"""One ``Database`` for SQLite and Postgres that behaves the same on both.

A write is one transaction: it begins by taking the write lock on SQLite (``BEGIN IMMEDIATE``, so
that a read can't turn into a lock error halfway), commits when the block returns and rolls back
when it raises. On Postgres the same code runs at READ COMMITTED, where reading a row and writing
it back loses updates: lock the row with ``with_for_update()`` (SQLite ignores it) or compare and
set with ``UPDATE .. WHERE row_version = :seen``.

Times are aware UTC datetimes, ids are UUIDv7 in their text form.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import (
    DateTime,
    Dialect,
    Engine,
    MetaData,
    TypeDecorator,
    create_engine,
    event,
    text,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.orm.exc import StaleDataError

from app.kernel.commit_counter import CommitCounter
from app.kernel.durable import make_folder
from app.kernel.errors import (
    DatabaseCorrupt,
    PreconditionFailed,
    ServiceError,
    StorageFull,
    Unavailable,
)
from app.kernel.sqlite_files import is_damage

LOCK_SECONDS = 20.0
_PLACE_SECONDS = 2.0
_EXCLUSIVE_SECONDS = 600.0
# SQLite's readers and writers together are fewer than the server's threads: while all of them wait,
# whoever needs no database is still answered.
_MORE_READERS, _MORE_WRITERS = 16, 32
_RETRY_SECONDS = 2

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "pk": "pk_%(table_name)s",
}


class KernelBase(DeclarativeBase):
    """The tables that every database of Modelyard has once: jobs, events, audit, idempotency."""

    metadata = MetaData(naming_convention=NAMING)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime, also on SQLite, which keeps no zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @property
    def python_type(self) -> type[datetime]:
        """What values are."""
        return datetime

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive time: nobody could tell what it means."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime has no place in a table")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give SQLite's naive values their zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def utc_now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)


def lease_holds(until: datetime | None, lease: timedelta, now: datetime | None = None) -> bool:
    """Whether a lease that a row names still holds.

    One that ends later than any taken now could, was taken before the clock was set back: nobody
    should wait for it.
    """
    now = now or utc_now()
    return until is not None and now < until <= now + 2 * lease


class _IdSource:
    """UUIDv7 with a counter, so that the ids of one process sort in the order they were made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self) -> str:
        # 48 bits of milliseconds and 12 bits of their fraction, never the same twice.
        with self._lock:
            ticks = max(time.time_ns() * 4096 // 1_000_000, self._last + 1)
            self._last = ticks
        milliseconds, fraction = divmod(ticks, 4096)
        chance = int.from_bytes(os.urandom(8)) >> 2
        number = milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | chance
        digits = f"{number:032x}"
        parts = digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]
        return "-".join(parts)


_OPEN = threading.local()


def in_transaction() -> bool:
    """Whether this thread is inside a ``write``."""
    return getattr(_OPEN, "depth", 0) > 0


_IDS = _IdSource()
os.register_at_fork(after_in_child=lambda: globals().update(_IDS=_IdSource()))


def new_id() -> str:
    """A UUIDv7 (RFC 9562) as text; later ids of one process sort after earlier ones."""
    return _IDS.next()


def _parsed(url: str) -> URL:
    """A URL of SQLite or Postgres; raises ValueError for any other, without telling it."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ValueError("it reads sqlite:///file or postgresql://host/name") from error
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ValueError(f"{parsed.get_backend_name()} is not offered: sqlite or postgresql")
    if parsed.get_backend_name() == "sqlite":
        return parsed.set(drivername="sqlite")
    if find_spec("psycopg") is None:
        raise ValueError("a Postgres needs `pip install modelyard[postgres]`")
    return parsed.set(drivername="postgresql+psycopg")


class Database:
    """A database by its SQLAlchemy URL, with one way to read and one way to write.

    ``lock_timeout`` is how many seconds a write waits for others; what else is waited for, and how
    long, follows from it.
    """

    def __init__(
        self, url: str, *, lock_timeout: float = LOCK_SECONDS, pool_size: int = 16
    ) -> None:
        parsed = _parsed(url)
        self.url = parsed
        self.dialect = parsed.get_backend_name()
        self.file = Path(str(parsed.database)) if self.dialect == "sqlite" else None
        self.lock_timeout = lock_timeout
        self._writer: Engine | None = None
        self._refuse: Callable[[], None] = lambda: None
        self._hang_up: Callable[[], None] = lambda: None
        self._commits = None if self.file is None else CommitCounter(self.file)
        if self.dialect == "sqlite":
            self.engine = self._sqlite(pool_size, immediate=False)
            self._writer = self._sqlite(pool_size, immediate=True)
        else:
            self.engine = self._postgres(pool_size)

    def _sqlite(self, pool_size: int, *, immediate: bool) -> Engine:
        if self.url.database in (None, "", ":memory:"):
            raise ValueError("SQLite needs a file: a database in memory is one per connection")
        make_folder(Path(str(self.url.database)).parent)
        engine = create_engine(
            self.url,
            pool_size=pool_size,
            max_overflow=_MORE_WRITERS if immediate else _MORE_READERS,
            pool_timeout=_PLACE_SECONDS,
            connect_args={"timeout": self.lock_timeout, "check_same_thread": False},
        )

        @event.listens_for(engine, "connect")
        def configure(connection: Any, _record: Any) -> None:
            # The driver would begin by itself, deferred; we say when and how.
            connection.isolation_level = None
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout={int(self.lock_timeout * 1000)}")
            _write_ahead(cursor, self.lock_timeout)
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute("PRAGMA foreign_keys=ON")
            cursor.close()

        @event.listens_for(engine, "begin")
        def begin(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

        return engine

    def _postgres(self, pool_size: int) -> Engine:
        from app.kernel.postgres import Waits, postgres_engine  # noqa: PLC0415 - an extra

        waits = Waits(self.lock_timeout)
        engine, silence = postgres_engine(
            self.url, waits, pool_size=pool_size, pool_timeout=_PLACE_SECONDS
        )
        self._refuse, self._hang_up = silence.refuse, silence.close
        return engine

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session in one transaction: committed on return, rolled back when the block raises.

        Raises Unavailable when the database can't be reached or its lock can't be had in time,
        StorageFull when it has no room, PreconditionFailed when a row changed under the block.
        """
        self._refuse()
        _OPEN.depth = getattr(_OPEN, "depth", 0) + 1
        try:
            engine = self._writer or self.engine
            with _translated(), Session(engine, expire_on_commit=False) as session:
                session.begin()
                yield session
                session.commit()
        finally:
            _OPEN.depth -= 1

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading: one snapshot on SQLite, and nothing is ever committed."""
        self._refuse()
        with _translated(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def exclusive(self, name: str) -> Iterator[Session]:
        """A write that waits for all others of the same name, on any host (migrations).

        It waits as long as they need, and may itself take long.
        """
        with ExitStack() as held:
            yield self._enter_exclusively(held, name)

    def _enter_exclusively(self, held: ExitStack, name: str) -> Session:
        until = time.monotonic() + _EXCLUSIVE_SECONDS
        while True:
            try:
                with ExitStack() as attempt:
                    session = attempt.enter_context(self.write())
                    self._take_turn(session, name)
                    held.push(attempt.pop_all())
                    return session
            except Unavailable as error:
                if not _is_locked(error.__cause__) or time.monotonic() > until:
                    raise

    def _take_turn(self, session: Session, name: str) -> None:
        """Get the lock: on SQLite by beginning, as all its writers do."""
        if self.dialect == "sqlite":
            session.connection()
            return
        from app.kernel.postgres import take_time  # noqa: PLC0415 - an extra

        take_time(session)
        lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
        session.execute(lock, {"name": name})

    def ping(self) -> None:
        """Raises Unavailable when the database doesn't answer."""
        with self.read() as session:
            session.execute(text("SELECT 1"))

    def commits(self) -> tuple[int, int] | None:
        """What stays the same as long as nobody commits, at next to no cost; None where that can't
        be told, as on Postgres."""
        return None if self._commits is None else self._commits.read()

    def close(self) -> None:
        """Give all connections back."""
        self._hang_up()
        if self._commits is not None:
            self._commits.close()
        self.engine.dispose()
        if self._writer is not None:
            self._writer.dispose()


def _write_ahead(cursor: sqlite3.Cursor, seconds: float) -> None:
    """Let readers read while somebody writes.

    Of two processes that open a new file at once, one is refused without having waited.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return


@contextmanager
def _translated() -> Iterator[None]:
    """Say what happened to the database in words that a client may hear."""
    try:
        yield
    except StaleDataError as error:
        raise PreconditionFailed("The resource was changed meanwhile") from error
    except IntegrityError:
        raise
    except DBAPIError as error:
        trouble = _trouble(error)
        if trouble is None:
            raise
        raise trouble from error
    except PoolTimeoutError as error:
        raise Unavailable("The database is overloaded", retry_after=_RETRY_SECONDS) from error


def _trouble(error: DBAPIError) -> ServiceError | None:
    """What a client is told of an error that is the database's; None: it is ours."""
    if is_damage(error.orig):
        return DatabaseCorrupt("The database is damaged: a backup must be restored")
    if _is_full(error.orig):
        return StorageFull("The database has no space left")
    if _is_locked(error):
        return Unavailable("The database is busy", retry_after=_RETRY_SECONDS)
    if error.connection_invalidated:
        return Unavailable("The database connection was lost", retry_after=_RETRY_SECONDS)
    passing = str(getattr(error.orig, "sqlstate", None) or "").startswith(_PASSING)
    if passing or isinstance(error, OperationalError):
        return Unavailable("The database can't be used right now", retry_after=_RETRY_SECONDS)
    return None


# Postgres: connection, read-only or timed-out transaction, rollback by the server, no resources,
# operator's intervention, system.
_PASSING = ("08", "25006", "25P", "40", "53", "57", "58")


def _is_full(error: BaseException | None) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return bool(code & 0xFF == sqlite3.SQLITE_FULL)
    return getattr(error, "sqlstate", None) == "53100" or "No space left" in str(error)


def _is_locked(error: BaseException | None) -> bool:
    """Whether somebody else held a lock of the database for too long."""
    told = getattr(error, "orig", None)
    busy = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    code = getattr(told, "sqlite_errorcode", None)
    return getattr(told, "sqlstate", None) == "55P03" or (code is not None and code & 0xFF in busy)
