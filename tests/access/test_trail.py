"""Events and the audit trail: written with the change, readable in order."""

import threading

from app.kernel.audit import AuditRow
from app.kernel.auth import make_peer_token


def events(client, **query):
    return client.get("/api/v1/events", query_string=query).json


def test_each_change_leaves_an_event_and_an_audit_row(yard):
    yard.client().post("/api/v1/projects", json={"name": "team-a"})

    (event,) = events(yard.client())["items"]
    assert event["type"] == "modelyard.project.created"
    assert event["specversion"] == "1.0"
    (row,) = yard.client().get("/api/v1/audit").json["items"]
    assert row["action"] == "project.created"
    assert row["key_id"] == yard.admin_key.split("_")[1]
    assert row["request_id"] == event["requestid"]


def test_a_refused_change_leaves_neither(yard):
    yard.client().post("/api/v1/projects", json={"name": "default"})

    assert events(yard.client())["items"] == []
    assert yard.client().get("/api/v1/audit").json["items"] == []


def test_events_are_read_on_from_a_position(yard):
    client = yard.client()
    for number in range(5):
        client.post("/api/v1/projects", json={"name": f"p{number}"})

    first = events(client, limit=2)
    rest = events(client, after=first["next_position"])

    subjects = [event["subject"] for event in first["items"] + rest["items"]]
    assert subjects == [f"projects/p{number}" for number in range(5)]
    assert events(client, after=rest["next_position"])["items"] == []


def test_waiting_ends_at_the_next_event(yard):
    client = yard.client()
    position = events(client, after="latest")["next_position"]
    timer = threading.Timer(
        0.3, lambda: yard.client().post("/api/v1/projects", json={"name": "late"})
    )
    timer.start()

    found = events(client, after=position, wait=20)

    timer.join()
    assert [event["subject"] for event in found["items"]] == ["projects/late"]


def test_a_foreign_position_is_422(yard):
    for position in ("x", "1.2.3", "-1", "9" * 30):
        assert yard.client().get(f"/api/v1/events?after={position}").status_code == 422


def test_another_projects_events_are_not_told_unless_to_a_peer(yard):
    yard.client().post("/api/v1/projects", json={"name": "mine"})
    other = yard.key(project="other", role="viewer")
    peer = make_peer_token(
        yard.wiring.ring,
        service="predictions",
        project="*",
        scopes=frozenset({"events:read"}),
        lifetime=30,
    )

    assert [e for e in events(yard.client(other))["items"] if e["project"] != "other"] == []
    assert events(yard.client(peer))["items"]


def test_refusals_are_summed_up(yard):
    for _ in range(50):
        yard.client("wrong").get("/api/v1/keys")

    with yard.wiring.database("access").read() as session:
        denied = [row for row in session.query(AuditRow) if row.outcome == "denied"]
    assert len(denied) == 1


def test_no_position_is_ever_passed_by_a_late_commit(yard):
    """A reader that has seen position n never finds n-1 afterwards, with writers in parallel."""
    seen, stop = [], threading.Event()

    def read():
        client, position = yard.client(), "0"
        while not stop.is_set() or not seen or len(seen) < 40:
            found = events(client, after=position)
            position = found["next_position"]
            seen.extend(event["subject"] for event in found["items"])

    def write(writer):
        for number in range(10):
            yard.client().post("/api/v1/projects", json={"name": f"w{writer}-{number}"})

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    reader.start()
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join(timeout=60)

    assert len(seen) == len(set(seen)) == 40
