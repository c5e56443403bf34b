"""Decides what becomes of each column of a table, from its type and its values, and says so.

The decisions are made once for a run, over all its rows, without looking at the target. What is
*learnt* from values (medians, categories, weights) is learnt later, from the training rows only.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from app.scoring.estimator import data_frame
from app.scoring.frame import PreparedColumn, Recipe, prepare
from app.training.fit.spec import FitError
from app.training.fit.table import Table

MOST_LEVELS: Final = 40
"""Up to so many levels a string is a category of its own columns; above, it is target-encoded."""
IDENTIFIER_SHARE: Final = 0.95
WORDS_OF_TEXT: Final = 3.5
CHARACTERS_OF_TEXT: Final = 30
DATE_PARTS: Final = ("weekday", "hour", "day")
"""Never the month, the year or the moment itself: what is learnt from absolute time is past."""
SAMPLED: Final = 5000
FEW_ROWS: Final = 20
SAME: Final = 0.95
WORD: Final = re.compile(r"\w\w+")


@dataclass(frozen=True)
class Treatment:
    """A prepared column, and how its values are to be turned into numbers.

    ``kind`` is ``numbers``, ``levels`` (a category of few levels), ``many_levels`` or ``text``;
    ``size`` is the number of levels, or of words; ``gaps`` tells whether values are missing.
    """

    column: PreparedColumn
    kind: str
    size: int = 1
    gaps: bool = False


@dataclass(frozen=True)
class Decision:
    """What became of one column: the prepared columns, or none, and why."""

    column: str
    used_as: str
    prepared: tuple[str, ...]
    reason: str

    @property
    def dropped(self) -> bool:
        """Whether the model doesn't see the column."""
        return not self.prepared

    def as_dict(self) -> dict[str, Any]:
        """The form in the report."""
        told = {"column": self.column, "used_as": self.used_as, "reason": self.reason}
        return {**told, "prepared": list(self.prepared)}


@dataclass(frozen=True)
class Columns:
    """All decisions of a run."""

    treatments: tuple[Treatment, ...]
    decisions: tuple[Decision, ...]

    @property
    def recipe(self) -> Recipe:
        """How to make the prepared frame from raw columns."""
        return Recipe(tuple(treatment.column for treatment in self.treatments))

    @property
    def features(self) -> list[str]:
        """The raw columns that the model needs, in the order of the request."""
        return [decision.column for decision in self.decisions if not decision.dropped]

    def known_in(self, frame: pd.DataFrame) -> "Columns":
        """Without the prepared columns that have no value at all among these rows."""
        kept = tuple(item for item in self.treatments if _has_values(frame[item.column.name]))
        if not kept:
            raise FitError("No column has a value among the training rows.")
        return Columns(kept, self.decisions)

    def of_kind(self, *kinds: str) -> list[Treatment]:
        """The treatments of these kinds, in order."""
        return [treatment for treatment in self.treatments if treatment.kind in kinds]


def decide_columns(table: Table, wanted: Sequence[str], *, named: bool) -> Columns:
    """Decide on each wanted column; ``named`` if the client listed them himself.

    A column that the client named is dropped only if nothing can be learnt from it; identifiers
    are dropped otherwise. Raises ``FitError`` when nothing is left.
    """
    decided = [_decide(table, name, named=named) for name in wanted]
    if all(decision.dropped for decision, _ in decided) and not named:
        decided = [_decide(table, name, named=True) for name in wanted]
    treatments = tuple(treatment for _, found in decided for treatment in found)
    decisions = tuple(decision for decision, _ in decided)
    if not treatments:
        reasons = "; ".join(f"{item.column}: {item.reason}" for item in decisions[:5])
        raise FitError(f"No column is left that a model could learn from ({reasons}).")
    return Columns(treatments, decisions)


def as_frame(columns: Columns, table: Table) -> pd.DataFrame:
    """The prepared frame that pipelines are fitted on."""
    return data_frame(prepare(columns.recipe, table.columns))


def _has_values(column: Any) -> bool:
    return bool((column.notna() & (column != "")).any())


Decided = tuple[Decision, list[Treatment]]


