"""Consumer groups over REST: joining, fetching, committing, taking over, seeking, lag."""

import threading
import time

import pytest

from tests.problems import assert_problem
from tests.streams.topics import API, make_topic, produce

GROUP = f"{API}/consumer-groups/planes"


def make_group(yard, **fields):
    body = {"name": "planes", "topic": "flights", **fields}
    answer = yard.client().post(f"{API}/consumer-groups", json=body)
    assert answer.status_code == 201, answer.text
    return answer


@pytest.fixture
def group(yard):
    """A group on a topic of two partitions with ten records."""
    make_topic(yard, partitions=2)
    produce(yard, *({"value": n, "partition": n % 2} for n in range(10)))
    return make_group(yard)


def join(yard, **fields):
    answer = yard.client().post(f"{GROUP}/members", json=fields)
    assert answer.status_code == 201, answer.text
    return answer.json


def fetch(yard, member, query=""):
    answer = yard.client().get(f"{GROUP}/members/{member['id']}/records{query}")
    assert answer.status_code == 200, answer.text
    return answer.json


def commit(yard, member, fetched):
    body = {"member": member["id"], "epoch": fetched["epoch"], "offsets": fetched["offsets"]}
    return yard.client().put(f"{GROUP}/offsets", json=body)


def test_a_member_fetches_from_what_is_committed_and_lag_tells_the_rest(yard, group):
    member = join(yard, client="host-1")
    assert [held["partition"] for held in member["assignments"]] == [0, 1]

    first = fetch(yard, member, "?limit=4")
    assert fetch(yard, member, "?limit=4")["items"] == first["items"]
    told = commit(yard, member, first)

    assert (told.status_code, told.json["lag"]) == (200, 6)
    assert {row["member"] for row in told.json["items"]} == {member["id"]}
    rest = fetch(yard, member)
    assert sorted(r["value"] for r in first["items"] + rest["items"]) == list(range(10))
    commit(yard, member, rest)
    assert yard.client().get(f"{GROUP}/lag").json["lag"] == 0
    assert fetch(yard, member)["offsets"] == []


def test_two_members_share_and_no_partition_has_both(yard, group):
    first, second = join(yard), join(yard)
    assert second["assignments"] == []

    seen = [fetch(yard, member) for member in (first, second)]

    partitions = [{r["partition"] for r in fetched["items"]} for fetched in seen]
    assert sorted(map(sorted, partitions)) == [[0], [1]]
    # What the first read before it let go is refused.
    lost = {"epoch": first["epoch"], "offsets": []}
    lost["offsets"] = [{"partition": p, "offset": 5} for p in partitions[1]]
    problem = assert_problem(commit(yard, first, lost), 409)
    assert problem["type"] == "/problems/stale-epoch"


def test_a_member_that_leaves_is_gone_and_the_group_can_go(yard, group):
    member = join(yard)
    path = f"{GROUP}/members/{member['id']}"
    client = yard.client()
    refused = assert_problem(client.delete(GROUP), 409)
    assert refused["referrers"][0]["subject"] == "consumer-groups/planes"
    assert_problem(client.delete(f"{API}/topics/flights"), 409)

    assert client.delete(path).status_code == 204
    for answer in (client.get(path), client.put(f"{path}/lease"), client.get(f"{path}/records")):
        assert_problem(answer, 404)
    assert client.delete(GROUP).status_code == 204
    assert_problem(client.get(GROUP), 404)


def test_a_topic_that_nobody_reads_goes_with_its_groups(yard, group):
    assert yard.client().delete(f"{API}/topics/flights").status_code == 204

    assert_problem(yard.client().get(GROUP), 404)


def test_waiting_ends_with_a_record_and_keeps_the_lease(yard, group):
    yard.client().put(f"{GROUP}/offsets", json={"to": "latest"})
    member, answers = join(yard), []
    waiting = threading.Thread(target=lambda: answers.append(fetch(yard, member, "?wait=20")))
    waiting.start()
    time.sleep(0.2)
    produce(yard, {"value": "new"})
    waiting.join(60)

    assert [record["value"] for record in answers[0]["items"]] == ["new"]


def test_seeking_replays_and_refuses_what_was_read_before(yard, group):
    member = join(yard)
    fetched = fetch(yard, member)
    commit(yard, member, fetched)

    sought = yard.client().put(f"{GROUP}/offsets", json={"to": "earliest"})

    assert sought.json["lag"] == 10
    assert_problem(commit(yard, member, fetched), 409)
    assert len(fetch(yard, member)["items"]) == 10
    back = {"offsets": [{"partition": 1, "offset": 3}]}
    assert yard.client().put(f"{GROUP}/offsets", json=back).json["lag"] == 7


def test_a_group_may_begin_with_what_comes(sqlite_yard):
    make_topic(sqlite_yard)
    produce(sqlite_yard, {"value": "old"})
    make_group(sqlite_yard, start="latest")
    produce(sqlite_yard, {"value": "new"})

    assert [record["value"] for record in fetch(sqlite_yard, join(sqlite_yard))["items"]] == ["new"]


