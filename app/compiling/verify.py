"""Whether a compiled model says what scikit-learn says, on rows made to tell them apart.

Both get the same raw rows. The model is accepted if every number agrees within the tolerance, no
label differs except where scikit-learn itself is undecided, a row that one refuses the other
refuses too, and it makes no difference whether rows come together, alone, or with their columns in
another order.
"""

import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from sklearn.metrics.pairwise import euclidean_distances

from app.compiling.flow import NotCompilable, Plan
from app.compiling.masks import followed
from app.compiling.rows import RawRow, edge_rows, known_rows, real_rows, split_rows
from app.kernel.errors import Invalid
from app.scoring.estimator import answer, data_frame
from app.scoring.format import agree
from app.scoring.frame import Column, prepare
from app.scoring.model import CompiledModel, Golden
from app.scoring.scores import Array, Scores, joined

TOLERANCE: Final = 1e-9
"""Relative to the size of the numbers and to 1; what rounding of float64 does stays far below."""

SINGLES: Final = 40
UNSTEADY: Final = (
    "scikit-learn's own answers depend on which rows it is given together, which has no compiled "
    "form"
)
DOUBTFUL: Final = 60
UNSTEADY_SHARE: Final = 0.05
GOLDEN_ROWS: Final = 16
NUMBERS: Final = ("probabilities", "values", "unusual", "components")
CHOICES: Final = ("labels", "clusters", "outliers")

Ask = Callable[[Sequence[RawRow]], Scores]


@dataclass(frozen=True)
class Answers:
    """The answers to some of many rows; ``places`` are the rows that were not refused."""

    places: list[int]
    scores: Scores | None

    def only(self, places: Sequence[int]) -> dict[str, Array]:
        """The arrays for these rows, all of which were answered."""
        at = {place: position for position, place in enumerate(self.places)}
        positions = [at[place] for place in places]
        arrays = {} if self.scores is None else self.scores.arrays()
        return {name: array[positions] for name, array in arrays.items()}

    def keep(self, places: list[int]) -> "Answers":
        """The answers to these rows alone."""
        if self.scores is None:
            return self
        return Answers(places, Scores(self.scores.task, self.scores.classes, **self.only(places)))


