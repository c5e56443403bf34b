"""Processors as resources: making, reading, changing, pausing, removing."""

import pytest

from tests.problems import assert_problem
from tests.streams.processors.installation import AGGREGATE, PROCESSORS, WINDOWS

SECRET = "whsec_" + "A" * 32
HOOK = {
    "name": "hook",
    "kind": "webhook",
    "topic": "in",
    "dead_letter_topic": None,
    "webhook": {"url": "https://hooks.example.com/", "secret": SECRET},
}


@pytest.fixture
def client(streaming):
    streaming.topics("in", "out", "dead")
    return streaming.client


def test_a_processor_is_made_shown_and_listed(any_streaming):
    any_streaming.topics("in", "out", "dead", partitions=2)
    any_streaming.append("in", {"x": 1})

    made = any_streaming.client.post(PROCESSORS, json=AGGREGATE)

    assert made.status_code == 201, made.text
    assert made.headers["Location"] == f"{PROCESSORS}/sums"
    shown = any_streaming.get()
    assert shown["lag"] == 1
    assert shown["aggregate"]["window"] == {"size_seconds": 10.0, "hop_seconds": None}
    assert shown["aggregate"]["late"] == "dead_letter"
    assert [one["active"] for one in shown["partitions"]] == [False, False]
    assert "predict" not in shown
    listed = any_streaming.client.get(f"{PROCESSORS}?kind__eq=aggregate").json["items"]
    assert [one["name"] for one in listed] == ["sums"]
    assert listed[0]["aggregate"] == shown["aggregate"]
    assert_problem(any_streaming.client.post(PROCESSORS, json=AGGREGATE), 409)


def test_a_retry_with_its_idempotency_key_gets_the_first_answer(client):
    first, second = (
        client.post(PROCESSORS, json=AGGREGATE, headers={"Idempotency-Key": "k"}) for _ in range(2)
    )
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json == first.json


def test_it_begins_where_it_is_told_to(streaming):
    streaming.topics("in", "out", "dead")
    streaming.append("in", {"x": 1}, {"x": 2})
    assert streaming.create(start="latest")["partitions"][0]["offset"] == 2
    assert streaming.create(name="other")["partitions"][0]["offset"] == 0


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"kind": "compress"}, "/kind"),
        ({"kind": "predict"}, "/predict"),
        ({"predict": {"model": "penguins"}}, "/predict"),
        ({"topic": "absent"}, "/topic"),
        ({"output_topic": "absent"}, "/output_topic"),
        ({"output_topic": None}, "/output_topic"),
        ({"output_topic": "in"}, "/output_topic"),
        ({"dead_letter_topic": "in"}, "/dead_letter_topic"),
        ({"dead_letter_topic": "absent"}, "/dead_letter_topic"),
        ({"tries": 0}, "/tries"),
        ({"start": "time"}, "/start"),
        (
            {"aggregate": {**WINDOWS, "window": {"size_seconds": 10, "hop_seconds": 11}}},
            "/aggregate/window/hop_seconds",
        ),
        (
            {"aggregate": {**WINDOWS, "window": {"size_seconds": 10, "hop_seconds": 0.09}}},
            "/aggregate/window/hop_seconds",
        ),
        (
            {"aggregate": {**WINDOWS, "aggregates": {"a": {"function": "sum"}}}},
            "/aggregate/aggregates/a/field",
        ),
        (
            {"aggregate": {**WINDOWS, "aggregates": {"a": {"function": "median", "field": "x"}}}},
            "/aggregate/aggregates/a/function",
        ),
        ({"aggregate": {**WINDOWS, "emit": "never"}}, "/aggregate/emit"),
    ],
)
def test_what_can_not_be_is_refused_with_its_place(client, changes, pointer):
    problem = assert_problem(client.post(PROCESSORS, json={**AGGREGATE, **changes}), 422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


def test_where_dead_letters_go_must_be_said(client):
    body = {name: value for name, value in AGGREGATE.items() if name != "dead_letter_topic"}
    problem = assert_problem(client.post(PROCESSORS, json=body), 422)
    assert problem["errors"][0]["pointer"] == "/dead_letter_topic"


def test_a_webhook_goes_only_where_the_installation_allows(client):
    problem = assert_problem(client.post(PROCESSORS, json=HOOK), 422)
    assert problem["errors"][0]["pointer"] == "/webhook/url"
    assert problem["errors"][0]["code"] == "not_allowed"


def test_another_project_sees_none_of_it(client, streaming):
    client.post(PROCESSORS, json=AGGREGATE)
    other = streaming.yard.client(streaming.yard.key(project="other", role="admin"))
    assert other.get(PROCESSORS).json["items"] == []
    assert_problem(other.get(f"{PROCESSORS}/sums"), 404)
    assert_problem(other.put(f"{PROCESSORS}/sums/state", json={"state": "paused"}), 404)
    assert_problem(other.post(f"{PROCESSORS}/sums/resets", json={"to": "earliest"}), 404)


def test_a_patch_changes_what_it_names_and_is_guarded_by_the_etag(client):
    etag = client.post(PROCESSORS, json=AGGREGATE).headers["ETag"]
    path, guarded = f"{PROCESSORS}/sums", {"If-Match": etag}
    assert client.patch(path, json={"tries": 3}, headers=guarded).json["tries"] == 3
    assert_problem(client.patch(path, json={"tries": 4}, headers=guarded), 412)
    same = client.patch(path, json={"aggregate": WINDOWS})
    assert same.status_code == 200
    changed = {**WINDOWS, "emit": "change"}
    problem = assert_problem(client.patch(path, json={"aggregate": changed}), 422)
    assert problem["errors"][0]["code"] == "immutable"
    problem = assert_problem(client.patch(path, json={"predict": {"model": "x"}}), 422)
    assert problem["errors"][0]["code"] == "other_kind"


def test_a_topic_that_a_processor_needs_stays(client):
    client.post(PROCESSORS, json=AGGREGATE)
    for topic in ("in", "out", "dead"):
        problem = assert_problem(client.delete(f"/api/v1/topics/{topic}"), 409)
        assert {one["subject"] for one in problem["referrers"]} == {"processors/sums"}
    assert client.delete(f"{PROCESSORS}/sums").status_code == 204
    assert_problem(client.get(f"{PROCESSORS}/sums"), 404)
    for topic in ("in", "out", "dead"):
        assert client.delete(f"/api/v1/topics/{topic}").status_code == 204


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"to": "yesterday"}, "/to"),
        ({"to": "time"}, "/time"),
        ({"to": "offsets"}, "/offsets"),
        ({"to": "earliest", "time": "2026-01-01T00:00:00Z"}, "/time"),
        ({"to": "offsets", "offsets": [{"partition": 1, "offset": 0}]}, "/offsets/0/partition"),
        ({"to": "offsets", "offsets": [{"partition": 0, "offset": 3}]}, "/offsets/0/offset"),
        ({"to": "offsets", "offsets": [{"partition": 0, "offset": 0}] * 2}, "/offsets/1/partition"),
    ],
)
def test_a_reset_to_nowhere_is_refused(client, streaming, body, pointer):
    streaming.append("in", {"x": 1}, {"x": 2})
    client.post(PROCESSORS, json=AGGREGATE)
    problem = assert_problem(client.post(f"{PROCESSORS}/sums/resets", json=body), 422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
