"""One address before services that live apart: nginx, with the configuration written for it."""

import json

import httpx
import pytest

from app.config import Settings
from app.factory import create_app
from app.gateway import examine_gateway, write_gateway
from app.kernel.http.pages import spec_of
from app.settings_table import SERVICES, SettingsError
from tests.nginx import Nginx
from tests.ports import free_port

CSV = "species,mass\n" + "Adelie,3750\nGentoo,5200\n" * 50


@pytest.fixture(scope="module")
def apart(apart_for_all):
    """All tests share them."""
    return apart_for_all


@pytest.fixture(scope="module")
def gateway(apart, tmp_path_factory):
    """The address of nginx before the services."""
    folder, port = tmp_path_factory.mktemp("gateway"), free_port()
    settings = apart.services["access"].settings
    made = write_gateway(settings, folder, f"127.0.0.1:{port}")
    with Nginx(made, f"http://127.0.0.1:{port}"):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def client(apart, gateway):
    headers = {"Authorization": f"Bearer {apart.admin_key}"}
    with httpx.Client(base_url=gateway + "/api/v1", headers=headers, timeout=30) as made:
        yield made


def test_each_route_is_answered_by_its_service(apart, client):
    """Also a route of one service that lies below another's paths."""
    made = client.post("/datasets", json={"name": "penguins"})
    assert made.status_code == 201
    put = client.post(
        "/datasets/penguins/versions", content=CSV, headers={"Content-Type": "text/csv"}
    )
    assert put.status_code == 201, put.text
    assert client.get("/datasets/penguins/versions/1").json()["state"] == "succeeded"
    assert client.post("/models", json={"name": "m"}).status_code == 201
    refused = client.post("/models/m/predict", json={"inputs": [{"mass": 1}]})
    assert refused.status_code == 404
    assert "version" in refused.json()["detail"]
    for path in ("/training-runs", "/batch-predictions", "/predictions", "/keys", "/topics"):
        assert client.get(path).status_code == 200, path


def test_the_contract_is_that_of_all_services_in_one_process(apart, gateway):
    settings = Settings.from_environment({"MODELYARD_HOME": str(apart.home / "whole")})
    whole = json.loads(json.dumps(spec_of(create_app(settings))))
    assert httpx.get(f"{gateway}/openapi.json").json() == whole
    assert httpx.get(f"{gateway}/openapi.yaml").text.endswith("openapi: 3.1.0\n")
    assert "swagger-ui" in httpx.get(f"{gateway}/docs").text


@pytest.mark.parametrize(
    "path",
    [
        "/keys/aaaaaaaa/record",
        "/references/training",
        "/models/m/state",
        "/examination",
        "/nothing",
    ],
)
def test_what_peers_ask_of_one_another_is_not_there(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "instance" not in answer.json(), "a service has answered"


def test_a_service_that_is_away_is_a_problem_of_its_own_paths_only(apart, client):
    apart.services["models"].stop()
    try:
        answer = client.get("/models")
        assert answer.status_code == 503
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.headers["Retry-After"] == "1"
        assert answer.json()["retryable"] is True
        assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
        named = client.get("/models", headers={"X-Request-Id": "mine"})
        assert named.json()["request_id"] == "mine"
        assert client.get("/datasets").status_code == 200
    finally:
        apart.services["models"].start()
    assert client.get("/models").status_code == 200


def test_the_doctor_sees_that_it_leads_to_each_service(gateway):
    (found,) = examine_gateway(gateway)
    assert (found.level, found.text) == ("ok", f"the gateway at {gateway} leads to each service")


def test_the_doctor_sees_where_it_leads_astray(apart, tmp_path):
    """A configuration of another version, or written by hand: paths of others, and of peers."""
    port = free_port()
    settings = apart.services["access"].settings
    made = write_gateway(settings, tmp_path, f"127.0.0.1:{port}")
    lines = made.read_text().replace("location /api/v1/models {", "location /api/v1/modells {")
    hidden = [line for line in lines.splitlines() if "examination" not in line]
    passed = "    location /api/v1/examination { proxy_pass http://models; }\n    location / {"
    made.write_text("\n".join(hidden).replace("    location / {", passed) + "\n")
    with Nginx(made, f"http://127.0.0.1:{port}"):
        found = list(examine_gateway(f"http://127.0.0.1:{port}"))
    assert {finding.text for finding in found} == {
        "gateway: /api/v1/examination is for services only, and is passed on",
        "gateway: /api/v1/models does not lead to models: 404",
    }
    (away,) = examine_gateway(f"http://127.0.0.1:{port}")
    assert away.advice == "start nginx, or mend --gateway"


def test_of_two_servers_of_a_service_one_may_be_away(apart, tmp_path):
    settings = apart.services["access"].settings
    url, away = settings.peer_urls["models"][0], f"http://127.0.0.1:{free_port()}"
    both = settings.with_(peer_urls={**settings.peer_urls, "models": (away, url)})
    port = free_port()
    made = write_gateway(both, tmp_path, f"127.0.0.1:{port}")
    headers = {"Authorization": f"Bearer {apart.admin_key}"}
    with (
        Nginx(made, f"http://127.0.0.1:{port}"),
        httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", headers=headers) as client,
    ):
        for number in range(6):
            made_now = client.post("/models", json={"name": f"replicated-{number}"})
            assert made_now.status_code == 201, made_now.text


@pytest.mark.parametrize("urls", ["http://a:1,", "http://a:1,nonsense", "http://a:1,https://b:2"])
def test_replicas_that_are_none_are_refused(urls):
    with pytest.raises(SettingsError, match="MODELYARD_MODELS_URL"):
        Settings.from_environment({"MODELYARD_MODELS_URL": urls})


def test_a_service_without_an_address_is_named(tmp_path):
    with pytest.raises(SettingsError, match=f"MODELYARD_{SERVICES[0].upper()}_URL"):
        write_gateway(Settings.from_environment({}), tmp_path, "127.0.0.1:1")
