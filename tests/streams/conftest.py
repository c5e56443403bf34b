"""What all tests of streams share."""

from tests.training.conftest import sandbox

__all__ = ["sandbox"]
