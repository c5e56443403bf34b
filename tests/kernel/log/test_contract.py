"""What every record log promises, tried on each of them."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from zlib import crc32

import pytest

from app.kernel.errors import Conflict, Invalid, NotFound, TooLarge
from app.kernel.log.seam import MOST_BYTES_READ, Appended, Full, NewRecord, OffsetGone
from tests.kernel.log.engines import new_topic, numbered, read_all, shape, values

AGE = timedelta(seconds=1)


def test_offsets_are_contiguous_from_zero_in_the_order_of_appending(log):
    topic = new_topic(log)
    assert log.bounds(topic) == {0: (0, 0)}
    for start in range(0, 300, 50):
        told = log.append(topic, numbered(range(start, start + 50)))
        assert told == [Appended(0, offset, False) for offset in range(start, start + 50)]
    found = read_all(log, topic)
    assert [record.offset for record in found] == list(range(300))
    assert values(found) == list(range(300))
    assert log.bounds(topic) == {0: (0, 300)}


def test_an_append_of_many_keeps_its_order(log):
    topic = new_topic(log, partitions=2)
    told = log.append(topic, [NewRecord(str(n).encode(), partition=n % 2) for n in range(2601)])
    assert told == [Appended(n % 2, n // 2, False) for n in range(2601)]
    assert values(read_all(log, topic, 1, limit=2000)) == list(range(1, 2601, 2))


def test_more_replicas_than_servers_are_as_many_as_can_be(log):
    topic = new_topic(log)
    log.create(topic, shape())
    assert log.append(topic, numbered([1])) == [Appended(0, 0, False)]


def test_a_record_comes_back_as_it_was_appended(log):
    topic = new_topic(log, partitions=2)
    moment = datetime(2013, 1, 1, 5, 15, 0, 123456, tzinfo=UTC)
    headers = {"content-type": "text/plain", "Ü ": "a: b\r\nc", "empty": ""}
    whole = NewRecord(bytes(range(256)), b"\x00\xff", headers, "an id: ü\n", 1, moment)
    before = datetime.now(UTC) - timedelta(seconds=2)
    log.append(topic, [whole, NewRecord(b"", partition=1)])
    first, second = log.read(topic, 1, 0, 10)
    assert (first.partition, first.offset, first.timestamp) == (1, 0, moment)
    assert (first.key, first.value, first.id) == (whole.key, whole.value, whole.id)
    assert first.headers == headers
    assert (second.key, second.value, second.headers, second.id) == (None, b"", {}, None)
    assert before < second.timestamp


def test_records_of_one_key_lie_in_one_partition_in_their_order(log):
    topic = new_topic(log, partitions=3)
    keys = [f"k{number}".encode() for number in range(7)]
    records = [NewRecord(str(n).encode(), key=keys[n * n % 7]) for n in range(210)]
    for start in range(0, 210, 30):
        log.append(topic, records[start : start + 30])
    found = [record for partition in range(3) for record in read_all(log, topic, partition)]
    for key in {record.key for record in records}:
        assert {r.partition for r in found if r.key == key} == {crc32(key) % 3}
        of_key = [n for n in range(210) if records[n].key == key]
        assert values(r for r in found if r.key == key) == of_key


def test_records_without_a_key_take_turns(log):
    topic = new_topic(log, partitions=3)
    log.append(topic, numbered(range(30)))
    assert [end for _, end in log.bounds(topic).values()] == [10, 10, 10]


def test_what_is_sent_again_by_id_is_a_duplicate_wherever_it_lies(log):
    topic = new_topic(log, partitions=3)
    first = log.append(topic, numbered(range(60), ids="a"))
    again = log.append(topic, numbered(range(40, 100), ids="a"))
    assert [told.duplicate for told in again] == [True] * 20 + [False] * 40
    assert [(told.partition, told.offset) for told in again[:20]] == [
        (told.partition, told.offset) for told in first[40:]
    ]
    assert sum(end for _, end in log.bounds(topic).values()) == 100


def test_one_id_twice_in_a_batch_is_kept_once(log):
    topic = new_topic(log)
    told = log.append(topic, [NewRecord(b"1", id="x"), NewRecord(b"2"), NewRecord(b"3", id="x")])
    assert told == [Appended(0, 0, False), Appended(0, 1, False), Appended(0, 0, True)]


def test_a_full_topic_refuses_and_keeps_what_it_has(log):
    topic = new_topic(log, max_records=100)
    log.append(topic, numbered(range(80), ids="a"))
    with pytest.raises(Full) as refused:
        log.append(topic, numbered(range(80, 120), ids="a"))
    assert refused.value.status == 429
    assert refused.value.retry_after
    kept = read_all(log, topic)
    assert values(kept) == list(range(len(kept)))
    assert 80 <= len(kept) <= 100
    # What is there already needs no room.
    assert all(told.duplicate for told in log.append(topic, numbered(range(80), ids="a")))


def fill(log, topic):
    """Append more than 20,000 bytes."""
    for _ in range(21):
        log.append(topic, [NewRecord(b"x" * 1000)])


def test_a_topic_that_is_full_of_bytes_refuses(log):
    topic = new_topic(log, max_bytes=20_000)
    with pytest.raises(Full):
        fill(log, topic)
    assert 10 < log.bounds(topic)[0][1] <= 20
    with pytest.raises(TooLarge):
        log.append(topic, [NewRecord(b"x" * 20_001)])


def test_the_oldest_go_where_a_topic_is_to_drop_them(log):
    topic = new_topic(log, max_records=50, overflow="drop_oldest")
    for start in range(0, 200, 40):
        log.append(topic, numbered(range(start, start + 40)))
    assert log.bounds(topic) == {0: (150, 200)}
    assert values(read_all(log, topic)) == list(range(150, 200))
    with pytest.raises(OffsetGone) as gone:
        log.read(topic, 0, 149, 10)
    assert (gone.value.first, gone.value.status) == (150, 410)
    assert gone.value.extra == {"first": 150}


def test_an_id_may_come_again_when_its_record_has_gone(log):
    topic = new_topic(log, max_records=10, overflow="drop_oldest")
    log.append(topic, numbered(range(10), ids="a"))
    log.append(topic, numbered(range(10, 15), ids="a"))
    again = log.append(topic, numbered([4, 5], ids="a"))
    assert again == [Appended(0, 15, False), Appended(0, 5, True)]


def test_records_go_when_they_are_too_old(engine, log):
    topic = new_topic(log, max_age=AGE)
    log.append(topic, numbered(range(30)))
    engine.let_pass(AGE)
    log.append(topic, numbered(range(30, 35)))
    until = time.monotonic() + 60
    while log.bounds(topic)[0][0] < 30 and time.monotonic() < until:
        log.trim()
        time.sleep(0.05)
    first, end = log.bounds(topic)[0]
    assert (first >= 30, end) == (True, 35)
    with pytest.raises(OffsetGone) as gone:
        log.read(topic, 0, 29, 10)
    assert gone.value.first >= 30


def test_offsets_go_on_where_all_records_have_gone(engine, log):
    topic = new_topic(log, max_age=AGE)
    log.append(topic, numbered(range(5)))
    engine.let_pass(AGE)
    until = time.monotonic() + 60
    while log.bounds(topic) != {0: (5, 5)} and time.monotonic() < until:
        log.trim()
        time.sleep(0.05)
    assert log.read(topic, 0, 5, 10) == []
    assert log.append(topic, numbered([5])) == [Appended(0, 5, False)]


def test_bounds_can_be_changed_and_partitions_cannot(log):
    topic = new_topic(log, partitions=2, max_records=10)
    log.create(topic, shape(2, max_records=10))
    with pytest.raises(Conflict):
        log.create(topic, shape(2, max_records=11))
    with pytest.raises(Conflict):
        log.change(topic, shape(3))
    log.append(topic, numbered(range(10)) + [NewRecord(b"x", partition=0)] * 5)
    log.change(topic, shape(2, max_records=20))
    log.append(topic, [NewRecord(b"x", partition=0)] * 10)
    assert log.bounds(topic) == {0: (0, 20), 1: (0, 5)}


def test_what_is_not_there_is_not_found(log):
    topic = new_topic(log)
    for call in (
        lambda: log.append("nowhere", numbered([1])),
        lambda: log.read("nowhere", 0, 0, 1),
        lambda: log.bounds("nowhere"),
        lambda: log.change("nowhere", shape()),
    ):
        with pytest.raises(NotFound):
            call()
    with pytest.raises(Invalid):
        log.append(topic, [NewRecord(b"", partition=1)])
    with pytest.raises(Invalid):
        log.read(topic, 1, 0, 1)
    assert log.bounds(topic) == {0: (0, 0)}


def test_a_deleted_topic_is_gone_and_its_name_is_free(log):
    topic = new_topic(log, partitions=2)
    log.append(topic, numbered(range(20)))
    log.delete(topic)
    log.delete(topic)
    with pytest.raises(NotFound):
        log.bounds(topic)
    log.create(topic, shape())
    assert log.bounds(topic) == {0: (0, 0)}
    assert log.append(topic, numbered([0])) == [Appended(0, 0, False)]
    log.trim()
    assert values(read_all(log, topic)) == [0]


def test_a_reading_ends_early_where_records_are_large(log):
    topic = new_topic(log)
    size = 500_000
    for _ in range(MOST_BYTES_READ // size + 4):
        log.append(topic, [NewRecord(b"x" * size)])
    found = log.read(topic, 0, 0, 1000)
    assert 1 <= len(found) <= MOST_BYTES_READ // size
    assert len(read_all(log, topic)) == MOST_BYTES_READ // size + 4


def test_a_reader_is_woken_by_what_another_appends(engine, log):
    topic, writer = new_topic(log, partitions=2), engine.open()
    woken = threading.Event()

    def wait():
        log.wait(topic, {0: 0, 1: 0}, 30.0)
        woken.set()

    with ThreadPoolExecutor() as executor:
        done = executor.submit(wait)
        assert not woken.wait(0.2)
        writer.append(topic, [NewRecord(b"", partition=1)])
        assert woken.wait(60)
        done.result()
    writer.close()


def test_a_wait_ends_with_its_time_when_stopped_and_when_there_is_something(log):
    topic = new_topic(log)
    log.append(topic, numbered([1]))
    started = time.monotonic()
    log.wait(topic, {0: 0}, 30.0)
    log.wait(topic, {0: 1}, 30.0, lambda: True)
    assert time.monotonic() - started < 10
    log.wait(topic, {0: 1}, 0.2)
    assert time.monotonic() - started >= 0.2
    log.delete(topic)
    log.wait(topic, {0: 1}, 30.0)
    assert time.monotonic() - started < 20
