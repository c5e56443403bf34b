"""``create_app``: the Flask app of the services that the settings name."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast
from wsgiref.types import WSGIApplication

from flask import Flask
from flask.json.provider import DefaultJSONProvider
from werkzeug.middleware.proxy_fix import ProxyFix

from app.access.resources import blp as access_blueprint
from app.access.trail_resources import blp as trail_blueprint
from app.config import Settings
from app.datasets.resources import blp as datasets_blueprint
from app.examination import EXAMINE, Examiner
from app.kernel.disk_reserve import lending_to_deletions
from app.kernel.http.api import Api
from app.kernel.http.door import Door
from app.kernel.http.examination import add_examination
from app.kernel.http.gate import Gate
from app.kernel.http.health import Health, health_blueprint
from app.kernel.http.lane import HotRoute, Lane
from app.kernel.http.pages import register_documents
from app.kernel.http.problems import register_problems
from app.kernel.http.traced import Traced
from app.kernel.tracing import tracer
from app.models.resources import blp as models_blueprint
from app.predictions.batch_resources import blp as predictions_blueprint
from app.predictions.hot_path import PREDICT_PATH, STORE_PATH
from app.predictions.resources import (
    ADMITTED,
    PREDICT_ENDPOINT,
    PREDICT_RULE,
    STORE_ENDPOINT,
    STORE_RULE,
)
from app.streams.consumer_groups.resources import blp as groups_blueprint
from app.streams.processors.resources import blp as processors_blueprint
from app.streams.records.resources import blp as topics_blueprint
from app.streams.views.model_resources import blp as model_views_blueprint
from app.streams.views.resources import blp as views_blueprint
from app.training.resources import blp as training_blueprint
from app.watching import register_gauges, shown_registries
from app.wiring import Wiring

TITLE = "Modelyard"
_DESCRIPTION = """Send a table, ask for a model, get predictions.

1. `POST /api/v1/datasets` with a file: a table, and what its columns are like.
2. `POST /api/v1/training-runs`: a model of one of its columns. `GET` the run with `wait=20` until
   its `state` is `succeeded`.
3. `POST /api/v1/predictions`: what the model says of a row, kept with the row; or
   `POST /api/v1/models/{model}/predict`, which keeps nothing.
