"""The rows that are refused: counted, the first of them listed, or put aside in a file.

Rows are numbered from 1, the header and blank lines aside.
"""

import json
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.datasets.ingest.open_file import HoldsFile
from app.kernel.errors import FieldError, Invalid, escape

MOST_LISTED = 100
_LONGEST_EXCERPT = 80


@dataclass(frozen=True)
class RowError:
    """Why a row is refused. ``column`` is None where it is the row as a whole."""

    row: int
    column: str | None
    code: str
    reason: str
    value: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The form that clients see, with an excerpt of the value."""
        told = {"row": self.row, "column": self.column, "reason": self.reason}
        return told if self.value is None else {**told, "value": excerpt(self.value)}

    def as_field_error(self) -> FieldError:
        """The form that every refusal has."""
        pointer = f"/rows/{self.row}"
        place = f"Row {self.row}"
        if self.column is not None:
            pointer, place = f"{pointer}/{escape(self.column)}", f"{place}, {self.column!r}"
        shown = "" if self.value is None else f": {excerpt(self.value)!r}"
        return FieldError(pointer, self.code, f"{place}: {self.reason}{shown}")


class RowErrors(HoldsFile):
    """Takes refused rows. With a ``rejects`` file they are put aside there, else they are fatal.

    A row that can't be split into values is refused while the file is read, one with a value of
    the wrong type afterwards: ``original`` tells the second step the row numbers of the first.
    """

    def __init__(self, rejects: Path | None, most_rejected: int) -> None:
        self.rows = 0
        self._listed: list[RowError] = []
        self._refused = array("Q")
        self._earlier = self._refused[:]
        self._most = most_rejected
        self._file = None if rejects is None else rejects.open("w", encoding="utf-8")

    @property
    def quarantine(self) -> bool:
        """Whether refused rows are put aside rather than fatal."""
        return self._file is not None

    def add(self, errors: list[RowError], raw: object) -> None:
        """Refuse a row for one or more reasons; ``raw`` is the text or the object it was."""
        self.rows += 1
        first = errors[0]
        self._listed += errors[: MOST_LISTED - len(self._listed)]
        if self._file is None:
            return
        if self.rows > self._most:
            raise self._refusal(f"More than {self._most} rows are bad, so none were put aside")
        self._refused.append(first.row)
        told = {"row": first.row, "column": first.column, "reason": first.reason, "raw": raw}
        self._file.write(json.dumps(told, ensure_ascii=False) + "\n")

    def count(self, rows: int) -> None:
        """Refuse further rows without listing them."""
        self.rows += rows

    def settle(self) -> None:
        """The rows refused so far are left out of what is read from now on."""
        self._earlier = self._refused[:]
        self.raise_if_fatal()

    def original(self, row: int) -> int:
        """The number in the file of the ``row``-th row that was left when ``settle`` was called."""
        number = row
        while (shifted := row + bisect_right(self._earlier, number)) != number:
            number = shifted
        return number

    def raise_if_fatal(self) -> None:
        """Raise Invalid if a row was refused and may not be put aside."""
        if self.rows and not self.quarantine:
            raise self._refusal(f"{self.rows} rows are bad" if self.rows > 1 else "A row is bad")

    def _refusal(self, detail: str) -> Invalid:
        return Invalid(
            detail,
            errors=[error.as_field_error() for error in self._listed],
            extra={
                "bad_rows": self.rows,
                "rows": [error.as_dict() for error in self._listed],
            },
        )


def excerpt(value: str) -> str:
    """The beginning of a value, fit for a message."""
    return value if len(value) <= _LONGEST_EXCERPT else f"{value[:_LONGEST_EXCERPT]}…"


def invalid_row(row: int, code: str, reason: str, value: str | None = None) -> Invalid:
    """A row after which the file can't be read on."""
    error = RowError(row, None, code, reason, value)
    return Invalid(
        f"Row {row}: {reason}",
        errors=[error.as_field_error()],
        extra={"bad_rows": 1, "rows": [error.as_dict()]},
    )
