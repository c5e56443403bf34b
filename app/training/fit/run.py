"""From a dataset version and a request to a fitted, judged and saved model.

Runs in a child process of its own, in this order: the table is read; the task, and what becomes of
each column, is decided; the model is fitted on one part of the rows and judged on the other; it is
fitted XX"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from app.compiling import NOT_YET
from app.training.fit.columns import Columns, as_frame, decide_columns
from app.training.fit.estimators import resolved
from app.training.fit.evaluation import Judged, judge
from app.training.fit.files import MODEL, clear, save_model
from app.training.fit.importances import SLOW, feature_importances
from app.training.fit.model import Fitted, Maker, fit
from app.training.fit.report import (
    as_warnings,
    library_versions,
    signature,
    target_summary,
    warning,
    warnings_of,
)
from app.training.fit.serving import load_saved, save_report, save_sample
from app.training.fit.spec import SUPERVISED, FitSpec, Validation
from app.training.fit.splits import Splits, make_splits
from app.training.fit.table import Table, read_table
from app.training.fit.target import read_target, task_of

Progress = Callable[[float, str, str], None]

PARALLEL_FROM: Final = 200_000


@dataclass(frozen=True)
class Prepared:
    """Everything that the fits need: decided, read and cut to the rows that have a target."""

    task: str
    table: Table
    whole: Table
    columns: Columns
    frame: pd.DataFrame
    target: NDArray[Any] | None
    validation: Validation
    warnings: list[dict[str, Any]]


def train(spec: FitSpec, parquet: Path, work: Path, progress: Progress) -> dict[str, Any]:
    """Train a model; leaves ``model.joblib``, ``report.json`` and ``sample.json`` in ``work``.

    ``progress`` is told the fraction done, the step and a message. Raises ``FitError`` where data
    and request don't make a model. A model that the server couldn't load again is an error.
    """
    started = time.perf_counter()
    clear(work)
    # The target encoder shuffles by numpy's global generator and takes no other.
    np.random.seed(spec.random_state)
    progress(0.0, "read", "Reading the table")
    prepared = _prepare(spec, parquet)
    # Below this, threads spend their time waiting for one another.
    cells = prepared.table.rows * len(prepared.columns.features)
    with threadpool_limits(spec.threads if cells >= PARALLEL_FROM else 1):
        splits = make_splits(
            prepared.validation, prepared.table, _classes(prepared), spec.random_state
        )
        maker = _maker(spec, prepared)
        judged = _judge(spec, prepared, splits, maker, progress)
        fitted = _final(spec, prepared, splits, maker, judged, progress)
        progress(0.8, "save", "Saving the model")
        report = _report(spec, prepared, splits, judged, fitted)
        report["seconds"] = round(time.perf_counter() - started, 3)
        save_model(fitted.model, work / MODEL)
        load_saved(work, report)
        save_sample(prepared.table, prepared.columns.features, work, spec.random_state)
        save_report(report, work)
    progress(0.85, "saved", "The model is saved")
    return report


def _prepare(spec: FitSpec, parquet: Path) -> Prepared:
    types = {column.name: column.type for column in spec.columns}
    split_by = spec.validation.column if spec.validation else None
    names = dict.fromkeys([*spec.wanted_features, spec.target, split_by])
    needed = [name for name in names if name is not None]
    whole = read_table(parquet, needed, types, spec.threads, spec.memory_bytes // 2)
    task = task_of(spec, whole)
    table, target, found = whole, None, []
    if spec.target is not None and task in SUPERVISED:
        learnt = read_target(spec.target, whole, task)
        table, target = whole.keep(learnt.known), learnt.values
        if table.rows < whole.rows:
            detail = f"{whole.rows - table.rows} of {whole.rows} rows have no '{spec.target}'"
            found.append(warning("rows_without_target", detail))
    named = spec.features is not None
    columns = decide_columns(table, spec.wanted_features, named=named)
    validation, note = _validation(spec, table, columns)
    return Prepared(
        task, table, whole, columns, as_frame(columns, table), target, validation, found + note
    )


def _validation(
    spec: FitSpec, table: Table, columns: Columns
) -> tuple[Validation, list[dict[str, Any]]]:
    """The split asked for; for ``auto`` the last rows in time, as soon as there is a date."""
    if spec.validation is not None:
        return spec.validation, []
    dates = [name for name in columns.features if table.types[name] == "datetime"]
    if not dates or not spec.estimator.is_auto or spec.target is None:
        return Validation(), []
    column = max(dates, key=lambda name: len(np.unique(table.known(name))))
    detail = f"judged by the last rows in '{column}', since the table has dates"
    note = warning("time_split_chosen", detail, column=column)
    return Validation(method="time_split", column=column), [note]


def _maker(spec: FitSpec, prepared: Prepared) -> Maker:
    table, moments = prepared.table, None
    if prepared.validation.method == "time_split":
        moments = np.ma.getdata(table.columns[prepared.validation.column or ""])
    return Maker(spec, prepared.task, prepared.columns, table.rows, moments)


def _classes(prepared: Prepared) -> NDArray[Any] | None:
    return prepared.target if prepared.task == "classification" else None


def _judge(
    spec: FitSpec, prepared: Prepared, splits: Splits, maker: Maker, progress: Progress
) -> Judged:
    def on_fold(index: int, folds: int) -> None:
        told = "Fitting" if folds == 1 else f"Fitting fold {index + 1} of {folds}"
        progress(0.1 + 0.45 * index / folds, "fit", told)

    return judge(
        maker,
        splits,
        prepared.frame,
        prepared.target,
        prepared.task,
        spec.random_state,
        on_fold,
    )


def _final(
    spec: FitSpec,
    prepared: Prepared,
    splits: Splits,
    maker: Maker,
    judged: Judged,
    progress: Progress,
) -> Fitted:
    """The model that is kept: of all rows, or of the split's training rows."""
    if not spec.refit:
        return judged.fitted
    progress(0.6, "refit", "Fitting on all rows")
    frame, target = prepared.frame, prepared.target
    if len(splits.splits) == 1:
        # What was chosen on the training rows is what was judged.
        model, account = clone(judged.fitted.model), judged.fitted.account
    else:
        model, account = maker.make(frame, target)
    return fit(model, account, frame, target)


