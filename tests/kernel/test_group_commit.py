"""Group commit: one transaction for all who come meanwhile, and each hears of its own item."""

import threading
import time
from itertools import chain

import pytest

from app.kernel.errors import Conflict, DeadlineExceeded, ServiceError, Unavailable
from app.kernel.group_commit import GroupCommit


class Disk:
    """Keeps what it is given, when it is let, and refuses what it is told to."""

    def __init__(self):
        self.kept, self.go, self.fault = [], threading.Event(), {}
        self.go.set()

    def write(self, items):
        assert self.go.wait(30)
        for item in items:
            if item in self.fault:
                raise self.fault[item]
        self.kept.append(list(items))


@pytest.fixture
def disk():
    return Disk()


def put_all(group, items, patience=30):
    """What became of each item, all put at the same time."""
    found = {}

    def put(item):
        try:
            group.put(item, patience)
            found[item] = "kept"
        except (ServiceError, AssertionError) as error:
            found[item] = type(error)

    threads = [threading.Thread(target=put, args=[item]) for item in items]
    for thread in threads:
        thread.start()
    return found, threads


def ended(threads):
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def one_and_then_the_others(disk, count):
    """A group that wrote one item until the others had come; what became of each."""
    disk.go.clear()
    group = GroupCommit(disk.write)
    found, threads = put_all(group, range(count))
    until(lambda: len(group._line) == count - 1)
    disk.go.set()
    ended(threads)
    return group, found


def test_those_who_come_meanwhile_are_written_together(disk):
    _, found = one_and_then_the_others(disk, 9)
    assert found == dict.fromkeys(range(9), "kept")
    assert [len(items) for items in disk.kept] == [1, 8]
    assert sorted(chain(*disk.kept)) == list(range(9))


def test_one_who_comes_after_several_waits_a_moment_for_as_many(disk, monkeypatch):
    """The first of those who came again was written alone, and the others after it: twice the
    transactions."""
    group, _ = one_and_then_the_others(disk, 4)
    monkeypatch.setattr("app.kernel.group_commit._GATHERING_SECONDS", 60)
    found, threads = put_all(group, range(4, 6))
    until(lambda: len(group._line) == 2)
    assert found == {}
    more, last = put_all(group, [6])
    ended(threads + last)
    assert {**found, **more} == dict.fromkeys(range(4, 7), "kept")
    assert [len(items) for items in disk.kept] == [1, 3, 3]


def test_one_who_does_not_come_again_is_waited_for_once(disk):
    group, _ = one_and_then_the_others(disk, 4)
    for item in (4, 5):
        group.put(item)
    assert [len(items) for items in disk.kept] == [1, 3, 1, 1]
    assert group._before == 1


def test_what_is_wrong_with_one_does_not_touch_the_others(disk):
    disk.fault[3] = Conflict("taken")
    _, found = one_and_then_the_others(disk, 5)
    assert found == {**dict.fromkeys(range(5), "kept"), 3: Conflict}
    assert sorted(chain(*disk.kept)) == [0, 1, 2, 4]


def test_a_trouble_of_the_database_is_told_to_all_at_once(disk):
    disk.fault = dict.fromkeys(range(5), Unavailable("away"))
    _, found = one_and_then_the_others(disk, 5)
    assert found == dict.fromkeys(range(5), Unavailable)
    assert disk.kept == []
    group = GroupCommit(Disk().write)
    group.put("the next")


def test_who_can_not_wait_longer_is_not_written(disk):
    disk.go.clear()
    group = GroupCommit(disk.write)
    _, threads = put_all(group, ["first"])
    until(lambda: group._writing and not group._line)
    with pytest.raises(DeadlineExceeded):
        group.put("late", 0.01)
    disk.go.set()
    ended(threads)
    assert disk.kept == [["first"]]


def test_everybody_is_written_once_however_they_come(disk):
    group = GroupCommit(disk.write)
    found, threads = {}, []
    for start in range(0, 400, 40):
        more, started = put_all(group, range(start, start + 40))
        found[start] = more
        threads += started
    ended(threads)
    assert all(set(more.values()) == {"kept"} for more in found.values())
    assert sorted(chain(*disk.kept)) == list(range(400))
    assert not group._writing
