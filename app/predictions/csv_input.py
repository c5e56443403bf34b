"""The rows of a request that came as CSV, typed by the signature.

Cells are read as an upload reads those of columns whose types are told: without quotes an empty
cell and the words ``NULL_WORDS`` are missing; where no text is wanted they are so in quotes, too,
with ``WEAK_NULL_WORDS`` and spaces around any of them. What would be guessed at elsewhere is told
here: the delimiter is a comma, the text UTF-8, the first line holds the names.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.kernel.errors import FieldError, Malformed
from app.predictions.column_faults import (
    OUT_OF_RANGE,
    TableFaults,
    check_heading,
    check_rows,
    refuse,
)
from app.predictions.inputs import CHECKS
from app.scoring.frame import Column

NULL_WORDS: Final = frozenset(
    ("", "NA", "N/A", "n/a", "<NA>", "#N/A", "NaN", "nan", "NaT", "NULL", "Null", "null", "None")
)
WEAK_NULL_WORDS: Final = frozenset(("?", "-", "--", "."))
_NO_VALUES: Final = NULL_WORDS | WEAK_NULL_WORDS
_BOOLEANS: Final = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}
_DIGITS: Final = frozenset("0123456789+-.eE")
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_MOMENT: Final = re.compile(
    "[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[T ](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?"
    "(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)
# A quote begins a value only at its start; what is quoted is walked over whole.
_QUOTED: Final = re.compile(r'(?<![^,\r\n])"((?:[^"]++|"")*+)"')
_KEPT: Final = "\0"

Cells = Sequence[str]


def read_csv(body: bytes, inputs: Sequence[Mapping[str, Any]], most_rows: int) -> dict[str, Column]:
    """The columns of a request in the order of the signature, whose ``inputs`` these are.

    Raises Malformed for what is no CSV, Invalid with a pointer for each fault, TooLarge.
    """
    names, rows = _parsed(_text(body))
    check_rows(len(rows), most_rows)
    check_heading(names, inputs)
    refuse(
        FieldError(
            f"/rows/{index}", "length", f"{len(row)} values where there are {len(names)} columns"
        )
        for index, row in enumerate(rows)
        if len(row) != len(names)
    )
    by_name = {column["name"]: column for column in inputs}
    faults = TableFaults()
    found = {
        name: _READERS[by_name[name]["type"]](place, cells, by_name[name], faults)
        for place, (name, cells) in enumerate(zip(names, zip(*rows, strict=True), strict=True))
    }
    faults.refuse()
    return {name: found[name] for name in by_name}


def _text(body: bytes) -> str:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed("The body is not UTF-8") from error
    if _KEPT in text:
        raise Malformed("The body holds a NUL")
    return text


def _parsed(text: str) -> tuple[list[str], list[list[str]]]:
    """The names, and the rows; a text in quotes that would be missing without begins with NUL."""
    if '"' in text:
        text = _QUOTED.sub(_kept, text)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = [row for row in reader if row]
    except csv.Error as error:
        raise Malformed(f"The body is not CSV: {error} at line {reader.line_num}") from error
    if not rows:
        raise Malformed("The body is not CSV: it has no header")
    names = [unicodedata.normalize("NFC", name.lstrip(_KEPT)).strip() for name in rows[0]]
    return names, rows[1:]


def _kept(quoted: re.Match[str]) -> str:
    return f'"{_KEPT}{quoted[1]}"' if quoted[1] in NULL_WORDS else quoted[0]


def _read_texts(
    place: int, cells: Cells, told: Mapping[str, Any], faults: TableFaults
) -> list[str | None]:
    texts = [None if cell in NULL_WORDS else cell for cell in cells]
    if any(cell.startswith(_KEPT) for cell in set(cells)):
        texts = [None if text is None else text.removeprefix(_KEPT) for text in texts]
    faults.add_missing(place, _missing(texts), told)
    return texts


def _stripped(cells: Cells) -> list[str | None]:
    """The cells of a column that isn't of texts, None where one is missing."""
    trimmed = (cell.removeprefix(_KEPT).strip(" \t") for cell in cells)
    return [None if cell in _NO_VALUES else cell for cell in trimmed]


def _missing(values: Sequence[object]) -> NDArray[np.bool_] | None:
    return np.array([value is None for value in values], dtype=bool) if None in values else None


def _read_moments(
    place: int, cells: Cells, told: Mapping[str, Any], faults: TableFaults
) -> list[str | None]:
    texts = _stripped(cells)
    faults.add_missing(place, _missing(texts), told)
    moments = [None if text is None else _as_sent(text) for text in texts]
    faults.add_type(place, np.array([moment == "" for moment in moments]), "datetime")
    return moments