def columns_of(rows: Sequence[RawRow]) -> dict[str, list[Any]]:
    """Rows as columns."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def ask(
    answer_to: Ask, rows: Sequence[RawRow], refusal: type[Exception], start: int = 0
) -> Answers:
    """Ask about all rows; where some are refused, find out which by asking about halves."""
    try:
        return Answers(list(range(start, start + len(rows))), answer_to(rows))
    except refusal:
        if len(rows) == 1:
            return Answers([], None)
    half = len(rows) // 2
    halves = [
        ask(answer_to, rows[:half], refusal, start),
        ask(answer_to, rows[half:], refusal, start + half),
    ]
    told = [part.scores for part in halves if part.scores is not None]
    places = [place for part in halves for place in part.places]
    return Answers(places, joined(told) if told else None)


class Verification:
    """One comparison of a compiled model with the pipeline that it was compiled from."""

    def __init__(self, model: CompiledModel, pipeline: Any, seed: int) -> None:
        self.model = model
        self.pipeline = pipeline
        self.seed = seed
        self.rows: list[RawRow] = []
        self.max_abs_diff = 0.0
        self.label_flips = 0

    def as_dict(self) -> dict[str, Any]:
        """What is told of an accepted model."""
        return {
            "rows": len(self.rows),
            "max_abs_diff": self.max_abs_diff,
            "label_flips": self.label_flips,
        }

    def run(
        self, inputs: Sequence[Mapping[str, Any]], sample: Mapping[str, Column], plan: Plan
    ) -> Golden:
        """Compare; returns golden rows, or raises ``NotCompilable`` with what is wrong."""
        recipe = self.model.recipe
        real = real_rows(sample, recipe.sources, self.seed)
        moved = split_rows(real, recipe, plan.splits, self.seed)
        known = known_rows(real, recipe, plan, self.seed)
        edges = edge_rows(real, recipe, inputs, self.seed)
        return self.compare([*real, *moved, *known, *edges], len(real))

    def compare(self, rows: Sequence[RawRow], real: int) -> Golden:
        """The same on these rows, of which the first are ``real`` ones, of usual size."""
        self.rows = list(rows)
        expected = self._expected(real)
        given = self._given(real)
        if given.places != expected.places:
            row = min(set(given.places) ^ set(expected.places))
            engine = "scikit-learn" if row in set(given.places) else "the compiled form"
            raise NotCompilable(f"{engine} alone refuses a row like {self.rows[row]!r:.500}")
        expected, given = self._without_unsteady(expected, given, real)
        decided = self._compare(expected, given, real)
        self._compare_followed(given.places)
        self._compare_alone(expected, given, real)
        return self._golden(expected, decided, real)

    def _expected(self, real: int) -> Answers:
        """What scikit-learn says; a number that is not finite counts as a refusal."""
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            first = ask(self._sklearn, self.rows[:real], ValueError)
            if len(first.places) < real:
                raise NotCompilable("scikit-learn refuses rows of the training data")
            other = ask(self._sklearn, self.rows[real:], ValueError, real)
        parts = [part.scores for part in (first, other) if part.scores is not None]
        answers = Answers([*first.places, *other.places], joined(parts))
        finite = np.ones(len(answers.places), dtype=bool)
        for name, array in answers.only(answers.places).items():
            if name in NUMBERS:
                finite &= np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        if not finite[:real].any():
            raise NotCompilable("scikit-learn has no finite answer to any row of the training data")
        return answers.keep([p for p, sound in zip(answers.places, finite, strict=True) if sound])

    def _given(self, real: int) -> Answers:
        """What the compiled form says, about the same lots of rows."""
        first = ask(self._compiled, self.rows[:real], Invalid)
        other = ask(self._compiled, self.rows[real:], Invalid, real)
        parts = [part.scores for part in (first, other) if part.scores is not None]
        return Answers([*first.places, *other.places], joined(parts) if parts else None)

    def _without_unsteady(
        self, expected: Answers, given: Answers, real: int
    ) -> tuple[Answers, Answers]:
        """Both without the rows of which scikit-learn alone says otherwise than among others.

        Where its rounding decides, as between neighbours that are equally far, or in the cosine of
        a huge number, there is nothing to agree with.
        """
        wanted, told = expected.only(expected.places), given.only(expected.places)
        rows = len(expected.places)
        differs = np.zeros(rows, dtype=bool)
        for name, array in wanted.items():
            differs |= _apart(told[name], array) > 0
        doubtful = [expected.places[at] for at in np.flatnonzero(differs).tolist()]
        if not doubtful or len(doubtful) > DOUBTFUL:
            return expected, given
        unsteady = {place for place in doubtful if self._is_unsteady(expected, place)}
        if sum(place < real for place in unsteady) > UNSTEADY_SHARE * real:
            raise NotCompilable(UNSTEADY)
        steady = [place for place in expected.places if place not in unsteady]
        return expected.keep(steady), given.keep(steady)

    def _is_unsteady(self, expected: Answers, place: int) -> bool:
        """Whether scikit-learn answers otherwise about this row when it is asked about it alone."""
        lone, among = self._lone(place), expected.only([place])
        return lone is None or any((_apart(lone[name], among[name]) > 0).any() for name in among)

    def _lone(self, place: int) -> dict[str, Array] | None:
        """What scikit-learn says of a row alone; None if it refuses it then."""
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            alone = ask(self._sklearn, [self.rows[place]], ValueError, place)
        return None if alone.scores is None else alone.only([place])

    def _sklearn(self, rows: Sequence[RawRow]) -> Scores:
        prepared = prepare(self.model.recipe, columns_of(rows))
        return answer(self.pipeline, prepared, self.model.output)

    def _compiled(self, rows: Sequence[RawRow]) -> Scores:
        return self.model.score(columns_of(rows))

    def _compare(self, expected: Answers, given: Answers, real: int) -> Array:
        """Compare numbers, then choices; returns which rows are decided beyond doubt."""
        wanted, told = expected.only(expected.places), given.only(given.places)
        allowed = np.full(len(expected.places), TOLERANCE)
        for name in NUMBERS:
            if name in wanted:
                allowed = self._compare_numbers(wanted[name], told[name], real, expected.places)
        undecided = self._undecided(wanted, expected.places, allowed)
        for name in CHOICES:
            if name in wanted:
                other = wanted[name] != told[name]
                self.label_flips = int((other & ~undecided).sum())
                if self.label_flips:
                    row = expected.places[int(np.argmax(other & ~undecided))]
                    raise NotCompilable(
                        f"{self.label_flips} of {len(other)} {name} differ from scikit-learn's, "
                        f"for example of {self.rows[row]!r:.500}"
                    )
        return ~undecided

    def _compare_numbers(
        self, wanted: Array, told: Array, real: int, places: Sequence[int]
    ) -> Array:
        """Compare one array of numbers; returns what each row is allowed to differ by."""
        rows = len(wanted)
        sizes = np.abs(wanted).reshape(rows, -1).max(axis=1)
        usual = 1.0 + float(sizes[:real].max())
        differences = np.abs(wanted - told).reshape(rows, -1).max(axis=1)
        allowed: Array = TOLERANCE * (usual + sizes)
        if not (differences <= allowed).all():
            row = int(np.argmax(differences / allowed))
            raise NotCompilable(
                f"its numbers differ from scikit-learn's by up to {differences[row]:.3g}, "
                f"for example of {self.rows[places[row]]!r:.500}"
            )
        self.max_abs_diff = float(differences[sizes <= 10 * usual].max())
        return allowed

    def _undecided(self, wanted: Mapping[str, Array], places: list[int], allowed: Array) -> Array:
        """Where scikit-learn's margin is no more than rounding."""
        if "probabilities" in wanted:
            return _margin(wanted["probabilities"]) <= 2 * allowed
        if "unusual" in wanted:
            return np.abs(wanted["unusual"]) <= 2 * allowed
        if not any(name in wanted for name in CHOICES):
            return np.zeros(len(places), dtype=bool)
        rows = [self.rows[place] for place in places]
        scores = _scores(self.pipeline, data_frame(prepare(self.model.recipe, columns_of(rows))))
        if scores is None:
            return np.zeros(len(places), dtype=bool)
        sizes = np.abs(scores).reshape(len(scores), -1).max(axis=1)
        undecided: Array = _margin(scores) <= 2 * TOLERANCE * (1 + sizes)
        return undecided

    def _compare_followed(self, places: Sequence[int]) -> None:
        """Small trees go one way with few rows, another with many: both add up the same leaves."""
        step = followed(self.model.step)
        if step is self.model.step:
            return
        columns = columns_of([self.rows[place] for place in places])
        told, wanted = (
            model.score(columns).arrays() for model in (self.model, replace(self.model, step=step))
        )
        for name, array in wanted.items():
            if not np.array_equal(told[name], array):
                raise NotCompilable(f"its {name} differ when the nodes of its trees are followed")

    def _compare_alone(self, expected: Answers, given: Answers, real: int) -> None:
        """Ask about some rows one by one, and about real ones with columns in another order."""
        draw = random.Random(self.seed)  # noqa: S311
        unsteady = 0
        for place in draw.sample(given.places, min(SINGLES, len(given.places))):
            row = self.rows[place]
            alone = self.model.alone(tuple(row)).scores(list(row.values())).arrays()
            if _same(alone, given.only([place])):
                continue
            lone = self._lone(place)
            if lone is not None and _same(lone, expected.only([place])):
                raise NotCompilable(f"it answers otherwise about one row alone: {row!r:.500}")
            unsteady += lone is None or not _same(alone, lone)
        if unsteady > UNSTEADY_SHARE * SINGLES:
            raise NotCompilable(UNSTEADY)
        places = [place for place in given.places if place < real]
        columns = columns_of([self.rows[place] for place in places])
        turned = {name: columns[name] for name in reversed(columns)}
        if not _same(self.model.score(turned).arrays(), given.only(places)):
            raise NotCompilable("it answers otherwise if the columns come in another order")

    def _golden(self, expected: Answers, decided: Array, real: int) -> Golden:
        """Rows of both sorts, of usual size and beyond doubt, with scikit-learn's answers."""
        sound = [p for p, clear in zip(expected.places, decided, strict=True) if clear]
        sound = sound or expected.places[:real]
        draw = random.Random(self.seed)  # noqa: S311
        ordinary = [place for place in sound if place < real]
        edges = [place for place in sound if place >= real]
        chosen = [
            *self._steady(draw.sample(ordinary, min(GOLDEN_ROWS, len(ordinary))), expected),
            *self._steady(draw.sample(edges, min(GOLDEN_ROWS, len(edges))), expected),
        ]
        if not chosen:
            raise NotCompilable(UNSTEADY)
        answers = expected.only(chosen)
        sizes = [float(np.abs(answers[name]).max()) for name in NUMBERS if name in answers]
        tolerance = 2 * TOLERANCE * (1.0 + max(sizes, default=0.0))
        return Golden(columns_of([self.rows[place] for place in chosen]), answers, tolerance)

    def _steady(self, places: Sequence[int], expected: Answers) -> list[int]:
        """Half as many golden rows, of those that get the same answer alone."""
        steady: list[int] = []
        for place in places:
            alone = self.model.score(columns_of([self.rows[place]])).arrays()
            if len(steady) < GOLDEN_ROWS // 2 and _same(alone, expected.only([place])):
                steady.append(place)
        return steady


