"""Records that are scored by a model, over the predictions service's own API."""

import pytest
from sklearn.linear_model import LogisticRegression

from app.streams.processors.dead_letters import PREFIX
from tests.predictions.predicting import ROW, Predicting
from tests.streams.processors.installation import Streaming

BODY = {
    "name": "scores",
    "kind": "predict",
    "topic": "in",
    "output_topic": "out",
    "dead_letter_topic": "dead",
    "predict": {"model": "fast@live", "include_inputs": True},
}


@pytest.fixture(scope="module")
def predicting(tmp_path_factory):
    """Models that can be asked."""
    made = Predicting(tmp_path_factory.mktemp("predicting"))
    yield made
    made.close()


def point(predicting, number):
    path = "/api/v1/models/fast/aliases/live"
    assert predicting.client().put(path, json={"version": number}).status_code in (200, 201)


@pytest.fixture
def streaming(predicting):
    made = Streaming(predicting)
    made.topics("in", "out", "dead")
    point(predicting, 1)
    yield made
    for processor in made.client.get("/api/v1/processors").json["items"]:
        made.client.delete(f"/api/v1/processors/{processor['name']}")
    for topic in ("in", "out", "dead"):
        made.client.delete(f"/api/v1/topics/{topic}")
    made.close()


def test_each_record_is_scored_and_what_can_not_be_goes_to_the_dead_letters(streaming):
    streaming.create(**BODY)
    bad = [{**ROW, "mass": "heavy"}, {"mass": 1.0}]
    streaming.append("in", ROW, bad[0], b"{", {**ROW, "mass": 3000.0}, bad[1])

    streaming.run_out("scores")

    found = streaming.values("out")
    assert [one["source"]["offset"] for one in found] == [0, 3]
    assert {(one["model"], one["version"]) for one in found} == {("fast", 1)}
    assert found[0]["inputs"] == ROW
    asked = streaming.client.post("/api/v1/models/fast/predict", json={"inputs": [ROW]})
    assert found[0]["prediction"] == asked.json["outputs"][0]
    dead = [record.headers for record in streaming.records("dead")]
    assert [one[f"{PREFIX}reason"] for one in dead] == [
        "invalid_input",
        "not_json",
        "invalid_input",
    ]
    assert dead[0][f"{PREFIX}detail"].startswith("/mass: ")


def test_an_alias_is_followed(streaming, predicting):
    streaming.create(**BODY)
    streaming.append("in", ROW)
    streaming.run_out("scores")
    predicting.wiring.follower.follow_once(wait=0)
    number = predicting.make("fast", LogisticRegression(C=0.5))["version"]
    point(predicting, number)
    predicting.wiring.follower.follow_once(wait=0)
    streaming.append("in", ROW)
    streaming.run_out("scores")
    assert [one["version"] for one in streaming.values("out")] == [1, number]


def test_without_its_model_it_waits_and_says_so(streaming, predicting):
    streaming.create(**BODY | {"predict": {"model": "absent"}})
    streaming.append("in", ROW)
    streaming.run_until(lambda: streaming.get("scores")["counts"]["errors"] > 0)
    shown = streaming.get("scores")
    assert shown["lag"] == 1
    assert "absent" in shown["last_failure"]["detail"]
    assert streaming.records("dead") == []