def _decide(table: Table, name: str, *, named: bool) -> Decided:
    known = table.known(name)
    gaps = len(known) < table.rows
    kind = table.types[name]
    useless = _nothing_to_learn(known, gaps=gaps)
    if not useless and kind == "integer" and not named:
        useless = _no_quantity(table, name, known, gaps=gaps)
    if useless:
        return _drop(name, useless)
    if kind == "datetime":
        return _dates(table, name, gaps=gaps)
    if kind == "string":
        return _strings(known, name, gaps=gaps, named=named)
    column = PreparedColumn(name, name, "number")
    reason = f"{kind} column" + (", missing values" if gaps else "")
    decision = Decision(name, "number", (name,), reason)
    return decision, [Treatment(column, "numbers", gaps=gaps)]


def _nothing_to_learn(known: Any, *, gaps: bool) -> str:
    if not len(known):
        return "every value is missing"
    return "" if gaps or (known != known[0]).any() else "every row has the same value"


def _no_quantity(table: Table, name: str, known: Any, *, gaps: bool) -> str:
    if not gaps and len(known) >= FEW_ROWS and bool((np.diff(known) == 1).all()):
        return "it counts the rows"
    return _repeats_a_date(table, name)


def _strings(known: Any, name: str, *, gaps: bool, named: bool) -> Decided:
    levels = len(pd.unique(known))
    sample = known[:: max(1, len(known) // SAMPLED)]
    characters = float(np.mean([len(value) for value in sample]))
    words = float(np.mean([len(WORD.findall(value)) for value in sample]))
    mostly_unique = levels >= IDENTIFIER_SHARE * len(known) and len(known) >= FEW_ROWS
    long = words >= WORDS_OF_TEXT or (characters >= CHARACTERS_OF_TEXT and words >= 1)
    if long and levels > MOST_LEVELS:
        vocabulary = len({word for value in sample for word in WORD.findall(value.lower())})
        column = PreparedColumn(name, name, "text")
        decision = Decision(name, "text", (name,), f"{words:.0f} words a row on the average")
        return decision, [Treatment(column, "text", vocabulary, gaps)]
    if mostly_unique and not named:
        share = levels / len(known)
        return _drop(name, f"{share:.0%} of its values occur once: it names rows")
    kind = "levels" if levels <= MOST_LEVELS else "many_levels"
    column = PreparedColumn(name, name, "category")
    decision = Decision(name, "category", (name,), f"{levels} levels")
    return decision, [Treatment(column, kind, levels, gaps)]


def _dates(table: Table, name: str, *, gaps: bool) -> Decided:
    parts = [_part(table, name, part) for part in DATE_PARTS]
    made = prepare(Recipe(tuple(parts)), {name: table.columns[name]})
    varied = [part for part in parts if np.nanmin(made[part.name]) < np.nanmax(made[part.name])]
    if not varied:
        return _drop(name, "its weekday, hour and day of the month never change")
    names = tuple(part.name for part in varied)
    told = ", ".join(str(part.part) for part in varied)
    decision = Decision(name, "date", names, f"{told}; not the date itself, which only moves on")
    return decision, [Treatment(part, "numbers", gaps=gaps) for part in varied]


def _part(table: Table, name: str, part: str) -> PreparedColumn:
    prepared = f"{name}__{part}"
    while prepared in table.types:
        prepared += "_"
    return PreparedColumn(prepared, name, "date_part", part)


def _repeats_a_date(table: Table, name: str) -> str:
    """Which date the column has the month or year of, if any: absolute time by another name."""
    for date, kind in table.types.items():
        if kind != "datetime":
            continue
        both = ~table.missing(date) & ~table.missing(name)
        values = np.ma.getdata(table.columns[name])[both]
        moments = {date: np.ma.getdata(table.columns[date])[both]}
        for part in ("month", "year"):
            made = prepare(Recipe((PreparedColumn(part, date, "date_part", part),)), moments)[part]
            # Not all: the date is in UTC, the column often in local time.
            if len(values) >= FEW_ROWS and np.mean(values == made) >= SAME:
                return f"it is the {part} of '{date}', which only moves on"
    return ""


def _drop(name: str, reason: str) -> Decided:
    return Decision(name, "dropped", (), reason), []
