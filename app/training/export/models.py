"""The steps that predict as ONNX nodes in float64; ``steps`` has the others."""

from typing import Any, NamedTuple

import numpy as np
import onnx

from app.scoring import cores, ensembles, kernels, masks, trees
from app.training.export.graph import Graph, NotExportable
from app.training.export.steps import columns_of, double, exported, exports


class JudgedTensors(NamedTuple):
    """The tensors of a judgement, as in ``cores.Judged``; decision is (rows, 1) for two classes."""

    labels: str
    probabilities: str | None
    decision: str


@exports(cores.Affine)
def affine(step: cores.Affine, value: str, graph: Graph) -> str:
    """A product and a bias."""
    product = graph.add("MatMul", value, graph.constant(step.weights))
    return graph.add("Add", product, graph.constant(step.bias))


@exports(cores.Perceptron)
def perceptron(step: cores.Perceptron, value: str, graph: Graph) -> str:
    """Layer by layer."""
    operators = {"relu": "Relu", "tanh": "Tanh", "logistic": "Sigmoid", "identity": "Identity"}
    layers = list(zip(step.weights, step.biases, strict=True))
    for number, (weights, bias) in enumerate(layers):
        value = affine(cores.Affine(weights, bias), value, graph)
        if number < len(layers) - 1:
            value = graph.add(operators[step.activation], value)
    return value


@exports(cores.NormalLikelihood)
def normal_likelihood(step: cores.NormalLikelihood, value: str, graph: Graph) -> str:
    """Squared distances from each class's means, over its variances."""
    rows = graph.add("Unsqueeze", value, graph.constant([1]))
    apart = graph.add("Sub", rows, graph.constant(step.means))
    squares = graph.add("Div", graph.add("Mul", apart, apart), graph.constant(step.variances))
    sums = graph.add("ReduceSum", squares, graph.constant([2]), keepdims=0)
    half = graph.add("Mul", sums, graph.constant(np.float64(0.5)))
    return graph.add("Sub", graph.constant(step.constants), half)


@exports(cores.Constant)
def constant(step: cores.Constant, _: Any, graph: Graph) -> str:
    """The same for every row of the first number column."""
    kinds = [column.kind for column in graph.recipe]
    first = next((place for place, kind in enumerate(kinds) if kind != "category"), None)
    if first is None or kinds[first] == "text":
        raise NotExportable("a constant needs a column of numbers to count the rows by")
    rows = graph.add("Gather", graph.add("Shape", graph.number(first)), graph.constant([0]))
    shape = graph.add("Concat", rows, graph.constant([1]), axis=0)
    return graph.add("Tile", graph.constant(step.numbers[None, :]), shape)


@exports(cores.Values)
def values(step: cores.Values, value: str, graph: Graph) -> str:
    """One number a row, by the function."""
    flat = graph.add("Reshape", value, graph.constant([-1]))
    if step.function == "identity":
        return flat
    if step.function == "logistic":
        return graph.add("Sigmoid", flat)
    powers = graph.add("Exp", flat)
    if step.function == "exp":
        return powers
    return graph.add("Sub", powers, graph.constant(np.float64(1.0)))


@exports(cores.Column)
def column(_: cores.Column, value: str, graph: Graph) -> str:
    """(rows,) to (rows, 1)."""
    return graph.add("Reshape", value, graph.constant([-1, 1]))


@exports(cores.Greatest)
def greatest(_: cores.Greatest, value: str, graph: Graph) -> str:
    """The position of the greatest."""
    return graph.add("ArgMax", value, axis=1, keepdims=0)


@exports(cores.Nearest)
def nearest(step: cores.Nearest, value: str, graph: Graph) -> str:
    """The position of the least distance, but for what all have in common."""
    products = graph.add("MatMul", value, graph.constant(-2.0 * step.centers.T))
    norms = graph.constant((step.centers**2).sum(axis=1))
    return graph.add("ArgMin", graph.add("Add", products, norms), axis=1, keepdims=0)


def _probabilities(link: str | None, scores: str, graph: Graph, *, many: bool) -> str | None:
    if link is None or link == "identity":
        return None if link is None else scores
    if link in {"softmax", "likelihoods"}:
        return graph.add("Softmax", scores, axis=1)
    if link == "clipped":
        bounds = (graph.constant(np.float64(bound)) for bound in (-1.0, 1.0))
        cut = graph.add("Clip", scores, *bounds)
        moved = graph.add("Add", cut, graph.constant(np.float64(1.0)))
        shares = graph.add("Div", moved, graph.constant(np.float64(2.0)))
    else:
        shares = graph.add("Sigmoid", scores)
    return _in_shares(shares, graph) if many else shares


