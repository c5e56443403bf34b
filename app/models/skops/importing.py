"""Turns a client's skops file into a joblib file of ours, or says why not.

Runs in a sandboxed child (``run``), because a file that passes every check may still exhaust memory
or time, or hit a fault in native code. In order: the zip is measured; its schema is audited type by
type; skops builds the object from an archive written anew; its structure is checked; its columns,
task and output are read off; it answers a few rows; it is dumped by us, loaded by the loader that
will serve it, and must answer the same.
"""

import io
import json
import platform
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import joblib
import numpy as np
import sklearn
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder
from skops.io import load

from app.kernel.artifacts.store import ArtifactCorrupt
from app.kernel.errors import ServiceError
from app.models.skops.archive import Archive, ArchiveLimits, read_archive, refused, write_archive
from app.models.skops.audit import FOR_SKOPS, audit
from app.models.skops.checks import check_object, reachable
from app.models.skops.serving import SAMPLE, made_up_rows
from app.models.skops.signature import Column, read_columns, read_output, refined, task_of
from app.scoring.estimator import answer, data_frame
from app.scoring.frame import PreparedColumn, Recipe, prepare
from app.scoring.loader import load_sklearn, minor_version
from app.scoring.scores import Scores

MODEL: Final = "model.joblib"
COMPRESSED_FROM: Final = 10 << 20
TRIED_ALONE: Final = 64
"""Beyond so many columns, none may be missing unless all may."""
_SAME: Final[dict[str, Any]] = {"rtol": 1e-9, "atol": 1e-12, "equal_nan": True}
LIBRARIES: Final = ("scikit-learn", "numpy", "scipy", "pandas", "joblib", "skops")

Raw = dict[str, Sequence[Any]]


@dataclass
class Draft:
    """A model on its way in: what it is, and three raw rows to try it on."""

    model: BaseEstimator
    task: str
    recipe: Recipe
    inputs: list[dict[str, Any]]
    rows: Raw
    columns: Sequence[Column]
    named: bool
    warnings: list[dict[str, str]]

    def ask(self, model: Any, rows: Raw, output: Mapping[str, Any]) -> Scores:
        """What a model answers to raw rows; raises whatever it raises."""
        return answer(model, prepare(self.recipe, rows), output)


