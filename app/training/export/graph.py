"""An ONNX graph that is put together step by step: names, constants and nodes."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from app.compiling.emitter import IR_VERSION, OPSET, TREE_OPSET
from app.scoring.frame import Recipe

TYPES: Final[Mapping[str, int]] = {
    "f": TensorProto.DOUBLE,
    "i": TensorProto.INT64,
    "b": TensorProto.BOOL,
    "O": TensorProto.STRING,
}


class NotExportable(Exception):
    """There is no ONNX form of the model; the message tells a user why, in one sentence."""


class Graph:
    """What was added so far. A tensor is known by its name, a ``str``.

    The inputs are the prepared columns, each (rows, 1): float64, or strings in which ``missing``
    stands for a category that is missing.
    """

    def __init__(self, recipe: Recipe, missing: str) -> None:
        self.recipe = recipe
        self.missing = missing
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._used: set[int] = set()

    def number(self, column: int) -> str:
        """The input that holds a prepared column of numbers."""
        self._used.add(column)
        return self.recipe.columns[column].name

    def category(self, column: int) -> str:
        """The input that holds a prepared column of categories."""
        if self.recipe.columns[column].kind != "category":
            raise NotExportable("numbers that serve as categories have no ONNX form")
        return self.number(column)

    def constant(self, values: Any) -> str:
        """A tensor that never changes."""
        array = np.asarray(values)
        if array.dtype.kind in "US":
            array = array.astype(object)
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """A node with one output; returns the name of that."""
        name = f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(
            helper.make_node(operator, list(inputs), [name], domain=domain, **attributes)
        )
        return name

    def adopt(self, node: onnx.NodeProto, value: str) -> str:
        """A copy of a node of another graph that has one input and one output."""
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        name = f"adopted_{len(self._nodes)}"
        copied.input[:], copied.output[:] = [value], [name]
        self._nodes.append(copied)
        return name

    def model(
        self, outputs: Mapping[str, tuple[str, NDArray[Any]]], properties: Mapping[str, str]
    ) -> bytes:
        """The finished model.

        ``outputs`` tells of each output by its public name which tensor it is, with an example of
        it, from which its type and its shape but for the rows are taken.
        """
        for public, (tensor, _) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [tensor], [public]))
        graph = helper.make_graph(
            self._nodes,
            "modelyard",
            [self._input(column) for column in range(len(self.recipe)) if column in self._used],
            [_value(name, example) for name, (_, example) in outputs.items()],
            self._constants,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", TREE_OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        helper.set_model_props(model, dict(properties))
        onnx.checker.check_model(model)
        content: bytes = model.SerializeToString()
        return content

    def _input(self, column: int) -> onnx.ValueInfoProto:
        prepared = self.recipe.columns[column]
        strings = prepared.kind == "category"
        kind = TensorProto.STRING if strings else TensorProto.DOUBLE
        return helper.make_tensor_value_info(prepared.name, kind, ["rows", 1])


def _value(name: str, example: NDArray[Any]) -> onnx.ValueInfoProto:
    shape: Sequence[Any] = ["rows", *example.shape[1:]]
    return helper.make_tensor_value_info(name, TYPES[example.dtype.kind], shape)
