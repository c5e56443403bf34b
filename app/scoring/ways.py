"""Steps as plain functions of one row's numbers; see ``pieces``."""

import math
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final

import numpy as np

from app.scoring.categories import WIDE, Codes, FillLevels, OneHot
from app.scoring.cores import Affine, Column, JudgeMany, JudgeTwo, Values
from app.scoring.encoder import Levels, Numbers, PickColumns, PickLevels, Together, known
from app.scoring.ensembles import Blend, Opinion, Shares
from app.scoring.masks import MaskedTrees
from app.scoring.matrix import side_by_side
from app.scoring.numbers import Impute, RefuseEndless, RefuseMissing, Scale
from app.scoring.pieces import TO_ARRAYS, Form, Opined, Piece, Way, a_way_for, piece_of
from app.scoring.step import Chain
from app.scoring.trees import TreeSums

_FEW: Final = 8
"""From so many numbers on, numpy adds up in another order than one after the other."""


@a_way_for(Chain)
def _chain(step: Chain, takes: Form) -> Piece:
    ways: list[Way] = []
    for part in step.steps:
        piece = piece_of(part, takes)
        ways.append(piece.run)
        takes = piece.gives

    def run(value: Any) -> Any:
        for way in ways:
            value = way(value)
        return value

    return Piece(ways[0] if len(ways) == 1 else run, takes)


@a_way_for(Together)
def _together(step: Together, takes: Form) -> Piece:
    pieces = [piece_of(branch, takes) for branch in step.branches]
    ways = [piece.run for piece in pieces]
    if all(piece.gives is Form.CELLS for piece in pieces):

        def run(value: Any) -> list[float]:
            cells: list[float] = []
            for way in ways:
                cells += way(value)
            return cells

        return Piece(run, Form.CELLS)
    arrays = [_made(piece) for piece in pieces]
    return Piece(lambda value: side_by_side([way(value) for way in arrays]), Form.ARRAYS)


def _made(piece: Piece) -> Way:
    """The piece's way, ending in arrays."""
    leave = TO_ARRAYS.get(piece.gives)
    return piece.run if leave is None else lambda value: leave(piece.run(value))


def _picked(places: Sequence[int]) -> Way:
    if len(places) < 2:
        return lambda values: [values[place] for place in places]
    pick = itemgetter(*places)
    return lambda values: list(pick(values))


@a_way_for(Numbers, Form.ROW)
def _numbers(step: Numbers, _: Form) -> Piece:
    return Piece(_picked(step.columns), Form.CELLS)


@a_way_for(Levels, Form.ROW)
def _levels(step: Levels, _: Form) -> Piece:
    columns = step.columns
    return Piece(lambda row: [known(row[column]) for column in columns], Form.LEVELS)


@a_way_for(PickLevels, Form.LEVELS)
def _pick_levels(step: PickLevels, _: Form) -> Piece:
    return Piece(_picked(step.columns), Form.LEVELS)


@a_way_for(PickColumns, Form.CELLS)
def _pick_columns(step: PickColumns, _: Form) -> Piece:
    return Piece(_picked(step.columns), Form.CELLS)


@a_way_for(FillLevels, Form.LEVELS)
def _fill_levels(step: FillLevels, _: Form) -> Piece:
    fill = step.fill

    def run(levels: list[Any]) -> list[Any]:
        return [
            instead if level is None else level for level, instead in zip(levels, fill, strict=True)
        ]

    return Piece(run, Form.LEVELS)


@a_way_for(OneHot, Form.LEVELS)
def _one_hot(step: OneHot, _: Form) -> Piece | None:
    if step.width >= WIDE or step.refuse_unknown:
        return None
    looks = list(zip(step.tables, step.unknown, strict=True))
    # The last cell takes every code of -1, and is cut off.
    nothing = [0.0] * (step.width + 1)

    def run(levels: list[Any]) -> list[float]:
        cells = nothing.copy()
        for level, (table, unknown) in zip(levels, looks, strict=True):
            cells[table.get(level, unknown)] = 1.0
        cells.pop()
        return cells

    return Piece(run, Form.CELLS)


