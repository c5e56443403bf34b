"""Yards that train, and one warm sandbox for all tests of a process."""

import pytest

from app.kernel.sandbox.parent import Sandbox
from app.roles import PRELOADS
from tests.training.running import Running


@pytest.fixture(scope="session")
def sandbox():
    """What runs the fits."""
    with Sandbox(preload=PRELOADS) as made:
        made.warm()
        yield made


@pytest.fixture
def running(tmp_path, database_url):
    """On SQLite and on Postgres."""
    made = Running(tmp_path / "home", database_url)
    yield made
    made.close()


@pytest.fixture
def sqlite_running(tmp_path):
    """On SQLite: for what the database has no part in."""
    made = Running(tmp_path / "home")
    yield made
    made.close()
