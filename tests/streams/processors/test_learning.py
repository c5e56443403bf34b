"""Processors of the kind ``learn``: judged, then taught, record by record; the state is a fold."""

import pytest

from tests.problems import assert_problem
from tests.streams.processors.installation import PROCESSORS

LEARN = {"task": "classification", "target": "kind", "features": ["colour"], "id_field": "id"}
LEARNER = f"{PROCESSORS}/learner/learner"


def _learner(streaming, **learn):
    return streaming.create(name="learner", kind="learn", learn={**LEARN, **learn})


def _pairs(count, red="stop", blue="go"):
    for at in range(count):
        yield {"id": f"r{at}", "colour": "red", "kind": red}
        yield {"id": f"b{at}", "colour": "blue", "kind": blue}


@pytest.fixture
def learning(any_streaming):
    any_streaming.topics("in", "out", "dead")
    return any_streaming


@pytest.fixture
def quick(streaming):
    streaming.topics("in", "out", "dead")
    return streaming


def test_it_foretells_each_row_before_its_label_is_known(learning):
    _learner(learning)
    learning.append("in", *_pairs(100))
    learning.append("in", {"id": "later", "colour": "red"})
    learning.run_out("learner")
    outputs = learning.values("out")
    assert outputs[0] == {
        "id": "r0",
        "prediction": None,
        "learnt": 1,
        "source": {"topic": "in", "partition": 0, "offset": 0},
    }
    assert outputs[-1]["id"] == "later"
    assert outputs[-1]["prediction"]["label"] == "stop"
    told = learning.client.get(LEARNER).json
    assert (told["learnt"], told["labels"]) == (200, ["stop", "go"])
    assert told["metrics"]["count"] == 199
    assert told["metrics"]["accuracy"] > 0.9
    assert told["partitions"][0]["waiting"] == 1


def test_labels_that_come_later_are_joined_by_id(quick):
    _learner(quick)
    quick.append("in", {"id": 1, "colour": "red"}, {"id": 2, "colour": "blue"})
    quick.append("in", {"id": 2, "kind": "go"}, {"id": 3, "kind": "none"})
    quick.run_out("learner")
    told = quick.client.get(LEARNER).json
    assert (told["learnt"], told["labels"]) == (1, ["go"])
    assert told["partitions"][0]["waiting"] == 2
    assert [one["id"] for one in quick.values("out")] == ["1", "2"]


def test_the_state_is_that_of_an_undisturbed_run_whoever_takes_over(quick):
    _learner(quick)
    quick.append("in", *_pairs(300))
    for client in ("one", "two", "three"):
        quick.runtime(client).turn()
        quick.close()
        quick.runtimes.clear()
    quick.run_out("learner")
    first = quick.client.get(LEARNER).json
    reset = quick.client.post(f"{PROCESSORS}/learner/resets", json={"to": "earliest"})
    assert reset.status_code == 201, reset.text
    assert quick.client.get(LEARNER).json["learnt"] == 0
    quick.run_out("learner")
    again = quick.client.get(LEARNER).json
    assert again == first
    assert first["learnt"] == 600


def test_what_cannot_be_learnt_is_a_dead_letter_and_nothing_stops(quick):
    _learner(quick)
    quick.append("in", b"not json", {"id": 1}, {"id": 2, "colour": [1]}, {"id": 3, "kind": 1.5})
    quick.append("in", {"id": 4, "colour": "red", "kind": "stop"})
    quick.run_out("learner")
    reasons = [one.headers["modelyard-dead-reason"] for one in quick.records("dead")]
    assert reasons == ["not_json", "not_learnable", "not_learnable", "not_learnable"]
    assert quick.client.get(LEARNER).json["learnt"] == 1


def test_a_drift_is_an_event(quick):
    _learner(quick)
    quick.append("in", *_pairs(400), *_pairs(100, red="go", blue="stop"))
    quick.run_out("learner")
    assert quick.client.get(LEARNER).json["drifts"] >= 1
    events = quick.client.get("/api/v1/events?source=streams&limit=1000").json["items"]
    drifts = [one["data"] for one in events if one["type"].endswith("processor.drifted")]
    assert drifts[-1]["processor"] == "learner"
    assert "worse" in {one["direction"] for one in drifts}


def test_numbers_are_foretold_too(quick):
    learn = {"task": "regression", "target": "y", "features": ["x"]}
    quick.create(name="learner", kind="learn", learn=learn)
    quick.append("in", *({"x": at % 20, "y": 3 * (at % 20) + 7} for at in range(400)))
    quick.run_out("learner")
    assert quick.values("out")[-1]["prediction"]["value"] == pytest.approx(64, abs=3)
    told = quick.client.get(LEARNER).json
    assert (told["labels"], set(told["metrics"])) == ([], {"count", "mae", "rmse"})


def test_another_kind_has_no_learner(quick):
    quick.create()
    assert_problem(quick.client.get(f"{PROCESSORS}/sums/learner"), 409)
    assert_problem(quick.client.get(f"{PROCESSORS}/absent/learner"), 404)


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        ({"features": ["kind"]}, "/learn/features"),
        ({"features": ["colour", "colour"]}, "/learn/features"),
        ({"categories": ["size"]}, "/learn/categories"),
        ({"task": "clustering"}, "/learn/task"),
    ],
)
def test_what_cannot_be_learnt_is_refused(quick, changed, pointer):
    body = {"name": "l", "kind": "learn", "topic": "in", "output_topic": "out"}
    body |= {"dead_letter_topic": "dead", "learn": {**LEARN, **changed}}
    problem = assert_problem(quick.client.post(PROCESSORS, json=body), 422)
    assert problem["errors"][0]["pointer"].startswith(pointer)
