"""A table as it was sent, before its types are known: a SQL relation and its columns."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from app.kernel.errors import FieldError, Invalid, escape

LONGEST_NAME = 200
_MOST_LISTED = 20
_CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})
_BYTE_ORDER_MARK = "\ufeff"


class Kind(Enum):
    """What the format says of a column's values."""

    TEXT = auto()  # anything, written as text
    STRING = auto()  # strings, which may be datetimes
    NUMERAL = auto()  # numbers, written as text
    INTEGER = auto()
    NUMBER = auto()
    BOOLEAN = auto()
    DATETIME = auto()


@dataclass(frozen=True)
class SourceColumn:
    """A column of a relation.

    ``value`` is the SQL of a cell (by its kind; NULL is missing), ``text`` of a cell as text.
    ``blanks`` are texts that mean missing unless the column turns out to be of strings, and
    ``weak_blanks`` are those among them of which the client is told. ``mixed`` columns held
    strings beside other values.
    """

    name: str
    kind: Kind
    value: str
    text: str
    blanks: tuple[str, ...] = ()
    weak_blanks: tuple[str, ...] = ()
    decimal: str = "."
    mixed: bool = False


@dataclass(frozen=True)
class TableSource:
    """``rows`` rows of about ``row_bytes`` bytes. ``cautious`` is a slower relation that holds
    the same and is tried where reading this one fails."""

    relation: str
    columns: tuple[SourceColumn, ...]
    rows: int
    row_bytes: int
    cautious: "TableSource | None" = None


def column_name(name: str) -> str:
    """A column's name as it is kept: NFC, without spaces around it."""
    return unicodedata.normalize("NFC", name.removeprefix(_BYTE_ORDER_MARK)).strip()


def check_names(names: Sequence[str]) -> None:
    """Raise Invalid unless the names can stand beside each other.

    Names that differ only in case are refused: SQL engines take them for one.
    """
    seen: dict[str, int] = {}
    errors: list[FieldError] = []
    for number, name in enumerate(names, start=1):
        reason = _fault(name)
        first = seen.setdefault(name.casefold(), number)
        if reason is None and first != number:
            same = "the name" if names[first - 1] == name else "but for its case, the name"
            reason = ("duplicate_name", f"{same} of column {first} too")
        if reason is not None:
            code, why = reason
            shown = name[:LONGEST_NAME]
            errors.append(
                FieldError(f"/columns/{escape(shown)}", code, f"Column {number}, {shown!r}: {why}")
            )
    if errors:
        raise Invalid("The names of the columns can't be used", errors=errors[:_MOST_LISTED])


def _fault(name: str) -> tuple[str, str] | None:
    if not name:
        return "empty_name", "a column needs a name"
    if len(name) > LONGEST_NAME:
        return "long_name", f"a name has at most {LONGEST_NAME} characters"
    if any(unicodedata.category(letter) in _CONTROLS for letter in name):
        return "control_character", "a name has no control characters"
    return None


def check_width(width: int, most: int) -> None:
    """Raise Invalid for too many columns."""
    if width > most:
        raise Invalid.at(
            "/columns", "too_many_columns", f"{width} columns; at most {most} are taken"
        )
