"""Fitted trees as one ONNX ``TreeEnsemble`` of doubles (ai.onnx.ml 5), node by node.

The converters at hand narrow thresholds to float32, drop where missing values go, or the
categories; this one writes what scikit-learn's trees hold, so every row takes the same path.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from app.scoring.trees import INPUT, OUTPUT

SUM: Final = 1
LESS_OR_EQUAL: Final = 0
MEMBER: Final = 6
OPSET: Final = 21
TREE_OPSET: Final = 5
IR_VERSION: Final = 10

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tree:
    """A fitted tree, by node: node 0 is the root, and a leaf has -1 for its children.

    A row goes left where its feature is at most the threshold, or among ``members`` of the node if
    it has an entry there; where it is missing, as ``missing_left`` says.
    """

    left: Integers
    right: Integers
    feature: Integers
    threshold: Floats
    missing_left: NDArray[np.bool_]
    members: dict[int, Sequence[float]]

    @property
    def leaves(self) -> Integers:
        """The nodes that are leaves, in order."""
        return np.flatnonzero(self.left < 0)


def tree_of(tree: Any, features: Any = None) -> Tree:
    """A ``sklearn.tree`` tree; ``features`` are the columns that it was given, None for all."""
    feature = np.asarray(tree.feature, dtype=np.int64)
    if features is not None:
        used = np.asarray(features, dtype=np.int64)[np.maximum(feature, 0)]
        feature = np.where(feature >= 0, used, feature)
    return Tree(
        np.asarray(tree.children_left, dtype=np.int64),
        np.asarray(tree.children_right, dtype=np.int64),
        feature,
        np.asarray(tree.threshold, dtype=np.float64),
        np.asarray(tree.missing_go_to_left, dtype=bool),
        {},
    )


def tree_of_histograms(predictor: Any) -> Tree:
    """A tree of histogram gradient boosting; members are codes of categories."""
    nodes = predictor.nodes
    leaf = nodes["is_leaf"].astype(bool)
    split = np.flatnonzero(nodes["is_categorical"].astype(bool) & ~leaf).tolist()
    bits = predictor.raw_left_cat_bitsets
    return Tree(
        np.where(leaf, -1, nodes["left"].astype(np.int64)),
        np.where(leaf, -1, nodes["right"].astype(np.int64)),
        nodes["feature_idx"].astype(np.int64),
        nodes["num_threshold"].astype(np.float64),
        nodes["missing_go_to_left"].astype(bool),
        {node: _codes(bits[nodes["bitset_idx"][node]]) for node in split},
    )


def _codes(words: Any) -> list[float]:
    """The numbers whose bits are set in words of 32 bits."""
    bits = np.unpackbits(np.ascontiguousarray(words, dtype="<u4").view(np.uint8), bitorder="little")
    codes: list[float] = np.flatnonzero(bits).astype(np.float64).tolist()
    return codes


def emit(
    trees: Sequence[Tree],
    weights: Callable[[int, Integers], Floats],
    target: Callable[[int], int],
    *,
    targets: int,
    columns: int,
) -> bytes:
    """The ensemble as an ONNX model.

    ``weights(i, leaves)`` are the numbers that tree ``i`` adds at these leaves, ``target(i)`` the
    output to which it adds them.
    """
    parts = _Parts()
    for number, tree in enumerate(trees):
        parts.add(tree, weights(number, tree.leaves), target(number))
    node = helper.make_node(
        "TreeEnsemble",
        [INPUT],
        [OUTPUT],
        domain="ai.onnx.ml",
        aggregate_function=SUM,
        post_transform=0,
        n_targets=targets,
    )
    node.attribute.extend(parts.attributes())
    double = TensorProto.DOUBLE
    graph = helper.make_graph(
        [node],
        "trees",
        [helper.make_tensor_value_info(INPUT, double, [None, columns])],
        [helper.make_tensor_value_info(OUTPUT, double, [None, targets])],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", TREE_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    content: bytes = model.SerializeToString()
    return content


class _Parts:
    """The attributes of the operator, tree by tree: inner nodes and leaves are numbered apart."""

    def __init__(self) -> None:
        self.nodes = 0
        self.leaves = 0
        self.roots: list[int] = []
        self.lists: dict[str, list[Any]] = {}
        self.members: list[float] = []

    def add(self, tree: Tree, weights: Floats, target: int) -> None:
        """Append a tree."""
        leaf = tree.left < 0
        inner, leaves = np.flatnonzero(~leaf), tree.leaves
        places = np.empty(len(leaf), dtype=np.int64)
        places[inner] = np.arange(len(inner)) + self.nodes
        places[leaves] = np.arange(len(leaves)) + self.leaves
        self.roots.append(self.nodes)
        if len(inner):
            self._add_nodes(tree, inner, leaf, places)
        else:
            self._add_lone_leaf()
        self._extend(leaf_weights=weights, leaf_targetids=np.full(len(leaves), target))
        self.nodes += max(len(inner), 1)
        self.leaves += len(leaves)

    def _add_nodes(self, tree: Tree, inner: Any, leaf: Any, places: Any) -> None:
        left, right = tree.left[inner], tree.right[inner]
        modes = np.full(len(inner), LESS_OR_EQUAL)
        for place, node in enumerate(inner.tolist()):
            if node in tree.members:
                modes[place] = MEMBER
                self.members += [*tree.members[node], float("nan")]
        self._extend(
            nodes_featureids=tree.feature[inner],
            nodes_splits=np.where(modes == MEMBER, 0.0, tree.threshold[inner]),
            nodes_modes=modes,
            nodes_truenodeids=places[left],
            nodes_trueleafs=leaf[left],
            nodes_falsenodeids=places[right],
            nodes_falseleafs=leaf[right],
            nodes_missing_value_tracks_true=tree.missing_left[inner],
        )

    def _add_lone_leaf(self) -> None:
        """A tree without a split: a node of which both branches are the leaf."""
        nothing, here, yes = np.zeros(1), np.full(1, self.leaves), np.ones(1)
        self._extend(
            nodes_featureids=nothing,
            nodes_splits=nothing,
            nodes_modes=nothing,
            nodes_truenodeids=here,
            nodes_trueleafs=yes,
            nodes_falsenodeids=here,
            nodes_falseleafs=yes,
            nodes_missing_value_tracks_true=yes,
        )

    def _extend(self, **arrays: NDArray[Any]) -> None:
        for name, array in arrays.items():
            self.lists.setdefault(name, []).append(array)

    def attributes(self) -> list[AttributeProto]:
        """What the operator is given."""
        made = [_integers("tree_roots", self.roots)]
        for name, arrays in self.lists.items():
            array = np.concatenate(arrays)
            if name in {"nodes_splits", "leaf_weights"}:
                made.append(_tensor(name, array.astype(np.float64)))
            elif name == "nodes_modes":
                made.append(_tensor(name, array.astype(np.uint8)))
            else:
                made.append(_integers(name, array.astype(np.int64).tolist()))
        if self.members:
            made.append(_tensor("membership_values", np.array(self.members, dtype=np.float64)))
        return made


def _tensor(name: str, array: NDArray[Any]) -> AttributeProto:
    return helper.make_attribute(name, numpy_helper.from_array(array, name))


def _integers(name: str, values: Sequence[int]) -> AttributeProto:
    """Made by hand: onnx's own helper looks at every one of millions of numbers."""
    attribute = AttributeProto(name=name, type=AttributeProto.INTS)
    attribute.ints.extend(values)
    return attribute
