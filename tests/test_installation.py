"""The doctor looks at services that live apart: what is wrong is found, each with what to do."""

import json
import shutil
import threading
from datetime import timedelta
from functools import partial

import pytest
from click.testing import CliRunner
from flask import Flask, jsonify
from sqlalchemy import text
from werkzeug.serving import make_server

from app.__main__ import main
from app.config import Settings
from app.installation import examine_installation
from app.kernel.sql import utc_now
from app.settings_table import SERVICES
from tests.apart import Apart, Service
from tests.server import free_port

OTHER_SECRET = "another secret of at least 32 characters"


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """Each service with a database of its own."""
    made = Apart(tmp_path_factory.mktemp("apart"))
    yield made
    made.close()


@pytest.fixture
def environment(apart):
    """What an operator has who looks at them from a machine of his own."""
    return {
        "MODELYARD_HOME": str(apart.home / "nowhere"),
        "MODELYARD_SECRET": "s" * 40,
        "MODELYARD_STORE_URL": f"file://{apart.home}/store",
        **{f"MODELYARD_{n.upper()}_URL": url_of(s) for n, s in apart.services.items()},
    }


def url_of(service):
    return f"http://127.0.0.1:{service.settings.port}"


def examined(environment, **changes):
    settings = Settings.from_environment({**environment, **changes})
    return list(examine_installation(settings))


def bad(findings):
    """What is wrong, each with what to do."""
    found = [finding for finding in findings if not finding.well]
    assert all(finding.advice for finding in found), found
    return [f"{finding.text}: {finding.advice}" for finding in found]


@pytest.fixture
def another(apart):
    """Starts one more server of a service, with settings of its own, and ends it."""
    started = []

    def start(name, **changes):
        settings = apart.services[name].settings.with_(port=free_port(), **changes)
        started.append(Service(settings))
        return url_of(started[-1])

    yield start
    for service in started:
        service.stop()
        service.wiring.close()


def test_an_installation_that_is_well(environment, apart):
    found = examined(environment)
    assert bad(found) == []
    told = [finding.text for finding in found]
    for name in SERVICES:
        assert f"{name}: migrations of {name}" in told
        assert f"{name}: the artifact store is shared" in told
        assert f"{name}: its clock agrees with ours" in told
    assert "training: training asks datasets" in told
    assert "training: training asks streams" not in told
    assert "all are of version" in told[-1]
    assert not (apart.home / "nowhere").exists(), "looking from outside has made something"
    assert list((apart.home / "store").glob("doctor/*")) == []


def test_a_service_that_is_away_is_missed_by_the_doctor_and_by_those_who_ask_it(environment, apart):
    apart.services["models"].stop()
    try:
        found = bad(examined(environment))
    finally:
        apart.services["models"].start()
    assert any(line.startswith("models: http") and "start it" in line for line in found)
    assert any(line.startswith("training: training asks models") for line in found)
    assert not any(line.startswith("models: models") for line in found)


def test_an_address_that_leads_elsewhere(environment, apart):
    wrong = url_of(apart.services["training"])
    found = bad(examined(environment, MODELYARD_MODELS_URL=wrong))
    assert found == [f"models: at {wrong} is a server of training: mend MODELYARD_MODELS_URL"]


def test_a_service_with_another_secret(environment, another):
    url = another("models", secret=OTHER_SECRET)
    (found, *_) = bad(examined(environment, MODELYARD_MODELS_URL=url))
    assert found == (
        "models: it has another secret than there is here: "
        "give all services the same MODELYARD_SECRET"
    )


def test_a_store_that_is_not_shared_and_one_that_can_not_be_written(environment, another, tmp_path):
    url = another("models", store_url=f"file://{tmp_path}")
    found = bad(examined(environment, MODELYARD_MODELS_URL=url))
    assert len(found) == 1
    assert found[0].startswith("models: the artifact store is shared:")
    url = another("models", store_url=f"file://{tmp_path}/away")
    shutil.rmtree(tmp_path / "away")
    (tmp_path / "away").write_text("no folder")
    found = bad(examined(environment, MODELYARD_MODELS_URL=url))
    assert found[0].startswith("models: not ready: store:")
    assert any(line.startswith("models: artifact store:") for line in found)


def test_a_database_that_is_behind_and_one_that_is_ahead(environment, apart):
    database = apart.services["models"].wiring.database("models")

    def set_version(value):
        with database.write() as session:
            session.execute(text(f"UPDATE alembic_version_models SET version_num='{value}'"))

    with database.read() as session:
        head = session.scalar(text("SELECT version_num FROM alembic_version_models"))
    try:
        set_version("models_9999")
        ahead = bad(examined(environment))
        with database.write() as session:
            session.execute(text("DELETE FROM alembic_version_models"))
        behind = bad(examined(environment))
    finally:
        with database.write() as session:
            session.execute(text("DELETE FROM alembic_version_models"))
            session.execute(text(f"INSERT INTO alembic_version_models VALUES ('{head}')"))
    assert len(ahead) == len(behind) == 1
    assert "models: migrations of models: A newer version" in ahead[0]
    assert "migrations of models are missing: run `modelyard migrate`" in behind[0]


