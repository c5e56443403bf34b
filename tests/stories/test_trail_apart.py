"""The access service tells what happened in all services that live apart, and who did it."""

import pytest

from tests.soak.follower import Follower


@pytest.fixture(scope="module")
def apart(apart_for_all):
    """All tests share them."""
    return apart_for_all


@pytest.fixture
def access(apart):
    """A client where clients ask."""
    with apart.client("access") as client:
        yield client


def make(apart, name):
    """One change in each of three services."""
    made = []
    for service, path in (("access", "projects"), ("datasets", "datasets"), ("models", "models")):
        with apart.client(service) as client:
            answer = client.post(f"/{path}", json={"name": name})
            assert answer.status_code == 201, answer.text
            made.append(f"{path}/{name}")
    return made


def read_on(access, after, **query):
    """All events after a position, and where they end."""
    found = []
    while True:
        answer = access.get("/events", params={"after": after, **query})
        assert answer.status_code == 200, answer.text
        after = answer.json()["next_position"]
        if not answer.json()["items"]:
            return found, after
        found += answer.json()["items"]


def latest(access):
    answer = access.get("/events", params={"after": "latest"})
    assert answer.json()["items"] == []
    return answer.json()["next_position"]


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_events_of_all_services_are_read_as_one_each_once(apart, access, limit):
    start = latest(access)
    made = make(apart, f"a{limit}") + make(apart, f"b{limit}")
    events, end = read_on(access, start, limit=limit)
    assert sorted(event["subject"] for event in events) == sorted(made)
    assert read_on(access, end) == ([], end)
    own = [event for event in events if event["source"] == "/models"]
    assert [event["subject"] for event in own] == [f"models/a{limit}", f"models/b{limit}"]
    only, _ = read_on(access, start, source="datasets")
    assert {event["source"] for event in only} == {"/datasets"}


def test_events_of_one_that_was_away_are_told_when_it_is_back(apart, access):
    start = latest(access)
    make(apart, "away")
    apart.services["models"].stop()
    try:
        events, position = read_on(access, start)
        assert {event["source"] for event in events} == {"/access", "/datasets"}
        assert access.get("/audit").status_code == 503
    finally:
        apart.services["models"].start()
    answer = access.get("/events", params={"after": position, "wait": 20})
    assert [event["subject"] for event in answer.json()["items"]] == ["models/away"]


def test_the_audit_trail_is_one_newest_first_page_by_page(apart, access):
    make(apart, "c")
    whole = access.get("/audit", params={"page_size": 500}).json()
    assert whole["next_page_token"] is None
    times = [row["time"] for row in whole["items"]]
    assert times == sorted(times, reverse=True)
    actions = {row["action"] for row in whole["items"]}
    assert {"project.created", "dataset.created", "model.created"} <= actions
    paged, token = [], None
    while True:
        query = {"page_size": 2} | ({"page_token": token} if token else {})
        page = access.get("/audit", params=query).json()
        paged += page["items"]
        token = page["next_page_token"]
        if token is None:
            break
    assert paged == whole["items"]


@pytest.mark.parametrize("after", ["1", "x~y", "1~2~3~4~5~6~7~8", "~~~~~nonsense"])
def test_what_is_no_position_is_refused(access, after):
    answer = access.get("/events", params={"after": after})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "?after"


def test_who_follows_begins_without_a_position(apart, access):
    """The follower of the outages began at position 0, which is one of one log only: each of its
    questions was refused, and it took the refusals for a service that is away."""
    made = make(apart, "followed")
    follower = Follower(access)
    while follower.read():
        pass
    assert not follower.refusals
    assert set(made) <= {subject for _, _, subject in follower.seen}
