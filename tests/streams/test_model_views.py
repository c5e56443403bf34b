"""Model views over HTTP: trained on exactly what was there, followed since, merged as declared."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import update

from app.kernel.errors import Unavailable
from app.kernel.log.seam import NewRecord
from app.streams.learning.tables import ViewModelState
from app.streams.views import batches as batches_module
from app.streams.views.model_batches import ModelBatches
from app.streams.views.speed import Place
from app.streams.views.tables import SpeedState, ViewBatch
from tests.problems import assert_problem
from tests.streams.flights import moments
from tests.streams.model_viewing import LATE, VIEWS, ModelViewing

CUT = 2000


def stream():
    """A few of the flights, as records."""
    return moments(60)


def rows(count):
    """The first rows to predict."""
    return [moment.row for moment in stream() if moment.row is not None][:count]


@pytest.fixture(scope="module")
def viewing(tmp_path_factory, sandbox):
    """A worker with one place, and a view whose first batch has the first records."""
    made = ModelViewing(tmp_path_factory.mktemp("views") / "home")
    made.make_view()
    made.produce(stream()[:CUT])
    with made.working(sandbox):
        batch = made.batch()
        assert batch["state"] == "succeeded", batch
        yield made
    made.close()


def _batch_answers(viewing, rows, version=1):
    path = f"/api/v1/models/late-flights/predict?version={version}"
    return viewing.client().post(path, json={"inputs": rows}).json["outputs"]


def test_the_batch_is_trained_on_exactly_the_records_before_its_cut(viewing):
    batch = viewing.told("/batches/1")
    assert sum(batch["offsets"].values()) == batch["records"] == CUT
    labels = [moment.flight for moment in stream()[:CUT] if moment.row is None]
    assert batch["training"]["examples"] == len(labels)
    client = viewing.client()
    table = client.get("/api/v1/datasets/landed-flights/versions/1").json
    assert table["rows"] == len(labels)
    version = client.get("/api/v1/models/late-flights/versions/1").json
    offsets = ",".join(f"{place}:{offset}" for place, offset in batch["offsets"].items())
    assert version["tags"]["offsets"] == offsets
    assert version["tags"]["lambda_view"] == "late"
    assert version["lineage"]["dataset_version"] == 1
    assert version["lineage"]["training_run"] == batch["training"]["run"]


def test_with_nothing_after_the_cut_the_answer_is_the_batch_models(viewing, sandbox):
    viewing.make_topic("quiet")
    viewing.make_view("quiet", topic="quiet", model="quiet", dataset="quiet")
    viewing.produce(stream()[:600], topic="quiet")
    assert viewing.batch("quiet")["state"] == "succeeded"
    answer = viewing.ask(rows(50), "quiet").json
    batch = viewing.client().post("/api/v1/models/quiet/predict", json={"inputs": rows(50)}).json
    assert answer["outputs"] == batch["outputs"]
    assert answer["batch_offsets"] == answer["speed_offsets"]
    assert (answer["batch_version"], answer["batch_model"]) == (1, "quiet/1")
    assert (answer["behind"], answer["staleness_ms"], answer["merge"]) == (0, 0, "blend")


def test_records_after_the_cut_change_the_answer_once_they_are_folded_in(viewing):
    before = _batch_answers(viewing, rows(20))
    viewing.produce(stream()[CUT : CUT + 500])
    late = viewing.ask(rows(20)).json
    # Their own time is years ago: the learners count as lagging.
    assert late["behind"] == 500
    assert late["staleness_ms"] > 1e9
    assert (late["merge"], late["outputs"]) == ("batch", before)
    viewing.fold()
    answer = viewing.ask(rows(20)).json
    assert sum(answer["speed_offsets"].values()) == CUT + 500
    assert (answer["behind"], answer["merge"]) == (0, "blend")
    assert all(one != two for one, two in zip(answer["outputs"], before, strict=True))
    for output in answer["outputs"]:
        assert output["label"] in (True, False)
        assert sum(output["probabilities"].values()) == pytest.approx(1.0)
    by_key = viewing.ask(rows(2), keys=["a", "b"]).json["outputs"]
    assert by_key != answer["outputs"][:2]


def test_the_three_layers_are_judged_on_the_same_labels(viewing):
    viewing.produce(stream()[CUT + 500 : CUT + 1000])
    viewing.fold()
    told = viewing.told("/metrics")
    counts = {layer: told["in_all"][layer]["count"] for layer in ("batch", "speed", "merged")}
    assert len(set(counts.values())) == 1
    assert counts["batch"] > 400
    assert all(0 < told["in_all"][layer]["log_loss"] < 1 for layer in counts)
    for layer, metrics in told["in_all"].items():
        assert metrics == pytest.approx(told["since_batch"][layer])
    learnt = sum(one["learnt"] for one in told["partitions"])
    assert learnt == sum(moment.row is None for moment in stream()[: CUT + 1000])


def test_the_speed_state_is_that_of_a_rebuild_in_other_steps(viewing):
    viewing.fold()
    before = viewing.told("/state")["partitions"]
    database = viewing.wiring.database("streams")
    with database.write() as session:
        [batch] = [one for one in session.query(ViewBatch) if one.view == "late"]
        for place, offset in batch.offsets.items():
            mine = (SpeedState.view_id == batch.view_id, SpeedState.partition == int(place))
            session.execute(update(SpeedState).where(*mine).values(offset=offset, digest=""))
        learners = ModelBatches(viewing.wiring.store, None).learners(batch.training)
        for partition, state in learners.items():
            place = {"view_id": batch.view_id, "number": batch.number, "partition": partition}
            session.merge(ViewModelState(**place, state=state))
    speed = viewing.new_speed()
    for one in before:
        place = Place(batch.view_id, batch.number, one["partition"])
        while speed.step(place, 77).records:
            pass
    after = viewing.told("/state")["partitions"]
    assert [one["digest"] for one in after] == [one["digest"] for one in before]


def test_a_record_that_tells_nothing_is_skipped_and_counted(viewing):
    viewing.fold()
    log, topic = viewing.wiring.record_log, viewing.topic_id("flights")
    values = [b"not json", b"[1]", b'{"flight": 1}', b'{"flight": 2, "late": [1]}']
    before = sum(one["skipped"] for one in viewing.told("/state")["partitions"])
    log.append(topic, [NewRecord(value, key=b"k") for value in values])
    viewing.fold()
    told = viewing.told("/state")
    assert sum(one["skipped"] for one in told["partitions"]) == before + len(values)
    assert told["behind"] == 0


def test_while_the_batch_model_cannot_be_asked_the_learners_wait(viewing, monkeypatch):
    viewing.fold()
    before = viewing.told("/state")["partitions"]

    def away(*_):
        raise Unavailable("The service predictions can't be reached")

    with monkeypatch.context() as patched:
        patched.setattr(viewing.wiring.model_speed._predictions, "predict", away)
        viewing.produce(stream()[CUT + 1000 : CUT + 1100])
        with pytest.raises(Unavailable):
            viewing.fold()
    assert [one["speed_offset"] for one in viewing.told("/state")["partitions"]] != [
        one["head"] for one in viewing.told("/state")["partitions"]
    ]
    viewing.fold()
    after = viewing.told("/state")["partitions"]
    assert all(one["speed_offset"] == one["head"] for one in after)
    assert sum(one["records"] for one in after) == sum(one["records"] for one in before) + 100


def test_a_new_batch_takes_over_at_once_and_the_metrics_go_on(viewing):
    viewing.fold()
    before = viewing.told("/metrics")["in_all"]["merged"]["count"]
    batch = viewing.batch()
    assert (batch["state"], batch["outcome"]) == ("succeeded", "serving"), batch
    answer = viewing.ask(rows(5)).json
    assert answer["batch_version"] == batch["version"]
    assert answer["batch_model"] == f"late-flights/{batch['training']['model_version']}"
    assert answer["outputs"] == _batch_answers(viewing, rows(5), batch["training"]["model_version"])
    told = viewing.told("/metrics")
    assert told["in_all"]["merged"]["count"] == before
    assert told["since_batch"]["merged"]["count"] == 0
    assert all(one["waiting"] < 50 for one in told["partitions"])


def test_a_views_model_is_kept_as_far_as_the_view_needs_it(viewing):
    """The version that answers were merged with could be deleted."""
    client, serving = viewing.client(), viewing.told("")["batch_version"]
    number = viewing.told(f"/batches/{serving}")["training"]["model_version"]
    model = "/api/v1/models/late-flights"
    for path in (model, f"{model}/versions/{number}", "/api/v1/datasets/landed-flights"):
        problem = assert_problem(client.delete(path), 409)
        told = {(one["service"], one["subject"]) for one in problem["referrers"]}
        assert ("streams", "lambda-views/late") in told
    assert number > 1
    assert client.delete(f"{model}/versions/1").status_code == 204


def test_before_the_first_batch_the_learners_answer_alone_or_not_at_all(viewing):
    viewing.make_topic("new")
    viewing.make_view("new", topic="new")
    refused = viewing.ask(rows(1), "new")
    assert (refused.status_code, refused.json["status"]) == (409, 409)
    viewing.produce(stream()[:300], topic="new")
    viewing.fold()
    answer = viewing.ask(rows(3), "new").json
    assert (answer["merge"], answer["batch_version"], answer["batch_model"]) == ("speed", 0, None)
    assert {type(one["label"]) for one in answer["outputs"]} == {bool}
    faulty = viewing.ask([{"hour": 5}, {"hour": [5], "minute": 3}], "new")
    assert faulty.status_code == 422
    pointers = {one["pointer"] for one in faulty.json["errors"]}
    assert pointers == {"/inputs/1/hour", "/inputs/1/minute"}


@pytest.mark.parametrize(
    ("model", "code"),
    [({"estimator": {"name": "NoSuch"}}, "not_trainable"), ({}, "too_few_examples")],
)
def test_a_batch_that_cannot_be_made_fails_and_says_why(viewing, model, code):
    name = code.replace("_", "-")
    viewing.make_topic(name)
    viewing.make_view(name, topic=name, **model)
    viewing.produce(stream()[: 300 if model else 10], topic=name)
    batch = viewing.batch(name)
    assert (batch["state"], batch["error"]["code"]) == ("failed", code), batch
    assert viewing.told("", name)["batch_version"] == 0


def test_a_drift_is_an_event_and_may_call_a_batch_early(viewing, monkeypatch):
    monkeypatch.setattr(batches_module, "_PAUSE_AFTER_DRIFT", timedelta(0))
    viewing.make_topic("turning")
    tree = {"name": "DecisionTreeClassifier", "params": {"max_depth": 2}}
    viewing.make_view(
        "turning",
        topic="turning",
        model="turning",
        dataset="turning",
        estimator=tree,
        features=["colour"],
        categories=[],
        target="kind",
        batch_on_drift=True,
    )
    viewing.wiring.record_log.append(viewing.topic_id("turning"), _colours(300, "a", "b"))
    assert viewing.batch("turning")["state"] == "succeeded"
    viewing.wiring.record_log.append(viewing.topic_id("turning"), _colours(300, "a", "b"))
    viewing.fold()
    assert viewing.told("/metrics", "turning")["drifts"] == 0
    viewing.wiring.record_log.append(viewing.topic_id("turning"), _colours(300, "b", "a"))
    viewing.fold()
    told = viewing.told("/metrics", "turning")
    assert told["drifts"] >= 1
    assert told["drifted_at"] is not None
    events = viewing.client().get("/api/v1/events?source=streams&limit=1000").json["items"]
    drifts = [one["data"] for one in events if one["type"].endswith("lambda-view.drifted")]
    assert {(one["view"], one["direction"]) for one in drifts} == {("turning", "worse")}
    causes = [one["cause"] for one in viewing.told("/batches", "turning")["items"]]
    assert "drift" in causes


def _colours(count, red, blue):
    values = [
        {"flight": at, "colour": colour, "kind": kind}
        for at in range(count)
        for colour, kind in (("red", red), ("blue", blue))
    ]
    return [NewRecord(json.dumps(value).encode(), key=b"one") for value in values]


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        ({"features": ["hour", "hour"]}, "/model/features"),
        ({"features": ["late"], "categories": []}, "/model/features"),
        ({"features": []}, "/model/features"),
        ({"categories": ["nothing"]}, "/model/categories"),
        ({"id_field": "late"}, "/model/id_field"),
        ({"task": "clustering"}, "/model/task"),
        ({"merge": "latest"}, "/model/merge"),
        ({"estimator": 7}, "/model/estimator"),
        ({"learning_rate": 0}, "/model/learning_rate"),
        ({"model": "No Name"}, "/model/model"),
    ],
)
def test_a_definition_that_cannot_be_is_refused(viewing, changed, pointer):
    body = {"name": "bad", "kind": "model", "topic": "flights", "model": {**LATE, **changed}}
    answer = viewing.client().post(VIEWS, json=body)
    assert answer.status_code == 422
    assert any(one["pointer"].startswith(pointer) for one in answer.json["errors"]), answer.json


def test_what_is_of_the_other_kind_is_refused(viewing):
    client = viewing.client()
    measure = {"measures": [{"name": "flights", "function": "count"}]}
    body = {"name": "counts", "kind": "aggregate", "topic": "flights", "aggregate": measure}
    both = client.post(VIEWS, json={**body, "model": LATE})
    assert (both.status_code, both.json["errors"][0]["pointer"]) == (422, "/model")
    assert client.post(VIEWS, json=body).status_code == 201
    assert viewing.ask(rows(1), "counts").status_code == 409
    assert client.get(f"{VIEWS}/counts/metrics").status_code == 409
    assert client.get(f"{VIEWS}/late/values").status_code == 409


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"inputs": []}, "/inputs"),
        ({"inputs": [{"hour": 5}], "keys": []}, "/keys"),
        ({"inputs": [{"hour": [5]}]}, "/inputs/0/hour"),
        ({"inputs": [{"hour": "five"}]}, "/inputs/0"),
    ],
)
def test_inputs_that_cannot_be_answered_are_refused(viewing, body, pointer):
    answer = viewing.client().post(f"{VIEWS}/late/predictions", json=body)
    assert answer.status_code == 422, answer.text
    assert any(one["pointer"].startswith(pointer) for one in answer.json["errors"]), answer.json


def test_a_deleted_view_leaves_nothing_to_ask(viewing):
    viewing.make_view("gone")
    assert viewing.client().delete(f"{VIEWS}/gone").status_code == 204
    assert viewing.ask(rows(1), "gone").status_code == 404
