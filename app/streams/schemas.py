"""Topics over the wire."""

from typing import Any, ClassVar

from marshmallow import fields
from marshmallow.validate import Length, OneOf, Range

from app.kernel.http.fields import Input, Integer, Name, Output, Resource, Tags, UtcTime, described
from app.kernel.references import ReferenceQuery
from app.streams import examples

MOST_PARTITIONS = 64
_OVERFLOWS = ("reject", "drop_oldest")
_TEN_YEARS = 315_360_000
_MAX_LAG: dict[str, Any] = {
    "validate": Range(1, 10**12),
    "metadata": described(
        "While a processor or a consumer group is so many records of a partition behind, who"
        " produces gets 429; null: readers hold nobody up."
    ),
}


class TopicRetentionIn(Input):
    """What of a topic is kept, in each partition; what is not named is not bounded."""

    max_age_seconds = Integer(
        load_default=None,
        allow_none=True,
        validate=Range(1, _TEN_YEARS),
        metadata=described("Older records are dropped."),
    )
    max_records = Integer(load_default=None, allow_none=True, validate=Range(1, 10**12))
    max_bytes = Integer(load_default=None, allow_none=True, validate=Range(1000, 10**15))


class TopicIn(Input):
    """A new topic."""

    name = Name(required=True)
    partitions = Integer(
        load_default=1,
        validate=Range(1, MOST_PARTITIONS),
        metadata=described("Never changes: the key of a record says which partition is its own."),
    )
    replicas = Integer(
        validate=Range(1, 5),
        metadata=described("Copies of each partition, where the record log is replicated."),
    )
    retention = fields.Nested(TopicRetentionIn, load_default=dict)
    overflow = fields.String(
        load_default="reject",
        validate=OneOf(_OVERFLOWS),
        metadata=described("What a full partition does: refuse with 429, or drop its oldest."),
    )
    max_lag = Integer(load_default=None, allow_none=True, **_MAX_LAG)
    description = fields.String(load_default="", validate=Length(max=1000))
    tags = Tags(load_default=dict)


class TopicPatch(Input):
    """What of a topic is to change; what is not named stays."""

    retention = fields.Nested(
        TopicRetentionIn, metadata=described("All bounds that it is to have.")
    )
    overflow = fields.String(validate=OneOf(_OVERFLOWS))
    max_lag = Integer(allow_none=True, **_MAX_LAG)
    description = fields.String(validate=Length(max=1000))
    tags = Tags(metadata=described("All tags that it is to have."))


def row_values(body: dict[str, Any]) -> dict[str, Any]:
    """The values of a topic's row, by the names of its columns."""
    values = {name: value for name, value in body.items() if name != "retention"}
    if "retention" in body:
        values |= {name: body["retention"].get(name) for name in TopicRetentionIn().fields}
    return values


class TopicRetention(Output):
    """What of a topic is kept, in each partition; null: not bounded."""

    max_age_seconds = fields.Integer(required=True, allow_none=True)
    max_records = fields.Integer(required=True, allow_none=True)
    max_bytes = fields.Integer(required=True, allow_none=True)


class TopicSummary(Resource):
    """A topic without the bounds of its partitions."""

    EXAMPLE: ClassVar = examples.SUMMARY

    name = fields.String(required=True)
    partitions = fields.Integer(required=True)
    replicas = fields.Integer(required=True)
    retention = fields.Nested(TopicRetention, required=True)
    overflow = fields.String(required=True, validate=OneOf(_OVERFLOWS))
    max_lag = fields.Integer(required=True, allow_none=True)
    description = fields.String(required=True)
    tags = Tags(required=True)
    created_at = UtcTime(required=True)
    updated_at = UtcTime(required=True)


class PartitionBounds(Output):
    """Which offsets of a partition can be read."""

    partition = fields.Integer(required=True)
    first = fields.Integer(required=True, metadata=described("The first one that is kept."))
    end = fields.Integer(required=True, metadata=described("The one that comes next."))


class TopicOut(TopicSummary):
    """An ordered, immutable, partitioned log of records. The bounds are outside its ETag."""

    EXAMPLE: ClassVar = examples.TOPIC

    partition_bounds = fields.List(fields.Nested(PartitionBounds), required=True)


class TopicList(Output):
    """A page of topics."""

    items = fields.List(fields.Nested(TopicSummary), required=True)
    next_page_token = fields.String(required=True, allow_none=True)


class UseQuery(ReferenceQuery):
    """The thing asked about, which may be meant by a model's bare name."""

    is_default = fields.Boolean(
        load_default=False,
        truthy={"true"},
        falsy={"false"},
        metadata=described("Whether the version is the one that the bare name stands for."),
    )
