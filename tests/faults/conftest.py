"""What does the work of several tests: worker processes, and a warm sandbox."""

import pytest

from app.kernel.sandbox.parent import Sandbox
from app.roles import PRELOADS
from tests.faults.workers import workers_of_module


@pytest.fixture(scope="module")
def workers():
    """Starts and kills real workers."""
    with workers_of_module() as made:
        yield made


@pytest.fixture(scope="module")
def sandbox():
    """What runs the fits of a worker in this process."""
    with Sandbox(preload=PRELOADS) as made:
        made.warm()
        yield made
