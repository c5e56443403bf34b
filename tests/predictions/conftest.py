"""Yards with models to predict by."""

import pytest

from app.kernel.http.lane import Lane
from tests.predictions.predicting import Predicting


@pytest.fixture(scope="session")
def predicting(tmp_path_factory):
    """Over SQLite, for tests that only add predictions."""
    made = Predicting(tmp_path_factory.mktemp("predicting"))
    yield made
    made.close()


@pytest.fixture
def any_predicting(tmp_path, database_url):
    """A fresh one, over SQLite and over Postgres."""
    made = Predicting(tmp_path, database_url)
    yield made
    made.close()


@pytest.fixture(params=["short", "long"])
def either_way(request, monkeypatch):
    """Past Flask where the lane takes a request, and through Flask in any case."""
    if request.param == "long":
        monkeypatch.setattr(Lane, "_is_plain", lambda *_: False)
