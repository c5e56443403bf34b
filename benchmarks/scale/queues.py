"""Waiting lines: what is known of them in closed form, and a simulation that needs no assumption.

Loads are in Erlangs: arrivals a second times seconds of service, i.e. servers that are busy.
"""

import heapq
import math
import random
from collections.abc import Callable

POISSON = 1.0
"""The squared coefficient of variation of exponential times."""


def waits(load: float, servers: int) -> float:
    """The share of arrivals that find all servers busy (Erlang C); 1 where the line only grows."""
    if load >= servers:
        return 1.0
    blocked = 1.0
    for busy in range(1, servers + 1):
        blocked = load * blocked / (busy + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def mean_wait(load: float, servers: int, service: float, spread: float = POISSON) -> float:
    """Mean seconds in the line, by Allen and Cunneen; infinite where it only grows.

    ``spread`` is the squared coefficient of variation of the service times; arrivals are Poisson.
    Exact for one server (Pollaczek and Khinchine) and for exponential services.
    """
    if load >= servers:
        return math.inf
    return waits(load, servers) * service / (servers - load) * (1 + spread) / 2


def wait_within(share: float, load: float, servers: int, service: float) -> float:
    """Seconds within which this share of the arrivals is served at last (exponential services)."""
    late = waits(load, servers)
    if load >= servers:
        return math.inf
    return max(0.0, service / (servers - load) * math.log(late / (1 - share))) if late else 0.0


def least_servers(load: float, service: float, most_wait: float) -> int:
    """The fewest servers whose mean wait is ``most_wait`` seconds at most."""
    servers = max(1, math.ceil(load))
    while mean_wait(load, servers, service) > most_wait:
        servers += 1
    return servers


def simulated_wait(
    rate: float, servers: int, service: Callable[[random.Random], float], arrivals: int, seed: int
) -> float:
    """The mean wait of so many Poisson arrivals, served in their order by whoever is free first."""
    draw = random.Random(seed)
    free = [0.0] * servers
    now = waited = 0.0
    for _ in range(arrivals):
        now += draw.expovariate(rate)
        begun = max(now, heapq.heappop(free))
        waited += begun - now
        heapq.heappush(free, begun + service(draw))
    return waited / arrivals
