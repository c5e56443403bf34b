"""What the log promises where processes write to it and are killed."""

import hashlib
import os
import random
import signal
import time

from sqlalchemy import insert, select

from tests.kernel.log.engines import new_topic, numbered, read_all, until, values
from tests.kernel.log.processes import positions


def test_four_processes_that_write_leave_no_gap_to_a_reader(engine, log, nursery):
    topic, each = new_topic(log), 60
    for name in "abcd":
        nursery.start(engine, "write", topic, name, each)
    seen, until = [], time.monotonic() + 60
    while len(seen) < 4 * each and time.monotonic() < until:
        log.wait(topic, {0: len(seen)}, 1.0)
        found = log.read(topic, 0, len(seen), 100)
        assert [r.offset for r in found] == list(range(len(seen), len(seen) + len(found)))
        seen += found
    assert [nursery.wait()[1] for _ in "abcd"] == [0] * 4
    assert log.bounds(topic) == {0: (0, 4 * each)}
    for name in "abcd":
        assert values(r for r in seen if r.id.startswith(name)) == list(range(each))


def test_a_writer_that_is_killed_and_starts_again_leaves_nothing_out_and_nothing_twice(
    engine, log, nursery
):
    topic, count, killed = new_topic(log), 300, []
    for kill_at in (40, 90, 140):
        pid = nursery.start(engine, "write", topic, "w", count)
        until(lambda at=kill_at: log.bounds(topic)[0][1] >= at)
        os.kill(pid, signal.SIGKILL)
        killed.append(nursery.wait()[1] == -signal.SIGKILL)
    assert any(killed)
    nursery.start(engine, "write", topic, "w", count)
    assert nursery.wait()[1] == 0
    assert values(read_all(log, topic)) == list(range(count))


def test_effects_happen_once_whenever_the_worker_is_killed(engine, log, nursery):
    source, target, chance = new_topic(log, 2), new_topic(log, 2), random.Random(7)
    numbers = [chance.randrange(1000) for _ in range(420)]
    log.append(source, numbered(numbers))
    ends = {number: end for number, (_, end) in log.bounds(source).items()}
    positions.create(engine.database.engine, checkfirst=True)
    with engine.database.write() as session:
        for number in ends:
            row = {"topic": source, "partition": number, "position": 0, "total": 0}
            session.execute(insert(positions).values(row))
    killed = []
    for number, end in ends.items():
        for part in (0.1, 0.3, 0.5):
            pid = nursery.start(engine, "add_up", source, target, number, end)
            until(lambda n=number, e=end * part: position_of(engine, source, n) >= e)
            os.kill(pid, signal.SIGKILL)
            killed.append(nursery.wait()[1] == -signal.SIGKILL)
        nursery.start(engine, "add_up", source, target, number, end)
        assert nursery.wait()[1] == 0
        until(lambda n=number, e=end: log.bounds(target)[n][1] >= e)
        expected, total = [], 0
        for value in values(read_all(log, source, number)):
            total += value
            expected.append(total)
        assert values(read_all(log, target, number)) == expected
    assert killed.count(True) >= 2


def position_of(engine, source, number):
    """How far the worker has come."""
    of_this = (positions.c.topic == source) & (positions.c.partition == number)
    with engine.database.read() as session:
        return session.scalar(select(positions.c.position).where(of_this))


def test_a_replay_gives_the_same_digest_on_every_engine(sqlite_engine, engine):
    assert digest_of_replay(engine) == digest_of_replay(sqlite_engine)


def digest_of_replay(engine):
    """A fold of the same records, read from a log from its first offset."""
    log, chance = engine.open(), random.Random(11)
    topic, digest = new_topic(log, 3), hashlib.sha256()
    for start in range(0, 600, 60):
        some = []
        for number in range(start, start + 60):
            key = f"k{chance.randrange(20)}".encode()
            some += numbered([number], key=key, ids="r")
        log.append(topic, some)
        # Sent again in part, as by a producer that heard no answer.
        log.append(topic, some[chance.randrange(60) :])
    for partition in range(3):
        for record in read_all(log, topic, partition, limit=37):
            digest.update(f"{partition} {record.offset} {record.id} ".encode())
            digest.update(record.key + record.value)
    assert sum(end for _, end in log.bounds(topic).values()) == 600
    log.close()
    return digest.hexdigest()
