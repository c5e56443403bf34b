"""The steps of a compiled model as ONNX nodes in float64, one function for each kind of step.

A matrix is (rows, columns), numbers are (rows,), and levels are a list of string tensors (rows, 1).
Steps that refuse rows let them through: a graph has no errors to give; what is missing stays NaN.
Here are the steps that prepare columns; ``models`` has those that predict.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import onnx

from app.scoring import categories, encoder, numbers
from app.scoring.step import Chain, Step
from app.training.export.graph import Graph, NotExportable

Exporter = Callable[[Any, Any, Graph], Any]

EXPORTERS: Final[dict[type[Step], Exporter]] = {}


def exports(kind: type[Step]) -> Callable[[Exporter], Exporter]:
    """Register the exporter of a kind of step."""

    def register(exporter: Exporter) -> Exporter:
        EXPORTERS[kind] = exporter
        return exporter

    return register


def exported(step: Step, value: Any, graph: Graph) -> Any:
    """The tensors that the step makes of ``value``; None is the frame itself."""
    exporter = EXPORTERS.get(type(step))
    if exporter is None:
        raise NotExportable(f"the step {step.kind!r} has no ONNX form")
    return exporter(step, value, graph)


@exports(Chain)
def chain(step: Chain, value: Any, graph: Graph) -> Any:
    """One after the other."""
    for part in step.steps:
        value = exported(part, value, graph)
    return value


@exports(encoder.Numbers)
def pick_numbers(step: encoder.Numbers, _: Any, graph: Graph) -> str:
    """Inputs, side by side."""
    return graph.add("Concat", *(graph.number(column) for column in step.columns), axis=1)


@exports(encoder.Levels)
def pick_levels(step: encoder.Levels, _: Any, graph: Graph) -> list[str]:
    """Inputs, as they are."""
    return [graph.category(column) for column in step.columns]


@exports(encoder.Texts)
def pick_text(_: encoder.Texts, __: Any, ___: Graph) -> str:
    """Texts: what ONNX has for them splits, lowers and counts otherwise."""
    raise NotExportable("texts have no ONNX form that treats them as scikit-learn does")


@exports(encoder.PickLevels)
def reorder_levels(step: encoder.PickLevels, value: list[str], _: Graph) -> list[str]:
    """Some of them."""
    return [value[column] for column in step.columns]


@exports(encoder.PickColumns)
def pick_columns(step: encoder.PickColumns, value: str, graph: Graph) -> str:
    """Some columns."""
    return columns_of(value, step.columns, graph)


@exports(encoder.Together)
def together(step: encoder.Together, value: Any, graph: Graph) -> str:
    """Side by side."""
    return graph.add("Concat", *(exported(b, value, graph) for b in step.branches), axis=1)


@exports(categories.FillLevels)
def fill_levels(step: categories.FillLevels, value: list[str], graph: Graph) -> list[str]:
    """Another string where one is missing."""
    filled = []
    for column, fill in zip(value, step.fill, strict=True):
        if fill is None:
            filled.append(column)
            continue
        gone = graph.add("Equal", column, graph.constant([graph.missing]))
        filled.append(graph.add("Where", gone, graph.constant([str(fill)]), column))
    return filled


def positions(column: str, levels: list[Any], codes: list[int], unknown: int, graph: Graph) -> str:
    """The code of each string, (rows, 1) of int64."""
    if any(isinstance(level, float) for level in levels):
        raise NotExportable("numbers that serve as categories have no ONNX form")
    keys = [graph.missing if level is None else str(level) for level in levels]
    return graph.add(
        "LabelEncoder",
        column,
        domain="ai.onnx.ml",
        keys_strings=keys,
        values_int64s=codes,
        default_int64=unknown,
    )


@exports(categories.OneHot)
def one_hot(step: categories.OneHot, value: list[str], graph: Graph) -> str:
    """Zeros and ones: every code compared with all codes of its column."""
    parts = []
    for column, levels, codes, unknown in zip(
        value, step.levels, step.codes, step.unknown, strict=True
    ):
        known = [code for code in [*codes, unknown] if code >= 0]
        if known:
            code = positions(column, levels, codes, unknown, graph)
            every = graph.constant(np.arange(min(known), max(known) + 1)[None, :])
            parts.append(double(graph.add("Equal", code, every), graph))
    return graph.add("Concat", *parts, axis=1)


@exports(categories.Codes)
def codes_of(step: categories.Codes, value: list[str], graph: Graph) -> str:
    """Rows of the tables, side by side."""
    parts = []
    for column, levels, table in zip(value, step.levels, step.tables, strict=True):
        places = positions(column, levels, list(range(len(levels))), len(levels), graph)
        rows = graph.add("Gather", graph.constant(table), places, axis=0)
        parts.append(graph.add("Reshape", rows, graph.constant([-1, table.shape[1]])))
    return graph.add("Concat", *parts, axis=1)


def double(value: str, graph: Graph) -> str:
    """As float64."""
    return graph.add("Cast", value, to=onnx.TensorProto.DOUBLE)


@exports(numbers.Impute)
def impute(step: numbers.Impute, value: str, graph: Graph) -> str:
    """Another number where one is missing, then the indicators."""
    if step.missing is None:
        gone = graph.add("IsNaN", value)
    else:
        gone = graph.add("Equal", value, graph.constant(np.float64(step.missing)))
    kept, gone_kept = columns_of(value, step.kept, graph), columns_of(gone, step.kept, graph)
    filled = graph.add("Where", gone_kept, graph.constant(step.fill), kept)
    if not len(step.indicated):
        return filled
    indicators = double(columns_of(gone, step.indicated, graph), graph)
    return graph.add("Concat", filled, indicators, axis=1)


def columns_of(value: str, columns: Any, graph: Graph) -> str:
    """Some columns of a matrix."""
    return graph.add("Gather", value, graph.constant(np.asarray(columns)), axis=1)


@exports(numbers.Scale)
def scale(step: numbers.Scale, value: str, graph: Graph) -> str:
    """Less the shift, over the divisor."""
    if step.shift is not None:
        value = graph.add("Sub", value, graph.constant(step.shift))
    return value if step.divisor is None else graph.add("Div", value, graph.constant(step.divisor))


@exports(numbers.Stretch)
def stretch(step: numbers.Stretch, value: str, graph: Graph) -> str:
    """Times the factor, plus the offset."""
    product = graph.add("Mul", value, graph.constant(step.factor))
    return graph.add("Add", product, graph.constant(step.offset))


@exports(numbers.Clip)
def clip(step: numbers.Clip, value: str, graph: Graph) -> str:
    """Cut to the bounds."""
    bounds = (graph.constant(np.float64(bound)) for bound in (step.low, step.high))
    return graph.add("Clip", value, *bounds)


@exports(numbers.Binarize)
def binarize(step: numbers.Binarize, value: str, graph: Graph) -> str:
    """Above the threshold or not."""
    return double(graph.add("Greater", value, graph.constant(np.float64(step.threshold))), graph)


@exports(numbers.RefuseMissing)
@exports(numbers.RefuseEndless)
def refuse(_: numbers.RefuseMissing | numbers.RefuseEndless, value: str, __: Graph) -> str:
    """The matrix as it is: what the server refuses goes through."""
    return value


@exports(numbers.Project)
def project(step: numbers.Project, value: str, graph: Graph) -> str:
    """A product, moved and scaled."""
    if step.before is not None:
        value = graph.add("Sub", value, graph.constant(step.before))
    value = graph.add("MatMul", value, graph.constant(step.weights))
    if step.after is not None:
        value = graph.add("Sub", value, graph.constant(step.after))
    return value if step.divisor is None else graph.add("Div", value, graph.constant(step.divisor))
