"""Estimators and training runs over the wire."""

from typing import ClassVar

from marshmallow import fields
from marshmallow.validate import Length, OneOf, Range

from app.kernel.http.fields import (
    Boolean,
    Float,
    Input,
    Integer,
    Name,
    Output,
    Tags,
    described,
)
from app.kernel.long_work.views import WorkOut
from app.lineage import Origin
from app.training.catalog.entries import TASKS

_HIGHEST_VERSION = 999_999_999
_ESTIMATOR = {
    "type": ["string", "object"],
    "description": '`"auto"` or as requested; once it has run, with all that it came to.',
}
_METRICS = {"additionalProperties": {"type": ["number", "null"]}}
_NAMED = {
    "type": "object",
    "title": "NamedEstimator",
    "properties": {
        "name": {"type": "string"},
        "params": {"type": "object", "additionalProperties": True},
    },
    "required": ["name"],
    "additionalProperties": False,
}
_PLANNED = {
    "model": "penguins",
    "dataset": "penguins",
    "dataset_version": 1,
    "target": "species",
    "task": "classification",
    "features": ["island", "body_mass_g"],
    "estimator": "auto",
    "validation": {"method": "holdout", "test_fraction": 0.2},
    "random_state": 42,
    "refit": True,
    "priority": 5,
    "limits": {"wall_seconds": 600, "memory_bytes": 2000000000},
    "tags": {},
}


class EstimatorQuery(Input):
    """Which estimators to list."""

    task = fields.String(load_default=None, validate=OneOf(TASKS))
    role = fields.String(
        load_default=None,
        validate=OneOf(("final", "step", "preparation")),
        metadata={"description": "`final`: may be the model; `step`: may stand before it."},
    )


class EstimatorOut(Output):
    """What may be named in a training run, and with which parameters."""

    EXAMPLE: ClassVar = {
        "name": "Ridge",
        "tasks": ["regression"],
        "roles": ["final"],
        "summary": "Linear least squares with l2 regularization.",
        "documentation": "sklearn.linear_model.Ridge",
        "max_rows": None,
        "our_defaults": [],
        "parameters": {
            "type": "object",
            "properties": {"alpha": {"type": "number", "minimum": 0, "default": 1.0}},
            "additionalProperties": False,
        },
    }

    name = fields.String(required=True)
    tasks = fields.List(fields.String(), required=True)
    roles = fields.List(fields.String(), required=True)
    summary = fields.String(required=True)
    documentation = fields.String(required=True)
    max_rows = fields.Integer(required=True, allow_none=True)
    our_defaults = fields.List(
        fields.String(),
        required=True,
        metadata={"description": "Parameters whose default differs from scikit-learn's."},
    )
    parameters = fields.Dict(
        required=True, metadata={"description": "JSON Schema (2020-12) of the parameters."}
    )


class EstimatorList(Output):
    """All of the catalogue that was asked for: it is short, there is one page."""

    items = fields.List(fields.Nested(EstimatorOut), required=True)
    next_page_token = fields.String(required=True, allow_none=True)


class ValidationIn(Input):
    """How the model is judged."""

    method = fields.String(
        load_default="holdout", validate=OneOf(("holdout", "cross_validation", "time_split"))
    )
    test_fraction = Float(load_default=0.2, validate=Range(0.05, 0.5))
    folds = Integer(load_default=5, validate=Range(2, 20))
    column = fields.String(
        load_default=None,
        allow_none=True,
        validate=Length(max=255),
        metadata={"description": "The datetime column of a `time_split`."},
    )


class LimitsIn(Input):
    """What a run may use before it is ended."""

    wall_seconds = Float(load_default=600.0, validate=Range(1, None))
    memory_bytes = Integer(load_default=2_000_000_000, validate=Range(64_000_000, None))


