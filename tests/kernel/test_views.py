"""What the kernel's decorators give a view: any of several scopes, its own status, an optional
body; and that a request within a request is one of its own."""

from typing import Any, ClassVar

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask.views import MethodView
from marshmallow import fields
from prometheus_client import CollectorRegistry
from sqlalchemy import select

from app.access.tables import Project
from app.kernel.auth import make_peer_token, secured
from app.kernel.changes import Accepted, Changes, Created
from app.kernel.http.api import Api, Blueprint, current_call
from app.kernel.http.fields import Input, Output
from app.kernel.http.gate import Gate
from app.kernel.http.problems import register_problems
from app.kernel.peers import Peer
from tests.yard import Yard


class Said(Input):
    """A body that may be left out."""

    body_optional: ClassVar[bool] = True

    text = fields.String(load_default="nothing")


class Answer(Output):
    """What a view was told, and by whom."""

    text = fields.String()
    key_id = fields.String()


class Thing:
    """A resource."""

    etag, subject = "1", "things/1"

    def __init__(self, text: str) -> None:
        self.text = text
        self.key_id = current_call().key_id


def _blueprint(yard: Yard) -> Blueprint:
    blp = Blueprint("access", __name__)
    changes = Changes(yard.wiring.database("access"), "access")

    @blp.route("/api/v1/things")
    class Things(MethodView):
        @secured("models:read", "models:register")
        @blp.arguments(Said, required=False)
        @blp.creates(200, Answer)
        def post(self, body: dict[str, Any]) -> Any:
            """Make a thing"""
            kinds = {"new": Created, "later": Accepted}
            thing = kinds.get(body["text"], lambda made: made)(Thing(body["text"]))
            with changes.begin(current_call()) as change:
                change.session.scalar(select(Project))
                change.answer(thing)
            return thing

    @blp.route("/api/v1/outer")
    class Outer(MethodView):
        @secured("models:read")
        @blp.arguments(Said)
        @blp.response(200, Answer)
        def post(self, body: dict[str, Any]) -> Any:
            """Ask another service on the way"""
            peer = Peer("things", caller="outer", keys=yard.wiring.ring, app=lambda: yard.inner)
            inner = {"text": "inner"}
            asked = peer.ask(current_call(), "POST", "/things", scope="models:register", json=inner)
            assert asked.json == {"text": "inner", "key_id": "peer:outer"}
            return {"text": body["text"], "key_id": current_call().key_id}

    return blp


@pytest.fixture
def views(tmp_path) -> Any:
    """A client of the two views."""
    yard = Yard(tmp_path, services=("access",))
    app = Flask("test", static_folder=None)
    app.config |= {"API_TITLE": "t", "API_VERSION": "1", "OPENAPI_VERSION": "3.1.0"}
    api = Api(app)
    register_problems(app)
    app.extensions["idempotency"] = {"access": yard.wiring.idempotency("access")}
    api.register_blueprint(_blueprint(yard))
    wiring = yard.wiring
    Gate(api.operations, wiring.authenticator, wiring.denials, CollectorRegistry()).register(app)
    yard.app, yard.inner = app, app.wsgi_app
    yield yard
    yard.close()


def _with(views: Yard, *scopes: str) -> FlaskClient:
    token = make_peer_token(
        views.wiring.ring, service="t", project="default", scopes=frozenset(scopes), lifetime=60
    )
    return views.client(token)


@pytest.mark.parametrize(
    ("scope", "status"),
    [("models:read", 200), ("models:register", 200), ("models:write", 403)],
)
def test_any_of_a_views_scopes_lets_the_caller_in(views: Yard, scope: str, status: int) -> None:
    answer = _with(views, scope).post("/api/v1/things", json={})
    assert answer.status_code == status
    assert status == 200 or answer.json["scope"] == "models:read"


@pytest.mark.parametrize(("text", "status"), [("new", 201), ("later", 202), ("old", 200)])
def test_a_result_brings_its_own_status_also_when_it_is_repeated(
    views: Yard, text: str, status: int
) -> None:
    client, key = _with(views, "models:read"), {"Idempotency-Key": "k"}
    for _ in range(2):
        answer = client.post("/api/v1/things", json={"text": text}, headers=key)
        assert answer.status_code == status
        assert answer.headers.get("Location") == ("/api/v1/things/1" if status > 200 else None)
    assert answer.headers["Idempotent-Replayed"] == "true"


def test_a_body_that_is_optional_may_be_left_out_but_not_mislabelled(views: Yard) -> None:
    client, key = _with(views, "models:read"), {"Idempotency-Key": "k"}
    assert client.post("/api/v1/things", headers=key).json["text"] == "nothing"
    labelled = client.post("/api/v1/things", data="text=a", content_type="text/plain")
    assert labelled.status_code == 415
    reused = client.post("/api/v1/things", json={"text": "other"}, headers=key)
    assert reused.status_code == 422


def test_a_request_within_a_request_leaves_the_outer_one_alone(views: Yard) -> None:
    answer = _with(views, "models:read").post("/api/v1/outer", json={"text": "outer"})
    assert answer.status_code == 200, answer.text
    assert answer.json == {"text": "outer", "key_id": "peer:t"}
