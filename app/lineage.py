"""Where a table of records comes from, as its dataset and the models trained on it tell."""

from typing import Any, ClassVar, Final

from marshmallow import fields

from app.kernel.http.fields import Output

ORIGIN: Final[dict[str, Any]] = {
    "topic": "flights",
    "processor": "flights-kept",
    "offsets": [{"partition": 0, "first": 0, "next": 344}],
}


class OffsetRange(Output):
    """The records of a partition from ``first`` up to, not including, ``next``."""

    partition = fields.Integer(required=True)
    first = fields.Integer(required=True)
    next = fields.Integer(required=True)


class Origin(Output):
    """The records of a topic that a table was made of, and which processor did it."""

    EXAMPLE: ClassVar = ORIGIN

    topic = fields.String(required=True)
    processor = fields.String(required=True)
    offsets = fields.List(fields.Nested(OffsetRange), required=True)
