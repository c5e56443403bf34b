"""Services that have nothing in common but the network."""

import pytest

from tests.apart import Apart


@pytest.fixture
def apart(tmp_path):
    """Each service with a database of its own."""
    made = Apart(tmp_path)
    yield made
    made.close()
