"""The rows of a request, checked against a version's signature: strict, with a pointer for each."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from app.kernel.errors import FieldError, Invalid, TooLarge, escape

MOST_ERRORS = 100
PARTS = ("label", "probabilities", "value", "cluster", "outlier", "score", "components")
Columns = dict[str, list[Any]]
_MOMENT = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:\d{2})?)?"
)


def _is_integer(value: Any) -> bool:
    # 5.0 is one too, in tables as in JSON Schema: many clients know no other numbers.
    return type(value) is int or (type(value) is float and value.is_integer())


def _is_number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _is_moment(value: Any) -> bool:
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value.upper())
    except ValueError:
        return False
    return True


CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "integer": (_is_integer, "an integer"),
    "number": (_is_number, "a number"),
    "boolean": (lambda value: isinstance(value, bool), "true or false"),
    "string": (lambda value: isinstance(value, str), "a string"),
    "datetime": (_is_moment, "a date or time as RFC 3339 writes it"),
}


def read_rows(
    body: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]], most_rows: int
) -> tuple[Columns, int]:
    """The columns of a request, and how many rows they have.

    ``body`` has ``inputs`` (objects) or ``columns`` and ``rows`` (arrays); ``inputs`` is that of
    the signature. Raises Invalid with a pointer for each fault, TooLarge past ``most_rows``.
    """
    by_name = "inputs" in body
    rows = body["inputs"] if by_name else body["rows"]
    if len(rows) > most_rows:
        raise too_many_rows(most_rows)
    if by_name:
        faults = _object_faults(rows, inputs)
    else:
        faults = _array_faults(body["columns"], rows, inputs)
    found = [fault for fault, _ in zip(faults, range(MOST_ERRORS), strict=False)]
    if found:
        raise Invalid("The rows don't fit the model's signature", errors=found)
    if by_name:
        return {column["name"]: [row[column["name"]] for row in rows] for column in inputs}, len(
            rows
        )
    place = {name: index for index, name in enumerate(body["columns"])}
    names = [column["name"] for column in inputs]
    return {name: [row[place[name]] for row in rows] for name in names}, len(rows)


def too_many_rows(most_rows: int) -> TooLarge:
    """The refusal of more rows than that."""
    return TooLarge(
        f"At most {most_rows} rows; use /batch-predictions for more", extra={"limit": most_rows}
    )


def _object_faults(
    rows: Sequence[Mapping[str, Any]], inputs: Sequence[Mapping[str, Any]]
) -> Iterator[FieldError]:
    columns = {column["name"]: column for column in inputs}
    for index, row in enumerate(rows):
        at = f"/inputs/{index}"
        for name, column in columns.items():
            if name not in row:
                yield FieldError(f"{at}/{escape(name)}", "required", "The column is missing")
            else:
                yield from _value_faults(f"{at}/{escape(name)}", row[name], column)
        for name in row:
            if name not in columns:
                yield _unknown(f"{at}/{escape(name)}", columns)


def _array_faults(
    names: Sequence[str], rows: Sequence[Sequence[Any]], inputs: Sequence[Mapping[str, Any]]
) -> Iterator[FieldError]:
    columns = {column["name"]: column for column in inputs}
    faulty = False
    for fault in heading_faults(names, columns):
        faulty = True
        yield fault
    if faulty:
        return
    for index, row in enumerate(rows):
        if len(row) != len(names):
            detail = f"{len(row)} values where there are {len(names)} columns"
            yield FieldError(f"/rows/{index}", "length", detail)
            continue
        for place, name in enumerate(names):
            yield from _value_faults(f"/rows/{index}/{place}", row[place], columns[name])


def heading_faults(
    names: Sequence[str], columns: Mapping[str, Mapping[str, Any]]
) -> Iterator[FieldError]:
    """What is wrong with the names of columns that were sent; ``columns`` are the model's."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name not in columns:
            yield _unknown(f"/columns/{index}", columns)
        elif name in seen:
            yield FieldError(f"/columns/{index}", "duplicate", "The column stands twice")
        seen.add(name)
    for name in columns:
        if name not in seen:
            yield FieldError("/columns", "required", f"The column {name} is missing")


def _unknown(pointer: str, columns: Mapping[str, Any]) -> FieldError:
    return FieldError(pointer, "unknown_field", "The model has no such column", sorted(columns))


def null_fault(pointer: str) -> FieldError:
    """A value is missing where none may be."""
    return FieldError(pointer, "null", "Training saw no missing value in this column")


def _value_faults(pointer: str, value: Any, column: Mapping[str, Any]) -> Iterator[FieldError]:
    if value is None:
        if not column["nullable"]:
            yield null_fault(pointer)
        return
    check, wanted = CHECKS[column["type"]]
    if not check(value):
        yield FieldError(pointer, "type", f"Must be {wanted}", {"type": column["type"]})