class TrainingRunIn(Input):
    """What to train: the model's name, the table, the column to predict. The rest is optional."""

    model = Name(required=True)
    dataset = Name(required=True)
    dataset_version = Integer(
        load_default=None,
        allow_none=True,
        validate=Range(1, _HIGHEST_VERSION),
        metadata={"description": "Default: the newest."},
    )
    target = fields.String(load_default=None, allow_none=True, validate=Length(1, 255))
    features = fields.List(
        fields.String(validate=Length(1, 255)),
        load_default=None,
        allow_none=True,
        validate=Length(1, 10_000),
        metadata={"description": "Default: all columns but the target."},
    )
    task = fields.String(load_default=None, allow_none=True, validate=OneOf(TASKS))
    estimator = fields.Raw(
        load_default="auto",
        metadata={
            "description": 'Default: "auto". See `GET /estimators`.',
            "oneOf": [
                {"type": "string", "enum": ["auto"]},
                _NAMED,
                {
                    "type": "object",
                    "title": "Pipeline",
                    "description": "Steps that transform, the last one is the model.",
                    "properties": {"steps": {"type": "array", "items": _NAMED, "minItems": 1}},
                    "required": ["steps"],
                    "additionalProperties": False,
                },
            ],
        },
    )
    validation = fields.Nested(ValidationIn, load_default=None, allow_none=True)
    refit = Boolean(
        load_default=True,
        metadata={"description": "Fit again on all rows once the model was judged."},
    )
    random_state = Integer(load_default=42, validate=Range(0, 2**32 - 1))
    priority = Integer(
        load_default=5, validate=Range(1, 9), metadata={"description": "1 goes first, 9 last."}
    )
    limits = fields.Nested(LimitsIn, load_default=lambda: LimitsIn().load({}))
    tags = Tags(load_default=dict)


class TrainingRunQuery(Input):
    """Whether to run, or to check only."""

    validate_only = fields.Boolean(load_default=False, truthy={"true"}, falsy={"false"})


class TrainingRunUpdate(Input):
    """What of a run may be changed."""

    tags = Tags(required=True)


class Limits(Output):
    """What a run may use before it is ended."""

    wall_seconds = fields.Float(required=True)
    memory_bytes = fields.Integer(required=True)


class RunWarning(Output):
    """Something about a model that its owner may want to know."""

    code = fields.String(required=True)
    detail = fields.String(required=True)
    column = fields.String()
    metric = fields.String()
    metrics = fields.List(fields.String())


class TrainingRunOut(WorkOut):
    """A request to train, and what became of it."""

    EXAMPLE: ClassVar = {
        **WorkOut.EXAMPLE,
        **_PLANNED,
        "model_version": 1,
        "dataset_digest": "sha-256:9f86d081884c7d65",
        "dataset_origin": None,
        "metrics": {"accuracy": 0.985},
        "baseline": {"accuracy": 0.442},
        "warnings": [],
        "report": None,
    }

    model = fields.String(required=True)
    model_version = fields.Integer(required=True, allow_none=True)
    dataset = fields.String(required=True)
    dataset_version = fields.Integer(required=True)
    dataset_digest = fields.String(required=True)
    dataset_origin = fields.Nested(
        Origin,
        required=True,
        allow_none=True,
        metadata=described("Where the dataset was made of a topic's records."),
    )
    target = fields.String(required=True, allow_none=True)
    task = fields.String(required=True, allow_none=True)
    features = fields.List(fields.String(), required=True, allow_none=True)
    estimator = fields.Raw(required=True, metadata=_ESTIMATOR)
    validation = fields.Dict(required=True, allow_none=True)
    random_state = fields.Integer(required=True)
    refit = fields.Boolean(required=True)
    priority = fields.Integer(required=True)
    limits = fields.Nested(Limits, required=True)
    tags = fields.Dict(required=True, keys=fields.String(), values=fields.String())
    metrics = fields.Dict(required=True, allow_none=True, metadata=_METRICS)
    baseline = fields.Dict(
        required=True,
        allow_none=True,
        metadata={
            **_METRICS,
            "description": "The same metrics of the class prior or the mean.",
        },
    )
    warnings = fields.List(fields.Nested(RunWarning), required=True)
    report = fields.Dict(
        required=True,
        allow_none=True,
        metadata={"description": "All that the fit told: preprocessing, importances, versions .."},
    )


class TrainingRunList(Output):
    """A page of runs."""

    items = fields.List(fields.Nested(TrainingRunOut), required=True)
    next_page_token = fields.String(required=True, allow_none=True)


class TrainingPlan(Output):
    """A request that would be accepted, with its defaults filled in."""

    EXAMPLE: ClassVar = {
        "valid": True,
        **_PLANNED,
    }

    valid = fields.Boolean(required=True)
    model = fields.String(required=True)
    dataset = fields.String(required=True)
    dataset_version = fields.Integer(required=True)
    target = fields.String(required=True, allow_none=True)
    features = fields.List(fields.String(), required=True)
    task = fields.String(required=True, allow_none=True)
    estimator = fields.Raw(required=True, metadata=_ESTIMATOR)
    validation = fields.Dict(required=True, allow_none=True)
    random_state = fields.Integer(required=True)
    refit = fields.Boolean(required=True)
    priority = fields.Integer(required=True)
    limits = fields.Nested(Limits, required=True)
    tags = fields.Dict(required=True, keys=fields.String(), values=fields.String())
