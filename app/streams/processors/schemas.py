"""Processors over the wire.

What belongs to one kind stands in a member of the kind's name: a new kind adds one here.
"""

from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validates_schema
from marshmallow.validate import Length, OneOf, Range, Regexp

from app.kernel.http.fields import (
    NAME_PATTERN,
    Boolean,
    Float,
    Input,
    Integer,
    Name,
    Output,
    Resource,
    Tags,
    UtcTime,
    described,
    only_of_its_kind,
    refuse_other_kinds,
)
from app.streams import examples
from app.streams.learning.schemas import Learning, LearningIn
from app.streams.processors.archive import MOST_ROWS, PLACES
from app.streams.processors.hook_signature import PATTERN as SECRET_PATTERN
from app.streams.processors.positions import EARLIEST, LATEST, OFFSETS, STARTS, TIME
from app.streams.processors.tables import PAUSED, RUNNING
from app.streams.processors.windows import FUNCTIONS

KINDS = ("predict", "aggregate", "learn", "archive", "webhook")
STATES = (RUNNING, PAUSED)
_YEAR = 366 * 86_400
_REFERENCE = f"^{NAME_PATTERN}(@{NAME_PATTERN}|/[1-9][0-9]{{0,8}})?"


class PredictProcessorIn(Input):
    """Score each record; its value is an object of the model's columns."""

    model = fields.String(
        required=True,
        validate=[Length(max=140), Regexp(_REFERENCE + r"\Z")],
        metadata=described(
            "`name`, `name@alias` or `name/version`; an alias is followed.",
            pattern=_REFERENCE + "$",
        ),
    )
    include_inputs = Boolean(
        load_default=False, metadata=described("Repeat the inputs in the output.")
    )


class AggregateWindowIn(Input):
    """Windows of one size; with ``hop_seconds`` they overlap."""

    size_seconds = Float(required=True, validate=Range(0.001, _YEAR))
    hop_seconds = Float(
        allow_none=True,
        load_default=None,
        validate=Range(0.001, _YEAR),
        metadata=described("A window starts each so many seconds; default: its size."),
    )


class AggregateFunctionIn(Input):
    """A function of the values of a field; ``count`` without one counts records."""

    function = fields.String(required=True, validate=OneOf(FUNCTIONS))
    field = fields.String(load_default=None, allow_none=True, validate=Length(1, 255))


class AggregateProcessorIn(Input):
    """Gather records of one key into windows by the time of the event."""

    window = fields.Nested(AggregateWindowIn, required=True)
    aggregates = fields.Dict(
        keys=fields.String(validate=Length(1, 63)),
        values=fields.Nested(AggregateFunctionIn),
        required=True,
        validate=Length(1, 20),
        metadata={"minProperties": 1, "maxProperties": 20},
    )
    time_field = fields.String(
        load_default=None,
        allow_none=True,
        validate=Length(1, 255),
        metadata=described(
            "The event's time, RFC 3339 or milliseconds since 1970; default: the record's own."
        ),
    )
    lateness_seconds = Float(
        load_default=0.0,
        validate=Range(0, _YEAR),
        metadata=described("A window closes when an event so much past its end has been seen."),
    )
    ahead_seconds = Float(
        load_default=86_400.0,
        validate=Range(0, 10 * _YEAR),
        metadata=described("An event further past its record's time is refused."),
    )
    late = fields.String(
        load_default="dead_letter",
        validate=OneOf(("dead_letter", "drop")),
        metadata=described("What becomes of a record whose windows are all closed."),
    )
    emit = fields.String(
        load_default="close",
        validate=OneOf(("close", "change")),
        metadata=described("Tell of a window when it closes, or with each record, too."),
    )


class ArchiveProcessorIn(Input):
    """Keep each record, an object of plain values, as a row of a dataset's version."""

    dataset = Name(required=True, metadata=described("It is made where it isn't there."))
    rows = Integer(
        load_default=10_000,
        validate=Range(1, MOST_ROWS),
        metadata=described("Of a partition, make a version of each so many records."),
    )
    seconds = Float(
        load_default=300.0,
        validate=Range(1, _YEAR),
        metadata=described("Make one of fewer when the first has waited so long."),
    )
    columns = fields.List(
        fields.String(validate=Length(1, 200)),
        load_default=None,
        allow_none=True,
        validate=Length(1, 1000),
        metadata=described("The fields that become columns, null where missing; default: all."),
    )
    include = fields.List(
        fields.String(validate=OneOf(PLACES)),
        load_default=list,
        validate=Length(max=len(PLACES)),
        metadata=described("What else of a record becomes a column: `record_offset` .."),
    )