@a_way_for(Codes, Form.LEVELS)
def _codes(step: Codes, _: Form) -> Piece | None:
    if step.refuse_unknown:
        return None
    looks = list(zip(step.places, step.numbers, strict=True))

    def run(levels: list[Any]) -> list[float]:
        cells: list[float] = []
        for level, (places, numbers) in zip(levels, looks, strict=True):
            cells += numbers[places.get(level, -1)]
        return cells

    return Piece(run, Form.CELLS)


@a_way_for(Impute, Form.CELLS)
def _impute(step: Impute, _: Form) -> Piece | None:
    if step.missing is not None:
        return None
    kept, indicated = step.kept.tolist(), step.indicated.tolist()
    fill = step.fill.tolist()
    if kept == list(range(len(kept))) and not indicated:

        def fill_in(cells: list[float]) -> list[float]:
            return [
                instead if cell != cell else cell  # noqa: PLR0124 (so is NaN, and nothing else)
                for cell, instead in zip(cells, fill, strict=False)
            ]

        return Piece(fill_in, Form.CELLS)

    pairs = list(zip(kept, fill, strict=True))

    def run(cells: list[float]) -> list[float]:
        gone = [cell != cell for cell in cells]  # noqa: PLR0124 (so is NaN, and nothing else)
        filled = [instead if gone[place] else cells[place] for place, instead in pairs]
        return filled + [float(gone[place]) for place in indicated]

    return Piece(run, Form.CELLS)


@a_way_for(Scale, Form.CELLS)
def _scale(step: Scale, _: Form) -> Piece | None:
    shift = None if step.shift is None else step.shift.tolist()
    divisor = None if step.divisor is None else step.divisor.tolist()
    if divisor is not None and 0.0 in divisor:
        return None

    def run(cells: list[float]) -> list[float]:
        if shift is not None and divisor is not None:
            return [(x - y) / z for x, y, z in zip(cells, shift, divisor, strict=True)]
        if shift is not None:
            return [x - y for x, y in zip(cells, shift, strict=True)]
        if divisor is not None:
            return [x / z for x, z in zip(cells, divisor, strict=True)]
        return cells

    return Piece(run, Form.CELLS)


@a_way_for(RefuseMissing, Form.CELLS)
def _refuse_missing(step: RefuseMissing, _: Form) -> Piece:
    def run(cells: list[float]) -> list[float]:
        # A sum is NaN if a number is, or if there are infinities of both signs.
        total = sum(cells)
        if total != total:  # noqa: PLR0124
            step(np.array([cells]))
        return cells

    return Piece(run, Form.CELLS)


@a_way_for(RefuseEndless, Form.CELLS)
def _refuse_endless(step: RefuseEndless, _: Form) -> Piece:
    def run(cells: list[float]) -> list[float]:
        if not math.isfinite(sum(cells)):
            step(np.array([cells]))
        return cells

    return Piece(run, Form.CELLS)


@a_way_for(Affine, Form.CELLS, Form.ARRAYS)
def _affine(step: Affine, takes: Form) -> Piece:
    weights, bias = step.weights, step.bias.tolist()

    def by_cells(cells: list[float]) -> list[float]:
        scores = np.array([cells]).dot(weights).tolist()[0]
        return [score + more for score, more in zip(scores, bias, strict=True)]

    def by_arrays(value: Any) -> Any:
        return step(value).tolist()[0]

    return Piece(by_cells if takes is Form.CELLS else by_arrays, Form.CELLS)


@a_way_for(MaskedTrees, Form.CELLS)
def _masked_trees(step: MaskedTrees, takes: Form) -> Piece | None:
    return _tree_sums(step.trees, takes)


@a_way_for(TreeSums, Form.CELLS)
def _tree_sums(step: TreeSums, _: Form) -> Piece | None:
    if step.divisor == 0 or step.base.ndim != 1:
        return None
    base, divisor = step.base.tolist(), step.divisor

    def run(cells: list[float]) -> list[float]:
        sums = step.sums_of(cells)
        return [total / divisor + more for total, more in zip(sums, base, strict=True)]

    return Piece(run, Form.CELLS)


