"""The rows of a request that came as an Arrow stream, as numpy's columns.

The same verdicts as for JSON: whole floats serve as integers, what isn't finite is refused, and so
is a type that would have to be guessed at. Numbers stay in numpy from the body to the model.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.kernel.arrow.schema import Field
from app.kernel.arrow.stream import ArrowStream, Column
from app.kernel.errors import FieldError
from app.kernel.repeated import Repeated
from app.predictions.column_faults import (
    OUT_OF_RANGE,
    TableFaults,
    check_heading,
    check_rows,
    refuse,
)
from app.scoring.frame import Column as RawColumn

_FITTING: Final[Mapping[str, frozenset[str]]] = {
    "integer": frozenset({"integer", "float", "decimal", "null"}),
    "number": frozenset({"integer", "float", "decimal", "null"}),
    "boolean": frozenset({"boolean", "null"}),
    "string": frozenset({"text", "null"}),
    "datetime": frozenset({"moment", "text", "null"}),
}
_LONGEST: Final = (-(2**63), 2**63 - 1)
_NOT_FINITE: Final = "Must be a finite number; what is missing is null"
_PAST_64_BITS: Final = "The integer does not fit into 64 bits"
_FIRST, _END = np.datetime64("0001-01-01", "us"), np.datetime64("9999-12-31T23:59:59.999999", "us")


def read_arrow(
    body: bytes, inputs: Sequence[Mapping[str, Any]], most_rows: int, most_text: int
) -> dict[str, RawColumn]:
    """The columns of a request in the order of the signature, whose ``inputs`` these are.

    Raises Malformed for what is no such stream, UnsupportedMediaType for one that is compressed,
    Invalid with a pointer for each fault, TooLarge past ``most_rows`` and ``most_text`` bytes.
    """
    stream = ArrowStream(body, most_text)
    check_rows(stream.rows, most_rows)
    check_heading([field.name for field in stream.fields], inputs)
    by_name = {column["name"]: column for column in inputs}
    refuse(
        _type_fault(place, field, by_name[field.name]["type"])
        for place, field in enumerate(stream.fields)
        if field.kind not in _FITTING[by_name[field.name]["type"]]
    )
    faults = TableFaults()
    found = {
        column.field.name: _checked(place, column, by_name[column.field.name], faults)
        for place, column in enumerate(stream.read())
    }
    faults.refuse()
    return {name: found[name] for name in by_name}


def _type_fault(place: int, field: Field, wanted: str) -> FieldError:
    detail = f"Arrow's type {field.kind} doesn't serve as {wanted}"
    return FieldError(f"/columns/{place}", "type", detail, sorted(_FITTING[wanted] - {"null"}))


def _checked(place: int, column: Column, told: Mapping[str, Any], faults: TableFaults) -> RawColumn:
    """The values as scoring takes them; what is wrong with them goes to ``faults``."""
    wanted = told["type"]
    faults.add_missing(place, column.missing, told)
    kind, values, missing = column.field.kind, column.values, column.missing
    if kind == "null":
        return [None] * len(values)
    if kind == "text" or isinstance(values, Repeated):
        texts = values if isinstance(values, Repeated) else values.tolist()
        faults.add_texts(place, texts, wanted)
        return texts
    present = np.ones(len(values), dtype=bool) if missing is None else ~missing
    if kind == "moment":
        values = _moments(place, values, present, faults)
    elif kind == "decimal":
        values = _decimals(place, column, wanted, present, faults)
    elif kind == "float":
        faults.add(place, present & ~np.isfinite(values), OUT_OF_RANGE, _NOT_FINITE)
        if wanted == "integer":
            broken = present & np.isfinite(values) & (np.trunc(values) != values)
            faults.add_type(place, broken, wanted)
    elif values.dtype == np.uint64:
        past = present & (values > np.uint64(_LONGEST[1]))
        faults.add(place, past, OUT_OF_RANGE, _PAST_64_BITS)
    return values if missing is None else np.ma.MaskedArray(values, mask=missing)


def _moments(
    place: int, values: NDArray[Any], present: NDArray[np.bool_], faults: TableFaults
) -> NDArray[Any]:
    """In microseconds; beyond the years 1 to 9999 there is no such moment."""
    unit = np.datetime_data(values.dtype)[0]
    outside = np.isnat(values)
    if unit != "ns":
        first, end = (bound.astype(f"datetime64[{unit}]") for bound in (_FIRST, _END))
        outside |= (values < first) | (values > end)
    faults.add_type(place, present & outside, "datetime")
    return np.where(present & ~outside, values, np.zeros(1, values.dtype)).astype("datetime64[us]")


def _decimals(
    place: int,
    column: Column,
    wanted: str,
    present: NDArray[np.bool_],
    faults: TableFaults,
) -> NDArray[Any]:
    """The nearest doubles or, where integers are wanted, integers."""
    scale = Fraction(10) ** -column.field.type.scale
    exact = [whole * scale for whole in np.where(present, column.values, 0).tolist()]
    if wanted != "integer":
        return np.array([float(number) for number in exact], dtype=np.float64)
    broken = np.array([number.denominator != 1 for number in exact], dtype=bool)
    faults.add_type(place, broken, wanted)
    least, most = _LONGEST
    past = np.array([not least <= number <= most for number in exact], dtype=bool)
    faults.add(place, past & ~broken, OUT_OF_RANGE, _PAST_64_BITS)
    sound = ~(past | broken)
    whole = [int(number) if good else 0 for number, good in zip(exact, sound, strict=True)]
    return np.array(whole, dtype=np.int64)
