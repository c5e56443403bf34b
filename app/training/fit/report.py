"""What a run tells about its model, as JSON."""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.training.fit.columns import Columns
from app.training.fit.evaluation import Judged
from app.training.fit.metrics import beaten
from app.training.fit.table import Table

MANY_OUTLIERS: Final = 0.25
LIBRARIES: Final = ("scikit-learn", "numpy", "scipy", "pandas", "joblib")


def warning(code: str, detail: str, **more: Any) -> dict[str, Any]:
    """One thing that the client should know about a run that succeeded."""
    return {"code": code, "detail": detail, **more}


def warnings_of(columns: Columns, judged: Judged, task: str, target: str | None) -> list[Any]:
    """What is worth a warning: dropped columns, an unbeaten baseline, undefined metrics."""
    found = [
        warning(
            "column_dropped",
            f"'{decision.column}' is not used: {decision.reason}",
            column=decision.column,
        )
        for decision in columns.decisions
        if decision.dropped
    ]
    verdict = beaten(task, judged.metrics, judged.baseline)
    if verdict is not None and not verdict[1]:
        name = verdict[0]
        detail = (
            f"The model is no better than knowing only how '{target}' is distributed: "
            f"{name} {judged.metrics[name]:.4g} against {judged.baseline[name]:.4g}."
        )
        found.append(warning("baseline_not_beaten", detail, metric=name))
    share = judged.metrics.get("outlier_fraction")
    if share is not None and share > MANY_OUTLIERS:
        detail = f"{share:.0%} of the rows held out are told to be outliers: set contamination"
        found.append(warning("many_outliers", detail))
    undefined = [name for name, value in judged.metrics.items() if value is None]
    if undefined:
        detail = f"Not defined for the rows held out, or for this estimator: {', '.join(undefined)}"
        found.append(warning("metric_undefined", detail, metrics=undefined))
    return found


def signature(
    task: str, columns: Columns, whole: Table, model: Any, frame: pd.DataFrame
) -> dict[str, Any]:
    """What the model takes and gives; ``whole`` has all rows of the dataset version."""
    inputs = [
        {"name": name, "type": whole.types[name], "nullable": bool(whole.missing(name).any())}
        for name in columns.features
    ]
    output: dict[str, Any] = {"task": task}
    if task == "classification":
        output["classes"] = [plain(label) for label in model.classes_]
        output["probabilities"] = hasattr(model, "predict_proba")
    elif task == "clustering":
        output["clusters"] = clusters_of(model)
    elif task == "decomposition":
        output["components"] = int(model.transform(frame.iloc[:1]).shape[1])
    return {"inputs": inputs, "output": output}


def clusters_of(model: Any) -> int | None:
    """How many clusters the model can tell, None if it doesn't say."""
    last = model[-1]
    for name in ("cluster_centers_", "means_"):
        if hasattr(last, name):
            return len(getattr(last, name))
    return None


def target_summary(task: str, values: NDArray[Any] | None) -> dict[str, Any] | None:
    """How the target is distributed over all rows that have one."""
    if values is None:
        return None
    if task == "classification":
        classes, counts = np.unique(values, return_counts=True)
        pairs = zip(classes, counts, strict=True)
        return {"classes": [{"class": plain(label), "rows": int(rows)} for label, rows in pairs]}
    told = {"min": values.min(), "max": values.max(), "mean": values.mean(), "std": values.std()}
    return {name: float(value) for name, value in told.items()}


def library_versions() -> dict[str, str]:
    """What the artifact is bound to."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def plain(label: Any) -> Any:
    """A class as JSON has it."""
    return label.item() if isinstance(label, np.generic) else label


def as_warnings(notes: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Codes and texts as warnings."""
    return [warning(code, detail) for code, detail in notes]
