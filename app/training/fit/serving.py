"""What is made of a saved model besides: the compiled form that serves it, and an export.

Each is made in a process of its own, in the run's work folder, of what ``fit`` left there. Until
one succeeds the report says that scikit-learn serves the model; a process that is killed meanwhile
changes nothing.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from sklearn.base import BaseEstimator

from app.compiling.compiler import compile_and_verify
from app.compiling.rows import json_value
from app.scoring.frame import Recipe
from app.scoring.loader import load_sklearn, minor_of
from app.training.export.onnx import export_onnx
from app.training.fit.files import COMPILED, EXPORT, MODEL, REPORT, SAMPLE, replace_file
from app.training.fit.table import Table

SAMPLE_ROWS: Final = 2000


def save_sample(table: Table, features: list[str], work: Path, random_state: int) -> None:
    """Keep some raw rows of the training data, against which other forms are verified."""
    random = np.random.default_rng(random_state)
    rows = np.sort(random.choice(table.rows, min(table.rows, SAMPLE_ROWS), replace=False))
    sample = {name: [json_value(v) for v in table.columns[name][rows]] for name in features}
    replace_file(work / SAMPLE, json.dumps(sample, allow_nan=False).encode())


def compile_saved(work: Path) -> dict[str, Any]:
    """Compile the saved model; writes the compiled form if it verified. Tells what will serve."""
    report = read_report(work)
    result = compile_and_verify(
        load_saved(work, report),
        Recipe.from_list(report["recipe"]),
        report["signature"],
        read_sample(work),
        seed=report["random_state"],
    )
    if result.compiled is not None:
        replace_file(work / COMPILED, result.compiled)
    amend_report(work, serving=result.serving())
    return result.serving()


def export_saved(work: Path) -> dict[str, Any]:
    """Export the compiled form to ONNX, if there is one and it works out. Tells what came of it."""
    report = read_report(work)
    compiled = work / COMPILED
    if not compiled.exists():
        reason = f"the model has no compiled form: {report['serving']['reason']}"
        told: dict[str, Any] = {"offered": False, "reason": reason, "verified": None}
    else:
        inputs, seed = report["signature"]["inputs"], report["random_state"]
        result = export_onnx(compiled.read_bytes(), inputs, read_sample(work), seed=seed)
        offered = result.onnx is not None
        told = {"offered": offered, "reason": result.reason, "verified": result.verified}
        if result.onnx is not None:
            replace_file(work / EXPORT, result.onnx)
    amend_report(work, export=told)
    return told


def load_saved(work: Path, report: Mapping[str, Any]) -> BaseEstimator:
    """The saved model, loaded as the server will load it."""
    minor = minor_of(report["library_versions"]["scikit-learn"])
    return load_sklearn((work / MODEL).read_bytes(), expected_sklearn_minor=minor)


def read_report(work: Path) -> dict[str, Any]:
    """The report of the run."""
    report: dict[str, Any] = json.loads((work / REPORT).read_text(encoding="utf-8"))
    return report


def read_sample(work: Path) -> dict[str, list[Any]]:
    """Raw rows of the training data, as columns."""
    sample: dict[str, list[Any]] = json.loads((work / SAMPLE).read_text(encoding="utf-8"))
    return sample


def amend_report(work: Path, **parts: Any) -> None:
    """Replace parts of the report; the file is whole at every moment."""
    save_report({**read_report(work), **parts}, work)


def save_report(report: Mapping[str, Any], work: Path) -> None:
    """Write the report."""
    text = json.dumps(report, allow_nan=False, ensure_ascii=False, indent=1)
    replace_file(work / REPORT, text.encode())
