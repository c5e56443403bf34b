"""The same story, whether services share a process or nothing but the network."""

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import OperationalError

from app.settings_table import SERVICES
from tests.fleet import ALONE, COARSE, Fleet
from tests.stories.main_job import first_rows, main_job

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", params=["coarse", "alone"])
def fleet(request, tmp_path_factory, owned_postgres_url):
    """Two servers, or six; each service has a database and a user of its own on Postgres."""
    groups = COARSE if request.param == "coarse" else ALONE
    databases = {service: owned_postgres_url() for service in SERVICES}
    with Fleet(tmp_path_factory.mktemp("fleet"), groups, databases) as running:
        yield running


def test_a_table_becomes_a_prediction(fleet):
    with fleet.client() as client:
        main_job(client)
        refused = client.delete("/datasets/penguins")
        assert refused.status_code == 409, refused.text
        told = client.get("/events", params={"limit": 1000}).json()["items"]
        assert {event["source"] for event in told} >= {"/datasets", "/training", "/models"}


def test_no_service_can_read_the_tables_of_another(fleet):
    urls = {
        server.environment[f"MODELYARD_{name.upper()}_DATABASE_URL"]
        for name, server in fleet.servers.items()
    }
    assert len(urls) == len(SERVICES)
    models, training = (
        make_url(fleet.servers[name].environment[f"MODELYARD_{name.upper()}_DATABASE_URL"])
        for name in ("models", "training")
    )
    other = create_engine(models.set(database=training.database))
    with pytest.raises(OperationalError, match="permission denied"):
        other.connect()


def test_services_that_need_no_other_go_on_while_it_is_away(fleet):
    """The model service is killed: what is known of its models is enough to predict."""
    with fleet.client() as client:
        body = {"inputs": first_rows(1)}
        before = client.post("/models/penguins/predict", json=body)
        assert before.status_code == 200, before.text
        if fleet.servers["models"] is fleet.servers["datasets"]:
            pytest.skip("models share their process")
        fleet.servers["models"].kill()
        answer = client.post("/models/penguins/predict", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["outputs"] == before.json()["outputs"]
        assert client.get("/datasets").status_code == 200
        away = client.get("/models")
        assert away.status_code == 503
        assert away.headers["Retry-After"]
        fleet.servers["models"].start()
        assert client.get("/models").status_code == 200
