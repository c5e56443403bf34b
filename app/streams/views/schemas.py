"""Lambda views over the wire."""

from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validates_schema
from marshmallow.validate import Length, OneOf, Range

from app.kernel.http.fields import (
    Float,
    Input,
    Integer,
    Name,
    Output,
    QueryInteger,
    Resource,
    Tags,
    UtcTime,
    described,
    only_of_its_kind,
    refuse_other_kinds,
)
from app.kernel.http.pagination import DEFAULT_SIZE, MOST_SIZE
from app.kernel.long_work.views import WorkOut
from app.streams.learning.merges import MERGES
from app.streams.views import examples
from app.streams.views.measures import FUNCTIONS
from app.streams.views.model_schemas import BatchTraining, ModelView, ModelViewIn
from app.streams.views.tables import AGGREGATE, MODEL

KINDS = (AGGREGATE, MODEL)
_CAUSES = ("call", "schedule", "lag", "drift")
_OUTCOMES = ("serving", "ignored")
_OFFSETS = {"additionalProperties": {"type": "integer", "minimum": 0}}
# apispec adds "null" by itself where None is allowed.
_VALUE = {"type": ["string", "number", "boolean"]}
_SCALAR = {"type": ["string", "number", "boolean", "null"]}
_FIELD = Length(min=1, max=100)


def _offsets(text: str) -> fields.Dict:
    return fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        required=True,
        metadata={**_OFFSETS, **described(text)},
    )


class MeasureIn(Input):
    """One measure of each group."""

    BEYOND_FIELDS: ClassVar = {
        "if": {"properties": {"function": {"const": "count"}}},
        "else": {"required": ["field"]},
    }

    name = fields.String(required=True, validate=_FIELD)
    function = fields.String(required=True, validate=OneOf(tuple(FUNCTIONS)))
    field = fields.String(
        validate=_FIELD,
        metadata=described("Whose values are measured; `count` without it counts all records."),
    )
    quantiles = fields.List(
        Float(validate=Range(0, 1, min_inclusive=False, max_inclusive=False)),
        validate=Length(min=1, max=20),
        metadata=described("Of `quantiles`, the shares to tell; the median unless said."),
    )

    @validates_schema
    def a_field(self, data: dict[str, Any], **_: Any) -> None:
        """What isn't a count is of a field."""
        if data["function"] != "count" and "field" not in data:
            raise ValidationError("Name the field that is measured.", "field")


class AggregateIn(Input):
    """What an aggregate view tells of the records of a topic, which are JSON objects."""

    group_by = fields.List(
        fields.String(validate=_FIELD),
        load_default=list,
        validate=Length(max=8),
        metadata=described("Fields whose values name a group; none: one group of all records."),
    )
    measures = fields.List(fields.Nested(MeasureIn), required=True, validate=Length(min=1, max=32))


class ScheduleIn(Input):
    """When batches are made by themselves; null: never."""

    every_seconds = Integer(
        load_default=None,
        allow_none=True,
        validate=Range(1, 366 * 86400),
        metadata=described("After so long, where records have come."),
    )
    lag_records = Integer(
        load_default=None,
        allow_none=True,
        validate=Range(1, 10**9),
        metadata=described("After so many records since the last one."),
    )


class LambdaViewIn(Input):
    """A new view."""

    BEYOND_FIELDS: ClassVar = only_of_its_kind(KINDS)

    name = Name(required=True)
    kind = fields.String(
        required=True,
        validate=OneOf(KINDS),
        metadata=described("What it tells; the field of this name says what of."),
    )
    topic = Name(required=True)
    aggregate = fields.Nested(AggregateIn)
    model = fields.Nested(ModelViewIn)
    batch = fields.Nested(ScheduleIn, load_default=lambda: ScheduleIn().load({}))
    description = fields.String(load_default="", validate=Length(max=1000))
    tags = Tags(load_default=dict)

    @validates_schema
    def of_its_kind(self, data: dict[str, Any], **_: Any) -> None:
        """The kind says which definition there must be."""
        refuse_other_kinds(data, data["kind"], KINDS, "Say what it tells.")


class LambdaViewPatch(Input):
    """What of a view is to change; what is not named stays."""

    batch = fields.Nested(ScheduleIn, metadata=described("All that batches are to be made by."))
    description = fields.String(validate=Length(max=1000))
    tags = Tags(metadata=described("All tags that it is to have."))


class Measure(Output):
    """One measure of each group."""

    name = fields.String(required=True)
    function = fields.String(required=True, validate=OneOf(tuple(FUNCTIONS)))
    field = fields.String()
    quantiles = fields.List(fields.Float())


class Aggregate(Output):
    """What an aggregate view tells."""

    group_by = fields.List(fields.String(), required=True)
    measures = fields.List(fields.Nested(Measure), required=True)


class Schedule(Output):
    """When batches are made by themselves; null: never."""

    every_seconds = fields.Integer(required=True, allow_none=True)
    lag_records = fields.Integer(required=True, allow_none=True)


class LambdaViewOut(Resource):
    """Answers over all records of a topic. Its batch version is outside its ETag."""

    EXAMPLE: ClassVar = examples.VIEW

    name = fields.String(required=True)
    kind = fields.String(required=True, validate=OneOf(KINDS))
    topic = fields.String(required=True)
    aggregate = fields.Nested(Aggregate)
    model = fields.Nested(ModelView)
    batch = fields.Nested(Schedule, required=True)
    origin_offsets = _offsets("The first record of each partition that the view counts.")
    batch_version = fields.Integer(
        required=True, metadata=described("The batch that answers are merged with; 0: none yet.")
    )
    description = fields.String(required=True)
    tags = Tags(required=True)
    created_at = UtcTime(required=True)
    updated_at = UtcTime(required=True)


