"""Which rows a model is fitted on, and which ones it is judged by."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from app.training.fit.spec import FitError, Validation
from app.training.fit.table import Table

Rows = NDArray[np.int64]

FEWEST_ROWS: Final = 5


@dataclass(frozen=True)
class Split:
    """Row numbers, both in ascending order."""

    train: Rows
    test: Rows


@dataclass(frozen=True)
class Splits:
    """One split, or one a fold, and how they came about."""

    splits: Sequence[Split]
    account: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def make_splits(
    validation: Validation, table: Table, classes: NDArray[Any] | None, random_state: int
) -> Splits:
    """Split the rows of the table; ``classes`` are those of the target, None unless it has some.

    Raises ``FitError`` when there are too few rows, or a split in time isn't possible.
    """
    if table.rows < FEWEST_ROWS:
        told = f"{table.rows} row{'s' if table.rows != 1 else ''}"
        raise FitError(f"{told} to learn from are too few; at least {FEWEST_ROWS} are needed.")
    if validation.method == "cross_validation":
        return _folds(validation, table.rows, classes, random_state)
    if validation.method == "time_split":
        return _in_time(validation, table)
    return _holdout(validation, table.rows, classes, random_state)


def _holdout(
    validation: Validation, rows: int, classes: NDArray[Any] | None, random_state: int
) -> Splits:
    held_out = max(1, round(rows * validation.test_fraction))
    stratified = False
    if classes is not None:
        counts = np.unique(classes, return_counts=True)[1]
        # Both parts must have room for a row of each class.
        stratified = counts.min() > 1 and len(counts) <= min(held_out, rows - held_out)
    train, test = train_test_split(
        np.arange(rows),
        test_size=held_out,
        random_state=random_state,
        stratify=classes if stratified else None,
    )
    account = {
        "method": "holdout",
        "test_fraction": validation.test_fraction,
        "stratified": bool(stratified),
        "train_rows": len(train),
        "test_rows": len(test),
    }
    notes = [] if stratified or classes is None else ["too few rows to hold out some of each class"]
    return Splits([Split(np.sort(train), np.sort(test))], account, notes)


def _folds(
    validation: Validation, rows: int, classes: NDArray[Any] | None, random_state: int
) -> Splits:
    if rows < 2 * validation.folds:
        raise FitError(f"{rows} rows are too few for {validation.folds} folds.")
    smallest = 0 if classes is None else int(np.unique(classes, return_counts=True)[1].min())
    stratified = smallest >= validation.folds
    folds = (StratifiedKFold if stratified else KFold)(
        validation.folds, shuffle=True, random_state=random_state
    )
    splits = [Split(train, test) for train, test in folds.split(np.zeros(rows), classes)]
    account = {
        "method": "cross_validation",
        "folds": validation.folds,
        "stratified": stratified,
        "train_rows": len(splits[0].train),
        "test_rows": len(splits[0].test),
    }
    notes = [] if stratified or classes is None else ["a class has fewer rows than there are folds"]
    return Splits(splits, account, notes)


def _in_time(validation: Validation, table: Table) -> Splits:
    """The last rows in time are held out; rows of one moment are never on both sides."""
    column = validation.column or ""
    moments = np.ma.getdata(table.columns[column]).astype("datetime64[us]")
    undated = table.missing(column)
    ordered = np.sort(moments[~undated])
    if len(ordered) < FEWEST_ROWS or ordered[0] == ordered[-1]:
        raise FitError(f"'{column}' has too few different moments to split the rows in time.")
    cut = ordered[min(round(len(ordered) * (1 - validation.test_fraction)), len(ordered) - 1)]
    if cut == ordered[0]:
        cut = ordered[np.searchsorted(ordered, cut, side="right")]
    late = ~undated & (moments >= cut)
    train, test = np.flatnonzero(~late), np.flatnonzero(late)
    account = {
        "method": "time_split",
        "column": column,
        "test_fraction": validation.test_fraction,
        "cut": f"{np.datetime_as_string(cut, unit='us')}Z",
        "train_rows": len(train),
        "test_rows": len(test),
    }
    notes = [f"{undated.sum()} rows without '{column}' are used for training only"]
    return Splits([Split(train, test)], account, notes if undated.any() else [])
