"""The tables that scikit-learn brings, made harder: with gaps, and with categories of our own."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from sklearn import datasets

Column = Sequence[Any]


@dataclass(frozen=True)
class Table:
    """Columns of Python values, None where one is missing, and which of them to predict."""

    name: str
    columns: Mapping[str, Column]
    target: str

    @property
    def features(self) -> list[str]:
        """All columns but the target."""
        return [name for name in self.columns if name != self.target]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The features, row by row."""
        cells = zip(*(self.columns[name] for name in self.features), strict=True)
        return [dict(zip(self.features, row, strict=True)) for row in cells]

    @property
    def is_regression(self) -> bool:
        """Whether the target is a quantity."""
        return isinstance(self.columns[self.target][0], float)

    def as_csv(self) -> bytes:
        """The table as a client would send it."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        for row in zip(*self.columns.values(), strict=True):
            writer.writerow(["" if cell is None else cell for cell in row])
        return text.getvalue().encode()


def _numbers(loaded: Any, divisor: float = 1.0) -> dict[str, list[Any]]:
    names = [str(name) for name in loaded.feature_names]
    return dict(zip(names, (loaded.data / divisor).T.tolist(), strict=True))


def _gappy(values: Column, share: float, seed: int) -> list[Any]:
    gone = np.random.default_rng(seed).random(len(values)) < share
    return [None if absent else value for absent, value in zip(gone, values, strict=True)]


def _drawn(levels: Sequence[str], rows: int, seed: int) -> list[str]:
    places = np.random.default_rng(seed).integers(0, len(levels), rows)
    return [levels[place] for place in places]


def _iris() -> Table:
    loaded = datasets.load_iris()
    columns = _numbers(loaded)
    columns["petal width (cm)"] = _gappy(columns["petal width (cm)"], 0.15, 1)
    columns["site"] = _gappy(_drawn(["north", "Süd", "west"], 150, 2), 0.1, 3)
    species = [str(loaded.target_names[place]) for place in loaded.target]
    return Table("iris", {**columns, "species": species}, "species")


def _wine() -> Table:
    loaded = datasets.load_wine()
    columns = _numbers(loaded)
    columns["proline"] = _gappy(columns["proline"], 0.1, 4)
    columns["hue"] = _gappy(columns["hue"], 0.05, 5)
    return Table("wine", {**columns, "class": loaded.target.tolist()}, "class")


def _breast_cancer() -> Table:
    loaded = datasets.load_breast_cancer()
    columns = _numbers(loaded)
    columns["mean area"] = _gappy(columns["mean area"], 0.1, 6)
    # Too many levels for columns of their own; the rare ones of `ward` fall together.
    columns["clinic"] = _drawn([f"clinic {number}" for number in range(60)], 569, 7)
    columns["ward"] = _gappy(_drawn([*"abcabcabcabcabcabcabcd"], 569, 8), 0.05, 9)
    benign = [bool(value) for value in loaded.target]
    return Table("breast_cancer", {**columns, "benign": benign}, "benign")


def _diabetes() -> Table:
    loaded = datasets.load_diabetes()
    columns = _numbers(loaded)
    columns["bmi"] = _gappy(columns["bmi"], 0.1, 10)
    columns["smoker"] = _gappy(_drawn(["no", "yes", "given up"], 442, 11), 0.1, 12)
    return Table("diabetes", {**columns, "progression": loaded.target.tolist()}, "progression")


def _digits() -> Table:
    loaded = datasets.load_digits()
    # As shares, not as whole numbers: values between two shades are legal too.
    columns = _numbers(loaded, 16.0)
    return Table("digits", {**columns, "digit": loaded.target.tolist()}, "digit")


_MAKERS: Mapping[str, Callable[[], Table]] = {
    "iris": _iris,
    "wine": _wine,
    "breast_cancer": _breast_cancer,
    "diabetes": _diabetes,
    "digits": _digits,
}


@cache
def table(name: str) -> Table:
    """One of the five."""
    return _MAKERS[name]()
