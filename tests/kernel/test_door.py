"""What the door does with the bodies of those whom it refuses."""

import io
import re

import pytest
from prometheus_client import CollectorRegistry
from werkzeug.test import EnvironBuilder, run_wsgi_app

from app.kernel.admission import Admission
from app.kernel.http.door import Door
from app.kernel.slots import Slots

PATH = "/api/v1/models/fast/predict"


def never(environ, start_response):
    raise AssertionError("let in")


@pytest.fixture
def slots():
    return Slots(1, "request bodies")


@pytest.fixture
def refused(slots):
    """A function that sends a body of so many bytes where there is no place, and what is unread."""
    admission = Admission(1, 0, 1.0, CollectorRegistry())
    admission.enter()
    door = Door(never, admission, re.compile(re.escape(PATH)), slots)

    def send(size):
        body = io.BytesIO(b"x" * size)
        builder = EnvironBuilder(PATH, method="POST", input_stream=body, content_length=size)
        _, status, headers = run_wsgi_app(door, builder.get_environ())
        assert status.startswith("503")
        assert headers["Retry-After"]
        return size - body.tell()

    return send


@pytest.mark.parametrize(("size", "unread"), [(8000, 8000), (8193, 0), (10**6, 0)])
def test_a_body_that_the_server_has_not_got_yet_is_read_so_that_the_connection_stays(
    refused, size, unread
):
    """Each refusal of a longer body ended its connection: clients came back with a new one."""
    assert refused(size) == unread
    assert refused(size) == unread


def test_a_long_body_is_not_read_to_be_thrown_away(refused):
    assert refused(2_000_001) == 2_000_001


def test_a_refusal_waits_for_no_place_to_read_its_body(refused, slots):
    slots.take()
    assert refused(10_000) == 10_000
    slots.give_back()
    assert refused(10_000) == 0
