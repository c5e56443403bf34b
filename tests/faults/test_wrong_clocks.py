"""A wall clock that is set, or that differs between hosts, stops nothing and doubles nothing.

Leases and quotas go by clocks that only go forward. Where rows must name a time (a retry that is
put off, the lease of an Idempotency-Key, a removal under way), one that lies further ahead than any
could is not believed: after a clock was set back by a day, jobs used to wait and keys used to be
refused for that day.
"""

from datetime import UTC, datetime, timedelta

import pytest

from app.kernel import sql
from app.kernel.errors import Conflict
from app.kernel.idempotency import Answer, HeldKey, IdempotencyStore
from app.kernel.jobs.claims import Claims
from app.kernel.jobs.queue import Clock, JobQueue
from app.kernel.sql import utc_now
from tests.models.modelyard import Modelyard
from tests.problems import assert_problem
from tests.yard import Yard

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
JUMPS = [DAY, -DAY, HOUR, -HOUR]
pytestmark = pytest.mark.fault("F18")


class Shifted(datetime):
    """The wall clock of this process, set by whatever ``by`` says."""

    by = timedelta()

    @classmethod
    def now(cls, tz=None):
        """The time that it shows."""
        return datetime.now(tz or UTC) + cls.by


@pytest.fixture
def shift(monkeypatch):
    """Set the clock by which all of the application goes."""
    monkeypatch.setattr(sql, "datetime", Shifted)
    monkeypatch.setattr(Shifted, "by", timedelta())
    return lambda by: setattr(Shifted, "by", by)


def off_by(by):
    return Clock(now=lambda: utc_now() + by)


def add(queue, ref="r"):
    with queue.database.write() as session:
        queue.enqueue(session, "k", ref, project="p")


def test_a_job_put_off_by_a_host_of_another_time_is_not_stuck(yard):
    database = yard.wiring.database("training")
    later = Claims("later", JobQueue(database, off_by(timedelta(seconds=61))), ["k"], 6.0)
    for jump in JUMPS:
        add(JobQueue(database))
        claims = Claims("first", JobQueue(database, off_by(jump)), ["k"], 6.0)
        assert claims.hand_back(claims.claim("k"), delay=60, excused=False)
        job = later.claim("k")
        assert job.attempt == 2
        later.end(job, "done")


def test_a_clock_that_is_set_takes_no_job_from_its_worker(yard, shift):
    queue = yard.wiring.jobs("training")
    add(queue)
    holder, other = (Claims(name, queue, ["k"], 6.0) for name in ("holder", "other"))
    job = holder.claim("k")
    assert other.ready().lapsed == []
    for jump in JUMPS:
        shift(jump)
        assert other.ready().lapsed == []
        assert (other.claim("k"), holder.renew([job]), job.still_mine()) == (None, [job], True)
    assert holder.end(job, "done")


@pytest.fixture
def hold(yard):
    """Hold an Idempotency-Key for a request, or get the answer that it had."""
    keys = IdempotencyStore(yard.wiring.database("training"))

    def reserve(key):
        keys.forget()
        return keys.reserve(yard.call(), key, "request", lambda told: Answer(201, told, {}))

    return reserve


def answer(yard, held, told):
    with yard.wiring.database("training").write() as session:
        held.complete(session, told)


def test_an_idempotency_key_whose_process_died_is_free_after_its_lease(hold, shift):
    for number, jump in enumerate(JUMPS):
        shift(timedelta())
        hold(str(number))
        with pytest.raises(Conflict):
            hold(str(number))
        shift(jump + timedelta(seconds=61))
        assert isinstance(hold(str(number)), HeldKey)


def test_of_two_requests_that_hold_a_key_across_a_jump_one_takes_effect(yard, hold, shift):
    for number, jump in enumerate(JUMPS):
        shift(timedelta())
        first = hold(str(number))
        shift(jump)
        second = hold(str(number))
        with pytest.raises(Conflict):
            answer(yard, first, "first")
        answer(yard, second, "second")
        assert hold(str(number)) == Answer(201, "second", {})


def test_an_answer_is_remembered_across_a_jump(yard, hold, shift):
    answer(yard, hold("k"), "done")
    for jump in (-DAY, -HOUR, HOUR):
        shift(jump)
        assert hold("k") == Answer(201, "done", {})


def test_a_key_is_valid_by_the_clock_as_it_stands(yard, shift):
    body = {"name": "test", "role": "viewer"}
    expires = (utc_now() + 2 * HOUR).isoformat()
    made = yard.client().post("/api/v1/keys", json={**body, "expires_at": expires})
    client = yard.client(made.json["secret"])
    for jump, status in [(HOUR, 200), (DAY, 401), (-HOUR, 200), (-DAY, 200)]:
        shift(jump)
        assert client.get("/api/v1/models").status_code == status
    shift(DAY)
    assert_problem(client.get("/api/v1/models"), 401)


def test_a_quota_neither_fills_up_nor_runs_dry_when_the_clock_is_set(tmp_path, shift):
    yard = Yard(tmp_path, quota_rate=0.001, quota_burst=8)
    statuses = []
    for jump in (timedelta(), *JUMPS, timedelta(), DAY, -DAY, HOUR):
        shift(jump)
        statuses.append(yard.client().get("/api/v1/models").status_code)
    assert statuses == [200] * 8 + [429]
    yard.close()


def test_events_and_versions_keep_their_order_when_the_clock_goes_back(tmp_path, shift):
    yard = Modelyard(tmp_path)
    for number, jump in enumerate((timedelta(), -HOUR, -DAY, DAY, timedelta()), start=1):
        shift(jump)
        assert yard.register()["version"] == number
    told = [data["version"] for kind, data in yard.events() if kind == "version.registered"]
    assert told == [1, 2, 3, 4, 5]
    newest = yard.client().get("/api/v1/models/penguins").json
    assert newest["newest_version"] == 5
    yard.close()


def test_a_removal_that_a_crash_left_ends_when_the_clock_is_set_back(tmp_path, shift):
    yard = Modelyard(tmp_path)
    yard.register()
    with yard.wiring.database("models").write() as session:
        yard.version_row(session, 1).removal_until = utc_now() + timedelta(seconds=60)
    assert_problem(yard.put_alias("champion", 1), 409)
    shift(-HOUR)
    assert yard.put_alias("champion", 1).status_code == 201
    yard.close()
