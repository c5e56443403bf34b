"""Archives whose processes are killed at any moment have each record once."""

import random
import time
from itertools import pairwise

import pytest

from tests.streams.processors.archiving import Archiving, ArchivingYard
from tests.streams.processors.role_processes import Crew
from tests.streams.processors.test_archiving import produce

SLOW = [pytest.mark.slow]


@pytest.fixture
def archiving(stores, tmp_path):
    yard = ArchivingYard(tmp_path / "home", reader_lease=2.0, **stores)
    made = Archiving(yard)
    made.topics("in", partitions=2)
    made.topics("dead")
    yield made
    made.close()
    yard.close()


def contiguous(ranges):
    """Whether each begins where the one before it ends."""
    return all(one[1] == two[0] for one, two in pairwise(ranges))


def assert_each_once(archiving, count):
    """The records of both partitions, each in one row of one version."""
    for partition in range(2):
        ranges = archiving.ranges(partition)
        assert (ranges[0][0], ranges[-1][1]) == (0, count)
        assert contiguous(ranges), ranges
    assert archiving.places() == [(p, offset) for p in range(2) for offset in range(count)]
    counts = archiving.get("kept")["counts"]
    assert (counts["taken"], counts["dead"], counts["dropped"]) == (2 * count, 0, 0)


def until_read(archiving, crew, seconds=120):
    until = time.monotonic() + seconds
    while archiving.get("kept")["lag"]:
        crew.look_after()
        assert time.monotonic() < until, archiving.get("kept")
        time.sleep(0.05)


@pytest.mark.parametrize(
    "point",
    [
        "processors.handled=kill@1",
        pytest.param("uploads.received=kill@2", marks=SLOW),
        pytest.param("processors.written=kill@2", marks=SLOW),
        pytest.param("processors.committed=kill@1", marks=SLOW),
    ],
)
def test_a_death_between_a_version_and_the_offset_doubles_nothing(archiving, point):
    """Records that came between the two attempts are in the next version."""
    for partition in range(2):
        produce(archiving, 15, partition=partition)
    crew = Crew(archiving.yard, count=1, faults_text=point, sockets=archiving.yard.sockets)
    archiving.archive()
    try:
        until = time.monotonic() + 60
        while not crew.has_lost_one():
            assert time.monotonic() < until
            time.sleep(0.02)
        crew.faults = ""
        for partition in range(2):
            produce(archiving, 8, start=15, partition=partition)
        until_read(archiving, crew)
    finally:
        crew.stop()
    assert_each_once(archiving, 23)


@pytest.mark.slow
def test_kills_at_random_moments_lose_and_double_nothing(archiving):
    """Parts are closed by their size, or by a second: each attempt cuts them otherwise."""
    chance, count = random.Random(5), 0
    crew = Crew(archiving.yard, sockets=archiving.yard.sockets)
    archiving.archive(archive={"rows": 20})
    try:
        for _ in range(5):
            some = chance.randrange(5, 60)
            for partition in range(2):
                produce(archiving, some, start=count, partition=partition)
            count += some
            time.sleep(chance.uniform(0.2, 1.5))
            crew.kill_one(chance)
            crew.look_after()
        until_read(archiving, crew)
    finally:
        crew.stop()
    assert crew.kills == 5
    assert_each_once(archiving, count)
