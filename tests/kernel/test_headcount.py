"""How many workers are wanted: at once more, one by one fewer, within bounds, never to and fro."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from app.kernel.jobs.headcount import Headcount, Heard, Load, demand
from app.kernel.jobs.load import Listener, Teller

IDLE, LOOK = 15.0, 0.5
bounds = st.tuples(st.integers(1, 8), st.integers(0, 8)).map(lambda pair: (pair[0], sum(pair)))
slots = st.integers(1, 4)
loads = st.lists(st.none() | st.integers(0, 40), min_size=1, max_size=200)


def course(headcount, demands, leaving=0):
    """What is wanted after each of some looks, ``LOOK`` seconds apart."""
    return [
        headcount.decide(number * LOOK, demand, leaving) for number, demand in enumerate(demands)
    ]


@given(bounds, slots, loads)
def test_never_fewer_than_the_least_nor_more_than_the_most(bounds, slots, loads):
    wanted = course(Headcount(*bounds, slots=slots, idle=IDLE), loads)
    assert all(bounds[0] <= number <= bounds[1] for number in wanted)


@given(bounds, slots, loads, st.integers(0, 400))
def test_grows_at_once_when_demand_exceeds_the_slots(bounds, slots, loads, demand):
    headcount = Headcount(*bounds, slots=slots, idle=IDLE)
    before = course(headcount, loads)[-1]
    after = headcount.decide(len(loads) * LOOK, demand)
    if demand > before * slots:
        assert after == bounds[1] or (after - 1) * slots < demand <= after * slots


@given(bounds, slots, loads)
def test_retires_one_by_one_an_idle_time_apart(bounds, slots, loads):
    wanted = course(Headcount(*bounds, slots=slots, idle=IDLE), loads)
    steps = [(at, after - before) for at, (before, after) in enumerate(itertools.pairwise(wanted))]
    retired = [at for at, step in steps if step < 0]
    assert all(step == -1 for _, step in steps if step < 0)
    assert all(later - earlier >= IDLE / LOOK for earlier, later in itertools.pairwise(retired))


@given(bounds, slots, loads)
def test_what_was_needed_within_the_idle_time_is_kept(bounds, slots, loads):
    """So a load that comes and goes faster than that makes no worker come and go."""
    least, most = bounds
    wanted = course(Headcount(least, most, slots=slots, idle=IDLE), loads)
    window = int(IDLE / LOOK)
    for at, number in enumerate(wanted):
        lately = [load for load in loads[max(at - window + 1, 0) : at + 1] if load is not None]
        assert number >= min(most, max(-(-load // slots) for load in [*lately, 0]))


@given(bounds, slots, st.integers(0, 40))
def test_a_steady_load_is_met_and_then_nothing_changes(bounds, slots, load):
    least, most = bounds
    headcount = Headcount(least, most, slots=slots, idle=IDLE)
    settling = int((most + 1) * IDLE / LOOK) + most
    wanted = course(headcount, [10**6] + [load] * settling * 2)
    met = min(most, max(least, -(-load // slots)))
    assert wanted[0] == most
    assert set(wanted[settling:]) == {met}


@given(bounds, loads, st.integers(0, 8))
def test_those_who_still_finish_what_they_hold_count_as_some_of_the_most(bounds, loads, leaving):
    least, most = bounds
    leaving = min(leaving, most - least)
    headcount = Headcount(least, most, slots=1, idle=IDLE)
    assert max(course(headcount, loads, leaving)) + leaving <= most


def test_when_no_worker_tells_nobody_is_let_go():
    headcount = Headcount(1, 4, slots=1, idle=IDLE)
    assert course(headcount, [4] + [None] * 1000)[-1] == 4


def test_a_job_that_one_has_claimed_since_another_looked_counts_once():
    claimed, looked_before = Heard(Load(0, 1), 10.0), Heard(Load(1, 0), 10.0)
    assert demand([claimed, looked_before], 10.1) == 1
    assert demand([Heard(Load(5, 1), 10.0), Heard(Load(5, 1), 10.0)], 10.1) == 7


def test_a_worker_that_is_silent_keeps_its_jobs_but_its_view_of_the_queue_is_old():
    hangs, lives = Heard(Load(0, 1), 1.0), Heard(Load(9, 1), 10.0)
    assert demand([hangs, lives], 10.1) == 11
    assert demand([hangs], 10.1) is None
    assert demand([], 10.1) is None


def test_the_last_word_of_a_worker_arrives_and_one_too_many_holds_up_nobody():
    listener = Listener()
    teller = Teller(listener.theirs)
    assert listener.latest() is None
    for number in range(10_000):
        teller.tell(Load(number, 2**40))
    assert listener.latest().load.busy == 2**32 - 1
    teller.tell(Load(3, 1))
    assert listener.latest().load == (3, 1)
    listener.close()
    teller.tell(Load(0, 0))
