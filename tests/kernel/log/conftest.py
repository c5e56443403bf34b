"""Each kind of record log, with one store for all tests of the contract."""

import pytest

from app.kernel.migrations import upgrade
from app.kernel.sql import Database
from tests.kernel.log.engines import SqlEngine


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


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request):
    return request.getfixturevalue(f"{request.param}_engine")


@pytest.fixture
def log(engine):
    opened = engine.open()
    yield opened
    opened.close()
