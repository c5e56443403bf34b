"""What goes on while the database can't be reached, and for how long."""

import contextlib
import os
import signal
import time
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain

import psycopg
import pytest
from flask import g
from sqlalchemy import make_url, select, text, update

from app.access.lookup import KeyLookup, keys_of
from app.access.tables import Key
from app.kernel.audit import AuditRow, Denials
from app.kernel.auth import Call, key_digest, key_id_of, new_key
from app.kernel.errors import Conflict, Unavailable
from app.kernel.idempotency import Answer, IdempotencyStore
from app.kernel.long_work.views import events_answer
from app.kernel.postgres import Silence
from app.kernel.sql import Database, utc_now
from tests.faults.clients import until
from tests.faults.postgres import Line

pytestmark = pytest.mark.fault("F9")


@pytest.fixture
def line(postgres):
    with postgres.migrated() as found:
        url = make_url(found)
        line = Line(f"{url.query['host']}/.s.PGSQL.5432", url.database)
        yield line
        line.close()


@pytest.fixture
def database(line):
    database = Database(line.url, lock_timeout=2)
    yield database
    database.close()


def kept_key(database):
    """The id of a key in the table."""
    secret = new_key()
    row = Key(
        project="default",
        key_id=key_id_of(secret),
        name="k",
        digest=key_digest(secret),
        scopes=["models:read"],
        admin=False,
        created_by="test",
    )
    with database.write() as session:
        session.add(row)
    return row.key_id


def test_a_key_that_was_valid_is_believed_for_a_while_and_no_longer(line, database):
    lookup = KeyLookup(keys_of(database), seconds=0.0, believed=60.0)
    key_id = kept_key(database)
    found = lookup.find(key_id)
    with line.refusing():
        assert lookup.find(key_id) == found
        lookup._believed = 0.0
        with pytest.raises(Unavailable):
            lookup.find(key_id)
    assert lookup.find(key_id) == found


def test_a_key_that_was_revoked_stays_so_and_a_strange_one_is_no_ones(line, database):
    lookup = KeyLookup(keys_of(database), seconds=0.0)
    key_id = kept_key(database)
    assert not lookup.find(key_id).revoked
    with database.write() as session:
        session.execute(update(Key).values(revoked_at=utc_now()))
    assert lookup.find(key_id).revoked
    assert lookup.find("unknown1") is None
    with line.refusing():
        assert lookup.find(key_id).revoked
        for strange in ("unknown1", "unknown2"):
            with pytest.raises(Unavailable):
                lookup.find(strange)


@dataclass
class Work:
    """What is watched by a stream."""

    ended: bool
    progress: dict = field(default_factory=dict)


@dataclass
class Happened:
    """An event of it."""

    seq: int
    type: str
    time: datetime = field(default_factory=utc_now)
    data: dict = field(default_factory=dict)


def test_a_stream_of_events_goes_on_after_an_outage(sqlite_yard):
    """It broke off in the middle, without a word."""
    looks = iter([Unavailable(), Work(False), Unavailable(), Work(True)])
    news = iter([[Happened(1, "queued")], Unavailable(), [], [], [Happened(2, "succeeded")], []])

    def told(answers):
        answer = next(answers)
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    with sqlite_yard.app.test_request_context(headers={"Accept": "text/event-stream"}):
        g.call = sqlite_yard.call()
        first = chain([Work(False)], looks)
        stream = events_answer(lambda _: told(news), lambda: told(first), 0).get_data(as_text=True)
    assert [line for line in stream.splitlines() if line.startswith("event: ")] == [
        *("event: queued", "event: progress", "event: succeeded")
    ]


def test_a_refusal_that_can_not_be_noted_is_noted_with_the_next(line, database):
    """Without the database a request with a wrong key was 503 instead of 401."""
    now = [utc_now()]
    denials = Denials(database, clock=lambda: now[0])
    about = {"project": "", "key_id": "", "address": "1.2.3.4", "request_id": "r", "action": "a"}
    with line.refusing():
        for _ in range(3):
            denials.record(**about, code="unauthenticated")
    now[0] = utc_now().replace(year=now[0].year + 1)
    denials.record(**about, code="unauthenticated")
    with database.read() as session:
        assert list(session.scalars(select(AuditRow.count))) == [4]


