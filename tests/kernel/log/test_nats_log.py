"""A record log in NATS: its outbox, how one is let in, and what happens while NATS is away."""

import json
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from nats.aio.msg import Msg
from sqlalchemy import func, select

from app.kernel.errors import NotFound, TooLarge, Unavailable
from app.kernel.log import nats_link, outbox
from app.kernel.log.nats_link import Address
from app.kernel.log.nats_log import NatsLog
from app.kernel.log.nats_stream import info, shape_of
from app.kernel.log.outbox import LogOutbox, LogRelay
from app.kernel.log.seam import Appended, Full, NewRecord, Shape
from app.kernel.sql import Database, new_id, utc_now
from app.settings_table import SettingsError
from tests.kernel.log.conftest import migrated
from tests.kernel.log.engines import NatsEngine, new_topic, numbered, read_all, shape, until, values
from tests.nats import BINARY, NatsServer
from tests.yard import Yard

SECRET = "s3cret-pass"


@pytest.fixture
def engine(nats_engine):
    return nats_engine


@pytest.fixture
def outbox_url(tmp_path):
    """A database with nothing but an empty outbox."""
    return migrated(f"sqlite:///{tmp_path / 'outbox.db'}")


def waiting(database, topic):
    with database.read() as session:
        return session.scalar(select(func.count()).where(LogOutbox.topic == topic))


def put(engine, log, topic, records):
    with engine.database.write() as session:
        log.append_in(session, topic, records)


def test_what_was_put_into_a_transaction_is_relayed_in_order_if_it_commits(engine, log):
    topic, moment = new_topic(log), datetime(2013, 5, 1, tzinfo=UTC)
    put(engine, log, topic, [NewRecord(b"0", b"key", {"a": "b"}, "own id", 0, moment)])
    with engine.database.write() as session:
        log.append_in(session, topic, numbered([8, 9]))
        session.rollback()
    for start in range(1, 1201, 300):
        put(engine, log, topic, numbered(range(start, start + 300)))
    until(lambda: log.bounds(topic)[0][1] == 1201)
    found = read_all(log, topic)
    assert values(found) == list(range(1201))
    first = found[0]
    assert (first.key, first.headers, first.id) == (b"key", {"a": "b"}, "own id")
    assert first.timestamp == moment
    until(lambda: waiting(engine.database, topic) == 0)


def test_what_waits_is_relayed_by_one_who_has_asked_nats_nothing(server, outbox_url):
    """Rows waited for somebody who would read: only then a process connected, and relayed."""
    engine = NatsEngine(f"nats://{server.address}", outbox_url)
    elsewhere = NatsEngine(f"nats://{server.address}", migrated(f"{outbox_url}.other"))
    other, quiet = elsewhere.open(), engine.open()
    topic = new_topic(other)
    put(engine, quiet, topic, numbered([1]))
    until(lambda: other.bounds(topic) == {0: (0, 1)})
    for opened in (quiet, other, engine, elsewhere):
        opened.close()


def test_a_relay_that_died_after_appending_leaves_nothing_twice(engine, log):
    topic, records = new_topic(log), numbered(range(20), ids="a")
    log.append(topic, records[:12])
    put(engine, log, topic, records)
    until(lambda: waiting(engine.database, topic) == 0)
    assert values(read_all(log, topic)) == list(range(20))


def test_a_dead_relays_lease_ends(engine, log):
    topic = new_topic(log)
    with engine.database.write() as session:
        holder, ends = new_id(), utc_now() + timedelta(seconds=1)
        session.merge(LogRelay(id=1, holder=holder, lease_until=ends))
    fresh = engine.open()
    fresh.ping()
    put(engine, fresh, topic, numbered([1]))
    until(lambda: log.bounds(topic)[0][1] == 1)
    with engine.database.read() as session:
        assert session.get(LogRelay, 1).holder != holder
    fresh.close()