def _report(
    spec: FitSpec, prepared: Prepared, splits: Splits, judged: Judged, fitted: Fitted
) -> dict[str, Any]:
    columns, task = prepared.columns, prepared.task
    notes = [*judged.fitted.notes, *(fitted.notes if spec.refit else [])]
    told = [
        *prepared.warnings,
        *as_warnings([("split", note) for note in splits.notes]),
        *warnings_of(columns, judged, task, spec.target),
        *as_warnings(list(dict.fromkeys(notes))),
    ]
    return {
        "task": task,
        "target": spec.target,
        "features": columns.features,
        "recipe": columns.recipe.as_list(),
        "signature": signature(task, columns, prepared.whole, fitted.model, prepared.frame),
        "estimator": {
            "requested": spec.estimator.document,
            "resolved": resolved(fitted.model),
            "account": fitted.account,
        },
        "validation": splits.account,
        "metrics": judged.metrics,
        "baseline": judged.baseline,
        "preprocessing": [decision.as_dict() for decision in columns.decisions],
        "warnings": told,
        "feature_importances": _importances(spec, prepared, judged),
        "target_distribution": target_summary(task, prepared.target),
        "rows": {
            "table": prepared.whole.rows,
            "used": prepared.table.rows,
            "fitted": prepared.table.rows if spec.refit else splits.account["train_rows"],
        },
        "refit": spec.refit,
        "serving": dict(NOT_YET),
        "random_state": spec.random_state,
        "library_versions": library_versions(),
    }


def _importances(spec: FitSpec, prepared: Prepared, judged: Judged) -> Mapping[str, float] | None:
    slow = SLOW.intersection(spec.estimator.names)
    if prepared.target is None or slow:
        return None
    frame, target = prepared.frame.iloc[judged.test], prepared.target[judged.test]
    return feature_importances(
        judged.fitted.model, prepared.columns, frame, target, spec.random_state
    )
