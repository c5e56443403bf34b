"""A newer version beside an older one: what services tell each other may hold more than is known.

Every message between services gets members that nobody knows, in questions and in answers, at the
top and in the objects of lists; nothing may come out otherwise than without them.
"""

import io
import json

import pytest

from app.kernel.auth import PEER_PREFIX
from tests.apart import Apart
from tests.stories.test_deletion_apart import CSV, referrers, register, train

UNKNOWN = {"told_by_a_newer_one": {"a": [1, None]}, "more": "text"}
# CloudEvents has no other names, and no objects, for what an event may tell besides.
EXTENSION = {"more": "text", "newer": 7}


def with_more(told):
    """The same with unknown members."""
    if isinstance(told, list):
        return [with_more(one) for one in told]
    if isinstance(told, dict):
        more = UNKNOWN
        if "specversion" in told:
            more = EXTENSION | {"data": told["data"] | UNKNOWN}
        return {name: with_lists(value) for name, value in told.items()} | more
    return told


def with_lists(value):
    """Objects of a list are records; an object by itself may be a mapping, where names are data."""
    return with_more(value) if isinstance(value, list) else value


class Newer:
    """An app whose peers tell it more, and which tells them more."""

    def __init__(self, app):
        self._app = app
        self.changed = 0

    def __call__(self, environ, start_response):
        if not environ.get("HTTP_AUTHORIZATION", "").startswith(f"Bearer {PEER_PREFIX}"):
            return self._app(environ, start_response)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if body:
            body = json.dumps(with_more(json.loads(body))).encode()
            environ["wsgi.input"] = io.BytesIO(body)
            environ["CONTENT_LENGTH"] = str(len(body))
        answered = {}

        def remember(status, headers, *_):
            answered.update(status=status, headers=headers)

        content = b"".join(self._app(environ, remember))
        headers = dict(answered["headers"])
        if "json" in headers.get("Content-Type", "") and content:
            content = json.dumps(with_more(json.loads(content))).encode()
            headers["Content-Length"] = str(len(content))
            self.changed += 1
        start_response(answered["status"], list(headers.items()))
        return [content]


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """Services apart between which every message has been told more."""
    made = Apart(tmp_path_factory.mktemp("apart"))
    for service in made.services.values():
        service.app.wsgi_app = Newer(service.app.wsgi_app)
    yield made
    told = {name: service.app.wsgi_app.changed for name, service in made.services.items()}
    made.close()
    assert all(told[name] for name in ("access", "datasets", "models", "training")), told


def test_what_a_newer_service_tells_more_is_left_alone(apart):
    with apart.client("access") as access:
        key = access.post("/keys", json={"name": "k", "role": "admin"}).json()["secret"]
    with (
        apart.client("datasets", key) as datasets,
        apart.client("models", key) as models,
        apart.client("predictions", key) as predictions,
        apart.client("access", key) as access,
    ):
        assert datasets.post("/datasets", json={"name": "penguins"}).status_code == 201
        sent = {"content": CSV, "headers": {"Content-Type": "text/csv"}}
        assert datasets.post("/datasets/penguins/versions", **sent).status_code == 201
        training, run = train(apart)
        assert referrers(datasets, "/datasets/penguins/versions/1") == [("training", run[1:])]
        assert training.post(f"{run}/cancel").status_code == 202
        assert training.delete(run).status_code == 204
        register(apart)
        assert models.get("/models/m/versions/1").json()["lineage"]["dataset"] == "penguins"
        wanted = {"model": "m/1", "dataset": "penguins"}
        batch = predictions.post("/batch-predictions", json=wanted)
        assert batch.status_code == 202, batch.text
        path = f"/batch-predictions/{batch.json()['id']}"
        assert referrers(models, "/models/m") == [("predictions", path[1:])]
        wiring = apart.services["predictions"].wiring
        wiring.follower.follow_once(wait=0)
        assert models.put("/models/m/aliases/best", json={"version": 1}).status_code == 201
        wiring.follower.follow_once(wait=0)
        assert wiring.directory.known_of(("default", "m")).state["aliases"] == {"best": 1}
        told = access.get("/events", params={"limit": 1000})
        assert {one["source"] for one in told.json()["items"]} >= {"/models", "/datasets"}
        audited = access.get("/audit").json()["items"]
        assert {row["action"] for row in audited} >= {"dataset.created", "alias.moved"}
        assert apart.services["streams"].wiring.feeder.feed_once() > 0
