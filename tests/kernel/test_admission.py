"""Places for predictions: so many, so many in line, and none ever lost."""

import re
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from app.kernel.admission import TICKET, Admission, Ticket
from app.kernel.errors import DeadlineExceeded, Unavailable
from app.kernel.http.door import Door
from app.kernel.slots import Slots

STEPS = st.lists(st.tuples(st.sampled_from(["enter", "leave"]), st.integers(0, 9)), max_size=80)


class MovedClock:
    """A time that stands until it is moved."""

    def __init__(self):
        self.time = 1000.0

    def __call__(self):
        return self.time


def admission(slots=1, waiters=0, wait=30.0, **more):
    return Admission(slots, waiters, wait, CollectorRegistry(), **more)


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def waiting_thread(places, arrived, held):
    def wait():
        held.append(places.enter())
        arrived.append(threading.current_thread())

    thread = threading.Thread(target=wait)
    before = places.waiting
    thread.start()
    until(lambda: places.waiting == before + 1)
    return thread


@given(st.integers(1, 4), STEPS)
def test_places_are_given_back_once_and_never_twice(slots, steps):
    places = admission(slots)
    tickets = [Ticket(places) for _ in range(10)]
    held = set()
    for step, number in steps:
        if step == "leave":
            tickets[number].leave()
            held.discard(number)
        elif number in held or len(held) < slots:
            tickets[number].enter()
            held.add(number)
        else:
            with pytest.raises(Unavailable):
                tickets[number].enter()
        assert places.free == slots - len(held)


@given(st.lists(st.sampled_from(["answer", "fail", "fail before", "again"]), max_size=30))
def test_no_place_is_lost_whatever_becomes_of_a_request(outcomes):
    places = admission(2)
    answered = []

    def app(environ, start_response):
        outcome = environ["outcome"]
        if outcome == "fail before":
            raise ConnectionError
        environ[TICKET].enter()
        if outcome == "again":
            environ[TICKET].enter()
        if outcome == "fail":
            raise RuntimeError
        answered.append(outcome)
        return []

    door = Door(app, places, re.compile("/p"), Slots(1, "bodies"))
    for outcome in outcomes:
        environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/p", "outcome": outcome}
        try:
            door(environ, None)
        except (RuntimeError, ConnectionError):
            assert outcome.startswith("fail")
        assert places.free == 2


def test_a_place_goes_to_the_first_in_line():
    places, arrived = admission(1, 3), []
    held = [places.enter()]
    threads = [waiting_thread(places, arrived, held) for _ in range(3)]
    for count in (1, 2, 3):
        places.leave(held.pop())
        until(lambda count=count: len(arrived) == count)
    assert arrived == threads
    places.leave(held.pop())
    assert (places.free, places.waiting) == (1, 0)


def test_a_place_that_is_lent_is_had_by_others_and_taken_again():
    places = admission(1)
    ticket, other = Ticket(places), Ticket(places)
    with ticket.lent(lambda: 1.0):
        assert places.free == 1
    assert places.free == 1
    ticket.enter()
    with ticket.lent(lambda: 1.0), ticket.lent(lambda: 1.0):
        other.enter()
        other.leave()
    assert places.free == 0
    with pytest.raises(Unavailable), ticket.lent(lambda: 1.0):
        other.enter()
    ticket.leave()
    assert places.free == 0
    other.leave()
    assert places.free == 1


def test_who_fails_while_a_place_is_lent_takes_none_again():
    places = admission(1)
    ticket = Ticket(places)
    ticket.enter()
    with pytest.raises(KeyError), ticket.lent(lambda: 1.0):
        raise KeyError
    ticket.leave()
    assert places.free == 1


def test_past_the_longest_wait_the_line_is_left():
    places = admission(1, 1, 0.02)
    since = places.enter()
    with pytest.raises(Unavailable):
        places.enter()
    assert places.waiting == 0
    places.leave(since)
    assert places.free == 1


def test_patience_that_ends_before_the_longest_wait_is_a_deadline():
    places = admission(1, 1)
    places.enter()
    with pytest.raises(DeadlineExceeded):
        places.enter(patience=0.02)
    assert places.waiting == 0


