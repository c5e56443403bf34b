"""``/livez`` touches nothing, ``/readyz`` names each thing that must work, ``/metrics`` counts."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flask import Response
from flask.views import MethodView
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from app.kernel.auth import public, secured
from app.kernel.errors import ServiceError
from app.kernel.http.api import Blueprint

Check = Callable[[], None]


@dataclass
class Health:
    """The checks of this process by name."""

    checks: dict[str, Check] = field(default_factory=dict)

    def report(self) -> tuple[bool, Mapping[str, str]]:
        """Whether all is well, and a word on each check."""
        told = {name: _outcome(check) for name, check in self.checks.items()}
        return all(word == "ok" for word in told.values()), told


def _outcome(check: Check) -> str:
    try:
        check()
    except ServiceError as error:
        return error.detail
    except OSError as error:
        return error.strerror or type(error).__name__
    return "ok"


def health_blueprint(health: Health, registries: Sequence[CollectorRegistry]) -> Blueprint:
    """The routes of ``health`` and of the metrics in ``registries``."""
    blp = Blueprint("health", __name__, description="Whether the server lives, and how it fares.")

    @blp.route("/livez")
    class Liveness(MethodView):
        @public
        @blp.doc(operationId="getLiveness", responses={"200": _document({"status": "ok"})})
        def get(self) -> Response:
            """Whether the process answers at all"""
            return _json({"status": "ok"}, 200)

    @blp.route("/readyz")
    class Readiness(MethodView):
        @public
        @blp.doc(
            operationId="getReadiness",
            responses={
                "200": _document({"status": "ok", "checks": {"database": "ok", "store": "ok"}}),
                "503": _document({"status": "unready", "checks": {"database": "unreachable"}}),
            },
        )
        def get(self) -> Response:
            """Whether requests can be served, check by check"""
            ready, checks = health.report()
            body = {"status": "ok" if ready else "unready", "checks": dict(checks)}
            response = _json(body, 200 if ready else 503)
            if not ready:
                response.headers["Retry-After"] = "2"
            return response

    @blp.route("/metrics")
    class Metrics(MethodView):
        @secured("metrics:read")
        @blp.doc(
            operationId="getMetrics",
            responses={
                "200": {
                    "description": "Prometheus text format",
                    "content": {
                        "text/plain": {
                            "schema": {"type": "string"},
                            "example": 'modelyard_queue_depth{kind="training_run"} 0.0\n',
                        }
                    },
                }
            },
        )
        def get(self) -> Response:
            """Counters, gauges and histograms for Prometheus"""
            shown = b"".join(map(generate_latest, registries))
            return Response(shown, content_type=CONTENT_TYPE_LATEST)

    return blp


def _json(body: object, status: int) -> Response:
    return Response(json.dumps(body), status, content_type="application/json")


def _document(example: dict[str, object]) -> dict[str, object]:
    properties: dict[str, object] = {"status": {"type": "string"}}
    if "checks" in example:
        properties["checks"] = {"type": "object", "additionalProperties": {"type": "string"}}
    schema = {"type": "object", "properties": properties, "required": list(example)}
    return {
        "description": "The state of the server",
        "content": {"application/json": {"schema": schema, "example": example}},
    }
