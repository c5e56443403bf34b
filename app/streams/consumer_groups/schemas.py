"""Consumer groups over the wire."""

from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validates_schema
from marshmallow.validate import Length, OneOf, Range

from app.kernel.http.fields import (
    Input,
    Integer,
    Name,
    Output,
    QueryInteger,
    Resource,
    Tags,
    UtcTime,
    described,
)
from app.streams import examples
from app.streams.consumer_groups.service import EARLIEST, LATEST
from app.streams.records.schemas import MOST_PAGE, RecordOut
from app.streams.schemas import MOST_PARTITIONS

_ENDS = (EARLIEST, LATEST)
_MOST_OFFSET = 2**62


class ConsumerGroupIn(Input):
    """A new group."""

    name = Name(required=True)
    topic = Name(required=True)
    start = fields.String(
        load_default=EARLIEST,
        validate=OneOf(_ENDS),
        metadata=described("Where it begins to read: with all that is kept, or with what comes."),
    )
    description = fields.String(load_default="", validate=Length(max=1000))
    tags = Tags(load_default=dict)


class ConsumerGroupOut(Resource):
    """Readers that share a topic. ``epoch`` counts the times that partitions changed hands."""

    EXAMPLE: ClassVar = examples.GROUP

    name = fields.String(required=True)
    topic = fields.String(required=True)
    epoch = fields.Integer(required=True)
    description = fields.String(required=True)
    tags = Tags(required=True)
    created_at = UtcTime(required=True)
    updated_at = UtcTime(required=True)


class ConsumerGroupList(Output):
    """A page of groups."""

    items = fields.List(fields.Nested(ConsumerGroupOut), required=True)
    next_page_token = fields.String(required=True, allow_none=True)


class PartitionLagOut(Output):
    """How far a group has come in a partition, and who reads it."""

    partition = fields.Integer(required=True)
    offset = fields.Integer(required=True, metadata=described("The one to be read next."))
    first = fields.Integer(required=True, metadata=described("The first one that is kept."))
    end = fields.Integer(required=True, metadata=described("The one that comes next."))
    lag = fields.Integer(required=True)
    member = fields.String(required=True, allow_none=True)
    note = fields.String(required=True)
    committed_at = UtcTime(required=True, allow_none=True)


class GroupLagOut(Output):
    """How far a group has come in its topic."""

    EXAMPLE: ClassVar = examples.LAG

    epoch = fields.Integer(required=True)
    lag = fields.Integer(required=True, metadata=described("Records still to be read."))
    items = fields.List(fields.Nested(PartitionLagOut), required=True)


class OffsetIn(Input):
    """The offset to be read next of a partition."""

    partition = Integer(required=True, validate=Range(0, MOST_PARTITIONS - 1))
    offset = Integer(required=True, validate=Range(0, _MOST_OFFSET))
    note = fields.String(load_default="", validate=Length(max=1000))


class OffsetsIn(Input):
    """What a member has dealt with; without a member, where all are to go on."""

    member = fields.UUID(metadata=described("Who commits; `epoch` is the one it knows."))
    epoch = Integer(validate=Range(0, _MOST_OFFSET))
    offsets = fields.List(fields.Nested(OffsetIn), validate=Length(min=1, max=MOST_PARTITIONS))
    to = fields.String(
        validate=OneOf(_ENDS), metadata=described("All partitions go there; no member says so.")
    )

    BEYOND_FIELDS: ClassVar = {
        "if": {"required": ["to"]},
        "then": {"maxProperties": 1},
        "else": {
            "required": ["offsets"],
            "if": {"required": ["member"]},
            "then": {"required": ["epoch"]},
            "else": {"not": {"required": ["epoch"]}},
        },
    }

    @validates_schema
    def _check(self, data: dict[str, Any], **_: Any) -> None:
        if "to" in data and len(data) > 1:
            raise ValidationError("Give nothing beside it.", "to")
        if "to" not in data and "offsets" not in data:
            raise ValidationError("Missing data for required field.", "offsets")
        if "member" in data and "epoch" not in data:
            raise ValidationError("Missing data for required field.", "epoch")
        if "epoch" in data and "member" not in data:
            raise ValidationError("Missing data for required field.", "member")
        partitions = [offset["partition"] for offset in data.get("offsets", ())]
        if len(set(partitions)) < len(partitions):
            raise ValidationError("A partition stands there twice.", "offsets")


class MemberIn(Input):
    """A new member."""

    client = fields.String(
        load_default="",
        validate=Length(max=200),
        metadata=described("What it calls itself: a host, a process."),
    )


class HeldOut(Output):
    """A partition that a member reads."""

    partition = fields.Integer(required=True)
    epoch = fields.Integer(required=True, metadata=described("Since which it reads it."))
    offset = fields.Integer(required=True, metadata=described("The one to be read next."))


class MemberSummary(Resource):
    """A member without what it reads."""

    EXAMPLE: ClassVar = examples.MEMBER_SUMMARY

    id = fields.String(required=True, metadata={"format": "uuid"})
    client = fields.String(required=True)
    lease_until = UtcTime(required=True, metadata=described("Silent so long, it is dropped."))
    created_at = UtcTime(required=True)


class MemberOut(Resource):
    """A member of a group: it commits with ``epoch``."""

    EXAMPLE: ClassVar = examples.MEMBER

    id = fields.String(required=True, metadata={"format": "uuid"})
    client = fields.String(required=True, attribute="row.client")
    lease_until = UtcTime(required=True, attribute="row.lease_until")
    created_at = UtcTime(required=True, attribute="row.created_at")
    epoch = fields.Integer(required=True)
    assignments = fields.List(fields.Nested(HeldOut), required=True, attribute="held")


class MemberList(Output):
    """A page of members."""

    items = fields.List(fields.Nested(MemberSummary), required=True)
    next_page_token = fields.String(required=True, allow_none=True)


class FetchQuery(Input):
    """How many records to fetch, and how long to wait for the first."""

    limit = QueryInteger(load_default=100, validate=Range(1, MOST_PAGE))
    wait = QueryInteger(
        load_default=0,
        validate=Range(0, 30),
        metadata=described("Seconds to wait when there is none."),
    )


class PlaceOut(Output):
    """An offset of a partition."""

    partition = fields.Integer(required=True)
    offset = fields.Integer(required=True)


class FetchedOut(Output):
    """Records for a member; ``offsets`` is what to commit once they are dealt with."""

    EXAMPLE: ClassVar = examples.FETCHED

    items = fields.List(fields.Nested(RecordOut), required=True)
    offsets = fields.List(fields.Nested(PlaceOut), required=True)
    epoch = fields.Integer(required=True)