def test_the_pause_is_that_of_the_line_at_the_pace_of_late():
    clock, arrived = MovedClock(), []
    places = admission(2, 3, monotonic=clock)
    for _ in range(100):
        held = [places.enter()]
        clock.time += 4
        places.leave(held.pop())
    held = [places.enter(), places.enter()]
    threads = [waiting_thread(places, arrived, held) for _ in range(3)]
    with pytest.raises(Unavailable) as refused:
        places.enter()
    assert refused.value.retry_after == pytest.approx(4.0 * 4 / 2)
    for _ in range(5):
        until(lambda: held)
        places.leave(held.pop())
    for thread in threads:
        thread.join(60)
    assert places.free == 2


def test_many_threads_at_once_never_hold_more_places_than_there_are():
    places, at_work, most = admission(3, 50), [], []

    def work():
        for _ in range(50):
            ticket = Ticket(places)
            ticket.enter()
            at_work.append(1)
            most.append(len(at_work))
            at_work.pop()
            ticket.leave()

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert max(most) <= 3
    assert (places.free, places.waiting) == (3, 0)


def test_those_who_are_being_read_count_with_the_line():
    """All who came while one was read were let in, and refused when they had been read, too."""
    places = admission(1, 2)
    expected = [object() for _ in range(3)]
    assert [places.expect(request) for request in expected] == [True] * 3
    assert not places.expect(object())
    places.forget(expected[0])
    assert places.expect(object())


def test_a_request_that_takes_long_to_be_read_closes_the_door_to_nobody():
    clock = MovedClock()
    places = admission(1, 0, monotonic=clock)
    assert places.expect("stalled")
    assert not places.expect("next")
    clock.time += 0.25
    assert places.expect("next")


def overloaded(clock, seconds=1.0, slots=1, waiters=10):
    """Places of work that takes so many seconds, where nearly all have been refused of late."""
    places = admission(slots, waiters, 0.25, monotonic=clock)
    since = places.enter()
    clock.time += seconds
    places.leave(since)
    for _ in range(50):
        places.refusal()
    return places


def test_callers_who_ask_again_as_soon_as_they_are_answered_are_no_overload():
    """They were refused all the time where there had been something to do for a quarter second."""
    clock = MovedClock()
    places = admission(2, 10, 0.25, monotonic=clock)
    places.enter()
    places.enter()
    clock.time += 1
    assert [places.expect(number) for number in range(11)] == [True] * 10 + [False]


def test_in_an_overload_those_wait_whose_place_will_soon_be_free():
    """A line answered no more, only later; without one the places stood empty for a sixth of the
    time at five times what there is room for."""
    clock = MovedClock()
    places = overloaded(clock)
    places.enter()
    clock.time += 0.4
    places.refusal()
    assert not places.expect("too early")
    clock.time += 0.2
    places.refusal()
    assert places.expect("soon")
    assert not places.expect("behind it")
    clock.time += 5
    places.refusal()
    assert places.expect("overdue")


def test_in_an_overload_one_may_wait_for_each_place():
    clock = MovedClock()
    places = overloaded(clock, slots=2)
    places.enter()
    clock.time += 0.3
    places.enter()
    clock.time += 0.5
    places.refusal()
    assert places.expect("the first place")
    assert not places.expect("the second place")
    clock.time += 0.15
    places.refusal()
    assert places.expect("the second place")
    assert not places.expect("behind both")


@pytest.mark.parametrize(("pause", "room"), [(0.5, 1), (6.0, 11)])
def test_after_a_pause_a_burst_finds_the_whole_line_again(pause, room):
    """It was found again whenever one place was free for a moment, and overload never lasted."""
    clock = MovedClock()
    places = overloaded(clock)
    clock.time += pause
    assert sum(places.expect(number) for number in range(12)) == room


def test_an_overload_is_over_when_most_are_let_in():
    clock = MovedClock()
    places = overloaded(clock)
    for _ in range(50):
        places.leave(places.enter())
    assert sum(places.expect(number) for number in range(12)) == 11