"""


class Json(DefaultJSONProvider):
    """Compact, in the order of the schema, never escaped."""

    sort_keys = False
    ensure_ascii = False
    compact = True


@cache
def own_version() -> str:
    """The version of the installed package, or that of a checkout."""
    try:
        return version("modelyard")
    except PackageNotFoundError:
        return "0.1.0"


def create_app(settings: Settings | None = None, wiring: Wiring | None = None) -> Flask:
    """Build the app. Raises TypeError when a route has neither a scope nor a public mark."""
    settings = settings or Settings.from_environment()
    wiring = wiring or Wiring(settings)
    app = Flask("app", static_folder=None)
    app.json = Json(app)
    # `//` in a path is another path, not a redirect to a URL made of the Host header.
    app.url_map.merge_slashes = False
    app.config |= {
        "API_TITLE": TITLE,
        "API_VERSION": own_version(),
        "OPENAPI_VERSION": "3.1.0",
        "API_SPEC_OPTIONS": _spec_options(),
        "MAX_CONTENT_LENGTH": settings.max_json,
        "TRUSTED_HOSTS": None if "*" in settings.hosts else list(settings.hosts),
    }
    api = Api(app)
    register_problems(app)
    _register_services(app, api, wiring)
    health = Health(checks=_checks(wiring))
    states = health_blueprint(health, shown_registries(wiring))
    add_examination(states, EXAMINE, Examiner(wiring, own_version()))
    api.register_blueprint(states)
    api.spec.tag({"name": "peers", "description": "What our services ask of one another."})
    app.extensions |= {"wiring": wiring, "health": health, "stream_slots": wiring.stream_slots}
    documents = register_documents(app, api)
    register_gauges(wiring)
    gate = Gate(
        api.operations,
        wiring.authenticator,
        wiring.denials,
        wiring.registry,
        body_slots=settings.body_slots,
        quotas=wiring.quotas,
    )
    gate.register(app)
    api.check(app, documents)
    _set_before_flask(app, api, gate, wiring)
    wiring.app = lambda: app.wsgi_app
    return app


def _register_services(app: Flask, api: Api, wiring: Wiring) -> None:
    """In the order of the main job, which is that of the documentation."""
    served = wiring.settings.services
    app.extensions["idempotency"] = {name: wiring.idempotency(name) for name in served}
    if "datasets" in served:
        app.extensions["datasets"] = wiring.datasets
        api.register_blueprint(datasets_blueprint)
    if "training" in served:
        app.extensions["training"] = wiring.training
        api.register_blueprint(training_blueprint)
    if "models" in served:
        app.extensions |= {"models": wiring.models, "models_intake": wiring.models_intake}
        api.register_blueprint(models_blueprint)
    if "predictions" in served:
        app.extensions |= {"predictions": wiring.predictions, "batches": wiring.batches}
        api.register_blueprint(predictions_blueprint)
    if "streams" in served:
        app.extensions |= {"topics": wiring.topics, "records": wiring.records}
        app.extensions |= {"tail_slots": wiring.tail_slots, "processors": wiring.processors}
        app.extensions |= {"lambda_views": wiring.lambda_views, "learners": wiring.learners}
        app.extensions["model_answers"] = wiring.model_answers
        app.extensions["stream_references"] = wiring.stream_references
        app.extensions["consumer_groups"] = wiring.consumer_groups
        app.extensions["group_members"] = wiring.group_members
        for blueprint in (topics_blueprint, groups_blueprint, processors_blueprint):
            api.register_blueprint(blueprint)
        api.register_blueprint(views_blueprint)
        api.register_blueprint(model_views_blueprint)
    if "access" in served:
        app.extensions["access"] = wiring.access
        api.register_blueprint(access_blueprint)
    app.extensions |= {"trail": wiring.trail, "download_slots": wiring.download_slots}
    api.register_blueprint(trail_blueprint)


def _checks(wiring: Wiring) -> dict[str, Any]:
    databases = wiring.databases()
    names = [f"database-{number}" for number in range(1, len(databases) + 1)]
    checks = {
        name if len(databases) > 1 else "database": database.ping
        for name, database in zip(names, databases, strict=True)
    }
    if "streams" in wiring.settings.services:
        checks["log"] = wiring.record_log.ping
    return {**checks, "store": wiring.store.check}


def _set_before_flask(app: Flask, api: Api, gate: Gate, wiring: Wiring) -> None:
    """What a request meets before Flask; what is set last here, it meets first."""
    settings = wiring.settings
    inner = lending_to_deletions(cast("WSGIApplication", app.wsgi_app), wiring.disk_reserve)
    serves_predictions = "predictions" in settings.services
    if serves_predictions:
        routes = [
            HotRoute(rule, path, api.operations[endpoint, "POST"].scopes, answer)
            for rule, endpoint, path, answer in (
                (PREDICT_RULE, PREDICT_ENDPOINT, PREDICT_PATH, wiring.hot_path.predict),
                (STORE_RULE, STORE_ENDPOINT, STORE_PATH, wiring.hot_path.store),
            )
        ]
        inner = Lane(inner, gate, routes, app.config["TRUSTED_HOSTS"])
    if settings.proxy:
        count = settings.proxy
        inner = ProxyFix(inner, x_for=count, x_proto=count, x_host=count)
    if serves_predictions:
        inner = Door(inner, wiring.admission, ADMITTED, gate.body_slots)
    if tracer.is_on():
        inner = Traced(inner)
    app.wsgi_app = inner  # type: ignore[method-assign, assignment]


def _spec_options() -> dict[str, Any]:
    return {
        "info": {
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This server"}],
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key: `myk_..`. The first one was printed by the first "
                    "start, or was given to it in `MODELYARD_ADMIN_KEY`.",
                }
            }
        },
        "security": [{"key": []}],
    }
