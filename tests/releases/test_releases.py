"""What a release has left behind is opened by this one, and answers as it did then."""

import lzma
import sqlite3
import tempfile
import threading
from contextlib import closing
from pathlib import Path

import pytest
import sklearn
from click.testing import CliRunner
from prometheus_client import CollectorRegistry
from sqlalchemy import create_engine, inspect

from app.__main__ import main
from app.administration import examine
from app.config import Settings
from app.factory import create_app, own_version
from app.kernel.auth import new_key
from app.kernel.local_rpc import Server
from app.kernel.time_limit import TimeLimit
from app.predictions.scorer import Estimators, Scoring
from app.restore import restore
from app.roles import run_migrations
from app.wiring import Wiring
from tests.releases.make import FOLDER, RUNS

pytestmark = pytest.mark.fault("F32")
RELEASES = sorted(FOLDER.glob("*.tar.xz"))
MAKE = "make it anew, as long as it is not released: python -m tests.releases.make"


class Release:
    """The home of a release, restored and brought up to date, and a client of it."""

    def __init__(self, fixture: Path, home: Path) -> None:
        file = home.with_suffix(".tar")
        file.write_bytes(lzma.decompress(fixture.read_bytes()))
        environment = {"MODELYARD_HOME": str(home), "MODELYARD_LOG_LEVEL": "error"}
        self.settings = Settings.from_environment(environment, admin_key=new_key())
        restore(self.settings, file)
        run_migrations(self.settings)
        self.sockets = Path(tempfile.mkdtemp(prefix="my-"))
        (self.settings.instance / "sockets").write_text(str(self.sockets))
        self.wiring = Wiring(self.settings)
        self.client = create_app(self.settings, self.wiring).test_client()
        bearer = f"Bearer {self.settings.admin_key}"
        self.client.environ_base["HTTP_AUTHORIZATION"] = bearer
        registry = CollectorRegistry()
        self.estimators = Estimators(self.wiring.artifact_reader.open, 10**8, registry)
        handlers = Scoring(self.estimators, registry, TimeLimit(60)).handlers()
        self.scorer = Server(self.sockets / "scorer", handlers)
        threading.Thread(target=self.scorer.run, daemon=True).start()

    def get(self, path):
        answer = self.client.get(f"/api/v1{path}")
        assert answer.status_code == 200, answer.text
        return answer

    def predict(self, stored):
        """Ask anew what a stored prediction was asked."""
        body = {"inputs": stored["inputs"]}
        return self.client.post(f"/api/v1/models/{stored['model']}/predict", json=body)

    def stored(self):
        """The stored predictions, by model."""
        listed = self.get("/predictions").json["items"]
        return {item["model"]: self.get(f"/predictions/{item['id']}").json for item in listed}

    def close(self):
        self.scorer.stop()
        self.wiring.close()


@pytest.fixture(scope="module", params=RELEASES, ids=lambda path: path.name.split(".tar")[0])
def release(request, tmp_path_factory):
    made = Release(request.param, tmp_path_factory.mktemp("release") / "home")
    yield made
    made.close()


def tables_of(file):
    """Columns and indexes of each table, as far as they matter to the code."""
    engine = create_engine(f"sqlite:///{file}")
    found = {}
    for table in inspect(engine).get_table_names():
        columns = inspect(engine).get_columns(table)
        indexes = inspect(engine).get_indexes(table)
        found[table] = (
            sorted((each["name"], str(each["type"]), each["nullable"]) for each in columns),
            sorted(each["name"] for each in indexes),
        )
    engine.dispose()
    return found


def test_this_version_has_a_fixture():
    assert FOLDER / f"{own_version()}.tar.xz" in RELEASES, MAKE


def test_its_tables_are_those_of_a_new_home(release, sqlite_yard):
    new = tables_of(sqlite_yard.wiring.database("access").file)
    old = tables_of(release.wiring.database("access").file)
    assert {name: table for name, table in new.items() if old.get(name) != table} == {}, MAKE


def test_the_doctor_finds_nothing_wrong(release):
    assert [found.text for found in examine(release.settings, repair=False) if not found.well] == []


def test_all_is_there(release):
    assert {item["name"] for item in release.get("/models").json["items"]} == set(RUNS)
    parquet = {"Accept": "application/vnd.apache.parquet"}
    table = release.client.get("/api/v1/datasets/penguins/versions/1/content", headers=parquet)
    assert (table.status_code, table.data[:4], table.data[-4:]) == (200, b"PAR1", b"PAR1")
    runs = release.get("/training-runs").json["items"]
    assert [run["state"] for run in runs] == ["succeeded"] * len(RUNS)
    (batch,) = release.get("/batch-predictions").json["items"]
    assert release.get(f"/batch-predictions/{batch['id']}/content").data.count(b"\n") == 345
    assert {item["name"] for item in release.get("/projects").json["items"]} >= {"other"}
    assert release.get("/events").json["items"]


@pytest.mark.parametrize("model", RUNS)
def test_it_answers_as_it_did(release, model):
    stored = release.stored()[model]
    version = release.get(f"/models/{model}/versions/1").json
    then, now = (minor(found) for found in (version_of(version), sklearn.__version__))
    answer = release.predict(stored)
    if version["serving"]["engine"] == "compiled" or then == now:
        assert answer.status_code == 200, answer.text
        assert same(answer.json["outputs"], stored["outputs"])
    else:
        assert answer.json["type"] == "/problems/artifact-version-mismatch"


def same(now, then):
    """Whether answers are the same, but for how another processor rounds."""
    return [rounded(each) for each in now] == [rounded(each) for each in then]


def rounded(told):
    if isinstance(told, dict):
        return {name: rounded(value) for name, value in told.items()}
    return float(f"{told:.9g}") if isinstance(told, float) else told


def version_of(version):
    return version["lineage"]["library_versions"]["scikit-learn"]


def minor(version):
    return version.split(".")[:2]


def test_artifacts_of_another_scikit_learn_are_refused_by_name(release, monkeypatch):
    """Only what is not compiled needs it."""
    monkeypatch.setattr(sklearn, "__version__", "99.1.0")
    release.estimators._loaded.clear()
    stored = release.stored()
    refused = release.predict(stored["neighbours"])
    assert (refused.status_code, refused.json["type"]) == (
        409,
        "/problems/artifact-version-mismatch",
    )
    assert "train it again" in refused.json["detail"]
    compiled = release.predict(stored["compiled"])
    assert same(compiled.json["outputs"], stored["compiled"]["outputs"])


@pytest.mark.parametrize("command", ["migrate", "doctor"])
def test_a_database_of_a_newer_version_is_refused(tmp_path, command):
    """It ended with a traceback, and the doctor said to migrate."""
    home = str(tmp_path)
    assert CliRunner().invoke(main, ["migrate", "--home", home]).exit_code == 0
    file = tmp_path / "instance" / "modelyard.db"
    with closing(sqlite3.connect(file)) as opened:
        opened.execute("UPDATE alembic_version_models SET version_num = 'models_9999'")
        opened.commit()
    result = CliRunner().invoke(main, [command, "--home", home])
    assert (result.exit_code, "Traceback" in result.output) == (1, False)
    assert isinstance(result.exception, SystemExit)
    assert "A newer version of Modelyard has written" in result.output