def test_an_outbox_that_nobody_empties_refuses(engine, log, monkeypatch):
    monkeypatch.setattr(outbox, "MOST_WAITING", 30)
    topic = new_topic(log, max_records=10)
    put(engine, log, topic, numbered(range(10)))
    until(lambda: waiting(engine.database, topic) == 0)
    put(engine, log, topic, numbered(range(10, 40)))
    with pytest.raises(Full):
        put(engine, log, topic, numbered([41]))
    assert values(read_all(log, topic)) == list(range(10))
    assert waiting(engine.database, topic) == 30
    log.delete(topic)


def test_a_full_topic_holds_up_no_other(engine, log):
    full, topic = new_topic(log, max_records=1), new_topic(log)
    put(engine, log, full, numbered(range(5)))
    put(engine, log, topic, numbered(range(5)))
    until(lambda: log.bounds(topic)[0][1] == 5)
    log.delete(full)


def test_a_record_that_can_never_be_kept_holds_up_no_other(engine, log, monkeypatch):
    topic, gone = new_topic(log), new_topic(log)
    log.delete(gone)
    put(engine, log, gone, numbered([1]))
    strange = NewRecord(b"", partition=7)
    put(engine, log, topic, [*numbered([1]), strange, *numbered([2])])
    until(lambda: log.bounds(topic)[0][1] == 2)
    assert values(read_all(log, topic)) == [1, 2]
    assert waiting(engine.database, gone) == 1
    monkeypatch.setattr(outbox, "GONE_SECONDS", 0.0)
    until(lambda: waiting(engine.database, gone) == 0)


def test_a_record_that_no_server_would_take_is_refused(engine, log, tmp_path):
    topic, large = new_topic(log), NewRecord(b"x" * 1_100_000)
    with pytest.raises(TooLarge):
        log.append(topic, [NewRecord(b"1"), large])
    with pytest.raises(TooLarge):
        put(engine, log, topic, [large])
    elsewhere = Database(f"sqlite:///{tmp_path / 'other.db'}")
    with elsewhere.write() as session, pytest.raises(ValueError, match="another database"):
        log.append_in(session, topic, numbered([1]))
    elsewhere.close()
    assert log.bounds(topic) == {0: (0, 0)}


def test_a_name_that_nats_would_not_take_is_written_otherwise(log):
    for name in (f"a.b {new_id()}", f"*>{new_id()}", f"ü/{new_id()}"):
        log.create(name, Shape(1))
        assert log.append(name, numbered([1])) == [Appended(0, 0, False)]
        log.wait(name, {0: 0}, 20.0)
        assert values(log.read(name, 0, 0, 10)) == [1]
        log.delete(name)


class LateClient:
    """A connection to servers of which one lags behind: it says once that it has no such stream."""

    def __init__(self, client):
        self._client = client
        self.answers = [{"error": {"code": 404, "err_code": 10059, "description": "not found"}}]

    def __getattr__(self, name):
        return getattr(self._client, name)

    async def request(self, subject, *arguments, **options):
        if self.answers and ".STREAM.INFO." in subject:
            return Msg(self._client, data=json.dumps(self.answers.pop()).encode())
        return await self._client.request(subject, *arguments, **options)


def test_a_topic_that_a_lagging_server_does_not_have_yet_is_there(log):
    """A create asked twice is answered by any server; the one that was to lead said 404 after."""
    topic = new_topic(log)
    told = log._link.run(lambda client: info(LateClient(client), topic, 0))
    assert shape_of(told) == shape()
    with pytest.raises(NotFound):
        log._link.run(lambda client: info(LateClient(client), "nowhere", 0))


@pytest.fixture
def server(tmp_path):
    """A server that a test may kill and pause."""
    started = NatsServer(tmp_path / "nats").start()
    yield started
    started.resume()
    started.kill()


def test_while_nats_is_away_calls_are_refused_soon_and_go_on_after(server, outbox_url):
    engine = NatsEngine(f"nats://{server.address}", outbox_url)
    log = engine.open()
    topic = new_topic(log)
    log.append(topic, numbered([0]))
    server.kill()
    put(engine, log, topic, numbered([1]))
    with pytest.raises(Unavailable) as refused:
        log.append(topic, numbered([9]))
    assert refused.value.retry_after
    until(lambda: (refusal_seconds(log) or 1.0) < 0.2)
    server.start()
    until(lambda: refusal_seconds(log) is None)
    until(lambda: log.bounds(topic)[0][1] == 2)
    assert values(read_all(log, topic)) == [0, 1]
    server.pause()
    until(lambda: refusal_seconds(log) is not None, 20)
    server.resume()
    until(lambda: refusal_seconds(log) is None)
    log.close()
    engine.close()


