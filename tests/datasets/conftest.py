"""Installations for the tests of the datasets service: each test has a project of its own."""

import pytest

from tests.datasets.installation import Installation, make_dataset


@pytest.fixture(scope="session")
def sqlite_house(tmp_path_factory):
    """The service on SQLite, with an ingest that answers."""
    made = Installation(tmp_path_factory.mktemp("sqlite-house"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def postgres_house(tmp_path_factory, postgres_url):
    """The service on Postgres, with an ingest that answers."""
    made = Installation(tmp_path_factory.mktemp("postgres-house"), postgres_url())
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgres"])
def installation(request):
    """A project on SQLite, and one on Postgres."""
    return request.getfixturevalue(f"{request.param}_house").tenant()


@pytest.fixture
def on_sqlite(sqlite_house):
    """A project on SQLite: for what the database has no part in."""
    return sqlite_house.tenant()


@pytest.fixture
def client(on_sqlite):
    """A client of a dataset without versions."""
    client = on_sqlite.client()
    make_dataset(client)
    return client
