"""First starts at the same moment, and migrations that are killed on their way."""

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select

from app.access.tables import Key, Project
from app.kernel.migrations import is_current
from app.kernel.sql import Database
from app.settings_table import SERVICES
from tests.faults.rounds import rounds
from tests.server import NO_TLS, Server

KEY = re.compile(r"myk_\w{8}_[\w-]{43}")
HISTORIES = ("kernel", *SERVICES)


@pytest.fixture(scope="module")
def starters():
    """The process that starts others."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MODELYARD_")}
    command = [sys.executable, "-m", "tests.faults.migrating"]
    with subprocess.Popen(
        command,
        env=kept,
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()


def start(starters, home, url, count=1, **how):
    """Start so many at once over one database: their statuses, and what they said."""
    settings = {"MODELYARD_HOME": str(home), "MODELYARD_DATABASE_URL": url}
    order = {"settings": settings, "count": count, **how}
    starters.stdin.write(json.dumps(order) + "\n")
    starters.stdin.flush()
    ended = json.loads(starters.stdout.readline())
    return [status for status, _ in ended], "".join(said for _, said in ended)


def assert_made_once(url, histories=HISTORIES):
    with contextlib.closing(Database(url)) as database:
        assert [name for name in histories if not is_current(database, name)] == []
        with database.read() as session:
            assert session.scalar(select(func.count(Key.id))) == 1
            assert list(session.scalars(select(Project.project))) == ["default"]


@pytest.fixture
def fresh_urls(request, tmp_path):
    """A function that makes a fresh database: on SQLite, or on Postgres."""

    def fresh(number):
        if request.param == "sqlite":
            return f"sqlite:///{tmp_path}/{number}/test.db"
        return request.getfixturevalue("postgres_url")()

    return fresh


both = pytest.mark.parametrize("fresh_urls", ["sqlite", "postgresql"], indirect=True)


@both
@pytest.mark.fault("F19")
def test_of_several_first_starts_at_once_each_comes_up_and_one_shows_the_key(
    starters, fresh_urls, tmp_path
):
    for number in range(rounds(3, 50)):
        url = fresh_urls(number)
        statuses, said = start(starters, tmp_path / str(number), url, count=2 + number // 3 % 3)
        assert set(statuses) == {0}, said
        assert len(KEY.findall(said)) == 1
        assert "duplicate" not in said
        assert_made_once(url)


@both
@pytest.mark.fault("F32")
def test_a_migration_that_was_killed_before_its_end_is_made_by_the_next_start(
    starters, fresh_urls, tmp_path
):
    for number in range(rounds(3, 10)):
        home, url = tmp_path / str(number), fresh_urls(number)
        rule = f"migrations.upgraded=kill@{1 + (3 * number) % 10}"
        statuses, said = start(starters, home, url, faults=rule)
        assert statuses == [-9], said
        statuses, said = start(starters, home, url, count=2)
        assert statuses == [0, 0], said
        assert len(KEY.findall(said)) == 1
        assert_made_once(url)


@both
@pytest.mark.fault("F32")
def test_a_migration_that_was_killed_at_any_moment_is_made_by_the_next_start(
    starters, fresh_urls, tmp_path
):
    moments = random.Random(32)
    for number in range(rounds(2, 50)):
        home, url = tmp_path / str(number), fresh_urls(number)
        moment = moments.uniform(0.0, 0.6)
        start(starters, home, url, count=2, kill_after=moment)
        statuses, said = start(starters, home, url)
        assert statuses == [0], said
        assert_made_once(url)


@pytest.mark.fault("F19")
def test_a_start_waits_for_another_ones_long_migration(database_url):
    """It gave up after the wait for a lock, and a server did not start while another upgraded."""
    first, second = (Database(database_url, lock_timeout=0.2) for _ in range(2))
    begun, order = threading.Event(), []

    def migrate():
        with first.exclusive("migrations"):
            begun.set()
            time.sleep(1)
            order.append("first")

    migrating = threading.Thread(target=migrate)
    migrating.start()
    assert begun.wait(60)
    with second.exclusive("migrations"):
        order.append("second")
    migrating.join()
    assert order == ["first", "second"]
    first.close()
    second.close()


@pytest.mark.slow
@pytest.mark.fault("F19")
def test_two_servers_started_at_once_over_one_database_both_serve(postgres_url, tmp_path):
    environment = {
        "MODELYARD_DATABASE_URL": postgres_url(),
        "MODELYARD_ADMIN_KEY": "",
        "MODELYARD_SECRET": "s" * 40,
        "MODELYARD_SERVICES": "access",
        "MODELYARD_WORKERS": "0",
    }
    servers = [Server(tmp_path / name, environment) for name in "ab"]
    with ThreadPoolExecutor() as pool, contextlib.ExitStack() as running:
        for server in servers:
            running.push(server.__exit__)
        list(pool.map(Server.start, servers))
        (key,) = KEY.findall("".join(server.log() for server in servers))
        for server in servers:
            headers = {"Authorization": f"Bearer {key}"}
            told = httpx.get(f"{server.url}/api/v1/keys", headers=headers, verify=NO_TLS)
            assert [item["name"] for item in told.json()["items"]] == ["admin"]
    assert_made_once(environment["MODELYARD_DATABASE_URL"], ("kernel", "access"))
