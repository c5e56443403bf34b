"""Lambda views as clients see them."""

import json
import threading
from datetime import timedelta

import pytest

from app.kernel.jobs.claims import Claims
from app.kernel.jobs.execution import Execution
from app.kernel.log.seam import NewRecord
from app.kernel.sandbox.parent import Sandbox
from app.streams.groups import Held
from app.streams.processors.reading import Lease
from app.streams.processors.runtime import Runtime
from app.streams.views.batches import JOB
from app.streams.views.examples import NEW
from app.streams.views.reading import FollowedViews
from app.streams.views.recompute import ViewWorker
from app.streams.views.speed import SpeedLayer
from app.streams.views.tables import SpeedState
from tests.problems import assert_problem
from tests.yard import Yard

VIEWS = "/api/v1/lambda-views"
DELAYS = f"{VIEWS}/delays"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A yard for tests that only look, or make things of their own."""
    installation = Yard(tmp_path_factory.mktemp("views") / "home")
    client = installation.client()
    client.post("/api/v1/topics", json={"name": "flights", "partitions": 2})
    yield installation
    installation.close()


@pytest.fixture
def served(sqlite_yard):
    """A client of a view of flights, and the yard."""
    client = sqlite_yard.client()
    client.post("/api/v1/topics", json={"name": "flights", "partitions": 2})
    made = client.post(VIEWS, json=NEW | {"batch": {"lag_records": 5}})
    assert made.status_code == 201, made.text
    return client, sqlite_yard


def produce(yard, *rows):
    """Append rows to the topic, by their places to either partition."""
    topic = yard.wiring.topics.find(yard.call(), "flights")
    records = [NewRecord(json.dumps(row).encode(), partition=i % 2) for i, row in enumerate(rows)]
    yard.wiring.record_log.append(topic.id, records)


def source_of(yard):
    """What a processor process reads for the views."""
    database = yard.wiring.database("streams")
    speed = SpeedLayer(database, yard.wiring.record_log)
    return FollowedViews(database, speed, yard.wiring.lambda_views.batches)


def fold(yard):
    """A step in each partition of the view."""
    (view_work,) = source_of(yard)()
    for partition in range(2):
        view_work.open(Lease("", "", Held(partition, 0, 0))).step()


def work(yard):
    """Do the batch that waits, as a worker does."""
    wiring = yard.wiring
    claims = Claims("streams", wiring.jobs("streams"), [JOB], 60.0)
    job = claims.claim(JOB)
    assert job is not None
    worker = ViewWorker(wiring.database("streams"), wiring.store, wiring.record_log)
    handler = worker.handler(Sandbox(), wiring.settings.instance / "work" / "views")
    Execution({JOB: handler.handle}, handler.on_failure).run(claims, job)


def flight(minutes, origin="EWR", carrier="UA"):
    """A record."""
    return {"origin": origin, "carrier": carrier, "arr_delay": minutes}


def test_a_view_answers_before_its_first_batch_and_after_it(served):
    client, yard = served
    produce(yard, flight(5), flight(11), flight(2, "JFK"))
    fold(yard)
    key = {"key": '["EWR", "UA"]'}
    before = client.get(f"{DELAYS}/value", query_string=key).json
    assert before["values"] == {
        "flights": 2,
        "minutes": 16,
        "shares": {"0.5": 5.03125, "0.9": 11.0625},
    }
    assert before["batch_version"] == 0

    accepted = client.post(f"{DELAYS}/batches")
    assert (accepted.status_code, accepted.headers["Location"]) == (202, f"{DELAYS}/batches/1")
    assert_problem(client.post(f"{DELAYS}/batches"), 409)
    work(yard)
    batch = client.get(f"{DELAYS}/batches/1?wait=5").json
    assert (batch["state"], batch["outcome"], batch["records"]) == ("succeeded", "serving", 3)
    assert batch["offsets"] == {"0": 2, "1": 1}

    after = client.get(f"{DELAYS}/value", query_string=key).json
    moved = ("batch_version", "batch_offsets")
    assert {k: v for k, v in after.items() if k not in moved} == {
        k: v for k, v in before.items() if k not in moved
    }
    assert after["batch_offsets"] == after["speed_offsets"] == {"0": 2, "1": 1}
    listed = client.get(f"{DELAYS}/batches").json["items"]
    assert [item["version"] for item in listed] == [1]


def test_a_batch_that_waits_is_cancelled_at_once_and_another_may_follow(served):
    client, yard = served
    produce(yard, flight(5))
    assert client.post(f"{DELAYS}/batches").status_code == 202
    cancelled = client.post(f"{DELAYS}/batches/1/cancel")
    assert (cancelled.status_code, cancelled.json["state"]) == (202, "cancelled")
    assert_problem(client.post(f"{DELAYS}/batches/1/cancel"), 409)
    assert_problem(client.post(f"{DELAYS}/batches/2/cancel"), 404)
    assert client.get(DELAYS).json["batch_version"] == 0
    assert client.post(f"{DELAYS}/batches").json["version"] == 2
    work(yard)
    assert client.get(f"{DELAYS}/batches/2").json["outcome"] == "serving"
    assert client.get(f"{DELAYS}/batches/1").json["state"] == "cancelled"


def test_a_batch_that_is_cancelled_while_it_is_made_leaves_no_states(served, monkeypatch):
    """The speed states of a batch that had failed on the way stayed until its view was deleted."""
    client, yard = served
    produce(yard, flight(5), flight(6))
    fold(yard)
    client.post(f"{DELAYS}/batches")
    original = ViewWorker._swap_in

    def cancelled_on_the_way(self, attempt, candidate, results):
        self._swaps.begin(candidate)
        told = client.post(f"{DELAYS}/batches/1/cancel")
        assert (told.status_code, told.json["state"]) == (202, "cancelling")
        produce(yard, flight(7), flight(8))
        fold(yard)
        original(self, attempt, candidate, results)

    monkeypatch.setattr(ViewWorker, "_swap_in", cancelled_on_the_way)
    work(yard)
    assert client.get(f"{DELAYS}/batches/1").json["state"] == "cancelled"
    view = client.get(DELAYS).json
    assert view["batch_version"] == 0
    yard.wiring.lambda_views.leftovers.sweep()
    with yard.wiring.database("streams").read() as session:
        assert {state.number for state in session.query(SpeedState)} == {0}
    assert client.get(f"{DELAYS}/state").json["behind"] == 0


def test_a_batch_is_made_when_enough_records_have_come(served):
    client, yard = served
    produce(yard, *(flight(minute) for minute in range(4)))
    fold(yard)
    assert client.get(f"{DELAYS}/batches").json["items"] == []
    produce(yard, flight(9))
    fold(yard)
    (batch,) = client.get(f"{DELAYS}/batches").json["items"]
    assert (batch["cause"], batch["state"]) == ("lag", "queued")
    fold(yard)
    work(yard)
    fold(yard)
    assert len(client.get(f"{DELAYS}/batches").json["items"]) == 1
    assert client.get(DELAYS).json["batch_version"] == 1


def test_a_batch_is_made_after_so_many_seconds_where_records_have_come(served):
    client, yard = served
    client.patch(DELAYS, json={"batch": {"every_seconds": 1}})
    view = yard.wiring.lambda_views.get(yard.call(), "delays")
    batches = yard.wiring.lambda_views.batches
    later = view.created_at + timedelta(seconds=2)
    assert not batches.tend(view.id, later)
    produce(yard, flight(1))
    assert not batches.tend(view.id, view.created_at)
    assert batches.tend(view.id, later)
    assert client.get(f"{DELAYS}/batches/1").json["cause"] == "schedule"


def test_a_process_that_reads_topics_folds_for_views_until_it_is_stopped(served):
    client, yard = served
    produce(yard, flight(1), flight(2))
    wiring = yard.wiring
    runtime = Runtime(
        wiring.database("streams"),
        wiring.record_log,
        wiring.groups,
        [source_of(yard)],
        client="test",
        threads=2,
    )
    thread = threading.Thread(target=runtime.run)
    thread.start()
    while client.get(f"{DELAYS}/state").json["behind"]:
        pass
    runtime.stop()
    thread.join(60)
    assert not thread.is_alive()


def test_groups_are_listed_with_what_they_tell(served):
    client, yard = served
    produce(yard, flight(5), flight(7, "JFK"), flight("?", "LGA"), "no object", flight(1, "JFK"))
    fold(yard)
    first = client.get(f"{DELAYS}/values?page_size=2").json
    assert [item["group"] for item in first["items"]] == [
        {"origin": "EWR", "carrier": "UA"},
        {"origin": "JFK", "carrier": "UA"},
    ]
    assert first["skipped"] == 1
    rest = client.get(f"{DELAYS}/values?page_size=2&page_token={first['next_page_token']}").json
    assert [(item["key"], item["ignored"]) for item in rest["items"]] == [
        (["LGA", "UA"], {"minutes": 1, "shares": 1})
    ]
    assert rest["next_page_token"] is None


def test_without_a_speed_layer_answers_go_on_and_tell_what_they_lack(served):
    client, yard = served
    produce(yard, flight(5), flight(6))
    client.post(f"{DELAYS}/batches")
    work(yard)
    produce(yard, flight(7))
    answer = client.get(f"{DELAYS}/value", query_string={"key": '["EWR","UA"]'})
    assert answer.status_code == 200
    assert answer.json["values"]["flights"] == 2
    assert (answer.json["behind"], answer.json["staleness_ms"] > 0) == (1, True)


def test_the_state_tells_how_far_each_partition_is(served):
    client, yard = served
    produce(yard, flight(5), flight(6), flight(7))
    fold(yard)
    state = client.get(f"{DELAYS}/state").json
    assert [(p["batch_offset"], p["speed_offset"], p["head"]) for p in state["partitions"]] == [
        (0, 2, 2),
        (0, 1, 1),
    ]
    assert all(len(p["digest"]) == 64 and not p["gap"] for p in state["partitions"])


def test_a_view_is_changed_and_deleted_under_its_etag(served):
    client, _ = served
    etag = client.get(DELAYS).headers["ETag"]
    changed = client.patch(
        DELAYS, json={"batch": {"every_seconds": 60}}, headers={"If-Match": etag}
    )
    assert changed.json["batch"] == {"every_seconds": 60, "lag_records": None}
    assert_problem(client.delete(DELAYS, headers={"If-Match": etag}), 412)
    assert client.delete(DELAYS).status_code == 204
    assert_problem(client.get(DELAYS), 404)
    assert_problem(client.get(f"{DELAYS}/value"), 404)


def test_a_batch_leaves_the_etag_of_its_view_alone(served):
    client, yard = served
    etag = client.get(DELAYS).headers["ETag"]
    client.post(f"{DELAYS}/batches")
    work(yard)
    assert client.get(DELAYS).headers["ETag"] == etag
    assert client.get(DELAYS).json["batch_version"] == 1


def test_a_topic_stays_while_a_view_is_made_of_it(served):
    client, yard = served
    refused = client.delete("/api/v1/topics/flights")
    assert_problem(refused, 409)
    assert [one["subject"] for one in refused.json["referrers"]] == ["lambda-views/delays"]
    produce(yard, flight(1))
    fold(yard)
    client.post(f"{DELAYS}/batches")
    work(yard)
    client.delete(DELAYS)
    assert client.delete("/api/v1/topics/flights").status_code == 204
    assert list(yard.wiring.store.list()) == []


def test_a_batch_of_a_view_that_is_deleted_finds_nothing_to_do(served):
    client, yard = served
    client.post(f"{DELAYS}/batches")
    client.delete(DELAYS)
    assert Claims("streams", yard.wiring.jobs("streams"), [JOB], 60.0).claim(JOB) is None


def test_a_retry_of_a_recompute_gets_the_first_answer(served):
    client, _ = served
    headers = {"Idempotency-Key": "k"}
    first, second = (client.post(f"{DELAYS}/batches", headers=headers) for _ in range(2))
    assert (first.status_code, second.json) == (202, first.json)


def test_another_project_sees_no_view(served):
    _, yard = served
    stranger = yard.client(yard.key(project="other", role="admin"))
    assert_problem(stranger.get(DELAYS), 404)
    assert stranger.get(VIEWS).json["items"] == []


MEASURE = {"name": "n", "function": "count"}


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"topic": "nowhere"}, "/topic"),
        ({"aggregate": {"measures": []}}, "/aggregate/measures"),
        (
            {"aggregate": {"measures": [{"name": "x", "function": "sum"}]}},
            "/aggregate/measures/0/field",
        ),
        (
            {"aggregate": {"measures": [{"name": "x", "function": "mode"}]}},
            "/aggregate/measures/0/function",
        ),
        ({"aggregate": {"measures": [MEASURE, MEASURE]}}, "/aggregate/measures/1"),
        (
            {"aggregate": {"measures": [MEASURE], "group_by": ["a", "a"]}},
            "/aggregate/group_by/1",
        ),
        ({"kind": "windows"}, "/kind"),
        ({"aggregate": None}, "/aggregate"),
        ({"batch": {"every_seconds": 0}}, "/batch/every_seconds"),
    ],
)
def test_what_makes_no_view_is_told_with_its_place(shared, wrong, pointer):
    answer = shared.client().post(VIEWS, json=NEW | wrong)
    assert_problem(answer, 422)
    assert pointer in [error["pointer"] for error in answer.json["errors"]]


def test_a_view_without_its_definition_is_refused(shared):
    body = {name: value for name, value in NEW.items() if name != "aggregate"}
    answer = shared.client().post(VIEWS, json=body)
    assert [error["pointer"] for error in answer.json["errors"]] == ["/aggregate"]


def test_a_name_is_that_of_one_view(shared):
    client = shared.client()
    body = NEW | {"name": "twice"}
    assert client.post(VIEWS, json=body).status_code == 201
    assert_problem(client.post(VIEWS, json=body), 409)


@pytest.mark.parametrize("key", ["", "EWR", "[]", '["EWR"]', '["EWR", []]', '{"a": 1}', "[" * 900])
def test_a_key_that_names_no_group_is_told(shared, key):
    client = shared.client()
    client.post(VIEWS, json=NEW | {"name": "keyed"})
    answer = client.get(f"{VIEWS}/keyed/value", query_string={"key": key})
    assert_problem(answer, 422)
    assert answer.json["errors"][0]["pointer"] == "?key"


def test_a_view_of_one_group_needs_no_key(shared):
    client = shared.client()
    one = {"aggregate": {"measures": [MEASURE]}}
    client.post(VIEWS, json=NEW | {"name": "all"} | one)
    assert client.get(f"{VIEWS}/all/value").json["values"] == {"n": 0}
    assert client.get(f"{VIEWS}/all/value").json["key"] == []


@pytest.mark.parametrize("token", ["x", "x.y", "\u00e9.a"])
def test_a_page_token_of_nobody_is_refused(shared, token):
    client = shared.client()
    client.post(VIEWS, json=NEW | {"name": "paged"})
    answer = client.get(f"{VIEWS}/paged/values", query_string={"page_token": token})
    assert_problem(answer, 400)
