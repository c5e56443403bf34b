"""Records over the wire."""

from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validates_schema
from marshmallow.validate import Length, OneOf, Range, Regexp

from app.kernel.http.fields import (
    Input,
    Integer,
    Output,
    QueryInteger,
    Resource,
    UtcTime,
    described,
)
from app.streams import examples
from app.streams.schemas import MOST_PARTITIONS

MOST_RECORDS = 10_000
MOST_HEADERS = 50
MOST_PAGE = 1000
LONGEST_ID, LONGEST_KEY, LONGEST_HEADER_NAME, LONGEST_HEADER = 200, 1000, 100, 4000
BASE64 = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
HEADER_NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]*$"
VISIBLE = "^[^\\x00-\\x1f\\x7f]*$"
"""No control characters: the engines of record logs carry headers as HTTP does."""


def _matching(pattern: str, told: str) -> dict[str, Any]:
    # JSON Schema's regular expressions know no \\Z.
    check = Regexp(pattern.removesuffix("$") + "\\Z", error=told)
    return {"validate": check, "metadata": {"pattern": pattern}}


class RecordHeaders(fields.Dict):
    """Texts by their names."""

    def __init__(self, **kwargs: Any) -> None:
        name = Regexp(HEADER_NAME.removesuffix("$") + "\\Z", error="Use letters, digits, . _ -")
        text = Regexp(VISIBLE.removesuffix("$") + "\\Z", error="Control characters can't be kept")
        super().__init__(
            keys=fields.String(validate=[Length(min=1, max=LONGEST_HEADER_NAME), name]),
            values=fields.String(validate=[Length(max=LONGEST_HEADER), text]),
            validate=_few_headers,
            **kwargs,
        )


def _few_headers(headers: dict[str, str]) -> None:
    if len(headers) > MOST_HEADERS:
        raise ValidationError(f"At most {MOST_HEADERS} headers.")


class RecordIn(Input):
    """A record to be produced: its value is any JSON, or bytes as Base64."""

    BEYOND_FIELDS: ClassVar = {
        "if": {"required": ["value_base64"]},
        "then": {"not": {"required": ["value"]}},
        "else": {"required": ["value"]},
    }

    value = fields.Raw(allow_none=True, metadata=described("Any JSON."))
    value_base64 = fields.String(
        **_matching(BASE64, "Not Base64 (RFC 4648, with padding)."),
    )
    key = fields.String(
        allow_none=True,
        validate=Length(max=LONGEST_KEY),
        metadata=described("Records of one key lie in one partition, in their order."),
    )
    key_base64 = fields.String(**_matching(BASE64, "Not Base64 (RFC 4648, with padding)."))
    headers = RecordHeaders()
    id = fields.String(
        allow_none=True,
        validate=Length(min=1, max=LONGEST_ID),
        metadata=described("A record with the id of one that is kept is a duplicate."),
    )
    partition = Integer(allow_none=True, validate=Range(0, MOST_PARTITIONS - 1))
    timestamp = UtcTime(metadata=described("When it happened; default: now."))

    @validates_schema
    def _check(self, data: dict[str, Any], **_: Any) -> None:
        if "value" not in data and "value_base64" not in data:
            raise ValidationError("Missing data for required field.", "value")
        if "value" in data and "value_base64" in data:
            raise ValidationError("Give value or value_base64, not both.", "value_base64")
        if data.get("key") is not None and "key_base64" in data:
            raise ValidationError("Give key or key_base64, not both.", "key_base64")


class RecordsIn(Input):
    """Records to be produced, in their order."""

    records = fields.List(
        fields.Nested(RecordIn), required=True, validate=Length(min=1, max=MOST_RECORDS)
    )


class Place(Output):
    """Where a record lies."""

    partition = fields.Integer(required=True)
    offset = fields.Integer(required=True)
    duplicate = fields.Boolean(
        required=True,
        metadata=described("Whether a record of the same id lay there already."),
    )


class ProducedOut(Resource):
    """Where the records lie, in the order in which they came. The ETag is of no use."""

    EXAMPLE: ClassVar = examples.PRODUCED

    offsets = fields.List(fields.Nested(Place), required=True)


class RecordOut(Output):
    """A record: its key and value are told as text and JSON where they are, else as Base64."""

    partition = fields.Integer(required=True)
    offset = fields.Integer(required=True)
    timestamp = UtcTime(required=True)
    id = fields.String(required=True, allow_none=True)
    key = fields.String(allow_none=True)
    key_base64 = fields.String()
    value = fields.Raw(allow_none=True)
    value_base64 = fields.String()
    headers = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class RecordPage(Resource):
    """Records of one partition in their order; a page of as many as were asked for is immutable."""

    EXAMPLE: ClassVar = examples.PAGE

    items = fields.List(fields.Nested(RecordOut), required=True)
    next_offset = fields.Integer(required=True, metadata=described("Pass it as `offset`."))


class PageQuery(Input):
    """Which records of a partition."""

    offset = QueryInteger(
        validate=Range(0, 2**62), metadata=described("The first to be read; default: that is kept.")
    )
    limit = QueryInteger(
        load_default=100,
        validate=Range(1, MOST_PAGE),
        metadata=described("Most records; fewer come where they are large."),
    )
    wait = QueryInteger(
        load_default=0,
        validate=Range(0, 30),
        metadata=described("Seconds to wait for a record, when there is none at the offset."),
    )


class TailQuery(Input):
    """Where a tail begins that resumes none."""

    after = fields.String(
        load_default="latest",
        validate=OneOf(("latest", "earliest")),
        metadata=described("`earliest`: with all that is kept."),
    )
