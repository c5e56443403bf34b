"""What may stand in a path: names, ids and version numbers."""

from werkzeug.routing import BaseConverter

from app.kernel.http.fields import NAME_PATTERN


class NameConverter(BaseConverter):
    """The name of a resource in a path."""

    regex = NAME_PATTERN
    part_isolating = True


class IdConverter(BaseConverter):
    """A UUID in a path, as text."""

    regex = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    part_isolating = True


class KeyIdConverter(BaseConverter):
    """The public part of an API key."""

    regex = "[A-Za-z0-9]{8}"
    part_isolating = True


class NumberConverter(BaseConverter):
    """A version number in a path: from 1, at most nine digits."""

    regex = "[1-9][0-9]{0,8}"
    part_isolating = True

    def to_python(self, value: str) -> int:
        """The number."""
        return int(value)


class IndexConverter(BaseConverter):
    """A place in a path that is counted from 0: at most six digits."""

    regex = "0|[1-9][0-9]{0,5}"
    part_isolating = True

    def to_python(self, value: str) -> int:
        """The place."""
        return int(value)


CONVERTERS: dict[str, type[BaseConverter]] = {
    "name": NameConverter,
    "id": IdConverter,
    "key_id": KeyIdConverter,
    "n": NumberConverter,
    "index": IndexConverter,
}
PATH_SCHEMAS: dict[type[BaseConverter], dict[str, str | int]] = {
    NameConverter: {"type": "string", "pattern": f"^{NAME_PATTERN}$"},
    IdConverter: {"type": "string", "format": "uuid"},
    KeyIdConverter: {"type": "string", "pattern": f"^{KeyIdConverter.regex}$"},
    NumberConverter: {"type": "integer", "minimum": 1, "maximum": 999_999_999},
    IndexConverter: {"type": "integer", "minimum": 0, "maximum": 999_999},
}
