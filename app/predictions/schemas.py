"""Predictions over the wire."""

from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validates_schema
from marshmallow.validate import Length, OneOf, Range

from app.kernel.http.fields import (
    NAME_PATTERN,
    Input,
    Integer,
    Name,
    Output,
    QueryInteger,
    Resource,
    Tags,
    UtcTime,
)
from app.kernel.long_work.views import WorkOut
from app.predictions.inputs import PARTS

_HIGHEST_VERSION = 999_999_999
_REFERENCE = {
    "description": "`name`, `name@alias` or `name/version`.",
    "pattern": f"^{NAME_PATTERN}(@{NAME_PATTERN}|/[1-9][0-9]{{0,8}})?$",
}
_VALUE = {"type": ["string", "number", "boolean", "null"]}
# apispec adds "null" by itself where None is allowed.
_CELL = {"type": ["string", "number", "boolean"]}


class PredictIn(Input):
    """Rows to score: ``inputs`` (objects), or ``columns`` and ``rows`` (arrays)."""

    BEYOND_FIELDS: ClassVar = {
        "if": {"required": ["inputs"]},
        "then": {"not": {"anyOf": [{"required": ["columns"]}, {"required": ["rows"]}]}},
        "else": {"required": ["columns", "rows"]},
    }

    inputs = fields.List(
        fields.Dict(keys=fields.String(), metadata={"additionalProperties": _VALUE}),
        validate=Length(min=1),
        metadata={"description": "One object a row: column to value."},
    )
    columns = fields.List(fields.String(), validate=Length(min=1))
    rows = fields.List(
        fields.List(fields.Raw(allow_none=True, metadata=_CELL)), validate=Length(min=1)
    )
    include = fields.List(
        fields.String(validate=OneOf(PARTS)),
        validate=Length(min=1, max=len(PARTS)),
        metadata={"description": "Parts of the outputs to answer; default: all that there are."},
    )

    @validates_schema
    def one_form(self, data: dict[str, Any], **_: Any) -> None:
        """Exactly one of the two forms."""
        columnar = "columns" in data or "rows" in data
        if "inputs" in data and columnar:
            raise ValidationError("Give inputs, or columns and rows; not both.", "inputs")
        if "inputs" not in data and not columnar:
            raise ValidationError("Missing data for required field.", "inputs")
        if columnar and not ("columns" in data and "rows" in data):
            missing = "rows" if "columns" in data else "columns"
            raise ValidationError("Missing data for required field.", missing)


class PredictionIn(PredictIn):
    """Rows to score, and by which model."""

    model = fields.String(
        required=True,
        validate=Length(1, 130),
        metadata=_REFERENCE,
    )


class PredictQuery(Input):
    """Which version of the model; default: the alias champion, else the newest."""

    version = QueryInteger(load_default=None, validate=Range(1, _HIGHEST_VERSION))
    alias = Name(load_default=None)

    @validates_schema
    def one_of_them(self, data: dict[str, Any], **_: Any) -> None:
        """A version and an alias at once could contradict each other."""
        if data["version"] is not None and data["alias"] is not None:
            raise ValidationError("Give a version or an alias, not both.", "alias")


class OutputRow(Output):
    """What the model says of one row; which members there are depends on its task."""

    label = fields.Raw(metadata={"type": ["string", "number", "boolean"]})
    probabilities = fields.Dict(keys=fields.String(), values=fields.Float())
    value = fields.Float()
    cluster = fields.Integer()
    outlier = fields.Boolean()
    score = fields.Float(
        metadata={"description": "The greater, the more unusual; above 0: outlier."}
    )
    components = fields.List(fields.Float())


class PredictOut(Output):
    """An answer that isn't stored."""

    EXAMPLE: ClassVar = {
        "model": "penguins",
        "version": 1,
        "engine": "compiled",
        "outputs": [
            {"label": "Gentoo", "probabilities": {"Adelie": 0.01, "Chinstrap": 0.0, "Gentoo": 0.99}}
        ],
    }

    model = fields.String(required=True)
    version = fields.Integer(required=True)
    engine = fields.String(required=True, validate=OneOf(("compiled", "sklearn")))
    outputs = fields.List(fields.Nested(OutputRow), required=True)


class PredictionOut(PredictOut, Resource):
    """A stored prediction."""

    EXAMPLE: ClassVar = {
        **PredictOut.EXAMPLE,
        "id": "01a203dd-2710-7023-bd67-9d8929f69490",
        "inputs": [{"island": "Biscoe", "body_mass_g": 4500}],
        "created_at": "2026-01-01T00:00:00Z",
    }

    id = fields.String(required=True, metadata={"format": "uuid"})
    inputs = fields.List(fields.Dict(metadata={"additionalProperties": _VALUE}), required=True)
    created_at = UtcTime(required=True)


class PredictionList(Output):
    """A page of stored predictions."""

    items = fields.List(fields.Nested(PredictionOut), required=True)
    next_page_token = fields.String(required=True, allow_none=True)


class DeletedOut(Output):
    """How many were deleted."""

    EXAMPLE: ClassVar = {"deleted": 12}

    deleted = fields.Integer(required=True)


class BatchPredictionIn(Input):
    """A dataset to score, and by which model."""

    model = fields.String(
        required=True,
        validate=Length(1, 130),
        metadata=_REFERENCE,
    )
    dataset = Name(required=True)
    dataset_version = Integer(
        load_default=None,
        allow_none=True,
        validate=Range(1, _HIGHEST_VERSION),
        metadata={"description": "Default: the newest."},
    )
    tags = Tags(load_default=dict)


class BatchPredictionUpdate(Input):
    """What of a batch prediction may be changed."""

    tags = Tags(required=True)


class BatchPredictionOut(WorkOut):
    """Predictions over all rows of a dataset version."""

    EXAMPLE: ClassVar = {
        **WorkOut.EXAMPLE,
        "model": "penguins",
        "version": 1,
        "dataset": "penguins",
        "dataset_version": 1,
        "rows": 344,
        "engine": "compiled",
        "tags": {},
    }

    model = fields.String(required=True)
    version = fields.Integer(required=True)
    dataset = fields.String(required=True)
    dataset_version = fields.Integer(required=True)
    rows = fields.Integer(required=True, allow_none=True)
    engine = fields.String(required=True, allow_none=True)
    tags = fields.Dict(required=True, keys=fields.String(), values=fields.String())


class BatchPredictionList(Output):
    """A page of batch predictions."""

    items = fields.List(fields.Nested(BatchPredictionOut), required=True)
    next_page_token = fields.String(required=True, allow_none=True)
