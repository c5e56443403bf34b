"""A fresh yard for each test: on SQLite, or once on each database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models.modelyard import Modelyard


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Modelyard]:
    """Over SQLite."""
    yard = Modelyard(tmp_path)
    yield yard
    yard.close()


@pytest.fixture
def any_yard(tmp_path: Path, database_url: str) -> Iterator[Modelyard]:
    """Over SQLite, then over Postgres."""
    yard = Modelyard(tmp_path, database_url)
    yield yard
    yard.close()


@pytest.fixture(scope="module")
def shared_yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Modelyard]:
    """Over SQLite, for tests that change nothing; it has ``penguins`` with a version."""
    yard = Modelyard(tmp_path_factory.mktemp("yard"))
    yard.register()
    yield yard
    yard.close()
