"""Strict checks of one parameter's value against its schema.

Stricter than JSON Schema, in which ``true`` may pass for 1 and ``10.0`` for 10: a boolean is no
number, an integer is written without a fraction, and nothing is converted. It knows the keywords
that the catalogue uses: ``type``, ``enum``, ``const``, bounds, ``anyOf``, ``items`` and its bounds.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

from app.kernel.errors import FieldError

Schema = Mapping[str, Any]

LARGEST_EXACT: Final = 2**53
LONGEST_SHOWN: Final = 60


def accepts(schema: Schema, value: Any) -> bool:
    """Whether the value is allowed."""
    return not problems(schema, value, "")


def problems(schema: Schema, value: Any, pointer: str) -> list[FieldError]:
    """Why the value is refused; empty if it is allowed."""
    if "anyOf" in schema:
        return _none_of(schema, value, pointer)
    if "enum" in schema or "const" in schema:
        known = any(_same(value, option) for option in _options(schema))
        return [] if known else [_refused(pointer, "not_an_option", schema, value)]
    if not _is_of_type(schema.get("type"), value):
        not_finite = isinstance(value, float) and not math.isfinite(value)
        return [_refused(pointer, "not_finite" if not_finite else "type", schema, value)]
    if isinstance(value, list):
        return _items(schema, value, pointer)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return _bounds(schema, value, pointer) if is_number else []


def _options(schema: Schema) -> list[Any]:
    return list(schema["enum"]) if "enum" in schema else [schema["const"]]


def told(schema: Schema) -> str:
    """What the schema accepts, in words."""
    if "anyOf" in schema:
        return " or ".join(told(alternative) for alternative in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(_word(option) for option in _options(schema))
    if schema.get("type") == "array":
        low, high = schema.get("minItems", 0), schema.get("maxItems")
        size = f"{low}" if low == high else f"{low} to {high}"
        order = " from low to high" if "x-ordered" in schema else ""
        return f"a list of {size} items{order}, each {told(schema.get('items', {}))}"
    words = {"integer": "an integer", "number": "a number", "boolean": "true or false"}
    words |= {"null": "null", "object": "an object", "string": "a string"}
    return words.get(str(schema.get("type")), "a value") + _range(schema)


def shown(value: Any) -> str:
    """A refused value, short enough for a message and never a whole document."""
    if isinstance(value, bool) or value is None:
        return _word(value)
    if isinstance(value, int) and value.bit_length() > LONGEST_SHOWN:
        return "an integer of more digits than allowed"
    if isinstance(value, (int, float, str)):
        text = repr(value)
        return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."
    return "an object" if isinstance(value, Mapping) else "a list"


def allowed_of(schema: Schema) -> dict[str, Any]:
    """The schema as it is told to a client: without annotations of ours."""
    hidden = {"description", "default"}
    return {
        key: [allowed_of(part) for part in value] if key == "anyOf" else value
        for key, value in schema.items()
        if key not in hidden and not key.startswith("x-")
    }


def _none_of(schema: Schema, value: Any, pointer: str) -> list[FieldError]:
    refusals = [problems(part, value, pointer) for part in schema["anyOf"]]
    if not all(refusals):
        return []
    # The alternative of the right type has the most to say: a bound rather than another type.
    telling = [found[0] for found in refusals if found[0].code not in {"type", "not_an_option"}]
    first = telling[0] if telling else refusals[0][0]
    return [_refused(first.pointer, first.code, schema, value)]


def _items(schema: Schema, values: list[Any], pointer: str) -> list[FieldError]:
    if not schema.get("minItems", 0) <= len(values) <= schema.get("maxItems", len(values)):
        return [_refused(pointer, "wrong_length", schema, values)]
    found: list[FieldError] = []
    for index, value in enumerate(values):
        found += problems(schema.get("items", {}), value, f"{pointer}/{index}")
    if not found and not _in_order(schema.get("x-ordered"), values):
        found.append(_refused(pointer, "out_of_order", schema, values))
    return found[:5]


def _in_order(order: str | None, values: list[Any]) -> bool:
    pairs = list(pairwise(values)) if order else []
    return all(low < high or (low == high and order == "weak") for low, high in pairs)


def _bounds(schema: Schema, value: float, pointer: str) -> list[FieldError]:
    above = value > schema.get("maximum", value)
    if above or value >= schema.get("exclusiveMaximum", math.inf):
        code = "limit_exceeded" if above and schema.get("x-cap") else "out_of_range"
        return [_refused(pointer, code, schema, value)]
    below = value < schema.get("minimum", value)
    if below or value <= schema.get("exclusiveMinimum", -math.inf):
        return [_refused(pointer, "out_of_range", schema, value)]
    return []


def _is_of_type(name: str | None, value: Any) -> bool:
    if name is None:
        return True
    if isinstance(value, bool):
        return name == "boolean"
    if isinstance(value, int):
        # Past 2**53 an integer is no longer the number that floating point would make of it.
        return name == "integer" or (name == "number" and abs(value) <= LARGEST_EXACT)
    if isinstance(value, float):
        return name == "number" and math.isfinite(value)
    kinds: dict[type, str] = {type(None): "null", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value)) == name


def _same(value: Any, option: Any) -> bool:
    return type(value) is type(option) and bool(value == option)


def _refused(pointer: str, code: str, schema: Schema, value: Any) -> FieldError:
    detail = f"must be {told(schema)}; got {shown(value)}"
    return FieldError(pointer, code, detail, allowed_of(schema))


def _word(option: Any) -> str:
    if option is None:
        return "null"
    if isinstance(option, bool):
        return "true" if option else "false"
    return repr(option)


def _range(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    parts = []
    if low is not None:
        parts.append(f"at least {low:,}")
    if above is not None:
        parts.append(f"above {above:,}")
    if high is not None:
        parts.append(f"at most {high:,}")
    if below is not None:
        parts.append(f"below {below:,}")
    return " " + " and ".join(parts) if parts else ""
