"""``X-Request-Timeout``: nothing is done for a caller who has stopped waiting."""

import threading
import time
from dataclasses import replace

import pytest

from app.kernel.errors import DeadlineExceeded
from app.kernel.http import gate
from app.kernel.local_rpc import Client, Server
from tests.predictions.predicting import ROW, Predicting
from tests.problems import assert_problem

PROJECTS = "/api/v1/projects"


@pytest.fixture(scope="module")
def predicting(tmp_path_factory):
    """Models to predict by."""
    made = Predicting(tmp_path_factory.mktemp("predicting"))
    yield made
    made.close()


def within(seconds):
    return {"X-Request-Timeout": str(seconds)}


@pytest.fixture
def no_time(monkeypatch):
    """A deadline that has passed when it is read."""
    monkeypatch.setattr(gate, "SHORTEST_TIMEOUT", 0)
    return within("0")


@pytest.mark.parametrize(
    "sent", ["", "0", "0.0", "-1", "1e3", "nan", "inf", "3601", "1,2", "5s", "0.0001"]
)
def test_what_is_no_number_of_seconds_is_refused_at_its_header(sqlite_yard, sent):
    answer = sqlite_yard.client().get(PROJECTS, headers=within(sent))
    assert assert_problem(answer, 422)["errors"][0]["pointer"] == "X-Request-Timeout"


@pytest.mark.parametrize("sent", ["1", "0.5", "3600", "2.125"])
def test_a_deadline_that_is_kept_changes_nothing(sqlite_yard, sent):
    assert sqlite_yard.client().get(PROJECTS, headers=within(sent)).status_code == 200


def test_a_change_past_the_deadline_is_504_and_not_made(sqlite_yard, no_time):
    client = sqlite_yard.client()
    answer = client.post(PROJECTS, json={"name": "late"}, headers=no_time)
    assert_problem(answer, 504)
    assert client.get(f"{PROJECTS}/late").status_code == 404


def test_a_change_that_takes_past_the_deadline_is_taken_back(sqlite_yard):
    changes = sqlite_yard.wiring.access._changes
    call = replace(sqlite_yard.call(), deadline=time.monotonic() + 0.2)

    def take_too_long():
        with changes.begin(call) as change:
            change.record("project.created", "projects/never")
            time.sleep(0.25)

    with pytest.raises(DeadlineExceeded):
        take_too_long()
    told = sqlite_yard.client().get("/api/v1/events").json["items"]
    assert "projects/never" not in [event["subject"] for event in told]


def test_after_504_the_same_idempotency_key_is_free(sqlite_yard, no_time):
    client, body = sqlite_yard.client(), {"name": "again"}
    key = {"Idempotency-Key": "once"}
    assert client.post(PROJECTS, json=body, headers=key | no_time).status_code == 504
    assert client.post(PROJECTS, json=body, headers=key).status_code == 201


def test_a_wait_ends_in_time_for_an_answer(sqlite_yard):
    client = sqlite_yard.client()
    position = client.get("/api/v1/events").json["next_position"]
    started = time.monotonic()
    answer = client.get(f"/api/v1/events?wait=20&after={position}", headers=within("2"))
    assert answer.status_code == 200
    assert time.monotonic() - started < 15


def test_a_peer_gets_what_remains_and_no_more(sqlite_yard, monkeypatch):
    peer, seen = sqlite_yard.wiring.peer("predictions", "access"), []
    client = peer._connect()
    request = client.request

    def told(*arguments, **more):
        seen.append((more["headers"].get("X-Request-Timeout"), more["timeout"]))
        return request(*arguments, **more)

    monkeypatch.setattr(client, "request", told)
    call = replace(sqlite_yard.call(), deadline=time.monotonic() + 20)
    peer.ask(call, "GET", "/events", scope="events:read")
    peer.ask(sqlite_yard.call(), "GET", "/events", scope="events:read")
    assert 0 < float(seen[0][0]) <= 20
    assert seen[0][1].read <= 20
    assert seen[1][0] is None


def test_a_peer_is_not_asked_past_the_deadline(sqlite_yard):
    peer = sqlite_yard.wiring.peer("predictions", "access")
    call = replace(sqlite_yard.call(), deadline=time.monotonic() - 1)
    with pytest.raises(DeadlineExceeded):
        peer.ask(call, "GET", "/events", scope="events:read")


def test_a_neighbour_that_goes_on_telling_is_left_at_the_deadline(tmp_path):
    """The silence between two beats was bounded, the whole was not."""
    closed = threading.Event()

    def beats(_):
        try:
            for _ in range(1000):
                time.sleep(0.05)
                yield b"beat"
        finally:
            closed.set()

    server = Server(tmp_path / "s", {"work": beats})
    threading.Thread(target=server.run, daemon=True).start()
    client = Client(lambda: tmp_path / "s", "test")
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        list(client.stream("work", {}, seconds=30, deadline=started + 0.3))
    assert time.monotonic() - started < 15
    assert closed.wait(60)
    server.stop()


def test_a_scorer_that_is_slow_is_left_at_the_deadline(predicting, monkeypatch, no_time):
    scorer = predicting.wiring.predictions._engine._scorer
    asked = []

    def answer_at_once(*_, deadline, **__):
        asked.append(deadline - time.monotonic())
        return [{}]

    monkeypatch.setattr(scorer._shared, "ask", answer_at_once)
    path = "/api/v1/models/slow/predict"
    body = {"inputs": [ROW]}
    assert predicting.client().post(path, json=body, headers=within("20")).status_code == 200
    assert 0 < asked[0] <= 20
    answer = predicting.client().post(path, json=body, headers=no_time)
    assert_problem(answer, 504)
    assert len(asked) == 1


def test_a_prediction_in_line_is_504_at_its_deadline(predicting, monkeypatch):
    places = predicting.wiring.admission
    monkeypatch.setattr(places, "_longest_wait", 30)
    held = [places.enter() for _ in range(places.free)]
    started = time.monotonic()
    path = "/api/v1/models/fast/predict"
    answer = predicting.client().post(path, json={"inputs": [ROW]}, headers=within("0.3"))
    assert_problem(answer, 504)
    assert time.monotonic() - started < 15
    for since in held:
        places.leave(since)
    assert (places.free, places.waiting) == (len(held), 0)


def test_a_neighbour_that_is_silent_is_left_at_the_deadline(tmp_path):
    """Rows and files of a dataset were waited for as long as ever."""
    go_on = threading.Event()
    server = Server(tmp_path / "s", {"work": lambda _: go_on.wait(30)})
    threading.Thread(target=server.run, daemon=True).start()
    client = Client(lambda: tmp_path / "s", "test")
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        client.ask("work", {}, seconds=30, deadline=started + 0.3)
    assert time.monotonic() - started < 15
    go_on.set()
    server.stop()
