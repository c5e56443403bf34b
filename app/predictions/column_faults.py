"""What is wrong with the columns of a table that was sent, told as for JSON's ``columns`` and
``rows``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.kernel.errors import FieldError, Invalid
from app.kernel.repeated import Repeated
from app.predictions.inputs import CHECKS, MOST_ERRORS, heading_faults, null_fault, too_many_rows

Faulty = NDArray[np.bool_]
OUT_OF_RANGE: Final = "out_of_range"


class TableFaults:
    """Gathers what is wrong with the cells of a table; ``refuse`` raises it."""

    def __init__(self) -> None:
        self._found: list[tuple[int, int, FieldError]] = []

    def add(self, place: int, faulty: Faulty, code: str, detail: str, allowed: Any = None) -> None:
        """Each row in which the column at a place is faulty."""
        for row in np.flatnonzero(faulty)[:MOST_ERRORS].tolist():
            fault = FieldError(f"/rows/{row}/{place}", code, detail, allowed)
            self._found.append((row, place, fault))

    def add_type(self, place: int, faulty: Faulty, wanted: str) -> None:
        """... is not of the type of its column."""
        self.add(place, faulty, "type", f"Must be {CHECKS[wanted][1]}", {"type": wanted})

    def add_missing(self, place: int, missing: Faulty | None, column: Mapping[str, Any]) -> None:
        """... is missing in a column that knows no missing values."""
        if missing is not None and not column["nullable"]:
            told = null_fault("")
            self.add(place, missing, told.code, told.detail)

    def add_texts(self, place: int, texts: Sequence[str | None], wanted: str) -> None:
        """... is no text that can be kept, or no moment where one is wanted."""
        different = texts.values if isinstance(texts, Repeated) else texts
        if "\0" in "".join(filter(None, different)):
            bad = _cells(texts, lambda text: "\0" in text)
            self.add(place, bad, "invalid_text", "NUL can't be kept")
        if wanted == "datetime":
            is_moment = CHECKS[wanted][0]
            self.add_type(place, _cells(texts, lambda text: not is_moment(text)), wanted)

    def refuse(self) -> None:
        """Raise Invalid if anything was found: by rows, as one reads."""
        if self._found:
            ordered = sorted(self._found, key=lambda found: found[:2])
            refuse(fault for _, _, fault in ordered)


def _cells(texts: Sequence[str | None], is_faulty: Callable[[str], bool]) -> Faulty:
    if isinstance(texts, Repeated):
        return _cells(texts.values, is_faulty)[texts.codes]
    return np.array([text is not None and is_faulty(text) for text in texts], dtype=bool)


def refuse(faults: Iterator[FieldError]) -> None:
    """Raise Invalid if there is a fault."""
    found = [fault for fault, _ in zip(faults, range(MOST_ERRORS), strict=False)]
    if found:
        raise Invalid("The rows don't fit the model's signature", errors=found)


def check_heading(names: Sequence[str], inputs: Sequence[Mapping[str, Any]]) -> None:
    """Raise Invalid unless the names are those of the signature, each once."""
    refuse(heading_faults(names, {column["name"]: column for column in inputs}))


def check_rows(rows: int, most_rows: int) -> None:
    """Raise Invalid without rows, TooLarge for too many."""
    if rows > most_rows:
        raise too_many_rows(most_rows)
    if not rows:
        raise Invalid.at("/rows", "no_rows", "The table has no rows")
