"""One contract, three topologies: one process, coarse services, each service alone.

The stories know an address and a key, and nothing of what is behind it. In one process there is
nothing but SQLite; coarse services share a Postgres server; alone, each has a database there that
only its own user may reach, and topics lie in NATS.
"""

import time
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import OperationalError

from app.settings_table import SERVICES
from tests.fleet import ALONE, COARSE, Fleet
from tests.nats import NatsServer
from tests.server import Server, wait_for
from tests.stories.main_job import first_rows, main_job

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SECONDS = 60
DOCUMENT = Path(__file__).resolve().parents[2] / "openapi.yaml"
HERE, COARSELY = (pytest.param(name, marks=pytest.mark.long) for name in ("here", "coarse"))
FOREST = {"name": "RandomForestClassifier", "params": {"n_estimators": 20}}


def alone(folder, fresh):
    """Six servers, each with a database and a user of its own, and a NATS server."""
    nats = NatsServer(folder / "nats").start()
    nats.wait_until_ready()
    databases = {service: fresh() for service in SERVICES}
    url = f"nats://{nats.address}"
    return Fleet(folder, ALONE, databases, MODELYARD_LOG_URL=url), nats


@pytest.fixture(scope="module", params=[HERE, COARSELY, "alone"])
def installation(request, tmp_path_factory):
    """All services, at one address."""
    folder, nats = tmp_path_factory.mktemp("fleet"), None
    if request.param == "here":
        made = Server(folder)
    elif request.param == "coarse":
        fresh = request.getfixturevalue("postgres_url")
        made = Fleet(folder, COARSE, {service: fresh() for service in SERVICES})
    else:
        made, nats = alone(folder, request.getfixturevalue("owned_postgres_url"))
    try:
        with made as running:
            yield running
    finally:
        if nats is not None:
            nats.kill()


@pytest.fixture(scope="module")
def client(installation):
    """A client with the admin's key."""
    with installation.client() as made:
        yield made


@pytest.fixture(scope="module")
def penguins(client):
    """What the main job leaves behind: a dataset, a model and its predictions."""
    main_job(client, estimator=FOREST)
    return client


def ask(client, method, path, status, **more):
    answer = client.request(method, path, **more)
    assert answer.status_code == status, f"{method} {path}: {answer.text}"
    return answer.json() if answer.content else None


