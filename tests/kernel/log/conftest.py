"""Each kind of record log, with one store for all tests of the contract."""

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.kernel.migrations import upgrade
from app.kernel.sql import Database
from tests.kernel.log.engines import NatsEngine, SqlEngine
from tests.nats import NatsCluster, NatsServer


def migrated(url):
    database = Database(url)
    upgrade(database, "kernel")
    database.close()
    return url


@pytest.fixture(scope="session")
def sqlite_engine(tmp_path_factory):
    engine = SqlEngine(migrated(f"sqlite:///{tmp_path_factory.mktemp('log') / 'log.db'}"))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def postgresql_engine(postgres_url):
    engine = SqlEngine(migrated(postgres_url()))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def nats_engine(tmp_path_factory):
    server = NatsServer(tmp_path_factory.mktemp("nats")).start()
    server.wait_until_ready()
    with nats_engine_at(f"nats://{server.address}", tmp_path_factory) as engine:
        yield engine
    server.kill()


@contextmanager
def nats_engine_at(url, tmp_path_factory):
    """Handles on a NATS, with an outbox of their own."""
    outbox = migrated(f"sqlite:///{tmp_path_factory.mktemp('outbox') / 'outbox.db'}")
    engine = NatsEngine(url, outbox)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Three NATS servers."""
    with NatsCluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture(scope="module")
def cluster_engine(cluster, tmp_path_factory):
    with nats_engine_at(cluster.url, tmp_path_factory) as engine:
        yield engine


LONG = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(params=["sqlite", "postgresql", "nats", pytest.param("cluster", marks=LONG)])
def engine(request):
    return request.getfixturevalue(f"{request.param}_engine")


@pytest.fixture
def log(engine):
    opened = engine.open()
    yield opened
    opened.close()


class Nursery:
    """Where processes are forked off; see ``processes``."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kernel.log.processes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
            text=True,
        )

    def start(self, engine, name, *arguments):
        """Start a task on an engine; its pid."""
        return self._ask([name, [engine.url, engine.database_url, *arguments]])

    def wait(self):
        """The pid and the status of the next one to end."""
        return self._ask(None)

    def _ask(self, what):
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        """No more."""
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


@pytest.fixture(scope="session")
def nursery():
    made = Nursery()
    yield made
    made.close()