def _in_shares(value: str, graph: Graph) -> str:
    """Each row divided by its sum; a row of zeros becomes uniform."""
    sums = graph.add("ReduceSum", value, graph.constant([1]), keepdims=1)
    nothing = graph.add("Equal", sums, graph.constant(np.float64(0.0)))
    filled = graph.add("Where", nothing, graph.constant(np.float64(1.0)), value)
    whole = graph.add("ReduceSum", filled, graph.constant([1]), keepdims=1)
    return graph.add("Div", filled, whole)


@exports(cores.JudgeTwo)
def judge_two(step: cores.JudgeTwo, value: str, graph: Graph) -> JudgedTensors:
    """One score to two classes."""
    scaled = value
    if step.factor != 1.0:
        scaled = graph.add("Mul", value, graph.constant(np.float64(step.factor)))
    second = _probabilities(step.link, scaled, graph, many=False)
    judged = second if step.by_probability and second is not None else value
    operator = "GreaterOrEqual" if step.inclusive else "Greater"
    above = graph.add(operator, judged, graph.constant(np.float64(step.threshold)))
    labels = graph.add(
        "Reshape", graph.add("Cast", above, to=onnx.TensorProto.INT64), graph.constant([-1])
    )
    if second is None:
        return JudgedTensors(labels, None, value)
    first = graph.add("Sub", graph.constant(np.float64(1.0)), second)
    return JudgedTensors(labels, graph.add("Concat", first, second, axis=1), value)


@exports(cores.JudgeMany)
def judge_many(step: cores.JudgeMany, value: str, graph: Graph) -> JudgedTensors:
    """A score per class to the greatest."""
    scores = value
    if step.factor != 1.0:
        scores = graph.add("Mul", value, graph.constant(np.float64(step.factor)))
    labels = graph.add("ArgMax", value, axis=1, keepdims=0)
    return JudgedTensors(labels, _probabilities(step.link, scores, graph, many=True), value)


@exports(cores.Rejudge)
def rejudge(step: cores.Rejudge, value: JudgedTensors, graph: Graph) -> JudgedTensors:
    """A threshold on the score of one class of two."""
    if step.by == "decision" or value.probabilities is None:
        score = value.decision if step.positive == 1 else graph.add("Neg", value.decision)
    else:
        score = columns_of(value.probabilities, [step.positive], graph)
    above = graph.add("GreaterOrEqual", score, graph.constant(np.float64(step.threshold)))
    either = (graph.constant([place]) for place in (step.positive, 1 - step.positive))
    labels = graph.add("Reshape", graph.add("Where", above, *either), graph.constant([-1]))
    return value._replace(labels=labels)


@exports(cores.Mixture)
def mixture(step: cores.Mixture, value: str, graph: Graph) -> str:
    """The squared distance from each component."""
    distances = []
    for mean, root in zip(step.means, step.roots, strict=True):
        apart = graph.add("Sub", value, graph.constant(mean))
        turned = graph.add("MatMul", apart, graph.constant(root))
        squares = graph.add("Mul", turned, turned)
        distances.append(graph.add("ReduceSum", squares, graph.constant([1]), keepdims=1))
    joined = graph.add("Concat", *distances, axis=1)
    half = graph.add("Mul", joined, graph.constant(np.float64(0.5)))
    return graph.add("Sub", graph.constant(step.constants), half)


@exports(ensembles.Calibrate)
def calibrate(step: ensembles.Calibrate, value: str, graph: Graph) -> str:
    """Logistic curves; lines through knots have no operator."""
    if step.knots:
        raise NotExportable("isotonic calibration has no ONNX form")
    slopes, offsets = np.array(step.slopes), np.array(step.offsets)
    scaled = graph.add("Mul", value, graph.constant(-slopes))
    curves = graph.add("Sigmoid", graph.add("Sub", scaled, graph.constant(offsets)))
    if step.classes == 2:
        first = graph.add("Sub", graph.constant(np.float64(1.0)), curves)
        return graph.add("Concat", first, curves, axis=1)
    placed = graph.add("MatMul", curves, graph.constant(np.eye(step.classes)[step.places]))
    return _in_shares(placed, graph)


def _singly(value: str, single: bool, graph: Graph) -> str:
    if not single:
        return value
    return double(graph.add("Cast", value, to=onnx.TensorProto.FLOAT), graph)


