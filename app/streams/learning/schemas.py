"""What is learnt from records, over the wire: the same for processors and for model views."""

from typing import ClassVar

from marshmallow import fields
from marshmallow.validate import Length, OneOf, Range

from app.kernel.http.fields import Float, Input, Output, described
from app.scoring.online import CLASSIFICATION, REGRESSION

_MOST_FEATURES = 500
_COLUMN = Length(1, 255)


class LearningIn(Input):
    """Which label is foretold from which features of the records."""

    task = fields.String(required=True, validate=OneOf((CLASSIFICATION, REGRESSION)))
    target = fields.String(
        required=True,
        validate=_COLUMN,
        metadata=described("The field that holds the label; it may come later than the features."),
    )
    features = fields.List(
        fields.String(validate=_COLUMN), required=True, validate=Length(1, _MOST_FEATURES)
    )
    id_field = fields.String(
        load_default=None,
        allow_none=True,
        validate=_COLUMN,
        metadata=described("What joins features with a later label; default: the record's id."),
    )
    categories = fields.List(
        fields.String(validate=_COLUMN),
        load_default=list,
        validate=Length(max=_MOST_FEATURES),
        metadata=described("Features whose numbers the learner is to take as names."),
    )
    learning_rate = Float(
        load_default=0.02,
        validate=Range(0.0001, 1.0),
        metadata=described("The size of its steps: the greater, the sooner it forgets."),
    )


class Learning(Output):
    """Which label is foretold from which features."""

    task = fields.String(required=True)
    target = fields.String(required=True)
    features = fields.List(fields.String(), required=True)
    id_field = fields.String(required=True, allow_none=True)
    categories = fields.List(fields.String(), required=True)
    learning_rate = fields.Float(required=True)


class LayerMetrics(Output):
    """How well answers given before their labels were known have foretold them."""

    count = fields.Integer(required=True, metadata=described("Answers that were judged."))
    log_loss = fields.Float(allow_none=True)
    accuracy = fields.Float(allow_none=True)
    roc_auc = fields.Float(
        allow_none=True, metadata=described("With two labels; from histograms of the scores.")
    )
    mae = fields.Float(allow_none=True)
    rmse = fields.Float(allow_none=True)


class LearnerPartition(Output):
    """The learner of one partition."""

    partition = fields.Integer(required=True)
    learnt = fields.Integer(required=True, metadata=described("Labels that it has learnt from."))
    waiting = fields.Integer(
        required=True, metadata=described("Features without a label, or labels without features.")
    )
    dropped = fields.Integer(
        required=True, metadata=described("Those for which there was no room any more.")
    )
    digest = fields.String(required=True, metadata=described("Of the state, which is a fold."))


class LearnerOut(Output):
    """What a processor of the kind ``learn`` has learnt, and how well it foretells."""

    EXAMPLE: ClassVar = {
        "processor": "late-flights",
        "task": CLASSIFICATION,
        "learnt": 4711,
        "labels": [False, True],
        "metrics": {"count": 4711, "log_loss": 0.504, "accuracy": 0.768, "roc_auc": 0.73},
        "drifts": 3,
        "partitions": [
            {"partition": 0, "learnt": 4711, "waiting": 96, "dropped": 0, "digest": "3e053f5c"}
        ],
    }

    processor = fields.String(required=True)
    task = fields.String(required=True)
    learnt = fields.Integer(required=True)
    labels = fields.List(fields.Raw(metadata={"type": ["string", "number", "boolean"]}))
    metrics = fields.Nested(LayerMetrics, required=True)
    drifts = fields.Integer(required=True, metadata=described("Changes of its loss so far."))
    partitions = fields.List(fields.Nested(LearnerPartition), required=True)
