"""A line of the log is one line, holds no credential, and hides nothing from who reads it."""

import json

import pytest
import structlog

from app.kernel.auth import make_peer_token, new_key
from app.kernel.logs import configure_logs
from app.kernel.signing import KeyRing

FORGED = [
    "a\n2030-01-01 [info] forged",
    "a\r\nforged",
    "\x1b[2Jforged",
    "\x9b31mforged",
    "a\u2028forged",
    "a\x85forged",
    "\u202eforged",
    "\x00forged",
]


@pytest.fixture
def written(capsys):
    """A function that logs something and returns what was written."""

    def write(*, as_json, **told):
        structlog.reset_defaults()
        configure_logs("info", as_json=as_json, role="test")
        structlog.get_logger("test").info("request", **told)
        return capsys.readouterr().err

    yield write
    structlog.reset_defaults()


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("path", FORGED)
def test_a_value_stays_within_its_line(written, as_json, path):
    text = written(as_json=as_json, path=path)
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()
    if as_json:
        assert json.loads(text)["path"] == path


@pytest.mark.parametrize("as_json", [True, False])
def test_credentials_are_cut_to_what_may_be_shown(written, as_json):
    key = new_key()
    token = make_peer_token(
        KeyRing(["s" * 32]), service="a", project="b", scopes=frozenset(), lifetime=1
    )
    text = written(as_json=as_json, path=f"/keys/{key}", error=f"no {token} here, {key}")
    assert key[13:] not in text
    assert token[10:30] not in text
    assert key[:13] in text
    assert "here" in text


def test_a_traceback_holds_no_key_either(written):
    key = new_key()
    text = written(as_json=True, exc_info=ValueError(f"not {key}"))
    assert "ValueError" in text
    assert key[13:] not in text
