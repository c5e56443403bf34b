"""What other services say of a model, over REST: believed only when it is an answer."""

from typing import Any
from urllib.parse import parse_qs

import pytest

from app.kernel.auth import Call
from app.kernel.errors import Unavailable
from app.kernel.peers import Peer
from app.kernel.signing import KeyRing
from app.models.peers import PeerReferrer
from app.models.ports import Reference
from app.settings_table import SERVICES
from tests.models.modelyard import API, Modelyard

RING = KeyRing(["s" * 40])
CALL = Call("default", "testtest", frozenset(), "test-request")
BODY = b'{"items": [{"subject": "training-runs/1", "state": "running", "reason": "It fits"}]}'


class Training:
    """A service that answers as a test says, and remembers what it was asked."""

    def __init__(self, status: str = "200 OK", body: bytes = BODY) -> None:
        self.status, self.body = status, body
        self.asked: list[tuple[str, dict[str, list[str]]]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.asked.append((environ["PATH_INFO"], parse_qs(environ["QUERY_STRING"])))
        start_response(self.status, [("Content-Type", "application/json")])
        return [self.body]

    def peer(self) -> Peer:
        """The service as models see it."""
        return Peer("training", caller="models", keys=RING, app=lambda: self)


def test_a_referrer_says_what_refers() -> None:
    training = Training()
    found = PeerReferrer(training.peer()).references(CALL, "penguins", 3)
    assert found == [Reference("training", "training-runs/1", "running", "It fits")]
    path = f"{API}/references/training"
    assert training.asked == [(path, {"model": ["penguins"], "version": ["3"]})]


def test_who_names_whole_models_is_not_asked_about_a_version() -> None:
    training = Training()
    referrer = PeerReferrer(training.peer(), whole_models_only=True)
    assert referrer.references(CALL, "penguins", 3) == []
    assert len(referrer.references(CALL, "penguins", None)) == 1
    assert [query for _, query in training.asked] == [{"model": ["penguins"]}]


def test_who_may_mean_a_version_by_the_bare_name_is_told_which_that_is() -> None:
    streams = Training()
    referrer = PeerReferrer(streams.peer(), tells_default=True)
    referrer.references(CALL, "penguins", 3, is_default=True)
    referrer.references(CALL, "penguins", 2)
    asked = [query.get("is_default") for _, query in streams.asked]
    assert asked == [["true"], None]


@pytest.mark.parametrize("status", ["404 Not Found", "403 Forbidden", "422 X", "500 X", "503 X"])
def test_whatever_is_no_answer_means_that_nobody_knows(status: str) -> None:
    training = Training(status, b"{}")
    with pytest.raises(Unavailable, match="can't say what refers to penguins"):
        PeerReferrer(training.peer()).references(CALL, "penguins", None)


def test_a_model_is_deleted_where_all_services_are_at_home(tmp_path: Any) -> None:
    yard = Modelyard(tmp_path, services=SERVICES)
    yard.app.extensions["models"] = yard.wiring.models
    yard.register()
    yard.register()
    assert yard.client().delete(f"{API}/models/penguins/versions/1").status_code == 204
    assert yard.client().delete(f"{API}/models/penguins").status_code == 204
    assert yard.stored_keys() == []
    yard.close()
