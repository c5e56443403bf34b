"""Models that kill or block the scorer: each fails alone, and is soon refused; the rest answer."""

import threading
import time
from contextlib import contextmanager

import pytest

from app.predictions.breakers import OPEN_SECONDS, STRIKES
from tests.faults.forged import FAR_AWAY, ITSELF
from tests.faults.rounds import rounds
from tests.faults.scored import Scored
from tests.problems import assert_problem

SCORE_SECONDS = 4.0
AT_ONCE = 5.0
"""Three milliseconds on a quiet machine."""
BACK_SECONDS = 20.0
"""Two are promised; 0.1 s on a quiet machine."""


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    made = Scored(
        tmp_path_factory.mktemp("scored"), score_seconds=str(SCORE_SECONDS), predict_slots=8
    )
    yield made
    made.close()


@contextmanager
def neighbours(yard):
    """Clients of two innocent models, who ask all the time: each gets its answer, and soon."""
    answers, stop = [], threading.Event()

    def ask(model):
        while not stop.is_set():
            started = time.monotonic()
            answer = yard.predict(model)
            answers.append((model, answer.status_code, answer.text[:300]))
            answers.append((model, time.monotonic() - started < BACK_SECONDS, "slow"))

    threads = [threading.Thread(target=ask, args=(model,)) for model in ("slow", "slow", "fast")]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [told for told in answers if told[1] not in (200, True)] == []
    assert {told[0] for told in answers} == {"slow", "fast"}


@pytest.mark.fault("F27")
def test_a_model_that_crashes_the_scorer_fails_alone_and_is_then_refused_at_once(scored):
    scored.forge("crashing", FAR_AWAY)
    with neighbours(scored):
        for _ in range(STRIKES):
            assert "ended the process" in assert_problem(scored.predict("crashing"), 503)["detail"]
        started = time.monotonic()
        refused = scored.predict("crashing")
        assert time.monotonic() - started < AT_ONCE
    assert "not tried for a while" in assert_problem(refused, 503)["detail"]
    assert 1 <= int(refused.headers["Retry-After"]) <= OPEN_SECONDS
    told = scored.client().get("/metrics").text
    assert 'breakers{model="crashing",state="open",version="1"} 1.0' in told
    assert f'deaths_total{{model="crashing",why="crash"}} {STRIKES}.0' in told


@pytest.mark.slow
@pytest.mark.fault("F27")
def test_a_refused_model_is_tried_once_in_a_while_and_harms_nobody_then(scored):
    scored.forge("tried", FAR_AWAY)
    for _ in range(STRIKES):
        assert_problem(scored.predict("tried"), 503)
    shared = scored.server()
    scored.pass_time(OPEN_SECONDS + 1)
    with neighbours(scored):
        assert "ended the process" in scored.predict("tried").json["detail"]
        refused = assert_problem(scored.predict("tried"), 503)
    assert "not tried for a while" in refused["detail"]
    assert scored.server() == shared


@pytest.mark.slow
@pytest.mark.fault("F27")
def test_a_model_that_never_answers_is_ended_in_time_and_then_scored_alone(scored):
    scored.forge("looping", ITSELF)
    with neighbours(scored):
        for tries in (2, 1):
            started = time.monotonic()
            problem = assert_problem(scored.predict("looping"), 504)
            needed = time.monotonic() - started
            assert tries * SCORE_SECONDS <= needed < tries * SCORE_SECONDS + BACK_SECONDS
    assert f"more than {SCORE_SECONDS:g} s" in problem["detail"]
    assert 'deaths_total{model="looping",why="time"} 2.0' in scored.client().get("/metrics").text


@pytest.mark.fault("F27")
def test_who_kills_the_scorer_from_outside_costs_no_answer(scored):
    with neighbours(scored):
        for _ in range(rounds(quick=3, full=30)):
            shared = scored.server()
            shared.kill()
            started = time.monotonic()
            assert scored.predict("slow").status_code == 200
            assert time.monotonic() - started < BACK_SECONDS
            assert scored.server(after=shared).is_running()
    assert 'model="slow",state=' not in scored.client().get("/metrics").text
