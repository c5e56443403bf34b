"""Services with databases of their own follow one another's events."""

from app.kernel.auth import Call
from app.predictions.directory import Reference
from tests.stories.test_deletion_apart import register

CALL = Call("default", "testtest", frozenset(), "test-request")


def test_predictions_follow_a_model_of_another_database(apart):
    """They followed the events of the access service, who has none of the models' there."""
    wiring = apart.services["predictions"].wiring
    directory, follower = wiring.directory, wiring.follower
    follower.follow_once(wait=0)
    register(apart)
    assert directory.locate(CALL, Reference("m"))["version"] == 1
    register(apart)
    follower.follow_once(wait=0)
    assert directory.locate(CALL, Reference("m"))["version"] == 2
    with apart.client("models") as models:
        assert models.put("/models/m/aliases/champion", json={"version": 1}).status_code == 201
    follower.follow_once(wait=0)
    assert directory.locate(CALL, Reference("m"))["version"] == 1


def test_each_service_tells_its_own_events_and_audit(apart):
    register(apart)
    with apart.client("datasets") as datasets, apart.client("models") as models:
        datasets.post("/datasets", json={"name": "penguins"})
        assert {event["source"] for event in datasets.get("/events").json()["items"]} == {
            "/datasets"
        }
        assert {event["source"] for event in models.get("/events").json()["items"]} == {"/models"}
        actions = {row["action"] for row in models.get("/audit").json()["items"]}
        assert actions == {"model.created", "version.registered"}


def test_the_topic_of_events_has_those_of_services_elsewhere(apart):
    with apart.client("streams") as streams, apart.client("datasets") as datasets:
        datasets.post("/datasets", json={"name": "penguins"})
        register(apart)
        feeder = apart.services["streams"].wiring.feeder
        assert feeder.feed_once() == 3
        datasets.patch("/datasets/penguins", json={"description": "x"})
        assert feeder.feed_once() == 1
        assert feeder.feed_once() == 0
        path = "/topics/modelyard.events/partitions/0/records"
        found = streams.get(path).json()["items"]
    assert sorted(record["headers"]["ce_type"] for record in found) == [
        "modelyard.dataset.created",
        "modelyard.dataset.updated",
        "modelyard.model.created",
        "modelyard.version.registered",
    ]