@a_way_for(JudgeTwo, Form.CELLS)
def _judge_two(step: JudgeTwo, _: Form) -> Piece | None:
    if step.link not in {"logistic", "identity", None}:
        return None
    link, factor, threshold, inclusive = step.link, step.factor, step.threshold, step.inclusive
    by_probability = step.by_probability and link is not None

    def run(cells: list[float]) -> Opined:
        score = cells[0]
        second = score * factor
        if link == "logistic":
            shrunk = float(np.exp(-abs(second)))
            second = (1.0 if second >= 0 else shrunk) / (1.0 + shrunk)
        judged = second if by_probability else score
        chosen = judged >= threshold if inclusive else judged > threshold
        return Opined(int(chosen), None if link is None else [1 - second, second], score)

    return Piece(run, Form.JUDGED)


@a_way_for(JudgeMany, Form.CELLS)
def _judge_many(step: JudgeMany, _: Form) -> Piece | None:
    if step.link not in {"softmax", "identity", None}:
        return None
    link, factor = step.link, step.factor

    def run(cells: list[float]) -> Opined:
        scores = cells if factor == 1.0 else [cell * factor for cell in cells]
        shares = None if link is None else scores
        if link == "softmax":
            greatest = max(scores)
            powers = np.exp(np.array([score - greatest for score in scores]))
            shares = _parts_of_one(powers)
        return Opined(cells.index(max(cells)), shares, cells)

    return Piece(run, Form.JUDGED)


def _parts_of_one(powers: Any) -> list[float]:
    shares: list[float] = powers.tolist()
    if len(shares) < _FEW:
        total = 0.0
        for share in shares:
            total += share
    else:
        total = float(powers.sum())
    return [share / total for share in shares]


@a_way_for(Shares, Form.JUDGED)
def _shares(step: Shares, _: Form) -> Piece | None:
    if len(step.places) != step.classes:
        return None

    def run(one: Opined) -> list[float]:
        if one.shares is not None:
            return one.shares
        cells = [0.0] * step.classes
        cells[step.places[one.label]] = 1.0
        return cells

    return Piece(run, Form.CELLS)


@a_way_for(Opinion, Form.JUDGED)
def _opinion(step: Opinion, _: Form) -> Piece:
    def run(one: Opined) -> list[float]:
        if step.use == "labels":
            return [float(one.label)]
        if step.use == "decision" or one.shares is None:
            return one.decision if isinstance(one.decision, list) else [one.decision]
        return one.shares[1:] if step.use == "second" else one.shares

    return Piece(run, Form.CELLS)


@a_way_for(Values, Form.CELLS)
def _values(step: Values, _: Form) -> Piece | None:
    return Piece(itemgetter(0), Form.NUMBER) if step.function == "identity" else None


@a_way_for(Column, Form.NUMBER)
def _column(_step: Column, _: Form) -> Piece:
    return Piece(lambda number: [number], Form.CELLS)


@a_way_for(Blend)
def _blend(step: Blend, takes: Form) -> Piece | None:
    pieces = [piece_of(member, takes) for member in step.members]
    (form, *others) = {piece.gives for piece in pieces}
    weights = [1.0] * len(pieces) if step.weights is None else step.weights
    whole = sum(weights)
    if others or form not in {Form.CELLS, Form.NUMBER} or whole == 0:
        return None
    ways = [piece.run for piece in pieces]

    def mean(numbers: Sequence[float]) -> float:
        total = numbers[0] * weights[0]
        for number, weight in zip(numbers[1:], weights[1:], strict=True):
            total += number * weight
        return total / whole

    def run(value: Any) -> Any:
        given = [way(value) for way in ways]
        if form is Form.NUMBER:
            return mean(given)
        return [mean(numbers) for numbers in zip(*given, strict=True)]

    return Piece(run, form)
