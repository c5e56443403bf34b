"""The model of how an installation grows: its formulas hold, and its page says what follows."""

import dataclasses
import random

import pytest

from benchmarks.scale import capacity, measure
from benchmarks.scale.queues import (
    least_servers,
    mean_wait,
    simulated_wait,
    wait_within,
    waits,
)


@pytest.mark.parametrize(
    ("load", "servers", "share"), [(0.5, 1, 0.5), (1, 2, 1 / 3), (8, 10, 0.4092), (3, 3, 1)]
)
def test_the_share_that_waits_is_erlangs(load, servers, share):
    assert waits(load, servers) == pytest.approx(share, rel=1e-3)


@pytest.mark.parametrize(("servers", "busy"), [(1, 0.6), (4, 0.8), (10, 0.9)])
def test_waits_are_those_of_a_simulation(servers, busy):
    def service(draw: random.Random) -> float:
        return draw.expovariate(1)

    found = simulated_wait(busy * servers, servers, service, 200_000, seed=1)
    assert found == pytest.approx(mean_wait(busy * servers, servers, 1.0), rel=0.15)


def test_services_that_last_equally_long_halve_the_wait():
    found = simulated_wait(0.7, 1, lambda _: 1.0, 200_000, seed=2)
    assert found == pytest.approx(mean_wait(0.7, 1, 1.0, spread=0), rel=0.1)
    assert mean_wait(0.7, 1, 1.0, spread=0) == mean_wait(0.7, 1, 1.0) / 2


def test_so_many_servers_that_nobody_waits_long_and_not_one_more():
    servers = least_servers(5.0, 60.0, 10.0)
    assert mean_wait(5.0, servers, 60.0) <= 10 < mean_wait(5.0, servers - 1, 60.0)
    assert least_servers(0.0, 1.0, 1.0) == 1


def test_a_line_that_only_grows_has_no_mean():
    assert mean_wait(2.0, 2, 1.0) == wait_within(0.99, 2.0, 2, 1.0) == float("inf")
    assert wait_within(0.5, 0.5, 1, 1.0) == 0
    assert wait_within(0.99, 0.5, 1, 1.0) == pytest.approx(7.82, rel=1e-3)


def test_what_fills_up_first_is_what_can_not_grow():
    api, postgres = capacity.Part("API", 30.0), capacity.Part("Postgres", 70.0, machine=True)
    assert capacity.first_full([api, postgres]).startswith("**Postgres**: 3.6 times")
    assert capacity.first_full([api, capacity.Part("Postgres", 10.0, machine=True)]) == (
        "API: 30 cores busy"
    )
    assert capacity.first_full([capacity.Part("API", 0.1)]) == "none; the fullest: API, 10.0%"


def test_the_page_says_what_follows_from_the_constants():
    page, known = capacity.PAGE.read_text(), measure.read()
    assert capacity.filled(page, known) == page, "python -m benchmarks.scale tell"
    assert known.measured_on in page
    doubled = dataclasses.replace(known, predict_seconds=2 * known.predict_seconds)
    assert capacity.filled(page, doubled) != page