@pytest.mark.parametrize(("by", "way"), [(timedelta(hours=1), "ahead"), (-timedelta(1), "behind")])
def test_a_clock_that_is_wrong(environment, monkeypatch, by, way):
    monkeypatch.setattr("app.examination.utc_now", lambda: utc_now() + by)
    found = bad(examined(environment))
    assert len(found) == len(SERVICES)
    assert way in found[0]
    assert found[0].endswith("set both clocks by NTP")


@pytest.mark.parametrize(
    ("version", "level"), [("0.2.0", "note"), ("0.3.1", "bad"), ("1.1.0", "bad"), ("own", "bad")]
)
def test_versions_may_differ_by_one_while_an_upgrade_goes_on(
    environment, another, monkeypatch, version, level
):
    monkeypatch.setattr("app.factory.own_version", lambda: version)
    url = another("models")
    last = examined(environment, MODELYARD_MODELS_URL=url)[-1]
    assert (last.level, f"{version}: models" in last.text) == (level, True)


def test_a_service_that_knows_no_address_of_one_that_it_asks(environment, another, apart):
    urls = {n: (url_of(s),) for n, s in apart.services.items() if n != "datasets"}
    url = another("training", peer_urls=urls)
    (found,) = bad(examined(environment, MODELYARD_TRAINING_URL=url))
    assert found == (
        "training: training does not know where datasets is: set MODELYARD_DATASETS_URL for it"
    )


def examined_beside(environment, pages):
    """What is found where such pages are at the address of models."""
    app = Flask("something else")
    for path, page in pages.items():
        app.add_url_rule(path, path, partial(jsonify, page))
    port = free_port()
    server = make_server("127.0.0.1", port, app, threaded=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        return examined(environment, MODELYARD_MODELS_URL=f"http://127.0.0.1:{port}")
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("page", [[], {"checks": []}, {"services": "models"}, "hello", None])
def test_what_answers_like_no_server_of_ours_is_told(environment, page):
    """The doctor ended with a traceback, and looked at none of the others."""
    pages = dict.fromkeys(("/livez", "/readyz", "/api/v1/examination"), page)
    found = examined_beside(environment, pages)
    assert any("models: /readyz: ValidationError" in line for line in bad(found))
    assert any("doesn't answer as a server of ours does" in line for line in bad(found))
    assert any("streams: its clock agrees" in finding.text for finding in found)


def test_a_server_that_lets_in_anybody_is_told(environment):
    """The keys of services must open no more than they say."""
    told = {"version": "0.1.0", "services": ["models"], "time": utc_now().isoformat()}
    pages = {
        "/api/v1/examination": {**told, "findings": []},
        "/livez": {},
        "/readyz": {"checks": {}},
    }
    found = bad(examined_beside(environment, pages))
    assert any("models: lets in a token that lacks the scope" in line for line in found)
    assert any("models: lets in a token of another secret" in line for line in found)


def test_each_server_of_a_service_is_looked_at(environment, apart):
    url, away = url_of(apart.services["models"]), f"http://127.0.0.1:{free_port()}"
    (found,) = bad(examined(environment, MODELYARD_MODELS_URL=f"{url},{away}"))
    assert f"models: {away} can't be reached" in found


def test_without_the_secret_nothing_is_made(environment, apart):
    found = examined(environment, MODELYARD_SECRET="")
    assert bad(found) == ["secret: there is none here: set MODELYARD_SECRET to that of all"]
    assert not (apart.home / "nowhere").exists()


def test_without_an_address_nothing_is_called_well():
    assert bad(examine_installation(Settings.from_environment({}))) == [
        "no service has a URL here: set MODELYARD_ACCESS_URL and the others"
    ]


def test_what_is_not_looked_at_is_told(environment):
    found = examined(environment, MODELYARD_STORE_URL="", MODELYARD_STREAMS_URL="")
    notes = [finding.text for finding in found if finding.level == "note"]
    assert notes == ["not looked at: streams", "whether all share one artifact store isn't seen"]
    assert bad(found) == []


def test_the_command_tells_it_as_json_and_by_its_status(environment, apart):
    def run(*options, **changes):
        runner = CliRunner(env={**environment, **changes})
        return runner.invoke(main, ["doctor", "--remote", *options])

    done = run("--json")
    document = json.loads(done.stdout)
    assert (done.exit_code, document["well"]) == (0, True)
    assert {"level": "ok", "text": "models: database of models", "advice": ""} in document[
        "findings"
    ]
    done = run(MODELYARD_MODELS_URL=url_of(apart.services["training"]))
    assert done.exit_code == 1
    line = next(line for line in done.stdout.splitlines() if line.startswith("BAD "))
    assert line.endswith("is a server of training: mend MODELYARD_MODELS_URL")
