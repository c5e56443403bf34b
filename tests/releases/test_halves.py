"""Two versions at once: tables grow before the code, and shrink after it; messages may tell more.

A version and the one before it run beside one another while servers are restarted one by one. The
newer one's migrations only add; what takes away is for the version after that.
"""

import shutil
from contextlib import closing
from itertools import pairwise

import pytest
from sqlalchemy import create_engine, text

from app.administration import examine
from app.config import Settings
from app.kernel import migrations
from app.kernel.migrations import (
    NewerDatabase,
    is_current,
    number_of,
    oldest_of,
    revision_of,
    serves,
    upgrade,
)
from app.kernel.sql import Database
from app.roles import run_migrations
from app.settings_table import SERVICES
from app.wiring import Wiring
from tests.releases.halves import breaks, expand, tables_of
from tests.server import Server
from tests.stories.main_job import main_job

HISTORIES = ("kernel", *SERVICES)
API = "/api/v1"
REVISION = '''"""later"""

import sqlalchemy as sa
from alembic import op

revision = "{name}"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    {change}
'''
THIS_CODE = migrations.migrations_folder
ADDS = 'op.add_column("models_models", sa.Column("later", sa.String(9), nullable=True))'
DROPS = """with op.batch_alter_table("models_models") as table:
        table.drop_column("later")"""
DROPS_TABLE = 'op.drop_table("models_aliases")'
EXPANSION, CONTRACTION = ("models_0002_from_0001", ADDS), ("models_0003_from_0002", DROPS)
VIEW = {"aggregate": {"measures": [{"name": "n", "function": "count"}]}}
NEW_THINGS = (
    ("projects", {"name": "other"}),
    ("datasets", {"name": "d"}),
    ("models", {"name": "m"}),
    ("topics", {"name": "t"}),
    ("consumer-groups", {"name": "g", "topic": "t"}),
    ("topics/t/records", {"records": [{"value": 1, "id": "a"}]}),
    ("lambda-views", {"name": "v", "kind": "aggregate", "topic": "t", **VIEW}),
)


@pytest.fixture
def code(tmp_path, monkeypatch):
    """Makes this code one that has so many revisions of the models' tables, the first included."""
    folder = tmp_path / "migrations"

    def have(*revisions):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(THIS_CODE(), folder)
        before = "models_0001"
        for name, change in revisions:
            made = REVISION.format(name=name, before=before, change=change)
            (folder / "models" / f"{name}_later.py").write_text(made)
            before = name
        monkeypatch.setattr(migrations, "migrations_folder", lambda: folder)

    return have


@pytest.mark.parametrize(
    ("revision", "works"),
    [
        ("models_0001", True),
        ("models_0002_from_0001", True),
        ("models_0003_from_0001", True),
        ("models_0002", False),
        ("models_0003_from_0002", False),
        ("models_9999", False),
        ("somebody", False),
        ("", False),
    ],
)
def test_a_database_says_which_code_it_is_good_for(revision, works):
    assert serves("models", revision) is works


def test_code_before_an_expansion_starts_on_it_and_code_before_a_contraction_does_not(
    database_url, code
):
    """A server of the version before could not be started again while the newer one came."""
    database = Database(database_url)
    code()
    upgrade(database, "models")
    code(EXPANSION)
    upgrade(database, "models")
    code()
    upgrade(database, "models")
    assert revision_of(database, "models") == EXPANSION[0]
    assert is_current(database, "models")
    code(EXPANSION, CONTRACTION)
    upgrade(database, "models")
    code(EXPANSION)
    upgrade(database, "models")
    assert revision_of(database, "models") == CONTRACTION[0]
    code()
    assert not is_current(database, "models")
    with pytest.raises(NewerDatabase, match="A newer version"):
        upgrade(database, "models")
    database.close()


def expand_all(databases):
    """Have a newer version add to the tables of all histories in them."""
    for database in databases:
        for history in HISTORIES:
            if (name := revision_of(database, history)) is not None:
                number = number_of(name)
                expand(database.engine, history, f"{history}_{int(number) + 1:04d}_from_{number}")


