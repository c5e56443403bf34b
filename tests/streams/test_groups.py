"""Who reads which partition: never two, never nobody for long, and no late word counts."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kernel.errors import NotFound
from app.kernel.sql import utc_now
from app.streams.assignment import balanced
from app.streams.groups import Groups, StaleEpoch, assignments, lag, positions

LEASE = timedelta(seconds=10)


class Clock:
    def __init__(self):
        self.now = utc_now()

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def groups(yard, clock):
    return Groups(yard.wiring.database("streams"), LEASE, clock)


@pytest.fixture
def group(yard, groups):
    """A group on a topic of four partitions."""
    yard.client().post("/api/v1/topics", json={"name": "flights", "partitions": 4})
    row = yard.wiring.topics.find(yard.call(), "flights")
    with yard.wiring.database("streams").write() as session:
        return groups.make(session, row, "planes", dict.fromkeys(range(4), 0)).id


@pytest.fixture
def commit(yard, groups, group):
    def commit_(member, offsets, epoch=None):
        with yard.wiring.database("streams").write() as session:
            groups.commit(session, group, member.id, epoch or member.epoch, offsets)

    return commit_


def test_one_member_reads_all_and_a_second_gets_its_half_when_the_first_lets_go(groups, group):
    first = groups.join(group, "a")
    assert sorted(first.offsets) == [0, 1, 2, 3]

    second = groups.join(group, "b")
    assert second.held == ()

    first = groups.renew(group, first.id)
    second = groups.renew(group, second.id)
    assert len(first.held) == len(second.held) == 2
    assert sorted([*first.offsets, *second.offsets]) == [0, 1, 2, 3]


def test_what_a_member_holds_on_to_it_may_commit_by_its_older_epoch(groups, group, commit):
    first = groups.join(group)
    groups.join(group)
    renewed = groups.renew(group, first.id)
    kept, lost = renewed.held[0].partition, (set(first.offsets) - set(renewed.offsets)).pop()

    commit(first, {kept: 5})
    with pytest.raises(StaleEpoch):
        commit(first, {lost: 5})


def test_a_dead_members_partitions_go_on_where_it_committed_and_its_late_word_is_refused(
    groups, group, clock, commit
):
    first = groups.join(group)
    commit(first, {0: 7, 1: 3})
    clock.advance(11)

    second = groups.join(group)

    assert second.offsets == {0: 7, 1: 3, 2: 0, 3: 0}
    with pytest.raises(StaleEpoch):
        commit(first, {0: 8})
    with pytest.raises(NotFound):
        groups.renew(group, first.id)


def test_a_refused_commit_keeps_nothing_of_its_transaction(yard, groups, group, commit):
    first = groups.join(group)
    groups.join(group)
    groups.renew(group, first.id)

    with pytest.raises(StaleEpoch):
        commit(first, dict.fromkeys(range(4), 9))

    with yard.wiring.database("streams").read() as session:
        assert positions(session, group) == dict.fromkeys(range(4), 0)


def test_a_partition_that_came_back_wants_the_newer_epoch(groups, group, clock, commit):
    """Nobody may commit what it read before another one had the partition."""
    first = groups.join(group)
    second = groups.join(group)
    groups.renew(group, first.id)
    groups.leave(group, second.id)
    back = groups.renew(group, first.id)
    came_back = {held.partition for held in back.held if held.epoch > first.epoch}
    assert came_back

    with pytest.raises(StaleEpoch):
        commit(first, dict.fromkeys(came_back, 4))
    commit(back, dict.fromkeys(came_back, 4))


def test_a_member_that_leaves_hands_over_at_once(groups, group):
    first, second = groups.join(group), groups.join(group)

    groups.leave(group, first.id)

    assert sorted(groups.renew(group, second.id).offsets) == [0, 1, 2, 3]
    with pytest.raises(NotFound):
        groups.leave(group, first.id)


def test_seeking_moves_offsets_and_fences_who_reads(yard, groups, group, commit):
    member = groups.join(group)
    commit(member, {0: 7})

    with yard.wiring.database("streams").write() as session:
        groups.seek(session, group, {0: 2})

    with pytest.raises(StaleEpoch):
        commit(member, {0: 8})
    assert groups.renew(group, member.id).offsets[0] == 2


def test_more_members_than_partitions_leave_some_without(groups, group):
    members = [groups.join(group) for _ in range(6)]
    members = [groups.renew(group, member.id) for _ in range(2) for member in members][6:]

    assert sorted(len(member.held) for member in members) == [0, 0, 1, 1, 1, 1]


def test_a_group_is_read_while_a_lease_holds(yard, groups, group, clock):
    with yard.wiring.database("streams").read() as session:
        assert not groups.is_read(session, group)
    groups.join(group)
    with yard.wiring.database("streams").read() as session:
        assert groups.is_read(session, group)
        clock.advance(11)
        assert not groups.is_read(session, group)


def test_a_removed_group_leaves_nothing(yard, groups, group):
    member = groups.join(group)
    with yard.wiring.database("streams").write() as session:
        groups.remove(session, group)

    with pytest.raises(NotFound):
        groups.renew(group, member.id)
    with yard.wiring.database("streams").read() as session:
        assert assignments(session, group) == []


def test_lag_counts_what_can_still_be_read():
    bounds = {0: (5, 10), 1: (0, 3), 2: (0, 0)}

    assert lag({0: 2, 1: 1, 2: 0}, bounds) == {0: 5, 1: 2, 2: 0}


@given(
    st.lists(st.sampled_from([None, "a", "b", "c", "dead"]), min_size=1, max_size=12),
    st.sets(st.sampled_from(["a", "b", "c", "d", "e"])),
)
def test_shares_differ_by_one_at_most_and_nothing_moves_without_need(held, members):
    holders = dict(enumerate(held))
    spread = balanced(holders, members)

    assert set(spread) == set(holders)
    if not members:
        assert set(spread.values()) == {None}
        return
    counts = {member: sum(m == member for m in spread.values()) for member in members}
    assert sum(counts.values()) == len(holders)
    assert max(counts.values()) - min(counts.values()) <= 1
    assert balanced(spread, members) == spread
    least = len(holders) // len(members)
    for member in members:
        had = {p for p, m in holders.items() if m == member}
        has = {p for p, m in spread.items() if m == member}
        assert len(had & has) >= min(len(had), least)