def use(database, meanwhile):
    """A transaction in which something happens between two statements."""
    with database.write() as session:
        session.execute(update(Key).values(name="first"))
        meanwhile()
        session.execute(text("SELECT 1"))


def test_a_connection_that_has_died_is_never_handed_out(line, database):
    for _ in range(5):
        database.ping()
        line.cut()
    with pytest.raises(Unavailable, match="lost"):
        use(database, line.cut)
    database.ping()


@pytest.mark.fault("F30")
def test_a_key_whose_request_has_lost_the_database_is_free_for_the_retry(line, database):
    """It stayed held for a minute: the retry was 409 all that time."""
    keys = IdempotencyStore(database)
    call = Call("default", "testtest", frozenset(), "r")
    held = keys.reserve(call, "once", "request", lambda _: Answer(201, "{}", {}))
    with line.refusing():
        held.release()
    again = keys.reserve(call, "once", "request", lambda _: Answer(201, "{}", {}))
    with database.write() as session:
        again.complete(session, None)
    with pytest.raises(Conflict), database.write() as session:
        held.complete(session, None)
    answer = keys.reserve(call, "once", "request", lambda _: Answer(500, "", {}))
    assert answer == Answer(201, "{}", {})


@pytest.mark.fault("F30")
@pytest.mark.slow
def test_no_wait_for_an_answer_is_without_an_end(line, database):
    database.ping()
    with line.silent():
        since = time.monotonic()
        with pytest.raises(Unavailable):
            database.ping()
        assert time.monotonic() - since < 30
        since = time.monotonic()
        for _ in range(20):
            with pytest.raises(Unavailable, match="doesn't answer"):
                database.ping()
        assert time.monotonic() - since < 15
    until(lambda: answers(database), 30)


@pytest.mark.fault("F30")
@pytest.mark.slow
def test_a_statement_whose_answer_never_comes_ends(line, database):
    with contextlib.ExitStack() as silence:
        since = time.monotonic()
        with pytest.raises(Unavailable):
            use(database, lambda: silence.enter_context(line.silent()))
        assert time.monotonic() - since < 40
    until(lambda: answers(database), 30)


@pytest.mark.fault("F30")
@pytest.mark.slow
def test_an_answer_that_is_late_costs_no_connection_but_its_own(line, database):
    """A process whose Postgres was busy gave up all its connections for one late answer, and
    refused everything until it had got a new one, which a busy server makes last of all."""
    with database.read() as one, database.read() as other:
        kept, stopped = (backend(session) for session in (one, other))
    with line.full():
        os.kill(stopped, signal.SIGSTOP)
        try:
            with pytest.raises(Unavailable):
                database.ping()
        finally:
            os.kill(stopped, signal.SIGCONT)
        until(lambda: answers(database, backend) == kept, 30)


def backend(session):
    """The process of the server that serves a session."""
    return session.scalar(text("SELECT pg_backend_pid()"))


@pytest.mark.fault("F30")
def test_a_refusal_ends_a_silence():
    """A server that had no place for another connection was taken for a silent one, also by those
    whose connections were good."""

    def ask():
        raise psycopg.OperationalError("sorry, too many clients already")

    silence = Silence(ask)
    silence.begin(time.monotonic())
    with pytest.raises(Unavailable):
        silence.refuse()
    until(lambda: not refuses(silence), 15)


def refuses(silence):
    try:
        silence.refuse()
    except Unavailable:
        return True
    return False


def answers(database, ask=lambda _: True):
    """What is read, or None without the database."""
    with contextlib.suppress(Unavailable), database.read() as session:
        session.execute(text("SELECT 1"))
        return ask(session)


@pytest.mark.fault("F30")
@pytest.mark.slow
def test_a_transaction_that_was_left_open_does_not_keep_its_locks(database):
    """A client that had fallen silent kept all other writers waiting until TCP gave it up."""
    kept_key(database)
    patient = Database(database.url.render_as_string(False), lock_timeout=20)

    def write_as_well():
        with patient.write() as session:
            session.execute(update(Key).values(name="free"))

    since = time.monotonic()
    with contextlib.closing(patient), pytest.raises(Unavailable):
        use(database, write_as_well)
    assert time.monotonic() - since < 30
