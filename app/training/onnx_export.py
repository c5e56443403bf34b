"""The ONNX export: for other runtimes, by skl2onnx, with the result of comparing it.

It takes the prepared columns, one input each: numbers as float32, categories and texts as strings,
a missing category as ``nan``. It is float32 inside and never serves predictions here. It is written
only if it says what scikit-learn says on rows of the training data; how many of the rows made to
tell the two apart it gets wrong is told beside it.
"""

import contextlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from app.scoring.estimator import answer
from app.scoring.frame import Column, Recipe, prepare
from app.training.compile_rows import edge_rows, real_rows
from app.training.compile_verify import columns_of
from app.training.fit_files import EXPORT, replace_file
from app.training.fit_serving import amend_report, load_saved, read_report, read_sample

Array = NDArray[Any]

TOLERANCE: Final = 1e-5
OPSETS: Final = {"": 18, "ai.onnx.ml": 3}
NUMBERS: Final = frozenset({"number", "date_part"})
TASKS: Final = frozenset({"classification", "regression"})


class NotExportable(Exception):
    """There is no export of the model; the message tells why."""


def export_saved(work: Path) -> dict[str, Any]:
    """Export the model saved in a run's work folder, if that works out; tells what came of it."""
    report = read_report(work)
    model = load_saved(work, report)
    try:
        content, verified = export(model, report, read_sample(work))
    except NotExportable as refusal:
        told: dict[str, Any] = {"offered": False, "reason": str(refusal), "verified": None}
    else:
        replace_file(work / EXPORT, content)
        told = {"offered": True, "reason": None, "verified": verified}
    amend_report(work, export=told)
    return told


def export(
    model: Any, report: Mapping[str, Any], sample: Mapping[str, Column]
) -> tuple[bytes, dict[str, Any]]:
    """The export and how it compares; raises ``NotExportable``."""
    recipe, output = Recipe.from_list(report["recipe"]), report["signature"]["output"]
    if output["task"] not in TASKS:
        raise NotExportable(f"exports are offered for {' and '.join(sorted(TASKS))}")
    content = _converted(model, recipe, output)
    session = _session(content)
    seed = report["random_state"]
    real = real_rows(sample, recipe.sources, seed)
    edges = list(edge_rows(real, recipe, report["signature"]["inputs"], seed))
    compared = [_differences(session, model, recipe, output, rows) for rows in (real, edges)]
    (worst, flips), (edge_differences, edge_flips) = compared
    largest = float(worst.max(initial=0.0))
    if not largest <= TOLERANCE or flips.any():
        raise NotExportable(
            f"skl2onnx's model differs from scikit-learn's by {largest:.2g}, "
            f"with {int(flips.sum())} other labels, on rows of the training data"
        )
    wrong = ~(edge_differences <= TOLERANCE) | edge_flips
    return content, {
        "rows": len(real),
        "max_abs_diff": largest,
        "label_flips": 0,
        "edge_rows": len(edges),
        "edge_rows_differing": int(wrong.sum()),
    }


def _converted(model: Any, recipe: Recipe, output: Mapping[str, Any]) -> bytes:
    try:
        from skl2onnx import convert_sklearn  # noqa: PLC0415 - an extra that may be absent
        from skl2onnx.common.data_types import (  # noqa: PLC0415
            FloatTensorType,
            StringTensorType,
        )
    except ImportError as error:
        raise NotExportable("skl2onnx is not installed") from error
    kinds = [FloatTensorType if c.kind in NUMBERS else StringTensorType for c in recipe]
    types = [(c.name, kind([None, 1])) for c, kind in zip(recipe, kinds, strict=True)]
    options: dict[Any, Any] = {}
    if output["task"] == "classification":
        options = {id(model): {"zipmap": False}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            converted = convert_sklearn(
                model, initial_types=types, options=options, target_opset=OPSETS
            )
        except Exception as error:
            # Converters raise whatever they meet; what they can't do is no defect of the model.
            said = str(error).strip().split("\n")[0][:200]
            raise NotExportable(f"skl2onnx cannot convert it: {said}") from error
    content: bytes = converted.SerializeToString()
    return content


def _session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # onnxruntime has one exception class a kind of failure, none of them public.
        said = str(error).strip().split("\n")[0][:200]
        raise NotExportable(f"onnxruntime cannot load it: {said}") from error


def _differences(
    session: onnxruntime.InferenceSession,
    model: Any,
    recipe: Recipe,
    output: Mapping[str, Any],
    rows: list[dict[str, Any]],
) -> tuple[Array, Array]:
    """By row: how far the numbers are apart, relative to their size, and whether labels differ."""
    frame = prepare(recipe, columns_of(rows))
    feeds = {column.name: _fed(frame[column.name], column.kind) for column in recipe}
    try:
        given = session.run(None, feeds)
    except Exception as error:
        said = str(error).strip().split("\n")[0][:200]
        raise NotExportable(f"onnxruntime cannot run it: {said}") from error
    with np.errstate(all="ignore"), warnings.catch_warnings(), contextlib.suppress(ValueError):
        warnings.simplefilter("ignore")
        expected = answer(model, frame, output)
        if expected.values is not None:
            size = 1.0 + np.abs(expected.values)
            return np.abs(given[0].ravel() - expected.values) / size, np.zeros(len(rows), bool)
        classes = np.array(output["classes"])
        flips = np.asarray(given[0]).astype(classes.dtype) != classes[expected.labels]
        if expected.probabilities is None:
            return np.zeros(len(rows)), flips
        gap = np.abs(np.asarray(given[1]) - expected.probabilities).max(axis=1)
        top = np.sort(expected.probabilities, axis=1)
        undecided = top[:, -1] - top[:, -2] <= 2 * TOLERANCE
        return gap, flips & ~undecided
    # scikit-learn refuses one of the rows: nothing to compare with.
    return np.zeros(len(rows)), np.zeros(len(rows), dtype=bool)


def _fed(values: Array, kind: str) -> Array:
    if kind in NUMBERS:
        return values.astype(np.float32).reshape(-1, 1)
    strings = np.array(["nan" if isinstance(v, float) else v for v in values], dtype=object)
    return strings.reshape(-1, 1)
