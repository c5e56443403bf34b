"""Services that have nothing in common but the network."""

import pytest

from tests.apart import Apart


@pytest.fixture
def apart(tmp_path):
    """Each service with a database of its own."""
    made = Apart(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def apart_for_all(tmp_path_factory):
    """The same, for all tests of a file."""
    made = Apart(tmp_path_factory.mktemp("apart"))
    yield made
    made.close()
