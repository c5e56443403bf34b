"""Lambda views: an answer is that of all records, at any moment, whatever the layers do."""

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from app.kernel import faults
from app.kernel.errors import Conflict, Gone, NotFound, Unavailable
from app.kernel.jobs.queue import JobRow
from app.kernel.log.sql_log import SqlLog
from app.kernel.long_work.lifecycle import RUNNING, Superseded
from app.streams.views.speed import Place
from app.streams.views.swap import Candidate
from app.streams.views.tables import SpeedRow, SpeedState, ViewBatch
from tests.streams.viewing import CALL, Viewing, flights

FLIGHTS = list(flights(1500))
PLAIN = {"group_by": [], "measures": [{"name": "flights", "function": "count"}]}


@pytest.fixture
def viewing(tmp_path, database_url):
    """A view of flights, over SQLite and over Postgres."""
    made = Viewing(tmp_path, database_url)
    yield made
    made.close()


@pytest.fixture
def make_viewing(tmp_path):
    """Makes views over SQLite."""
    made = []

    def make(**options):
        url = f"sqlite:///{tmp_path / str(len(made)) / 'views.db'}"
        made.append(Viewing(tmp_path / str(len(made)), url, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_an_answer_is_that_of_a_full_recompute_at_random_moments(viewing):
    rebuilt(viewing, FLIGHTS[:700], moments=15, seed=1)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(600)
def test_fifty_moments_of_twenty_thousand_flights(make_viewing):
    rebuilt(make_viewing(), list(flights(20_000)), moments=50, seed=2)


def rebuilt(viewing, rows, *, moments, seed, before=lambda moment: None):
    """Produce, fold and make batches by turns; look at random moments that all is exact.

    ``before`` is called with the number of each moment.
    """
    chance = random.Random(seed)
    share = len(rows) // moments
    for moment in range(moments):
        before(moment)
        viewing.produce(rows[moment * share : (moment + 1) * share])
        for _ in range(chance.randrange(4)):
            viewing.advance(limit=chance.randrange(1, share))
        if moment % 5 == 2:
            assert viewing.batch().outcome == "serving"
        told = viewing.told()
        assert told["items"] == viewing.recomputed(told["speed_offsets"])
        assert told["batch_version"] == viewing.view().serving_number
        digests_are_those_of_a_rebuild(viewing)
    assert viewing.view().serving_number == (moments + 2) // 5
    assert sum(told["speed_offsets"].values()) > len(rows) / 2


def digests_are_those_of_a_rebuild(viewing):
    """Each speed state is, to the byte, that of a fold of its records from nothing."""
    for place, state in viewing.states().items():
        start = {str(place): viewing.view().serving_offsets[str(place)]}
        groups = viewing.folded(start, {str(place): state.offset})
        assert (state.digest, state.records) == (groups.digest(), groups.records)


def test_right_after_a_batch_up_to_the_end_the_speed_layer_has_nothing_to_add(viewing):
    viewing.produce(FLIGHTS[:300])
    batch = viewing.batch()
    told = viewing.told()
    assert told["batch_offsets"] == told["speed_offsets"] == batch.offsets
    assert {state.records for state in viewing.states().values()} == {0}
    assert told["items"] == viewing.recomputed(batch.offsets)
    assert (told["behind"], told["staleness_ms"]) == (0, 0)


def test_two_batches_of_the_same_records_have_the_same_digest(make_viewing):
    viewing = make_viewing()
    viewing.produce(FLIGHTS[:200])
    one, other = viewing.batch(), viewing.batch()
    assert (one.number, other.number) == (1, 2)
    assert one.digest == other.digest
    assert other.records == 200


def test_two_replicas_tell_the_same(make_viewing):
    viewing = make_viewing()
    viewing.produce(FLIGHTS[:200])
    viewing.batch()
    viewing.produce(FLIGHTS[200:300])
    viewing.catch_up()
    assert viewing.told() == viewing.told(viewing.replica())


def test_pages_of_groups_are_in_the_order_of_their_keys_and_lose_none(viewing):
    viewing.produce(FLIGHTS[:150])
    viewing.batch()
    viewing.produce(FLIGHTS[150:300])
    viewing.catch_up()
    keys, token = [], None
    while True:
        page = viewing.answers.values(CALL, "delays", 7, token)
        keys += [item["key"] for item in page["items"]]
        token = page["next_page_token"]
        if token is None:
            break
    assert keys == [
        item["key"] for item in viewing.answers.values(CALL, "delays", 500, None)["items"]
    ]
    assert len(keys) > 20


def test_what_another_was_faster_to_fold_in_counts_once(make_viewing):
    viewing = make_viewing(definition=PLAIN)
    viewing.produce(FLIGHTS[:90])
    threads = [threading.Thread(target=viewing.catch_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    viewing.catch_up()
    assert viewing.answers.value(CALL, "delays", None)["values"] == {"flights": 90}


def test_the_count_never_goes_back_nor_past_what_was_produced(viewing):
    """Records between a batch's cut and its coming into place would vanish for a while, if the
    speed layer began anew when it comes."""
    produced, done, seen = [0], threading.Event(), []

    def produce():
        while not done.is_set() and produced[0] < 3000:
            produced[0] += 20
            viewing.produce(FLIGHTS[produced[0] % 1000 :][:20])

    def fold():
        while not done.is_set():
            viewing.advance(limit=30)

    def look():
        while not done.is_set():
            told = viewing.told()
            count = sum(item["flights"] for item in told["items"].values())
            assert count == sum(told["speed_offsets"].values())
            assert count <= produced[0]
            seen.append((count, told["batch_version"]))

    failures = []
    threads = [threading.Thread(target=caught(one, failures)) for one in (produce, fold, look)]
    for thread in threads:
        thread.start()
    outcomes = []
    for number in range(1, 5):
        outcomes.append(viewing.batch().outcome)
        wait_until(lambda n=number: failures or n in {version for _, version in seen})
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert outcomes == ["serving"] * 4
    assert seen == sorted(seen)
    viewing.catch_up()
    assert sum(item["flights"] for item in viewing.told()["items"].values()) == produced[0]


def wait_until(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def caught(act, failures):
    """A function that keeps what another raises."""

    def run():
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - told by the test itself
            failures.append(error)

    return run


def candidate_of(viewing, number, offsets):
    """A batch of that number as if its job were about to swap it in."""
    row = ViewBatch(
        project="default",
        tags={},
        view_id=viewing.view_id,
        view="delays",
        number=number,
        cause="call",
        attempt=1,
        stored_state=RUNNING,
    )
    with viewing.database.write() as session:
        session.add(row)
    return Candidate(viewing.view_id, row.id, 1, number, offsets, None)


def test_an_older_batch_and_a_duplicate_change_nothing(viewing):
    viewing.produce(FLIGHTS[:100])
    viewing.batch()
    newer = viewing.batch()
    viewing.produce(FLIGHTS[100:150])
    viewing.catch_up()
    before = viewing.told()
    nothing = {"0": 0, "1": 0, "2": 0}
    for number, offsets in ((1, nothing), (newer.number, newer.offsets), (99, nothing)):
        row = candidate_of(viewing, number + 1000, offsets)
        stale = Candidate(row.view_id, row.batch_id, 1, number, offsets, None)
        viewing.swaps.begin(stale)
        assert viewing.swaps.swap(stale, {"records": 0}, viewing.speed.follow)
        assert viewing.batches.get(CALL, stale.batch_id).outcome == "ignored"
    assert viewing.told() == before


@pytest.mark.parametrize(("missing", "swapped"), [(90, True), (1100, False)])
def test_a_batch_comes_in_place_only_when_its_speed_states_are_as_far(
    make_viewing, missing, swapped
):
    viewing = make_viewing(partitions=1)
    viewing.produce(FLIGHTS[:missing])
    viewing.catch_up()
    before = viewing.told()["items"]
    candidate = candidate_of(viewing, 1, {"0": 0})
    viewing.swaps.begin(candidate)
    assert viewing.swaps.swap(candidate, {}, viewing.speed.follow) is swapped
    assert viewing.view().serving_number == int(swapped)
    while viewing.speed.step(Place(viewing.view_id, 1, 0)).records:
        pass
    assert viewing.swaps.swap(candidate, {}, viewing.speed.follow)
    assert viewing.told()["items"] == before
    assert viewing.view().serving_number == 1


def test_an_attempt_that_was_given_up_can_neither_begin_nor_swap(make_viewing):
    viewing = make_viewing()
    candidate = candidate_of(viewing, 1, {"0": 0, "1": 0, "2": 0})
    with viewing.database.write() as session:
        session.get(ViewBatch, candidate.batch_id).attempt = 2
    with pytest.raises(Superseded):
        viewing.swaps.begin(candidate)
    with pytest.raises(Superseded):
        viewing.swaps.swap(candidate, {}, viewing.speed.follow)
    assert viewing.view().serving_number == 0


def killed(viewing, work, fault):
    """Whether a process that works for the view was killed at a fault point."""
    command = [sys.executable, "-m", "tests.streams.view_process", str(viewing.folder)]
    url = viewing.database.url.render_as_string(hide_password=False)
    done = subprocess.run(
        [*command, url, work, viewing.nats or ""],
        env={**os.environ, faults.VARIABLE: fault},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=False,
    )
    assert done.returncode in (0, -9), done.stderr.decode()
    return done.returncode == -9


@pytest.mark.fault("F38")
def test_a_speed_layer_killed_three_times_comes_to_the_same_state(make_viewing):
    disturbed, smooth = make_viewing(), make_viewing()
    three_times_killed(disturbed, smooth)


def three_times_killed(disturbed, smooth):
    """Fold the same records for two views, one of whose processes are killed."""
    for viewing in (disturbed, smooth):
        viewing.produce(FLIGHTS[:400])
    assert killed(disturbed, "speed", "views.folded=kill@2")
    assert killed(disturbed, "speed", "views.entered=kill@3")
    assert killed(disturbed, "speed", "views.entered=kill@1")
    disturbed.catch_up()
    smooth.catch_up()
    assert digests(disturbed) == digests(smooth)
    assert disturbed.told()["items"] == smooth.told()["items"]


def digests(viewing):
    """What the speed states have come to."""
    return {
        place: (state.offset, state.records, state.digest)
        for place, state in viewing.states().items()
    }


@pytest.mark.fault("F38")
@pytest.mark.parametrize("point", ["views.batch_stored", "views.caught_up", "views.swapped"])
def test_a_batch_whose_worker_was_killed_is_made_by_the_next(make_viewing, point):
    viewing = make_viewing()
    viewing.produce(FLIGHTS[:100])
    viewing.catch_up()
    made = viewing.batches.create(CALL, "delays")
    assert killed(viewing, "batch", f"{point}=kill@1")
    viewing.produce(FLIGHTS[100:200])
    viewing.advance(limit=10)
    with viewing.database.write() as session:
        session.execute(update(JobRow).values(state="queued"))
    viewing.work()
    batch = viewing.batches.get(CALL, made.id)
    assert (batch.state, batch.outcome) == ("succeeded", "serving")
    assert batch.attempt == (1 if point == "views.swapped" else 2)
    told = viewing.told()
    assert told["batch_version"] == 1
    assert told["items"] == viewing.recomputed(told["speed_offsets"])


def test_what_only_earlier_batches_needed_is_gone(make_viewing):
    viewing = make_viewing()
    for start in range(0, 150, 30):
        viewing.produce(FLIGHTS[start : start + 30])
        viewing.catch_up()
        viewing.batch()
    with viewing.database.read() as session:
        assert set(session.scalars(select(SpeedState.number))) == {5}
        assert session.scalar(select(func.count()).select_from(SpeedRow)) == 0
    assert len(list(viewing.store.list())) == 2


def test_without_a_speed_layer_answers_are_those_of_the_batch_and_tell_what_is_missing(viewing):
    viewing.produce(FLIGHTS[:100])
    batch = viewing.batch()
    viewing.produce(FLIGHTS[100:130])
    told = viewing.told()
    assert told["items"] == viewing.recomputed(batch.offsets)
    assert told["behind"] == 30
    assert 0 < told["staleness_ms"] < 60_000


def test_while_the_log_is_away_answers_go_on(make_viewing, monkeypatch):
    viewing = make_viewing()
    viewing.produce(FLIGHTS[:100])
    viewing.catch_up()
    before = viewing.told()

    def away(*_):
        raise Unavailable("away")

    monkeypatch.setattr(SqlLog, "bounds", away)
    told = viewing.told()
    assert told["items"] == before["items"]
    assert told["behind"] is None


SHORT = {"max_records": 50, "overflow": "drop_oldest"}


def test_a_batch_continues_the_one_before_where_older_records_are_gone(make_viewing):
    viewing = make_viewing(partitions=1, shape=SHORT, definition=PLAIN)
    for start in range(0, 120, 40):
        viewing.produce(FLIGHTS[start : start + 40])
        batch = viewing.batch()
        assert batch.base == (batch.number - 1 if start > 40 - 1 and start else None)
    assert viewing.answers.value(CALL, "delays", None)["values"] == {"flights": 120}


def test_records_that_were_dropped_before_they_counted_are_told_not_passed_over(make_viewing):
    viewing = make_viewing(partitions=1, shape=SHORT, definition=PLAIN)
    viewing.produce(FLIGHTS[:40])
    viewing.catch_up()
    viewing.produce(FLIGHTS[40:200])
    assert viewing.speed.advance(viewing.view_id, 0).gap
    with pytest.raises(Gone) as gone:
        viewing.answers.value(CALL, "delays", None)
    assert gone.value.extra["speed_offsets"] == {"0": 40}
    state = viewing.answers.state(CALL, "delays")
    assert (state["partitions"][0]["gap"], state["partitions"][0]["first"]) == (True, 150)
    with pytest.raises(Conflict, match="no longer kept"):
        viewing.batches.create(CALL, "delays")


def test_groups_that_take_too_much_room_fail_the_batch(make_viewing):
    viewing = make_viewing()
    viewing.produce(FLIGHTS[:100])
    viewing.worker._most_size = 100
    batch = viewing.batch()
    assert (batch.state, batch.error["code"]) == ("failed", "too_large")
    viewing.catch_up()
    assert viewing.told()["items"] == viewing.recomputed(viewing.told()["speed_offsets"])


def test_one_batch_of_a_view_at_a_time(make_viewing):
    viewing = make_viewing()
    viewing.batches.create(CALL, "delays")
    with pytest.raises(Conflict, match="under way"):
        viewing.batches.create(CALL, "delays")


def test_a_group_that_no_record_is_of_is_not_found(make_viewing):
    viewing = make_viewing()
    with pytest.raises(NotFound):
        viewing.answers.value(CALL, "delays", '["EWR", "UA"]')