class LambdaViewList(Output):
    """A page of views."""

    items = fields.List(fields.Nested(LambdaViewOut), required=True)
    next_page_token = fields.String(required=True, allow_none=True)


class ViewBatchOut(WorkOut):
    """One recomputation of a view, from its first record to the offsets."""

    EXAMPLE: ClassVar = {**WorkOut.EXAMPLE, **examples.BATCH}

    view = fields.String(required=True)
    version = fields.Integer(required=True)
    cause = fields.String(required=True, validate=OneOf(_CAUSES))
    offsets = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        required=True,
        allow_none=True,
        metadata={**_OFFSETS, **described("The records before these are in it.")},
    )
    base = fields.Integer(
        required=True,
        allow_none=True,
        metadata=described("The batch that it continues, as older records are gone; null: none."),
    )
    records = fields.Integer(required=True, allow_none=True)
    skipped = fields.Integer(
        required=True, allow_none=True, metadata=described("Records that are of no group.")
    )
    groups = fields.Integer(required=True, allow_none=True)
    digest = fields.String(required=True, allow_none=True)
    training = fields.Nested(
        BatchTraining,
        required=True,
        allow_none=True,
        metadata=described("Of a model view; null until its run has been asked for."),
    )
    outcome = fields.String(
        required=True,
        allow_none=True,
        validate=OneOf(_OUTCOMES),
        metadata=described("`ignored`: a newer one was in place when it was ready."),
    )


class ViewBatchList(Output):
    """A page of batches."""

    items = fields.List(fields.Nested(ViewBatchOut), required=True)
    next_page_token = fields.String(required=True, allow_none=True)


class Position(Output):
    """Which records an answer counts: in each partition, those before the speed offset."""

    view = fields.String(required=True)
    batch_version = fields.Integer(required=True)
    batch_offsets = _offsets("The records before these come from the batch.")
    speed_offsets = _offsets("The records before these are counted.")
    merge = fields.String(required=True, validate=OneOf(("sum",)))
    behind = fields.Integer(
        required=True,
        allow_none=True,
        metadata=described("Records that are not counted yet; null while the log is away."),
    )
    staleness_ms = fields.Integer(
        required=True, metadata=described("The age of the oldest of those; 0: there are none.")
    )
    skipped = fields.Integer(required=True, metadata=described("Records that are of no group."))


class ViewGroup(Output):
    """The measures of one group."""

    key = fields.List(fields.Raw(allow_none=True, metadata=_VALUE), required=True)
    group = fields.Dict(
        required=True,
        metadata={"additionalProperties": _SCALAR, **described("The same by names of fields.")},
    )
    values = fields.Dict(required=True, metadata=described("The measures by their names."))
    ignored = fields.Dict(
        required=True,
        metadata={
            "additionalProperties": {"type": "integer"},
            **described("How many values a measure could not take, where there are any."),
        },
    )


class ViewValue(Position, ViewGroup):
    """An answer: the measures of one group, and which records they count."""

    EXAMPLE: ClassVar = examples.VALUE


class ViewValues(Position):
    """A page of groups in the order of their keys, all as of one moment."""

    EXAMPLE: ClassVar = examples.VALUES

    items = fields.List(fields.Nested(ViewGroup), required=True)
    next_page_token = fields.String(required=True, allow_none=True)


class PartitionState(Output):
    """How far a view is in one partition."""

    partition = fields.Integer(required=True)
    batch_offset = fields.Integer(required=True)
    speed_offset = fields.Integer(required=True)
    first = fields.Integer(required=True, metadata=described("The first record that is kept."))
    head = fields.Integer(required=True, metadata=described("The offset that comes next."))
    records = fields.Integer(
        required=True, metadata=described("Folded in since the batch; some may be skipped.")
    )
    skipped = fields.Integer(required=True)
    digest = fields.String(
        required=True, metadata=described("Of the speed state: the same for the same records.")
    )
    moved_at = UtcTime(required=True)
    gap = fields.Boolean(
        required=True, metadata=described("Records were dropped before they were counted.")
    )


class ViewState(Output):
    """What a view has come to, in each layer."""

    EXAMPLE: ClassVar = examples.STATE

    view = fields.String(required=True)
    kind = fields.String(required=True, validate=OneOf(KINDS))
    merge = fields.String(required=True, validate=OneOf(("sum", *MERGES)))
    origin_offsets = _offsets("The first record of each partition that the view counts.")
    batch_version = fields.Integer(required=True)
    batch_offsets = _offsets("The records before these are in the batch.")
    batch_digest = fields.String(required=True, allow_none=True)
    batch_since = UtcTime(required=True)
    partitions = fields.List(fields.Nested(PartitionState), required=True)
    behind = fields.Integer(required=True, allow_none=True)
    staleness_ms = fields.Integer(required=True)


class KeyQuery(Input):
    """Which group."""

    key = fields.String(
        validate=Length(max=1000),
        metadata=described(
            'The group\'s values as a JSON array, in the order of `group_by`: `["EWR", "UA"]`.'
        ),
    )


class PageQuery(Input):
    """Which page of groups."""

    page_size = QueryInteger(
        load_default=DEFAULT_SIZE,
        validate=Range(1, MOST_SIZE),
        metadata=described("Most items of a page."),
    )
    page_token = fields.String(
        load_default=None,
        validate=Length(max=2000),
        metadata=described("`next_page_token` of the page before."),
    )
