"""marshmallow, strict: what a client sends is taken as it is, never bent into shape."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from marshmallow import EXCLUDE, RAISE, Schema, ValidationError, fields
from marshmallow.validate import Length, Regexp

NAME_PATTERN = "[a-z0-9][a-z0-9._-]{0,62}"
LONGEST_TIME = 64
_LARGEST = 2**63


def described(text: str, **more: Any) -> dict[str, Any]:
    """Metadata of a field: what the documentation says of it, and ``more`` of JSON Schema."""
    return {"description": text, **more}


def only_of_its_kind(kinds: Sequence[str]) -> dict[str, Any]:
    """JSON Schema of an object whose ``kind`` names the one of these members that it has."""
    return {
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": kind}}},
                "then": {"required": [kind]},
                "else": {"not": {"required": [kind]}},
            }
            for kind in kinds
        ]
    }


def refuse_other_kinds(
    body: Mapping[str, Any], kind: str | None, kinds: Iterable[str], missing: str
) -> None:
    """Raise ValidationError unless the kind's own member is there, and that of no other.

    ``missing`` is what is said where it isn't; without a kind there must be none of them.
    """
    if kind is not None and body.get(kind) is None:
        raise ValidationError(missing, kind)
    for other in kinds:
        if other != kind and other in body:
            raise ValidationError("Of another kind.", other)


class Input(Schema):
    """Base of what clients send: an unknown field is an error.

    ``BEYOND_FIELDS`` is JSON Schema of what a ``validates_schema`` asks of several fields at once,
    told by ``if``, ``then`` and ``else``: generators of clients take ``oneOf`` and ``anyOf`` for a
    choice of types, and forget the fields.
    """

    BEYOND_FIELDS: ClassVar[dict[str, Any]] = {}

    class Meta:
        """An unknown field is an error."""

        unknown = RAISE


class PeerInput(Input):
    """Base of what services of ours send: a newer one may tell more than this one knows."""

    class Meta:
        """What isn't known is left alone."""

        unknown = EXCLUDE


class Output(Schema):
    """Base of what we send: documented as open, so that new fields break no client.

    ``EXAMPLE`` is shown in the documentation wherever the schema is answered.
    """

    EXAMPLE: ClassVar[dict[str, Any] | None] = None

    class Meta:
        """Clients must bear fields that they don't know."""

        unknown = EXCLUDE


class Resource(Output):
    """Base of what has a row version: it is answered with an ETag."""


class Integer(fields.Integer):
    """A JSON integer of 64 bits: no string, no boolean, no 1.0."""

    default_error_messages = {"range": "Must fit into 64 bits."}  # noqa: RUF012 (marshmallow's way)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.make_error("invalid")
        if not -_LARGEST <= value < _LARGEST:
            raise self.make_error("range")
        return value


class Float(fields.Float):
    """A finite JSON number: no string, no boolean."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.make_error("invalid")
        try:
            return super()._deserialize(value, attr, data, **kwargs)
        except OverflowError as error:
            raise self.make_error("too_large") from error


class Boolean(fields.Boolean):
    """A JSON boolean: no "true", no 1."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, bool):
            raise self.make_error("invalid")
        return value


class QueryInteger(fields.Integer):
    """An integer of a query string, of 64 bits and in plain digits."""

    default_error_messages = {"range": "Must fit into 64 bits."}  # noqa: RUF012 (marshmallow's way)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        text = str(value)
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 19):
            raise self.make_error("invalid")
        number = int(text)
        if not -_LARGEST <= number < _LARGEST:
            raise self.make_error("range")
        return number


class Name(fields.String):
    """The name of a resource: lower case, digits, dot, underscore, hyphen; 63 at most."""

    def __init__(self, **kwargs: Any) -> None:
        pattern = Regexp(
            f"^{NAME_PATTERN}\\Z",
            error="Use 1 to 63 of a-z 0-9 . _ - and begin with a letter or digit.",
        )
        kwargs.setdefault("validate", pattern)
        # JSON Schema's regular expressions know no \\Z.
        metadata = {"pattern": f"^{NAME_PATTERN}$", "maxLength": 63, **kwargs.pop("metadata", {})}
        super().__init__(metadata=metadata, **kwargs)


class UtcTime(fields.AwareDateTime):
    """RFC 3339 with an offset in, UTC with a Z out."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(format="iso", **kwargs)

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        text = super()._serialize(value, attr, obj, **kwargs)
        return text.replace("+00:00", "Z") if isinstance(text, str) else text

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, str) or len(value) > LONGEST_TIME:
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE)
        try:
            # A query string's `+00:00` arrives as ` 00:00`.
            return super()._deserialize(value.replace(" ", "+"), attr, data, **kwargs)
        except OverflowError as error:
            raise self.make_error("invalid", input=value, obj_type=self.OBJ_TYPE) from error


class Tags(fields.Dict):
    """Up to 50 labels, text to text."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            keys=fields.String(validate=Length(min=1, max=63)),
            values=fields.String(validate=Length(max=255)),
            validate=_at_most_fifty,
            **kwargs,
        )


def _at_most_fifty(tags: dict[str, str]) -> None:
    if len(tags) > 50:
        raise ValidationError("At most 50 tags.")


String = fields.String
Nested = fields.Nested
List = fields.List
Raw = fields.Raw


def example_of(schema: Schema) -> dict[str, Any] | None:
    """A schema's example; of a list, a page with one item of its items' example."""
    own: dict[str, Any] | None = getattr(schema, "EXAMPLE", None)
    items = schema.fields.get("items")
    if own is not None or not isinstance(items, fields.List):
        return own
    inner = items.inner
    item = example_of(inner.schema) if isinstance(inner, fields.Nested) else None
    if item is None:
        return None
    rest = {"next_page_token": None, "next_position": "7", "next_after": 1}
    return {"items": [item], **{name: rest[name] for name in rest if name in schema.fields}}
