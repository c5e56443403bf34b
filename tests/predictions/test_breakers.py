"""A version that kills scorers: alone after the first time, refused after several, tried again."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from app.kernel.errors import Unavailable
from app.predictions.breakers import (
    LONGEST_SECONDS,
    OPEN_SECONDS,
    STRIKES,
    WINDOW_SECONDS,
    Breakers,
)

BAD = {"id": "1", "model": "bad", "version": 1, "subject": "models/bad/versions/1"}
GOOD = {"id": "2", "model": "good", "version": 1, "subject": "models/good/versions/1"}


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breakers(clock):
    return Breakers(CollectorRegistry(), clock)


def open_one(breakers):
    for _ in range(STRIKES):
        breakers.struck(BAD, "crash")


def refusal(breakers):
    with pytest.raises(Unavailable) as caught:
        breakers.must_be_alone(BAD)
    return caught.value.retry_after


def test_a_version_is_scored_alone_for_a_while_after_a_strike(breakers, clock):
    assert not breakers.must_be_alone(BAD)
    breakers.struck(BAD, "crash")
    assert breakers.must_be_alone(BAD)
    assert not breakers.must_be_alone(GOOD)
    breakers.well(BAD)
    clock.now = WINDOW_SECONDS
    assert breakers.must_be_alone(BAD)
    clock.now += 1
    assert not breakers.must_be_alone(BAD)


def test_after_several_strikes_it_is_refused_and_told_when_to_come_back(breakers, clock):
    open_one(breakers)
    assert refusal(breakers) == OPEN_SECONDS
    clock.now = OPEN_SECONDS - 0.5
    assert refusal(breakers) == 1
    assert not breakers.must_be_alone(GOOD)


def test_strikes_far_apart_do_not_add_up(breakers, clock):
    for _ in range(2 * STRIKES):
        breakers.struck(BAD, "crash")
        clock.now += WINDOW_SECONDS / (STRIKES - 1) + 1
        assert breakers.must_be_alone(BAD)


def test_one_request_tries_while_the_others_are_refused(breakers, clock):
    open_one(breakers)
    clock.now = OPEN_SECONDS
    assert breakers.must_be_alone(BAD)
    assert refusal(breakers) == 1
    breakers.undecided(BAD)
    assert breakers.must_be_alone(BAD)
    breakers.well(BAD)
    assert breakers.must_be_alone(BAD)
    assert breakers.must_be_alone(BAD)


def test_each_failed_trial_doubles_the_time_up_to_a_bound(breakers, clock):
    open_one(breakers)
    waits = []
    for _ in range(6):
        clock.now += refusal(breakers)
        assert breakers.must_be_alone(BAD)
        breakers.struck(BAD, "time")
        waits.append(refusal(breakers))
    assert waits == [20, 40, 80, 160, 160, LONGEST_SECONDS]


def test_the_metrics_tell_the_state_of_those_that_are_not_trusted(breakers, clock):
    def told():
        text = generate_latest(breakers).decode()
        return [line for line in text.splitlines() if not line.startswith("#")]

    def line(state):
        return f'modelyard_scorer_breakers{{model="bad",state="{state}",version="1"}} 1.0'

    assert told() == []
    breakers.struck(BAD, "crash")
    assert told() == [line("alone")]
    open_one(breakers)
    assert told() == [line("open")]
    clock.now = OPEN_SECONDS
    assert told() == [line("trial")]
    clock.now += WINDOW_SECONDS + 1
    assert told() == []
