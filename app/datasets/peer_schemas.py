"""What only peers send and get: holds, by which a version is kept from deletion, and archives."""

from typing import ClassVar

from marshmallow import fields
from marshmallow.validate import Length, Range

from app.datasets import examples
from app.datasets.schemas import Column
from app.kernel.http.fields import Integer, Name, Output, PeerInput, QueryInteger
from app.lineage import Origin


class HoldIn(PeerInput):
    """A version to keep for a while."""

    version = Integer(
        load_default=None,
        allow_none=True,
        validate=Range(1, 999_999_999),
        metadata={"description": "Null: the newest one that is ready."},
    )
    holder = fields.String(required=True, validate=Length(min=1, max=200))
    seconds = Integer(
        required=True,
        validate=Range(0, 3600),
        metadata={"description": "0: let go of it, where the holder has what will be found."},
    )


class Storage(Output):
    """Where bytes lie, and what they must be."""

    key = fields.String(required=True)
    digest = fields.String(required=True)
    bytes = fields.Integer(required=True)


class HoldOut(Output):
    """What the holder may rely on."""

    EXAMPLE: ClassVar = examples.HOLD

    dataset = fields.String(required=True)
    version = fields.Integer(required=True)
    digest = fields.String(required=True)
    rows = fields.Integer(required=True)
    columns = fields.List(fields.Nested(Column), required=True)
    storage = fields.Nested(Storage, required=True)
    origin = fields.Nested(Origin, required=True, allow_none=True)


class ArchiveQuery(PeerInput):
    """Which records a version is made of."""

    source = fields.String(
        required=True,
        validate=Length(min=1, max=63),
        metadata={"description": "Whose archive it is: its versions never overlap."},
    )
    topic = Name(required=True)
    processor = Name(required=True)
    partition = QueryInteger(required=True, validate=Range(0, 10_000))
    first = QueryInteger(required=True, validate=Range(0, 2**62))
    next = QueryInteger(
        required=True,
        validate=Range(1, 2**62),
        metadata={"description": "The offset that comes after the last one of them."},
    )
