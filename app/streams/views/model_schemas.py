"""Model views over the wire: their definition, their answers, and how well those foretell."""

from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validates_schema
from marshmallow.validate import Length, OneOf, Range

from app.kernel.http.fields import Boolean, Float, Input, Integer, Name, Output, UtcTime, described
from app.streams.learning.merges import BLEND, MERGES
from app.streams.learning.schemas import LayerMetrics, LearnerPartition, Learning, LearningIn
from app.streams.views.model_answers import BATCH_ONLY, SPEED_ONLY

MOST_INPUTS = 1000
_ESTIMATOR = {
    "type": ["string", "object"],
    **described('As a training run takes it: `"auto"`, or `{"name": .., "params": ..}`.'),
}
_VALUE = {"type": ["string", "number", "boolean", "null"]}
_OFFSETS = {"additionalProperties": {"type": "integer", "minimum": 0}}


class ModelViewIn(LearningIn):
    """What a model view foretells: batches train the model, a learner follows the records."""

    model = Name(required=True, metadata=described("Whose versions the batches become."))
    dataset = Name(required=True, metadata=described("Whose versions the batches are trained on."))
    estimator = fields.Raw(load_default="auto", metadata=_ESTIMATOR)
    random_state = Integer(load_default=42, validate=Range(0, 2**32 - 1))
    merge = fields.String(
        load_default=BLEND,
        validate=OneOf(MERGES),
        metadata=described("How the answers of both layers become one."),
    )
    seed_records = Integer(
        load_default=20_000,
        validate=Range(0, 10_000_000),
        metadata=described("So many records of each partition before a batch teach its learner."),
    )
    stale_seconds = Float(
        load_default=60.0,
        validate=Range(1, 366 * 86_400),
        metadata=described("A learner that lags longer is left out: the batch answers alone."),
    )
    batch_on_drift = Boolean(
        load_default=False,
        metadata=described("Have a batch made early when the model's loss has risen."),
    )

    @validates_schema(skip_on_field_errors=True)
    def an_estimator(self, body: dict[str, Any], **_: Any) -> None:
        """Text or an object: what it says is checked by the training service."""
        if not isinstance(body["estimator"], str | dict):
            raise ValidationError("Text or an object.", "estimator")


class ModelView(Learning):
    """What a model view foretells."""

    model = fields.String(required=True)
    dataset = fields.String(required=True)
    estimator = fields.Raw(required=True, metadata=_ESTIMATOR)
    random_state = fields.Integer(required=True)
    merge = fields.String(required=True, validate=OneOf(MERGES))
    seed_records = fields.Integer(required=True)
    stale_seconds = fields.Float(required=True)
    batch_on_drift = fields.Boolean(required=True)


class BatchTraining(Output):
    """How a model view's batch was made."""

    model = fields.String(required=True)
    model_version = fields.Integer(metadata=described("Once the run has succeeded."))
    dataset = fields.String(required=True)
    dataset_version = fields.Integer(required=True)
    run = fields.String(required=True, metadata={"format": "uuid", **described("Training run.")})
    examples = fields.Integer(required=True, metadata=described("Rows that it was trained on."))


class ViewPredictionsIn(Input):
    """Rows to answer about."""

    inputs = fields.List(
        fields.Dict(keys=fields.String(), metadata={"additionalProperties": _VALUE}),
        required=True,
        validate=Length(1, MOST_INPUTS),
        metadata=described("One object a row: feature to value."),
    )
    keys = fields.List(
        fields.String(validate=Length(max=1000)),
        load_default=None,
        allow_none=True,
        metadata=described(
            "The key of each row's records: the learner of that key's partition answers. "
            "Without, those of all partitions do together."
        ),
    )


class ViewPrediction(Output):
    """An answer: a label, or a number."""

    label = fields.Raw(metadata={"type": ["string", "number", "boolean"]})
    probabilities = fields.Dict(
        keys=fields.String(), values=fields.Float(), metadata=described("By label, as text.")
    )
    value = fields.Float()


class ViewPredictionsOut(Output):
    """Answers, and what they are made of."""

    EXAMPLE: ClassVar = {
        "view": "late-flights",
        "outputs": [{"label": False, "probabilities": {"false": 0.81, "true": 0.19}}],
        "batch_version": 3,
        "batch_model": "late-flights/3",
        "batch_offsets": {"0": 812, "1": 1021},
        "speed_offsets": {"0": 840, "1": 1033},
        "merge": BLEND,
        "behind": 0,
        "staleness_ms": 0,
    }

    view = fields.String(required=True)
    outputs = fields.List(fields.Nested(ViewPrediction), required=True)
    batch_version = fields.Integer(required=True)
    batch_model = fields.String(
        required=True, allow_none=True, metadata=described("Model and version; null: none yet.")
    )
    batch_offsets = fields.Dict(required=True, metadata=_OFFSETS)
    speed_offsets = fields.Dict(required=True, metadata=_OFFSETS)
    merge = fields.String(
        required=True,
        validate=OneOf((*MERGES, BATCH_ONLY, SPEED_ONLY)),
        metadata=described("`batch`: the learners lag too far; `speed`: there is no batch yet."),
    )
    behind = fields.Integer(
        required=True,
        allow_none=True,
        metadata=described("Records not learnt from yet; null while the log is away."),
    )
    staleness_ms = fields.Integer(
        required=True, metadata=described("The age of the oldest of those; 0: there are none.")
    )


class LayersMetrics(Output):
    """The three side by side, judged on the same labels."""

    batch = fields.Nested(LayerMetrics, required=True)
    speed = fields.Nested(LayerMetrics, required=True)
    merged = fields.Nested(LayerMetrics, required=True)


class ViewLearnerPartition(LearnerPartition):
    """The learner of one partition since the batch."""

    offset = fields.Integer(required=True)
    since_batch = fields.Integer(required=True, metadata=described("Labels since the batch."))
    hedge_weight = fields.Float(required=True, metadata=described("The batch's, in a hedge."))


_JUDGED = {"count": 134_280, "log_loss": 0.4956, "accuracy": 0.774, "roc_auc": 0.736}


class ViewMetrics(Output):
    """How the layers of a model view have foretold labels that they did not know."""

    EXAMPLE: ClassVar = {
        "view": "late-flights",
        "task": "classification",
        "batch_version": 3,
        "in_all": {"batch": _JUDGED, "speed": _JUDGED, "merged": _JUDGED},
        "since_batch": {"batch": _JUDGED, "speed": _JUDGED, "merged": _JUDGED},
        "drifts": 2,
        "drifted_at": "2026-01-01T00:00:00Z",
        "partitions": [
            {
                "partition": 0,
                "offset": 840,
                "learnt": 20_412,
                "since_batch": 412,
                "waiting": 96,
                "dropped": 0,
                "hedge_weight": 0.41,
                "digest": "3e053f5c9e765c18",
            }
        ],
    }

    view = fields.String(required=True)
    task = fields.String(required=True)
    batch_version = fields.Integer(required=True)
    in_all = fields.Nested(
        LayersMetrics, required=True, metadata=described("Since the view was made.")
    )
    since_batch = fields.Nested(
        LayersMetrics, required=True, metadata=described("On the records after the batch.")
    )
    drifts = fields.Integer(required=True, metadata=described("Changes of the model's loss."))
    drifted_at = UtcTime(required=True, allow_none=True)
    partitions = fields.List(fields.Nested(ViewLearnerPartition), required=True)
