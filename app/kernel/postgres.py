"""A Postgres that may be away, busy or silent: every wait for it has an end.

One that is away refuses at once, and each request learns that by itself. One that is silent (a cut
line, a stopped server: nothing refuses, nothing answers) would hold every thread that asks it. So a
connection is tried before it is handed out, nothing is waited for without a bound, and once a wait
has ended without an answer nobody asks any more but one thread, until that one is answered.

The server ends what we left behind as well: a transaction whose client has fallen silent would keep
its locks, and with them every other writer, for hours.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import psycopg
import structlog
from psycopg.errors import ConnectionTimeout
from sqlalchemy import Engine, Table, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, DisconnectionError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from app.kernel.errors import Unavailable

CONNECT_SECONDS = 3
_PING_SECONDS = 2.0
_PROBE_PAUSE = 0.5
_UNHURRIED = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
# Of a line that is cut, the systems of both ends learn within ten seconds.
_KEEPALIVE = {"idle": 4, "interval": 2, "count": 3}
_TCP_MILLISECONDS = 10_000
log = structlog.get_logger("database")


@dataclass(frozen=True)
class Waits:
    """How long is waited for what, in seconds; all of it follows from the wait for a lock."""

    lock: float

    @property
    def statement(self) -> float:
        """For one statement, until the server gives it up."""
        return max(1.5 * self.lock, 5.0)

    @property
    def answer(self) -> float:
        """For an answer: longer than the server needs to say that it gives up."""
        return self.statement + 2.0

    @property
    def idle(self) -> float:
        """Within a transaction, for its next statement. Others wait for its locks longer."""
        return max(self.lock / 2, 5.0)


class Silence:
    """Whether the server is known not to answer; then only a thread of ours asks it.

    ``ask`` may raise what the server answers: a refusal is no silence.
    """

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._silent = False
        self._waited_in_vain = threading.Event()
        self._heard = -math.inf
        self._closed = threading.Event()

    @property
    def is_closed(self) -> bool:
        """Whether nobody is to ask any more."""
        return self._closed.is_set()

    def refuse(self) -> None:
        """Raise Unavailable while the server is silent."""
        if self._silent:
            raise Unavailable("The database doesn't answer", retry_after=2)

    def heard(self) -> None:
        """It has answered somebody."""
        self._heard = time.monotonic()

    def begin(self, since: float) -> None:
        """Somebody has waited in vain since then: unless others were answered meanwhile, ask only
        now and then from now on."""
        if self._heard > since:
            return
        self._waited_in_vain.set()
        with self._lock:
            if self._silent or self._closed.is_set():
                return
            self._silent = True
        log.warning("database_silent")
        threading.Thread(target=self._listen, daemon=True, name="database-probe").start()

    def close(self) -> None:
        """Ask no more."""
        self._closed.set()

    def _listen(self) -> None:
        while not self._closed.wait(_PROBE_PAUSE):
            self._waited_in_vain.clear()
            try:
                self._ask()
            except PoolTimeoutError:
                continue
            except (psycopg.Error, DBAPIError) as error:
                log.info("database_refuses", error=str(error))
            if not self._waited_in_vain.is_set():
                log.warning("database_answers_again")
                break
        self._silent = False


class Connection(psycopg.Connection[Any]):
    """A connection on which no answer is waited for longer than ``patience`` seconds."""

    patience: float | None = None
    given_up: bool = False
    silence: Silence | None = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """The driver's, with a bound where it has none; past it the connection is closed."""
        bound = self.patience if timeout is None else timeout
        since = time.monotonic()
        try:
            return super().wait(gen, interval, bound)
        except psycopg.OperationalError:
            if bound is not None and time.monotonic() - since >= bound and not self.closed:
                # Whatever comes over it later belongs to a question that nobody asks any more.
                self.pgconn.finish()
                self.given_up = True
                if self.silence is not None:
                    self.silence.begin(since)
            raise

    def ping(self) -> None:
        """Raises psycopg.Error unless the server answers soon."""
        self.patience = _PING_SECONDS
        self.execute("SELECT 1")
        self.rollback()

    @classmethod
    def opened(cls, arguments: dict[str, Any], silence: Silence) -> Self:
        """A new connection; a server that doesn't answer in time is silent."""
        since = time.monotonic()
        try:
            made = cls.connect(**arguments)
        except ConnectionTimeout:
            silence.begin(since)
            raise
        made.silence = silence
        return made


def postgres_engine(
    url: URL, waits: Waits, *, pool_size: int, pool_timeout: float
) -> tuple[Engine, Silence]:
    """An engine whose every wait is bounded, and what knows whether the server answers."""
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=64,
        pool_timeout=pool_timeout,
        connect_args=_arguments(waits),
    )

    def ask() -> None:
        # Over a connection that is there, if there is one: another costs a busy server many times
        # as much as an answer does, and may be what it has no room or no time for.
        engine.connect().close()
        if silence.is_closed:
            engine.dispose()

    silence = Silence(ask)

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, _places: Any, arguments: dict[str, Any]) -> Connection:
        return Connection.opened(arguments, silence)

    @event.listens_for(engine, "checkout")
    def check(connection: Connection, record: Any, _proxy: Any) -> None:
        try:
            if not record.info.pop("fresh", False):
                connection.ping()
        except psycopg.Error as error:
            if connection.given_up:
                # The others may be good: to make them all anew would keep a slow server busy.
                raise DisconnectionError("the server is silent") from error
            raise InvalidatePoolError("the server has gone") from error
        silence.heard()
        connection.patience = waits.answer

    @event.listens_for(engine, "connect")
    def mark(connection: Connection, record: Any) -> None:
        # The answer to connecting is news enough.
        connection.patience = waits.answer
        record.info["fresh"] = True

    return engine, silence


def take_time(session: Session) -> None:
    """Lift the bounds from a transaction that may last long, or wait long for its turn."""
    for name in _UNHURRIED:
        session.execute(text(f"SET LOCAL {name} = 0"))
    connection: Any = session.connection().connection.dbapi_connection
    connection.patience = None


def copy_in(session: Session, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add many rows in a third of the time that inserts take; all name the same columns."""
    columns = list(rows[0])
    quote = session.get_bind().dialect.identifier_preparer.quote
    names = ", ".join(map(quote, columns))
    connection: Any = session.connection().connection.dbapi_connection
    statement = f"COPY {quote(table.name)} ({names}) FROM STDIN"
    try:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row([row[column] for column in columns])
    except psycopg.Error as error:
        # As SQLAlchemy would have said it.
        raise DBAPIError.instance(statement, None, error, psycopg.Error) from error


def _arguments(waits: Waits) -> dict[str, Any]:
    """What libpq and the server's session are told."""
    told = {
        "timezone": "UTC",
        "lock_timeout": int(waits.lock * 1000),
        "statement_timeout": int(waits.statement * 1000),
        "idle_in_transaction_session_timeout": int(waits.idle * 1000),
        **{f"tcp_keepalives_{name}": value for name, value in _KEEPALIVE.items()},
        "tcp_user_timeout": _TCP_MILLISECONDS,
    }
    return {
        "connect_timeout": CONNECT_SECONDS,
        "keepalives": 1,
        **{f"keepalives_{name}": value for name, value in _KEEPALIVE.items()},
        "tcp_user_timeout": _TCP_MILLISECONDS,
        "options": " ".join(f"-c {name}={value}" for name, value in told.items()),
    }
