"""More predictions than there is room for: the rest is refused at once and told when to come."""

import io
import json
import threading
import time

import pytest

from tests.predictions.predicting import ROW, Predicting
from tests.problems import assert_problem

PATH = "/api/v1/models/fast/predict"
BODY = {"inputs": [ROW]}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Two places and three in line."""
    folder = tmp_path_factory.mktemp("small")
    made = Predicting(folder, predict_slots=2, predict_waiters=3, predict_wait="60")
    yield made
    made.close()


@pytest.fixture
def held(small, monkeypatch):
    """An engine that answers only when it is let go."""
    go, engine = threading.Event(), small.wiring.predictions._engine
    compiled = engine._compiled

    def slow(location):
        assert go.wait(30)
        return compiled(location)

    monkeypatch.setattr(engine, "_compiled", slow)
    # The overload of the test before is over.
    monkeypatch.setattr(small.wiring.admission, "_refused", 0.0)
    yield go
    go.set()


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def in_background(yard, answers, path=PATH, body=BODY):
    def ask():
        answers.append(yard.client().post(path, json=body))

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def fill(yard, answers):
    """Take all places and the whole line."""
    places = yard.wiring.admission
    threads = []
    for wanted in ((1, 0), (0, 0), (0, 1), (0, 2), (0, 3)):
        threads.append(in_background(yard, answers))
        until(lambda wanted=wanted: (places.free, places.waiting) == wanted)
    return threads


def finish(yard, go, threads):
    go.set()
    for thread in threads:
        thread.join(30)
    assert (yard.wiring.admission.free, yard.wiring.admission.waiting) == (2, 0)


def test_as_many_as_there_is_room_for_are_answered_and_all_others_refused(small, held):
    answers = []
    threads = fill(small, answers)
    refused = [small.client().post(PATH, json=BODY) for _ in range(20)]
    finish(small, held, threads)
    assert [answer.status_code for answer in answers] == [200] * 5
    for answer in refused:
        assert assert_problem(answer, 503)["instance"] == PATH
        assert answer.headers["Vary"] == "Authorization"
        assert answer.headers["Cache-Control"] == "private, no-cache"


def test_a_burst_gets_room_for_five_and_honest_answers_for_the_rest(small, held):
    answers, places = [], small.wiring.admission
    threads = [in_background(small, answers) for _ in range(16)]
    until(lambda: len(answers) == 11 and places.waiting == 3)
    finish(small, held, threads)
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200] * 5 + [503] * 11
    for answer in answers:
        if answer.status_code == 503:
            assert_problem(answer, 503)


def test_stored_predictions_share_the_places_and_others_do_not_need_them(small, held):
    answers = []
    threads = fill(small, answers)
    stored = {"model": "fast", **BODY}
    assert small.client().post("/api/v1/predictions", json=stored).status_code == 503
    assert small.client().get("/api/v1/predictions").status_code == 200
    assert small.client().get("/api/v1/models").status_code == 200
    finish(small, held, threads)


def test_a_refusal_reads_no_body_and_keeps_the_request_id(small, held):
    class Unread(io.BytesIO):
        def read(self, *_):
            raise AssertionError("the body was read")

    answers = []
    threads = fill(small, answers)
    refused = small.client().post(
        PATH,
        input_stream=Unread(),
        content_type="application/json",
        headers={"X-Request-Id": "mine"},
    )
    assert assert_problem(refused, 503)["request_id"] == "mine"
    finish(small, held, threads)


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"data": "{", "content_type": "application/json"}, 400),
        ({"json": {"inputs": [{"mass": 1}]}}, 422),
        ({"json": {"inputs": []}}, 422),
        ({"data": "x", "content_type": "text/plain"}, 415),
        ({"data": json.dumps(BODY), "content_type": "application/json", "path": "gone"}, 404),
    ],
)
def test_refused_and_failed_predictions_leave_no_place_taken(small, more, status):
    path = PATH.replace("fast", more.pop("path", "fast"))
    for _ in range(4):
        assert small.client().post(path, **more).status_code == status
    assert small.wiring.admission.free == 2


def test_a_prediction_that_breaks_leaves_no_place_taken(small, monkeypatch):
    def broken(_):
        raise RuntimeError

    monkeypatch.setattr(small.wiring.engine, "_compiled", broken)
    for _ in range(4):
        assert_problem(small.client().post(PATH, json=BODY), 500)
    assert small.wiring.admission.free == 2


def test_the_metrics_tell_who_was_let_in_and_who_was_refused(small, held):
    registry = small.wiring.registry
    names = ["modelyard_admission_seconds_count", "modelyard_predictions_shed_total"]
    before = [registry.get_sample_value(name) for name in names]
    threads = fill(small, [])
    assert registry.get_sample_value("modelyard_admission_waiting") == 3
    small.client().post(PATH, json=BODY)
    finish(small, held, threads)
    after = [registry.get_sample_value(name) for name in names]
    assert [late - early for early, late in zip(before, after, strict=True)] == [5, 1]


@pytest.mark.parametrize("path", [PATH, "/api/v1/predictions"])
def test_who_waits_for_the_models_service_keeps_no_place_from_others(small, monkeypatch, path):
    """Questions about models that nobody had asked for held all places while the models service
    was away or hung: predictions that need no other service were 503."""
    go, asking, answers, models = threading.Event(), [], [], small.wiring.directory._models
    state = models.state

    def hangs(call, model):
        asking.append(model)
        assert go.wait(60)
        return state(call, model)

    assert small.client().post(PATH, json=BODY).status_code == 200
    monkeypatch.setattr(models, "state", hangs)
    threads = [in_background(small, answers, PATH.replace("fast", "never")) for _ in range(2)]
    until(lambda: len(asking) == 2)
    body = BODY if path == PATH else {"model": "fast", **BODY}
    threads += [in_background(small, found := [], path, body)]
    try:
        until(lambda: found)
        assert found[0].status_code in (200, 201)
        assert not answers
    finally:
        go.set()
        for thread in threads:
            thread.join(30)
    assert [answer.status_code for answer in answers] == [404, 404]
    assert (small.wiring.admission.free, small.wiring.admission.waiting) == (2, 0)
