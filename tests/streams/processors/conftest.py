"""Installations with processors."""

import pytest

from tests.nats import NatsServer
from tests.streams.processors.installation import Streaming

LONG = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=LONG), pytest.param("nats", marks=LONG)]
)
def stores(request, tmp_path):
    """Where the rows and the records of an installation lie, as a yard is told."""
    if request.param != "nats":
        kind = request.param
        yield {
            "database_url": request.getfixturevalue("postgres_url")() if kind != "sqlite" else ""
        }
        return
    server = NatsServer(tmp_path / "nats").start()
    server.wait_until_ready()
    yield {"log_url": f"nats://{server.address}"}
    server.kill()


@pytest.fixture
def streaming(sqlite_yard):
    """Over SQLite."""
    made = Streaming(sqlite_yard)
    yield made
    made.close()


@pytest.fixture
def any_streaming(yard):
    """Over SQLite and over Postgres."""
    made = Streaming(yard)
    yield made
    made.close()