def _as_sent(text: str) -> str:
    """A moment as JSON would have it; '' for what is none."""
    if not _MOMENT.fullmatch(text):
        return ""
    if len(text) > len("2024-01-01"):
        time, offset = re.fullmatch(r"(.{11}[0-9:.]+)(.*)", text).groups()  # type: ignore[union-attr]
        time += ":00" if len(time) == len("2024-01-01T10:00") else ""
        if len(offset) > 1:
            offset = f"{offset[:3]}:{offset[3:].lstrip(':') or '00'}"
        text = time + offset
    return text if CHECKS["datetime"][0](text) else ""


def _read_booleans(
    place: int, cells: Cells, told: Mapping[str, Any], faults: TableFaults
) -> Column:
    texts = _stripped(cells)
    missing = _missing(texts)
    faults.add_missing(place, missing, told)
    found = [True if text is None else _BOOLEANS.get(text.lower()) for text in texts]
    unknown = _missing(found)
    if unknown is not None:
        faults.add_type(place, unknown, "boolean")
    return _masked(np.array(found, dtype=bool), missing)


def _read_numbers(place: int, cells: Cells, told: Mapping[str, Any], faults: TableFaults) -> Column:
    wanted = told["type"]
    quick = _read_plain(cells, wanted)
    if quick is not None:
        return quick
    texts = _stripped(cells)
    missing = _missing(texts)
    faults.add_missing(place, missing, told)
    plain = ["0" if text is None else text for text in texts]
    broken = _cells(plain, lambda text: not _NUMBER.fullmatch(text))
    if broken.any():
        faults.add_type(place, broken, wanted)
        return []
    if wanted == "integer":
        return _whole(place, plain, missing, faults)
    numbers = np.array(list(map(float, plain)), dtype=np.float64)
    faults.add(place, ~np.isfinite(numbers), OUT_OF_RANGE, "The number is too large")
    return _masked(numbers, missing)


def _read_plain(cells: Cells, wanted: str) -> Column | None:
    """The numbers of a column of nothing else; None where a cell may be anything else.

    Of these letters Python makes the very numbers that the patterns describe.
    """
    if not _DIGITS.issuperset("".join(cells)):
        return None
    try:
        if wanted == "integer":
            return np.array(list(map(int, cells)), dtype=np.int64)
        numbers = np.array(list(map(float, cells)), dtype=np.float64)
    except (ValueError, OverflowError):
        return None
    return numbers if np.isfinite(numbers).all() else None


def _whole(
    place: int, plain: list[str], missing: NDArray[np.bool_] | None, faults: TableFaults
) -> Column:
    """Integers, and floats without a fraction, which serve as such."""
    try:
        return _masked(np.array(list(map(int, plain)), dtype=np.int64), missing)
    except (ValueError, OverflowError):
        numbers = [float(text) if set(text) & set(".eE") else _int(text) for text in plain]
    past = np.array([isinstance(one, int) and not -(2**63) <= one < 2**63 for one in numbers])
    faults.add(place, past, OUT_OF_RANGE, "The integer does not fit into 64 bits")
    broken = np.array([isinstance(one, float) and not one.is_integer() for one in numbers])
    faults.add_type(place, broken, "integer")
    if past.any() or broken.any():
        return []
    return [
        None if gone else one for one, gone in zip(numbers, _mask(numbers, missing), strict=True)
    ]


def _int(text: str) -> int:
    # Past 64 bits it doesn't matter by how much, and Python refuses what is very long.
    return int(text) if len(text) <= 40 else 2**64


def _mask(values: Sequence[object], missing: NDArray[np.bool_] | None) -> Sequence[bool]:
    return [False] * len(values) if missing is None else missing.tolist()


def _masked(values: NDArray[Any], missing: NDArray[np.bool_] | None) -> Column:
    return values if missing is None else np.ma.MaskedArray(values, mask=missing)


def _cells(texts: Sequence[str], is_faulty: Callable[[str], bool]) -> NDArray[np.bool_]:
    return np.array([is_faulty(text) for text in texts], dtype=bool)


_READERS: Final[Mapping[str, Callable[[int, Cells, Mapping[str, Any], TableFaults], Column]]] = {
    "integer": _read_numbers,
    "number": _read_numbers,
    "boolean": _read_booleans,
    "string": _read_texts,
    "datetime": _read_moments,
}