def run(arguments: Mapping[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """For the sandbox: import ``source`` into the current folder; ``inputs`` may refine it."""
    report({"fraction": 0.0, "step": "import", "message": "Reading the file"})
    return import_skops(Path(arguments["source"]), Path.cwd(), inputs=arguments.get("inputs"))


def import_skops(
    source: Path,
    work: Path,
    *,
    inputs: Sequence[Mapping[str, Any]] | None = None,
    limits: ArchiveLimits | None = None,
) -> dict[str, Any]:
    """Leave ``model.joblib`` and ``sample.json`` in ``work`` and tell what it is, as JSON.

    ``inputs`` are the client's columns, ``[{name, type, nullable}]``. Raises Invalid, with pointer
    ``/file`` or below ``/inputs``, and TooLarge.
    """
    limits = limits or ArchiveLimits()
    with source.open("rb") as file:
        data = file.read(limits.file + 1)
    archive = read_archive(data, limits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = _built(archive, limits)
        with _faults("broken_structure", "The parts of the model do not fit together"):
            draft = _drafted(model, inputs)
        output, seconds = _tried(draft)
        with _faults("broken_structure", "The model can't be stored"):
            dumped = _dumped(draft, output)
    (work / MODEL).write_bytes(dumped)
    (work / SAMPLE).write_text(json.dumps(made_up_rows(draft.columns, draft.inputs)), "utf-8")
    return {
        "task": draft.task,
        "n_features": len(draft.inputs),
        "feature_names": draft.recipe.names if draft.named else None,
        "recipe": draft.recipe.as_list(),
        "signature": {"inputs": draft.inputs, "output": output},
        "estimators": _estimators(draft.model),
        "warnings": draft.warnings,
        "seconds_to_answer": round(seconds, 4),
        "model": MODEL,
        "bytes": len(dumped),
        "source": {
            "bytes": len(data),
            "expanded_bytes": archive.expanded_bytes,
            "skops_version": str(archive.schema.get("_skops_version", ""))[:20] or None,
        },
        "library_versions": _library_versions(),
    }


def _library_versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


@contextmanager
def _faults(code: str, detail: str) -> Generator[None]:
    """Turn whatever a client's object makes others raise into a refusal.

    Its parts may be missing, or not fit together, so that anything can be raised. Not that of a
    lack of memory: the sandbox tells of that.
    """
    try:
        yield
    except (ServiceError, MemoryError):
        raise
    except Exception as error:
        raise refused(code, f"{detail} ({type(error).__name__})") from error


def _built(archive: Archive, limits: ArchiveLimits) -> BaseEstimator:
    """The object of a file, looked through."""
    needed = audit(
        archive,
        minor_version=minor_version(),
        full_version=sklearn.__version__,
        expanded=limits.expanded,
    )
    with _faults("broken_skops", "The model can't be built from the file"):
        ours = write_archive(archive.schema, {name: archive.arrays[name] for name in needed})
        model = load(ours, trusted=FOR_SKOPS)
    if not isinstance(model, BaseEstimator):
        raise refused("no_model", "The file does not hold a scikit-learn estimator")
    check_object(model)
    return model


def _drafted(model: BaseEstimator, inputs: Sequence[Mapping[str, Any]] | None) -> Draft:
    notes = _mend_encoders(model)
    columns = read_columns(model)
    task = task_of(model)
    signature = refined(columns, inputs)
    both = [(told["name"], column) for told, column in zip(signature, columns.used, strict=True)]
    recipe = Recipe(tuple(PreparedColumn(name, name, column.kind) for name, column in both))
    rows: Raw = {name: column.samples for name, column in both}
    for name in columns.dropped:
        detail = f"'{name}' is not used: the model drops it"
        notes.append({"code": "column_dropped", "detail": detail, "column": name})
    if not columns.named:
        model = _behind_names(model, recipe, rows)
    return Draft(model, task, recipe, signature, rows, columns.used, columns.named, notes)


def _mend_encoders(model: BaseEstimator) -> list[dict[str, str]]:
    """Let encoders take unseen categories, which are legal in every prediction here."""
    notes = []
    for item in reachable(model):
        if getattr(item, "handle_unknown", None) != "error":
            continue
        if isinstance(item, OneHotEncoder):
            item.handle_unknown = "ignore"
            notes.append("An unseen category sets none of its columns")
        elif isinstance(item, OrdinalEncoder):
            item.handle_unknown = "use_encoded_value"
            item.unknown_value = -2 if item.encoded_missing_value == -1 else -1
            notes.append(f"An unseen category is encoded as {item.unknown_value}")
    return [{"code": "unseen_categories", "detail": note} for note in dict.fromkeys(notes)]


def _behind_names(model: BaseEstimator, recipe: Recipe, rows: Raw) -> Pipeline:
    """The model behind a step that takes a named frame: it was fitted on a plain matrix."""
    take = ColumnTransformer([("columns", "passthrough", recipe.names)], sparse_threshold=0.0)
    take.fit(data_frame(prepare(recipe, rows)))
    steps = model.steps if isinstance(model, Pipeline) else [("model", model)]
    if any(name == "prepare" for name, _ in steps):
        steps = [("model", model)]
    return Pipeline([("prepare", take), *steps])


def _tried(draft: Draft) -> tuple[dict[str, Any], float]:
    """The output part of the signature, and how long an answer took; settles what may be missing.

    Raises Invalid unless the model answers three rows with one finite answer each.
    """
    with _faults("no_answer", "The model can't answer rows of its columns"):
        frame = data_frame(prepare(draft.recipe, draft.rows))
        output = read_output(draft.model, draft.task, frame)
        started = time.perf_counter()
        scores = draft.ask(draft.model, draft.rows, output)
        seconds = time.perf_counter() - started
        rows = scores.rows()
    if len(rows) != len(frame) or not _is_finite(scores):
        raise refused("no_answer", "The model does not give one finite answer for each row")
    _settle_missing(draft, output)
    return output, seconds


def _settle_missing(draft: Draft, output: Mapping[str, Any]) -> None:
    """Find out by trying where a value may be missing; a client can only forbid it."""
    nothing = (None,) * len(next(iter(draft.rows.values())))
    if not _answers(draft, dict.fromkeys(draft.rows, nothing), output):
        for index, column in enumerate(draft.inputs):
            alone = index < TRIED_ALONE and column["nullable"]
            column["nullable"] = alone and _answers(
                draft, {**draft.rows, column["name"]: nothing}, output
            )


def _answers(draft: Draft, rows: Raw, output: Mapping[str, Any]) -> bool:
    try:
        return _is_finite(draft.ask(draft.model, rows, output))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - whatever it is, the answer is no
        return False


def _is_finite(scores: Scores) -> bool:
    """Whether all answers are; what a transformer makes of the unknown may be NaN."""
    numbers = [array for array in scores.arrays().values() if array.dtype.kind == "f"]
    return scores.components is not None or all(np.isfinite(array).all() for array in numbers)


def _dumped(draft: Draft, output: Mapping[str, Any]) -> bytes:
    """Our joblib file, which loads, and answers as the model does."""
    buffer = io.BytesIO()
    joblib.dump(draft.model, buffer)
    if buffer.tell() >= COMPRESSED_FROM:
        buffer = io.BytesIO()
        joblib.dump(draft.model, buffer, compress=("zlib", 3))
    dumped = buffer.getvalue()
    try:
        again = load_sklearn(dumped, expected_sklearn_minor=minor_version())
    except ArtifactCorrupt as error:
        raise refused("untrusted_type", f"The model can't be served: {error.detail}") from error
    before = draft.ask(draft.model, draft.rows, output).arrays()
    after = draft.ask(again, draft.rows, output).arrays()
    if not all(np.allclose(before[name], after[name], **_SAME) for name in before):
        raise refused("broken_structure", "The model answers differently when it is stored")
    return dumped


def _estimators(model: BaseEstimator) -> list[str]:
    names = (type(item).__name__ for item in reachable(model) if isinstance(item, BaseEstimator))
    return [name for name in dict.fromkeys(names) if not name.startswith("_")]