class WebhookProcessorIn(Input):
    """Send each record to a URL, in order of its partition, at least once."""

    url = fields.String(required=True, validate=Length(1, 2000))
    secret = fields.String(
        required=True,
        validate=[Length(max=100), Regexp(f"{SECRET_PATTERN}\\Z")],
        metadata=described(
            "`whsec_` and base64 of 24 to 68 random bytes; never shown again.",
            pattern=f"^{SECRET_PATTERN}$",
        ),
    )


class ProcessorIn(Input):
    """A new processor."""

    BEYOND_FIELDS: ClassVar = only_of_its_kind(KINDS)

    name = Name(required=True)
    description = fields.String(load_default="", validate=Length(max=1000))
    tags = Tags(load_default=dict)
    kind = fields.String(required=True, validate=OneOf(KINDS))
    topic = Name(required=True, metadata=described("What it reads."))
    output_topic = Name(
        load_default=None,
        allow_none=True,
        metadata=described("What it writes: needed, unless the kind writes nothing."),
    )
    dead_letter_topic = Name(
        required=True,
        allow_none=True,
        metadata=described(
            "Where records go that can't be handled; null: they are dropped and counted."
        ),
    )
    tries = Integer(
        load_default=5,
        validate=Range(1, 20),
        metadata=described("After so many in vain a record is given up."),
    )
    start = fields.String(load_default=EARLIEST, validate=OneOf((EARLIEST, LATEST)))
    state = fields.String(load_default=RUNNING, validate=OneOf(STATES))
    predict = fields.Nested(PredictProcessorIn)
    aggregate = fields.Nested(AggregateProcessorIn)
    learn = fields.Nested(LearningIn)
    archive = fields.Nested(ArchiveProcessorIn)
    webhook = fields.Nested(WebhookProcessorIn)

    @validates_schema(skip_on_field_errors=True)
    def one_kind(self, body: dict[str, Any], **_: Any) -> None:
        """The kind's own member, and no other."""
        refuse_other_kinds(body, body["kind"], KINDS, "Required by this kind.")


class ProcessorPatch(Input):
    """What of a processor is to change; what is not named stays."""

    description = fields.String(validate=Length(max=1000))
    tags = Tags(metadata=described("All tags that it is to have."))
    tries = Integer(validate=Range(1, 20))
    predict = fields.Nested(PredictProcessorIn, metadata=described("Of this kind: as a whole."))
    aggregate = fields.Nested(
        AggregateProcessorIn, metadata=described("It can't be changed: its windows would not fit.")
    )
    learn = fields.Nested(
        LearningIn, metadata=described("It can't be changed: what is learnt would not fit.")
    )
    archive = fields.Nested(
        ArchiveProcessorIn,
        metadata=described("As a whole; `columns` and `include` can't be changed."),
    )
    webhook = fields.Nested(WebhookProcessorIn, metadata=described("Of this kind: as a whole."))


class ProcessorStateIn(Input):
    """Whether a processor is to run."""

    state = fields.String(required=True, validate=OneOf(STATES))


class ResetOffsetIn(Input):
    """An offset of a partition."""

    partition = Integer(required=True, validate=Range(0, 10_000))
    offset = Integer(required=True, validate=Range(0, None))


class ProcessorResetIn(Input):
    """Where to begin anew."""

    BEYOND_FIELDS: ClassVar[dict[str, Any]] = {
        "allOf": [
            {
                "if": {"properties": {"to": {"const": kind}}},
                "then": {"required": [kind]},
                "else": {"not": {"required": [kind]}},
            }
            for kind in (TIME, OFFSETS)
        ]
    }

    to = fields.String(required=True, validate=OneOf(STARTS))
    time = UtcTime(metadata=described("With `time`: the first records that are not older."))
    offsets = fields.List(
        fields.Nested(ResetOffsetIn),
        validate=Length(1, 1000),
        metadata=described("With `offsets`: those of some partitions; the others stay."),
    )

    @validates_schema(skip_on_field_errors=True)
    def what_it_needs(self, body: dict[str, Any], **_: Any) -> None:
        """A time with ``time``, offsets with ``offsets``, and nothing else."""
        for member in (TIME, OFFSETS):
            if member == body["to"] and member not in body:
                raise ValidationError("Required by this reset.", member)
            if member != body["to"] and member in body:
                raise ValidationError("Of another reset.", member)