def _scores(pipeline: Any, frame: pd.DataFrame) -> Array | None:
    """The scores of which a pipeline without probabilities chooses the greatest, if it has any."""
    for method, sign in (("decision_function", 1.0), ("transform", -1.0)):
        if hasattr(pipeline, method):
            return sign * np.asarray(getattr(pipeline, method)(frame), dtype=np.float64)
    estimate = getattr(pipeline[-1], "_estimate_weighted_log_prob", None)
    if estimate is not None:
        likelihoods: Array = estimate(pipeline[:-1].transform(frame))
        return likelihoods
    if not hasattr(pipeline[-1], "cluster_centers_"):
        return None
    centers = pipeline[-1].cluster_centers_
    distances: Array = euclidean_distances(pipeline[:-1].transform(frame), centers)
    return -distances


def _margin(scores: Array) -> Array:
    """How far the greatest number of each row is ahead of the next; of a single one, its size."""
    if scores.ndim == 1:
        return np.abs(scores)
    if scores.shape[1] < 2:
        return np.full(len(scores), np.inf)
    ordered = np.sort(scores, axis=1)
    ahead: Array = ordered[:, -1] - ordered[:, -2]
    return ahead


def _apart(one: Array, other: Array) -> Array:
    """By how much more than rounding each row of two arrays differs; 0 where it doesn't."""
    rows = len(one)
    if one.dtype.kind != "f":
        chosen: Array = (one != other).reshape(rows, -1).any(axis=1).astype(np.float64)
        return chosen
    sizes = 1.0 + np.abs(other).reshape(rows, -1).max(axis=1, initial=0.0)
    differences = np.abs(one - other).reshape(rows, -1).max(axis=1, initial=0.0)
    beyond: Array = np.maximum(differences - TOLERANCE * sizes, 0.0)
    return beyond


def _same(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    """Whether two answers to the same rows agree, but for rounding."""
    sizes = [np.abs(other[name]).max(initial=0.0) for name in NUMBERS if name in other]
    tolerance = TOLERANCE * (1.0 + float(max(sizes, default=0.0)))
    return all(agree(one[name], other[name], tolerance) for name in other)
