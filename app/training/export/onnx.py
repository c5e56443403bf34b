"""The ONNX export: the compiled form as one portable graph in float64, for other runtimes.

It is made from the steps of the compiled form, which were verified, so it computes what they do,
not what a converter makes of scikit-learn. Its inputs are the prepared columns of the recipe, each
(rows, 1): float64 with NaN for missing, and strings, in which the property ``missing_category``
tells what stands for missing. Outputs: ``label`` and ``probabilities``, ``value``, ``cluster``,
``outlier`` and ``score``, or ``components``. Where the server would refuse a row, the graph gives
NaN or a label that means nothing.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.compiling.rows import RawRow, edge_rows, real_rows
from app.compiling.verify import TOLERANCE, ask, columns_of
from app.kernel.errors import Invalid
from app.scoring.encoder import Level
from app.scoring.format import load
from app.scoring.frame import Column, prepare
from app.scoring.model import CompiledModel
from app.scoring.step import Step, stored_fields
from app.scoring.trees import REFUSALS, session
from app.training.export import models as export_models
from app.training.export.graph import Graph, NotExportable
from app.training.export.steps import exported

# They register their exporters when they are imported.
EXPORTERS: Final = (export_models,)
MAX_BYTES: Final = 2**31 - 2**20
"""A little less than what a protobuf message can hold."""

Array = NDArray[Any]


@dataclass(frozen=True)
class ExportResult:
    """Either the ONNX model and how it was verified, or the reason why there is none.

    ``verified`` has ``rows`` (how many were compared with the compiled form, which agrees with
    scikit-learn), ``max_abs_diff`` and ``label_flips`` (always 0).
    """

    onnx: bytes | None
    verified: dict[str, Any] | None
    reason: str | None


def export_onnx(
    compiled: bytes,
    inputs: Sequence[Mapping[str, Any]],
    sample_columns: Mapping[str, Column],
    *,
    seed: int = 0,
) -> ExportResult:
    """Export a compiled model, as ``compile_and_verify`` gives it.

    ``inputs`` are those of the signature, ``sample_columns`` raw columns of the training data, as
    for ``compile_and_verify``. Raises ``NotLoadable`` if ``compiled`` is no such file.
    """
    model = load(compiled)
    try:
        content = onnx_of(model)
        return ExportResult(content, verify(content, model, inputs, sample_columns, seed), None)
    except NotExportable as error:
        return ExportResult(None, None, str(error))


def onnx_of(model: CompiledModel) -> bytes:
    """The graph; not yet verified. Raises ``NotExportable``."""
    missing = _missing(model)
    graph = Graph(model.recipe, missing)
    result = exported(model.step, None, graph)
    properties = {
        "recipe": json.dumps(model.recipe.as_list()),
        "output": json.dumps(dict(model.output)),
        "missing_category": missing,
    }
    content = graph.model(_outputs(model, result, graph), properties)
    if len(content) > MAX_BYTES:
        raise NotExportable("the model is too large for one ONNX file")
    return content


def _missing(model: CompiledModel) -> str:
    """A string that stands for a missing category, and is none that the model knows."""
    known = set(_levels(model.step))
    return next(name for name in _candidates() if name not in known)


def _candidates() -> Iterator[str]:
    yield "<missing>"
    for number in count():
        yield f"<missing-{number}>"


def _levels(step: Step) -> Iterator[Level]:
    """Every category in the tables of a step and those within."""
    if hasattr(step, "levels"):
        for column in step.levels:
            yield from column
    for name in stored_fields(type(step)):
        value = getattr(step, name)
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, Step):
                yield from _levels(part)


def _outputs(model: CompiledModel, result: Any, graph: Graph) -> dict[str, tuple[str, Array]]:
    """The outputs by public name: the tensor, and an example of it."""
    task, numbers = model.output["task"], np.empty(0)
    if task == "classification":
        classes = np.array(model.output["classes"])
        known = classes.astype(object) if classes.dtype.kind == "U" else classes
        label = graph.add("Gather", graph.constant(known), result.labels, axis=0)
        outputs = {"label": (label, known[:0])}
        if model.output.get("probabilities"):
            outputs["probabilities"] = (result.probabilities, np.empty((0, len(classes))))
        return outputs
    if task == "outlier_detection":
        nothing = graph.constant(np.float64(0.0))
        outlier = graph.add("Less", result, nothing)
        score = graph.add("Neg", result)
        return {"outlier": (outlier, np.empty(0, dtype=bool)), "score": (score, numbers)}
    if task == "decomposition":
        return {"components": (result, np.empty((0, model.output["components"])))}
    if task == "clustering":
        return {"cluster": (result, np.empty(0, dtype=np.int64))}
    return {"value": (result, numbers)}


def feeds(model: CompiledModel, rows: Sequence[RawRow], missing: str) -> dict[str, Array]:
    """What the graph is fed with for raw rows."""
    fed = {}
    for name, array in prepare(model.recipe, columns_of(rows)).items():
        if array.dtype == object:
            strings = [missing if isinstance(value, float) else value for value in array]
            fed[name] = np.array(strings, dtype=object).reshape(-1, 1)
        else:
            fed[name] = array.reshape(-1, 1)
    return fed


def verify(
    content: bytes,
    model: CompiledModel,
    inputs: Sequence[Mapping[str, Any]],
    sample: Mapping[str, Column],
    seed: int,
) -> dict[str, Any]:
    """Compare the graph with the model; raises ``NotExportable`` where they differ."""
    real = real_rows(sample, model.recipe.sources, seed)
    rows = [*real, *edge_rows(real, model.recipe, inputs, seed)]
    expected = ask(lambda some: model.score(columns_of(some)), rows, Invalid)
    wanted = expected.only(expected.places)
    given = _run(content, model, [rows[place] for place in expected.places])
    flips = 0
    worst = 0.0
    for name, array in wanted.items():
        if array.dtype.kind == "f":
            worst = max(worst, _compare(array, given[PUBLIC[name]], len(real)))
        else:
            classes = np.array(model.output.get("classes", ()))
            told = classes[array] if name == "labels" else array
            flips += int((told != given[PUBLIC[name]]).sum())
    if flips:
        raise NotExportable(f"onnxruntime gives {flips} other labels than the compiled form")
    return {"rows": len(expected.places), "max_abs_diff": worst, "label_flips": flips}


PUBLIC: Final[Mapping[str, str]] = {
    "labels": "label",
    "probabilities": "probabilities",
    "values": "value",
    "clusters": "cluster",
    "outliers": "outlier",
    "unusual": "score",
    "components": "components",
}


def _run(content: bytes, model: CompiledModel, rows: Sequence[RawRow]) -> dict[str, Array]:
    try:
        graph = session(content)
        names = [output.name for output in graph.get_outputs()]
        taken = {item.name for item in graph.get_inputs()}
        missing = graph.get_modelmeta().custom_metadata_map["missing_category"]
        fed = {n: array for n, array in feeds(model, rows, missing).items() if n in taken}
        return dict(zip(names, graph.run(names, fed), strict=True))
    except (ValueError, *REFUSALS) as error:
        raise NotExportable(f"onnxruntime cannot run it: {error}") from error


def _compare(wanted: Array, given: Array, real: int) -> float:
    """The greatest difference among rows of usual size."""
    sizes = np.abs(wanted).reshape(len(wanted), -1).max(axis=1)
    usual = 1.0 + float(sizes[:real].max(initial=0.0))
    differences = np.abs(wanted - given).reshape(len(wanted), -1).max(axis=1)
    if not (differences <= 2 * TOLERANCE * (usual + sizes)).all():
        raise NotExportable(
            f"onnxruntime's numbers differ from the compiled form's by up to "
            f"{np.nanmax(differences):.3g}"
        )
    return float(differences[sizes <= 10 * usual].max(initial=0.0))