def test_this_version_works_on_tables_that_a_newer_one_has_added_to(yard):
    expand_all(yard.wiring.databases())
    run_migrations(yard.settings)
    assert [one.text for one in examine(yard.settings, repair=False) if not one.well] == []
    client = yard.client()
    for number, (path, body) in enumerate(NEW_THINGS):
        key = {"Idempotency-Key": f"key-{number}"}
        answers = [client.post(f"{API}/{path}", json=body, headers=key) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 201], answers[0].text
        assert answers[0].json == answers[1].json
    for path in ("projects", "keys", "models", "datasets", "topics", "events", "audit"):
        assert client.get(f"{API}/{path}").json["items"], path
    for path in ("lambda-views/v", "consumer-groups/g", "topics/t", "models/m", "datasets/d"):
        told = client.get(f"{API}/{path}")
        assert "later" not in told.text
        assert client.delete(f"{API}/{path}").status_code == 204, path


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_server_of_this_version_does_its_main_job_on_them(tmp_path):
    with Server(tmp_path / "home") as server:
        key = server.admin_key
    settings = Settings.from_environment({"MODELYARD_HOME": str(tmp_path / "home")})
    with closing(Wiring(settings)) as wiring:
        expand_all(wiring.databases())
    server.admin_key = key
    with server, server.client() as client:
        main_job(client, estimator={"name": "LogisticRegression"})


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ("ALTER TABLE things ADD COLUMN note VARCHAR(9)", []),
        ("ALTER TABLE things ADD COLUMN n INTEGER NOT NULL DEFAULT 1", []),
        ("CREATE TABLE more (id INTEGER PRIMARY KEY)", []),
        ("CREATE INDEX by_name ON things (name)", []),
        ("ALTER TABLE things DROP COLUMN name", ["things.name is gone"]),
        ("ALTER TABLE things RENAME TO others", ["things is gone"]),
        ("CREATE UNIQUE INDEX one_name ON things (name)", ["things refuses more: unique name"]),
    ],
)
def test_what_older_code_stumbles_over_is_found(database_url, change, wrong):
    engine = create_engine(database_url)
    made = "CREATE TABLE things (id INTEGER PRIMARY KEY, name VARCHAR(9), size INTEGER)"
    with engine.begin() as connection:
        connection.execute(text(made))
    before = tables_of(engine)
    with engine.begin() as connection:
        connection.execute(text(change))
    assert breaks(before, tables_of(engine)) == wrong
    engine.dispose()


def steps_of(history):
    """Each revision with the one before it, the oldest first."""
    script = migrations.ScriptDirectory.from_config(migrations.configuration(history))
    names = [one.revision for one in script.walk_revisions()][::-1]
    return list(pairwise(names))


def check_history(history, url):
    """Raise AssertionError for a revision that claims to be for older code, and isn't."""
    database = Database(url)
    config = migrations.configuration(history)

    def go(revision):
        with database.exclusive("migrations") as session:
            config.attributes["connection"] = session.connection()
            migrations.command.upgrade(config, revision)
        return tables_of(database.engine)

    for before, after in steps_of(history):
        old, new = go(before), go(after)
        assert oldest_of(after) >= oldest_of(before), f"{after} is for older code than {before}"
        if oldest_of(after) <= number_of(before):
            wrong = breaks(old, new)
            assert not wrong, f"{after} is no expansion: {', '.join(wrong)}"
    database.close()


@pytest.mark.parametrize("history", HISTORIES)
def test_what_is_said_to_be_for_older_code_only_adds(history, tmp_path):
    check_history(history, f"sqlite:///{tmp_path / 'steps.db'}")


@pytest.mark.parametrize(
    ("name", "change", "wrong"),
    [
        (*EXPANSION, None),
        ("models_0002", DROPS_TABLE, None),
        ("models_0002_from_0001", DROPS_TABLE, "models_aliases is gone"),
    ],
)
def test_a_revision_that_takes_away_must_say_so(code, tmp_path, name, change, wrong):
    code((name, change))
    if wrong is None:
        check_history("models", f"sqlite:///{tmp_path / 'steps.db'}")
        return
    with pytest.raises(AssertionError, match=wrong):
        check_history("models", f"sqlite:///{tmp_path / 'steps.db'}")
