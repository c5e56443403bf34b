"""Installations with processors."""

import pytest

from tests.streams.processors.installation import Streaming


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