@exports(trees.TreeSums)
def tree_sums(step: trees.TreeSums, value: str, graph: Graph) -> str:
    """The very node of the compiled form."""
    node = onnx.load_from_string(step.onnx).graph.node[0]
    sums = graph.adopt(node, _singly(value, step.single, graph))
    mean = graph.add("Div", sums, graph.constant(np.float64(step.divisor)))
    return graph.add("Add", mean, graph.constant(step.base))


@exports(masks.MaskedTrees)
def masked_trees(step: masks.MaskedTrees, value: str, graph: Graph) -> str:
    """The same trees, which ONNX has no faster form for."""
    sums: str = tree_sums(step.trees, value, graph)
    return sums


@exports(trees.TreeLeaves)
def tree_leaves(step: trees.TreeLeaves, value: str, graph: Graph) -> str:
    """The very node of the compiled form, and a look-up of the leaves' rows."""
    node = onnx.load_from_string(step.onnx).graph.node[0]
    leaves = graph.adopt(node, _singly(value, step.single, graph))
    places = graph.add("Cast", leaves, to=onnx.TensorProto.INT64)
    rows = graph.add("Gather", graph.constant(step.tables), places, axis=0)
    sums = graph.add("ReduceSum", rows, graph.constant([1]), keepdims=0)
    return graph.add("Div", sums, graph.constant(np.float64(step.divisor)))


@exports(trees.Isolation)
def isolation(step: trees.Isolation, value: str, graph: Graph) -> str:
    """Depths to the decision."""
    if step.denominator == 0:
        raise NotExportable("an isolation forest of single rows has no ONNX form")
    share = graph.add("Div", value, graph.constant(np.float64(-step.denominator)))
    powers = graph.add("Pow", graph.constant(np.float64(2.0)), share)
    decision = graph.add("Sub", graph.constant(np.float64(-step.offset)), powers)
    return graph.add("Reshape", decision, graph.constant([-1]))


@exports(kernels.Ellipse)
def ellipse(step: kernels.Ellipse, value: str, graph: Graph) -> str:
    """The distance from the center."""
    apart = graph.add("Sub", value, graph.constant(step.center))
    turned = graph.add("MatMul", apart, graph.constant(step.precision))
    squares = graph.add("Mul", turned, apart)
    sums = graph.add("ReduceSum", squares, graph.constant([1]), keepdims=0)
    return graph.add("Sub", graph.constant(np.float64(-step.offset)), sums)


@exports(ensembles.Blend)
def blend(step: ensembles.Blend, value: Any, graph: Graph) -> str:
    """The weighted mean of the members."""
    given = [exported(member, value, graph) for member in step.members]
    weights = step.weights or [1.0] * len(given)
    if step.weights is not None:
        given = [
            graph.add("Mul", part, graph.constant(np.float64(weight)))
            for part, weight in zip(given, weights, strict=True)
        ]
    return graph.add("Div", graph.add("Sum", *given), graph.constant(np.float64(sum(weights))))


def _chosen(labels: str, places: list[int], classes: int, graph: Graph) -> str:
    """1 in the column of the class that was chosen, by members' positions, else 0."""
    return graph.add("Gather", graph.constant(np.eye(classes)[places]), labels, axis=0)


@exports(ensembles.Shares)
def shares_of(step: ensembles.Shares, value: JudgedTensors, graph: Graph) -> str:
    """Probabilities of all classes."""
    if value.probabilities is None:
        return _chosen(value.labels, step.places, step.classes, graph)
    if len(step.places) == step.classes:
        return value.probabilities
    return graph.add(
        "MatMul", value.probabilities, graph.constant(np.eye(step.classes)[step.places])
    )


@exports(ensembles.Majority)
def majority(step: ensembles.Majority, value: Any, graph: Graph) -> JudgedTensors:
    """The class with the most votes."""
    votes = []
    for place, member in enumerate(step.members):
        weight = 1.0 if step.weights is None else step.weights[place]
        labels = exported(member, value, graph).labels
        every = list(range(step.classes))
        chosen = _chosen(labels, every, step.classes, graph)
        votes.append(graph.add("Mul", chosen, graph.constant(np.float64(weight))))
    total = graph.add("Sum", *votes)
    return JudgedTensors(graph.add("ArgMax", total, axis=1, keepdims=0), None, total)


@exports(ensembles.Opinion)
def opinion(step: ensembles.Opinion, value: JudgedTensors, graph: Graph) -> str:
    """Columns of a judgement."""
    if step.use == "labels":
        return graph.add("Reshape", double(value.labels, graph), graph.constant([-1, 1]))
    if step.use == "decision" or value.probabilities is None:
        return value.decision
    if step.use == "probabilities":
        return value.probabilities
    return columns_of(value.probabilities, [1], graph)