def until(found, seconds=SECONDS):
    """What a function returns once that is true."""
    end = time.monotonic() + seconds
    while not (told := found()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return told


def produce(client, topic, values):
    records = [{"id": f"{number}", "value": value} for number, value in enumerate(values)]
    return ask(client, "POST", f"/topics/{topic}/records", 201, json={"records": records})


def read(client, topic, count):
    """So many records of a topic with one partition."""
    path, query = f"/topics/{topic}/partitions/0/records", {"offset": 0, "wait": 2}
    return until(
        lambda: (
            len(items := ask(client, "GET", path, 200, params=query)["items"]) >= count and items
        )
    )


def test_a_table_becomes_a_prediction(penguins):
    ask(penguins, "DELETE", "/datasets/penguins", 409)
    told = ask(penguins, "GET", "/events", 200, params={"limit": 1000})["items"]
    assert {event["source"] for event in told} >= {"/datasets", "/training", "/models"}


def test_records_are_kept_once_and_a_processor_foretells_each(penguins):
    for topic in ("seen", "foretold"):
        ask(penguins, "POST", "/topics", 201, json={"name": topic})
    processor = {"name": "foretell", "kind": "predict", "topic": "seen", "output_topic": "foretold"}
    body = {**processor, "dead_letter_topic": None, "predict": {"model": "penguins"}}
    ask(penguins, "POST", "/processors", 201, json=body)
    rows = first_rows(5)
    first, again = (produce(penguins, "seen", rows) for _ in range(2))
    assert [place["duplicate"] for place in again["offsets"]] == [True] * 5
    assert [place["offset"] for place in again["offsets"]] == [
        place["offset"] for place in first["offsets"]
    ]
    assert [record["value"] for record in read(penguins, "seen", 5)] == rows
    told = [record["value"] for record in read(penguins, "foretold", 5)]
    assert [one["prediction"]["label"] for one in told] == ["Adelie"] * 5


@pytest.mark.long
def test_a_name_moves_to_another_version_and_predictions_follow(penguins):
    wanted = {"model": "penguins", "dataset": "penguins", "target": "species", "estimator": FOREST}
    run = ask(penguins, "POST", "/training-runs", 202, json=wanted)
    assert wait_for(penguins, f"/training-runs/{run['id']}")["model_version"] == 2
    body = {"inputs": first_rows(1)}

    def version():
        answer = penguins.post("/models/penguins/predict", params={"alias": "best"}, json=body)
        return answer.json().get("version") if answer.status_code == 200 else None

    for number in (1, 2, 1):
        moved = penguins.put("/models/penguins/aliases/best", json={"version": number})
        assert moved.is_success, moved.text
        until(lambda number=number: version() == number)


@pytest.mark.long
def test_a_key_is_good_for_its_project_and_scopes_until_it_is_revoked(installation, penguins):
    ask(penguins, "POST", "/projects", 201, json={"name": "other"})
    theirs, ours = (
        ask(
            penguins, "POST", "/keys", 201, json={"name": "k", "role": "viewer", "project": project}
        )
        for project in ("other", "default")
    )
    lists = ("/datasets", "/models", "/training-runs", "/predictions")
    with installation.client(theirs["secret"]) as client:
        for path in lists:
            assert ask(client, "GET", path, 200)["items"] == []
        ask(client, "GET", "/models/penguins", 404)
        ask(client, "POST", "/models", 403, json={"name": "mine"})
    with installation.client(ours["secret"]) as client:
        for path in lists:
            assert ask(client, "GET", path, 200)["items"]
        ask(penguins, "DELETE", f"/keys/{ours['key_id']}", 204)
        for path in lists:
            until(lambda path=path: client.get(path).status_code == 401)


@pytest.mark.long
def test_a_view_counts_what_a_topic_holds(client):
    ask(client, "POST", "/topics", 201, json={"name": "flights"})
    measure = {"name": "n", "function": "count"}
    view = {"name": "counts", "kind": "aggregate", "topic": "flights"}
    body = {**view, "aggregate": {"measures": [measure]}}
    ask(client, "POST", "/lambda-views", 201, json=body)
    produce(client, "flights", [{"n": number} for number in range(50)])
    path = "/lambda-views/counts"
    until(lambda: ask(client, "GET", f"{path}/value", 200)["values"] == {"n": 50})
    ask(client, "POST", f"{path}/batches", 202)
    assert wait_for(client, f"{path}/batches/1")["state"] == "succeeded"
    assert ask(client, "GET", f"{path}/value", 200)["values"] == {"n": 50}


@pytest.mark.long
def test_all_that_happened_is_told_to_the_topic_of_events(penguins):
    def sources():
        path, query = "/topics/modelyard.events/partitions/0/records", {"limit": 1000, "offset": 0}
        answer = penguins.get(path, params=query)
        items = answer.json()["items"] if answer.status_code == 200 else []
        return {item["headers"].get("ce_source") for item in items}

    until(lambda: sources() >= {"/datasets", "/training", "/models"})
    actions = {row["action"] for row in ask(penguins, "GET", "/audit", 200)["items"]}
    assert {"dataset.created", "run.succeeded", "key.created"} <= actions, actions


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/datasets/none", 404, None),
        ("POST", "/models", 422, {"name": "No Name"}),
        ("POST", "/training-runs", 422, {"model": "m", "dataset": "none", "target": "t"}),
        ("POST", "/models/none/predict", 404, {"inputs": [{"a": 1}]}),
        ("POST", "/topics/none/records", 404, {"records": [{"value": 1}]}),
        ("POST", "/keys", 422, {"name": "nothing"}),
        ("GET", "/nothing", 404, None),
    ],
)
def test_what_can_not_be_is_told_as_a_problem(client, method, path, status, body):
    answer = client.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_the_contract_is_the_same_to_the_byte(installation, client):
    assert client.get(f"{installation.url}/openapi.yaml").text == DOCUMENT.read_text()


def test_no_service_can_read_the_tables_of_another(installation, request):
    if "alone" not in request.node.name:
        pytest.skip("they share their databases, or a user")
    urls = {
        name: make_url(server.environment[f"MODELYARD_{name.upper()}_DATABASE_URL"])
        for name, server in installation.servers.items()
    }
    for name, url in urls.items():
        for other in urls.keys() - {name}:
            engine = create_engine(url.set(database=urls[other].database))
            with pytest.raises(OperationalError, match="permission denied"):
                engine.connect()