class PredictProcessor(Output):
    """What a ``predict`` does."""

    model = fields.String(required=True)
    include_inputs = fields.Boolean(required=True)


class AggregateWindow(Output):
    """Windows of one size."""

    size_seconds = fields.Float(required=True)
    hop_seconds = fields.Float(required=True, allow_none=True)


class AggregateFunction(Output):
    """A function of the values of a field."""

    function = fields.String(required=True)
    field = fields.String(required=True, allow_none=True)


class AggregateProcessor(Output):
    """What an ``aggregate`` does."""

    window = fields.Nested(AggregateWindow, required=True)
    aggregates = fields.Dict(
        keys=fields.String(), values=fields.Nested(AggregateFunction), required=True
    )
    time_field = fields.String(required=True, allow_none=True)
    lateness_seconds = fields.Float(required=True)
    ahead_seconds = fields.Float(required=True)
    late = fields.String(required=True)
    emit = fields.String(required=True)


class ArchiveProcessor(Output):
    """What an ``archive`` does."""

    dataset = fields.String(required=True)
    rows = fields.Integer(required=True)
    seconds = fields.Float(required=True)
    columns = fields.List(fields.String(), required=True, allow_none=True)
    include = fields.List(fields.String(), required=True)


class WebhookProcessor(Output):
    """What a ``webhook`` does; its secret is not shown."""

    url = fields.String(required=True)


class ProcessorSummary(Resource):
    """A processor without how it gets on."""

    EXAMPLE: ClassVar = examples.PROCESSOR_SUMMARY

    name = fields.String(required=True)
    description = fields.String(required=True)
    tags = Tags(required=True)
    kind = fields.String(required=True)
    state = fields.String(required=True)
    topic = fields.String(required=True)
    output_topic = fields.String(required=True, allow_none=True)
    dead_letter_topic = fields.String(required=True, allow_none=True)
    tries = fields.Integer(required=True)
    generation = fields.Integer(required=True, metadata=described("How often it has been reset."))
    predict = fields.Nested(PredictProcessor)
    aggregate = fields.Nested(AggregateProcessor)
    learn = fields.Nested(Learning)
    archive = fields.Nested(ArchiveProcessor)
    webhook = fields.Nested(WebhookProcessor)
    created_at = UtcTime(required=True)
    updated_at = UtcTime(required=True)


class ProcessorCounts(Output):
    """What has become of records."""

    taken = fields.Integer(required=True, metadata=described("Read and done with."))
    written = fields.Integer(required=True, metadata=described("Outputs."))
    dead = fields.Integer(required=True, metadata=described("Given up, and kept."))
    dropped = fields.Integer(required=True, metadata=described("Given up, and not kept."))
    late = fields.Integer(required=True, metadata=described("Too late, and let go."))
    gone = fields.Integer(required=True, metadata=described("Let go by retention, unread."))
    errors = fields.Integer(required=True, metadata=described("Tries in vain."))


class ProcessorFailure(Output):
    """What went wrong last."""

    partition = fields.Integer(required=True)
    offset = fields.Integer(required=True)
    code = fields.String(required=True)
    detail = fields.String(required=True)
    at = fields.String(required=True, metadata={"format": "date-time"})


class ProcessorPartition(Output):
    """How it gets on with a partition."""

    partition = fields.Integer(required=True)
    offset = fields.Integer(required=True, metadata=described("What is read next."))
    lag = fields.Integer(required=True)
    active = fields.Boolean(required=True, metadata=described("Whether a process reads it."))
    retrying = fields.Integer(
        required=True, metadata=described("Tries in vain of the record that is next.")
    )


class ProcessorOut(ProcessorSummary):
    """What is done with each record of a topic, and how that gets on (outside of its ETag)."""

    EXAMPLE: ClassVar = examples.PROCESSOR

    lag = fields.Integer(required=True, metadata=described("Records still to be read."))
    rate = fields.Float(required=True, metadata=described("Records a second, of late."))
    counts = fields.Nested(ProcessorCounts, required=True)
    last_failure = fields.Nested(ProcessorFailure, required=True, allow_none=True)
    partitions = fields.List(fields.Nested(ProcessorPartition), required=True)


class ProcessorList(Output):
    """A page of processors."""

    items = fields.List(fields.Nested(ProcessorSummary), required=True)
    next_page_token = fields.String(required=True, allow_none=True)