def test_what_retention_has_dropped_is_told_to_the_member(sqlite_yard):
    make_topic(sqlite_yard, retention={"max_records": 2}, overflow="drop_oldest")
    make_group(sqlite_yard)
    for number in range(5):
        produce(sqlite_yard, {"value": number})
    path = f"{GROUP}/members/{join(sqlite_yard)['id']}/records"

    problem = assert_problem(sqlite_yard.client().get(path), 410)

    assert (problem["partition"], problem["first"]) == (0, 3)
    skip = {"offsets": [{"partition": 0, "offset": problem["first"]}]}
    assert sqlite_yard.client().put(f"{GROUP}/offsets", json=skip).json["lag"] == 2


def test_joining_again_under_its_key_makes_no_second_member(yard, group):
    headers = {"Idempotency-Key": "j"}
    first, again = (
        yard.client().post(f"{GROUP}/members", json={}, headers=headers) for _ in range(2)
    )

    assert first.json == again.json
    assert len(yard.client().get(f"{GROUP}/members").json["items"]) == 1


def test_the_etag_of_a_member_and_of_a_group_guards(yard, group):
    member, stale = join(yard), {"If-Match": '"old"'}
    path = f"{GROUP}/members/{member['id']}"
    shown = yard.client().get(path)
    body = {
        "member": member["id"],
        "epoch": member["epoch"],
        "offsets": [{"partition": 0, "offset": 1}],
    }

    assert_problem(yard.client().put(f"{path}/lease", headers=stale), 412)
    assert_problem(yard.client().put(f"{GROUP}/offsets", json=body, headers=stale), 412)
    renewed = yard.client().put(f"{path}/lease", headers={"If-Match": shown.headers["ETag"]})
    assert renewed.status_code == 200
    etag = yard.client().get(GROUP).headers["ETag"]
    kept = yard.client().put(f"{GROUP}/offsets", json=body, headers={"If-Match": etag})
    assert kept.status_code == 200


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/offsets", "required"),
        ({"offsets": []}, "/offsets", "invalid"),
        ({"to": "middle"}, "/to", "invalid"),
        ({"to": "latest", "epoch": 1}, "/to", "invalid"),
        ({"epoch": 1, "offsets": [{"partition": 0, "offset": 0}]}, "/member", "required"),
        ({"offsets": [{"partition": 2, "offset": 0}]}, "/offsets/0/partition", "no_such_partition"),
        ({"offsets": [{"partition": 0, "offset": 6}]}, "/offsets/0/offset", "out_of_range"),
        ({"offsets": [{"partition": 0, "offset": -1}]}, "/offsets/0/offset", "invalid"),
        ({"offsets": [{"partition": 0, "offset": 1}] * 2}, "/offsets", "invalid"),
        ({"member": "x", "epoch": 1, "to": "latest"}, "/member", "invalid"),
    ],
)
def test_what_is_wrong_with_offsets_is_told_at_its_place(sqlite_yard, body, pointer, code):
    make_topic(sqlite_yard, partitions=2)
    produce(sqlite_yard, *({"value": n, "partition": n % 2} for n in range(10)))
    make_group(sqlite_yard)

    problem = assert_problem(sqlite_yard.client().put(f"{GROUP}/offsets", json=body), 422)

    assert [(e["pointer"], e["code"]) for e in problem["errors"]] == [(pointer, code)]


def test_a_group_needs_a_topic_and_a_name_of_its_own(sqlite_yard):
    make_topic(sqlite_yard)
    make_group(sqlite_yard)
    groups = f"{API}/consumer-groups"

    taken = {"name": "planes", "topic": "flights"}
    assert_problem(sqlite_yard.client().post(groups, json=taken), 409)
    unknown = sqlite_yard.client().post(groups, json={"name": "other", "topic": "none"})
    problem = assert_problem(unknown, 422)
    assert [(e["pointer"], e["code"]) for e in problem["errors"]] == [("/topic", "unknown_topic")]


def test_groups_of_ours_are_not_clients_business(sqlite_yard):
    make_topic(sqlite_yard)
    topics = sqlite_yard.wiring.topics
    row = topics.find(sqlite_yard.call(), "flights")
    with topics.database.write() as session:
        topics.groups.make(session, row, "planes", {0: 0}, owner="processors/planes")

    assert_problem(sqlite_yard.client().get(GROUP), 404)
    assert sqlite_yard.client().get(f"{API}/consumer-groups").json["items"] == []


def test_a_group_has_so_many_members_and_no_more(sqlite_yard, monkeypatch):
    monkeypatch.setattr("app.streams.consumer_groups.members.MOST_MEMBERS", 2)
    make_topic(sqlite_yard)
    make_group(sqlite_yard)
    for _ in range(2):
        join(sqlite_yard)

    assert_problem(sqlite_yard.client().post(f"{GROUP}/members", json={}), 409)
