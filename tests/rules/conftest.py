"""What several rules look at: an installation with one of everything, and the document."""

from pathlib import Path

import pytest
import yaml

from tests.rules.furnished import Furnished

SPEC = Path(__file__).resolve().parents[2] / "openapi.yaml"


@pytest.fixture(scope="module")
def furnished(tmp_path_factory):
    """A yard that has one of everything."""
    made = Furnished(tmp_path_factory.mktemp("furnished"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def spec():
    """The OpenAPI document as it is published."""
    return yaml.load(SPEC.read_text(), yaml.CSafeLoader)