def refusal_seconds(log):
    """How long a refusal takes; None: there is none."""
    started = time.monotonic()
    try:
        log.ping()
    except Unavailable:
        return time.monotonic() - started
    return None


def test_no_server_at_all_is_unavailable(outbox_url):
    engine = NatsEngine("nats://127.0.0.1:1", outbox_url)
    log = engine.open()
    for call in (log.ping, lambda: log.bounds("x"), lambda: log.append("x", numbered([1]))):
        with pytest.raises(Unavailable):
            call()
    log.close()
    engine.close()
    log.close()


@pytest.mark.parametrize(
    ("lets_in", "right", "wrong"),
    [
        (f'user: "me", password: "{SECRET}"', f"me:{SECRET}@", "me:wrong-pass@"),
        (f'token: "{SECRET}"', f"{SECRET}@", "wrong-pass@"),
    ],
)
def test_one_is_let_in_by_what_the_url_says_and_secrets_are_not_told(
    tmp_path, outbox_url, capfd, lets_in, right, wrong
):
    server = NatsServer(tmp_path / "nats", more=f"authorization {{ {lets_in} }}").start()
    server.wait_until_ready()
    engine = NatsEngine(f"nats://{right}{server.address}", outbox_url)
    log = engine.open()
    log.ping()
    log.close()
    refused = NatsLog(Address.parse(f"nats://{wrong}{server.address}"), engine.database)
    with pytest.raises(Unavailable) as told:
        refused.ping()
    refused.close()
    engine.close()
    server.kill()
    said = "".join(capfd.readouterr()) + str(told.value) + repr(told.value.__cause__)
    assert SECRET not in said
    assert "wrong-pass" not in said


def test_addresses_are_read_as_users_write_them(monkeypatch):
    several = Address.parse("nats://me:p%40ss@a:4222, b:4223,[::1]:4224")
    assert several.servers == ("nats://a:4222", "nats://b:4223", "nats://[::1]:4224")
    assert several.options == {"user": "me", "password": "p@ss"}
    assert Address.parse("nats://t0k@a").options == {"token": "t0k"}
    assert SECRET not in repr(Address.parse(f"nats://me:{SECRET}@a"))
    assert Address.parse("tls://a").options["tls"].check_hostname
    for wrong in (
        "a:4222",
        "http://a",
        "nats://",
        f"nats://me:{SECRET}@",
        f"nats://{SECRET}@a:port",
        f"nats://{SECRET}@a,,b",
        f"nats://{SECRET}@a/path",
        f"tls://{SECRET}@a?ca=/nowhere/{SECRET}",
        f"tls://{SECRET}@a?cert=x",
        f"tls://{SECRET}@a?verify=no",
    ):
        with pytest.raises(ValueError, match="it") as refused:
            Address.parse(wrong)
        assert SECRET not in str(refused.value)
    monkeypatch.setattr(nats_link, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install modelyard\[nats\]"):
        Address.parse("nats://a")


def test_an_address_that_is_none_stops_the_start_and_is_not_told(tmp_path):
    with pytest.raises(SettingsError, match="MODELYARD_LOG_URL") as refused:
        Yard(tmp_path, log_url=f"redis://{SECRET}@a")
    assert SECRET not in str(refused.value)


def test_readiness_names_the_log(engine, tmp_path):
    yard = Yard(tmp_path, log_url=engine.url)
    assert yard.client().get("/readyz").json["checks"]["log"] == "ok"
    yard.close()


def test_the_documented_configuration_of_a_server_is_one(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "nats.md").read_text()
    written = page.partition("```conf\n")[2].partition("```")[0]
    assert "sync_interval: always" in written
    path = tmp_path / "server.conf"
    path.write_text(written.replace("/var/lib/nats", str(tmp_path)))
    subprocess.run([BINARY, "-t", "-c", path], check=True, capture_output=True)
