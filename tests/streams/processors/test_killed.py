"""Processors that are killed at any moment leave behind what an undisturbed run does."""

import hashlib
import json
import random
import time
from collections import defaultdict

import pytest
from sqlalchemy import select

from app.kernel.log.seam import NewRecord
from app.streams.processors.tables import Processor, ProcessorWatermark, ProcessorWindow
from tests.streams.processors.installation import PROCESSORS, Streaming
from tests.streams.processors.role_processes import Crew
from tests.yard import Yard

KEYS = [f"k{number}".encode() for number in range(12)]
HOPPING = {
    "window": {"size_seconds": 20, "hop_seconds": 10},
    "aggregates": {
        "n": {"function": "count"},
        "total": {"function": "sum", "field": "x"},
        "mean": {"function": "mean", "field": "x"},
    },
    "time_field": "at",
    "lateness_seconds": 3,
}


def fill(streaming, count, chance):
    """Records out of order, some of them late, some of them poison."""
    topic, at = streaming.topic_id("in"), 0
    for start in range(0, count, 500):
        records = []
        for number in range(start, min(start + 500, count)):
            at += chance.randrange(80)
            moment = at - chance.choice((0, 0, 0, 500, 2000, 40_000))
            value = {"at": moment, "x": round(chance.uniform(-9, 9), 3), "number": number}
            encoded = b"{" if chance.random() < 0.002 else json.dumps(value).encode()
            records.append(NewRecord(encoded, key=chance.choice(KEYS)))
        streaming.log.append(topic, records)


def add(streaming, name, **changes):
    """A processor with topics of its own."""
    streaming.topics(f"{name}-out", f"{name}-dead", partitions=3)
    streaming.create(
        name=name,
        output_topic=f"{name}-out",
        dead_letter_topic=f"{name}-dead",
        aggregate=HOPPING,
        **changes,
    )


def digest(streaming, name):
    """Of all that a processor has written, told and folded; and how much that is."""
    by_key = defaultdict(list)
    for topic in ("out", "dead"):
        for record in streaming.records(f"{name}-{topic}"):
            place = record.headers.get("modelyard-dead-offset", "")
            by_key[topic, record.key].append((record.value, place))
    with streaming.yard.wiring.database("streams").read() as session:
        rows = [
            (row.partition, row.start, row.key, row.state)
            for row in session.scalars(
                select(ProcessorWindow)
                .where(ProcessorWindow.processor == identity(streaming, name))
                .order_by(ProcessorWindow.partition, ProcessorWindow.start, ProcessorWindow.key)
            )
        ]
        marks = [
            (mark.partition, mark.watermark)
            for mark in session.scalars(
                select(ProcessorWatermark)
                .where(ProcessorWatermark.processor == identity(streaming, name))
                .order_by(ProcessorWatermark.partition)
            )
        ]
    counts = streaming.get(name)["counts"]
    del counts["errors"]
    told = [sorted(by_key.items()), rows, marks, counts]
    return hashlib.sha256(repr(told).encode()).hexdigest(), sum(map(len, by_key.values()))


def identity(streaming, name):
    with streaming.yard.wiring.database("streams").read() as session:
        return session.scalar(select(Processor.id).where(Processor.name == name))


def settled(streaming, name):
    """Once all that was written can be read: a log elsewhere gets it a little later."""
    written = streaming.get(name)["counts"]
    until = time.monotonic() + 90
    while True:
        found = len(streaming.records(f"{name}-out")), len(streaming.records(f"{name}-dead"))
        if found == (written["written"], written["dead"]):
            return
        assert time.monotonic() < until, (found, written)
        time.sleep(0.1)


def undisturbed(streaming):
    add(streaming, "calm")
    streaming.run_until(lambda: streaming.get("calm")["lag"] == 0, seconds=600)
    settled(streaming, "calm")
    streaming.client.put(f"{PROCESSORS}/calm/state", json={"state": "paused"})
    for runtime in streaming.runtimes:
        runtime.stop()
        runtime.run()
    streaming.runtimes.clear()
    return digest(streaming, "calm")


def killed(streaming, count, kills, chance):
    """The same work by two processes that are killed at moments drawn by chance.

    A moment that was over before anybody looked is made up for at the next look: a kill after the
    last record must change nothing either.
    """
    moments = sorted(chance.uniform(0.02, 0.95) * count for _ in range(kills))
    crew, until = Crew(streaming.yard), time.monotonic() + 60 + count / 100
    add(streaming, "shot")
    try:
        while (lag := streaming.get("shot")["lag"]) > 0 or moments:
            if moments and count - lag >= moments[0]:
                moments.pop(0)
                crew.kill_one(chance)
                crew.look_after()
            assert time.monotonic() < until, "it doesn't come to an end"
            time.sleep(chance.uniform(0.005, 0.1))
    finally:
        crew.stop()
    assert crew.kills == kills
    settled(streaming, "shot")
    return digest(streaming, "shot")


@pytest.fixture
def engine(stores, tmp_path):
    """An installation whose records lie in its database, or in NATS."""
    yard = Yard(tmp_path / "home", reader_lease=2.0, **stores)
    made = Streaming(yard)
    yield made
    made.close()
    yard.close()


def compare(streaming, count, kills, seed):
    chance = random.Random(seed)
    streaming.topics("in", partitions=3)
    fill(streaming, count, chance)
    calm, shot = undisturbed(streaming), killed(streaming, count, kills, chance)
    assert calm[1] > count / 20
    assert shot == calm


@pytest.mark.fault("F38")
def test_three_kills_change_nothing(engine):
    compare(engine, 5000, 3, seed=1)


@pytest.mark.fault("F38")
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_twenty_kills_over_many_records_change_nothing(engine):
    compare(engine, 100_000, 20, seed=2)


@pytest.mark.fault("F38")
@pytest.mark.parametrize("point", ["handled", "written", "committed"])
def test_a_death_between_effect_and_commit_changes_nothing(streaming, point):
    streaming.topics("in", partitions=1)
    fill(streaming, 1500, random.Random(3))
    calm = undisturbed(streaming)
    crew = Crew(streaming.yard, count=1, faults_text=f"processors.{point}=kill@2")
    add(streaming, "shot")
    until = time.monotonic() + 100
    while streaming.get("shot")["lag"] > 0:
        crew.look_after()
        assert time.monotonic() < until
        time.sleep(0.02)
    crew.stop()
    assert crew.kills >= 1
    assert digest(streaming, "shot") == calm


def test_one_that_is_told_to_stop_hands_back_at_once(streaming):
    streaming.topics("in", partitions=2)
    add(streaming, "calm")
    crew = Crew(streaming.yard, count=1)
    until = time.monotonic() + 90
    while not all(one["active"] for one in streaming.get("calm")["partitions"]):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert crew.stop() < 20
    assert not any(one["active"] for one in streaming.get("calm")["partitions"])
