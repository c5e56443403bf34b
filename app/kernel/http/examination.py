"""``/examination``: what this process finds of itself, for the doctor and for other services."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from flask.views import MethodView
from marshmallow import fields
from marshmallow.validate import Length, OneOf, Regexp

from app.kernel.auth import Call, secured
from app.kernel.http.api import Blueprint, current_call
from app.kernel.http.fields import Input, Output, UtcTime, described

PROBES = "doctor"
"""Where in the artifact store probes lie for a moment."""
Examine = Callable[[Call, Mapping[str, Any]], Mapping[str, Any]]


class ExaminationQuery(Input):
    """How much to look at."""

    depth = fields.String(
        load_default="full",
        validate=OneOf(("brief", "full")),
        metadata=described("`brief`: who answers; `full`: what it stands on, and whom it asks."),
    )
    probe = fields.String(
        load_default=None,
        validate=[Length(max=64), Regexp(r"[0-9a-f-]{36}\Z")],
        metadata=described("Which probe should lie in the artifact store.", pattern="^[0-9a-f-]*$"),
    )


class FindingOut(Output):
    """One thing that was looked at."""

    level = fields.String(
        required=True, metadata=described("How it is.", enum=["ok", "note", "bad"])
    )
    text = fields.String(required=True)
    advice = fields.String(required=True, metadata=described("What to do; empty: nothing."))


class ExaminationOut(Output):
    """Who answers, and what it found."""

    EXAMPLE: ClassVar = {
        "version": "0.1.0",
        "services": ["models"],
        "time": "2026-01-01T00:00:00Z",
        "findings": [
            {"level": "ok", "text": "database of models", "advice": ""},
            {
                "level": "bad",
                "text": "models asks training: The service training can't be reached",
                "advice": "mend MODELYARD_TRAINING_URL there, or start training",
            },
        ],
    }

    version = fields.String(required=True)
    services = fields.List(fields.String(), required=True)
    time = UtcTime(required=True, metadata=described("What its clock shows."))
    findings = fields.List(fields.Nested(FindingOut), required=True)


def add_examination(blp: Blueprint, scope: str, examine: Examine) -> None:
    """Give a blueprint the route of ``examine``, for those who hold the scope."""

    @blp.route("/api/v1/examination")
    class Examination(MethodView):
        @secured(scope)
        @blp.doc(operationId="getExamination", tags=["peers"])
        @blp.arguments(ExaminationQuery, location="query")
        @blp.response(200, ExaminationOut)
        def get(self, arguments: dict[str, Any]) -> Any:
            """Tell a peer what this server finds of itself"""
            return examine(current_call(), arguments)
