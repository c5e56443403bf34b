"""How a step deals with one row: the forms between two steps, and who makes its way.

For a row of a request numpy spends more on making its arrays than on what it does with them. So a
step that is arithmetic by column has a second form (``ways``), which works on a list, in the same
order of the same float64 operations: the answers are those of a batch, to the last bit. Steps
without such a form get the arrays that they want, with one row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, NamedTuple

import numpy as np

from app.scoring.cores import Judged
from app.scoring.encoder import Row
from app.scoring.step import Step

Way = Callable[[Any], Any]


class Form(Enum):
    """How one row stands between two steps."""

    ROW = auto()
    """A list of the prepared values, in the order of the recipe."""
    LEVELS = auto()
    """A list of categories, one per column."""
    CELLS = auto()
    """A list of the floats of a matrix of one row."""
    NUMBER = auto()
    """A float: an array of shape (1,)."""
    JUDGED = auto()
    """An ``Opined``."""
    ARRAYS = auto()
    """What the steps give each other: a matrix, a ``Judged`` .. with one row."""


class Opined(NamedTuple):
    """A ``Judged`` of one row; ``decision`` is one number for two classes."""

    label: int
    shares: list[float] | None
    decision: Any


@dataclass(frozen=True)
class Piece:
    """A step's way with one row."""

    run: Way
    gives: Form


def judged(one: Opined) -> Judged:
    shares = None if one.shares is None else np.array([one.shares])
    return Judged(np.array([one.label]), shares, np.array([one.decision]))


TO_ARRAYS: Final[Mapping[Form, Way]] = {
    Form.ROW: Row,
    Form.LEVELS: lambda levels: [[level] for level in levels],
    Form.CELLS: lambda cells: np.array([cells]),
    Form.NUMBER: lambda number: np.array([number]),
    Form.JUDGED: judged,
}
MAKERS: dict[tuple[type[Step], Form], Callable[[Any, Form], Piece | None]] = {}


def piece_of(step: Step, takes: Form) -> Piece:
    """The step's way with a row in this form."""
    make = MAKERS.get((type(step), takes))
    return (make and make(step, takes)) or Piece(_after(takes, step), Form.ARRAYS)


def _after(form: Form, way: Way) -> Way:
    """``way`` takes arrays; this takes the row in ``form``."""
    enter = TO_ARRAYS.get(form)
    return way if enter is None else lambda value: way(enter(value))


Maker = Callable[[Any, Form], Piece | None]


def a_way_for(kind: type[Step], *forms: Form) -> Callable[[Maker], Maker]:
    """What is decorated makes the piece of such a step, or None where it has no form of its own."""

    def keep(make: Maker) -> Maker:
        MAKERS.update({(kind, form): make for form in forms or Form})
        return make

    return keep
