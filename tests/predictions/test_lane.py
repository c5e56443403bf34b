"""The short way past Flask: the same answers, headers, metrics, quota and audit as the long."""

import json

import pytest

from app.kernel.http.lane import Lane
from tests.predictions.predicting import ROW, Predicting
from tests.problems import assert_problem

PREDICT = "/api/v1/models/fast/predict"
LONG = "application/json; charset=utf-8"
BODY = json.dumps({"inputs": [ROW]})


def ask(client, body=BODY, content_type="application/json", path=PREDICT, **headers):
    return client.post(path, data=body, content_type=content_type, headers=headers)


@pytest.fixture
def taken(monkeypatch):
    """What the lane has answered; None where it let Flask answer."""
    answered = []
    answer = Lane._answer

    def noted(lane, *asked):
        answered.append(answer(lane, *asked))
        return answered[-1]

    monkeypatch.setattr(Lane, "_answer", noted)
    return answered


def count(taken):
    """How many requests took the short way."""
    return sum(body is not None for body in taken)


def test_a_plain_request_takes_the_lane_and_others_do_not(predicting, taken):
    client = predicting.client()
    assert ask(client).status_code == 200
    assert count(taken) == 1
    assert ask(client, content_type=LONG).status_code == 200
    assert ask(client, body=json.dumps({"inputs": [{}]})).status_code == 422
    assert ask(client, path=PREDICT.replace("fast", "slow")).status_code == 200
    assert ask(client, Host="elsewhere").status_code == 400
    assert count(taken) == 1


@pytest.mark.parametrize("query", ["", "?version=1", "?include=x", "?version=0", "?alias=nobody"])
@pytest.mark.parametrize(
    "body", [BODY, json.dumps({"columns": list(ROW), "rows": [list(ROW.values())]}), "[]", "{"]
)
def test_both_ways_answer_the_same(predicting, query, body):
    client = predicting.client()
    short, long = (
        ask(client, body, kind, PREDICT + query, **{"X-Request-Id": "here"})
        for kind in ("application/json", LONG)
    )
    assert (short.status, short.data) == (long.status, long.data)
    assert sorted(short.headers) == sorted(long.headers)


def test_a_request_that_goes_on_keeps_its_id(predicting, caplog):
    answer = ask(predicting.client(), body="{")
    assert_problem(answer, 400)
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]


def test_metrics_count_both_ways_alike(predicting):
    labels = {"method": "POST", "route": "/api/v1/models/<name:model>/predict", "status": "200"}

    def counted():
        registry = predicting.wiring.registry
        return registry.get_sample_value("modelyard_requests_total", labels) or 0

    before = counted()
    for kind in ("application/json", LONG):
        assert ask(predicting.client(), content_type=kind).status_code == 200
    assert counted() == before + 2


@pytest.fixture
def metered(tmp_path):
    """A yard whose keys may send four requests, and hardly another."""
    yard = Predicting(tmp_path, quota_rate=0.001, quota_burst=4)
    yield yard
    yard.close()


def test_a_request_costs_its_quota_once_whichever_way_it_goes(metered, taken):
    client = metered.client()
    left = [
        ask(client, body).headers["RateLimit"].split(";")[1]
        for body in (BODY, "{", BODY, "{}", BODY, "{")
    ]
    assert left == ["r=3", "r=2", "r=1", "r=0", "r=0", "r=0"]
    assert_problem(ask(client), 429)
    assert count(taken) == 2


def test_who_may_not_predict_is_refused_and_noted_once(predicting, monkeypatch):
    noted = []
    monkeypatch.setattr(
        predicting.wiring.denials, "record", lambda **told: noted.append(told["code"])
    )
    reader = predicting.client(predicting.key(scopes=["models:read"]))
    assert_problem(ask(reader), 403)
    assert_problem(ask(predicting.client("myk_unknown0_" + "k" * 43)), 401)
    assert noted == ["forbidden", "unauthenticated"]


@pytest.mark.parametrize("model", ["fast", "fast/1", "fast@other", "nobody", "a b", "slow"])
@pytest.mark.parametrize("more", [{}, {"include": ["label"]}, {"include": []}, {"unknown": 1}])
def test_both_ways_store_the_same(predicting, taken, model, more):
    client = predicting.client()
    body = json.dumps({"model": model, "inputs": [ROW, ROW], **more})
    told = []
    for kind in ("application/json", LONG):
        answer = ask(client, body, kind, "/api/v1/predictions", **{"X-Request-Id": "here"})
        headers = dict(answer.headers)
        headers.pop("Content-Length")
        if answer.status_code == 201:
            made = client.get(answer.headers["Location"])
            assert made.json == answer.json
            assert made.headers["ETag"] == headers.pop("ETag")
            assert headers.pop("Location").endswith(answer.json["id"])
        shown = {n: v for n, v in answer.json.items() if n not in {"id", "created_at"}}
        told.append((answer.status, headers, shown))
    assert told[0] == told[1]
    assert count(taken) == (told[0][0] == "201 CREATED" and model != "slow")


def test_the_lane_stores_with_event_and_audit(predicting, taken):
    client = predicting.client()
    body = json.dumps({"model": "fast", "columns": list(ROW), "rows": [list(ROW.values())]})
    stored = ask(client, body, path="/api/v1/predictions").json
    assert count(taken) == 1
    assert stored["inputs"] == [ROW]
    happened = client.get("/api/v1/events?limit=1000").json["items"]
    last = [event for event in happened if event["type"] == "modelyard.prediction.created"][-1]
    assert last["subject"] == f"predictions/{stored['id']}"
    rows = client.get("/api/v1/audit?page_size=100").json["items"]
    assert last["subject"] in {row["subject"] for row in rows}
