"""Words of leaves lead every row to the leaves to which following the nodes leads it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.compiling.emitter import Tree, emit
from app.compiling.masks import MOST_COLUMNS, followed, masked
from app.kernel.errors import Invalid
from app.scoring.masks import FEWEST_ROWS, LEAVES, MaskedTrees
from app.scoring.step import Chain
from app.scoring.trees import TreeSums

COLUMNS = 3
CODES = 2
"""The column of categories' codes, which trees may split by members as well."""
EDGES = [0.0, 1.0, 2.0, -1.5, 1e-310, 2.0**24 + 1, float("inf"), float("-inf")]
NUMBERS = [
    *EDGES,
    *[float(np.nextafter(edge, way)) for edge in EDGES for way in (-np.inf, np.inf)],
    math.nan,
]


def grown(splits: Sequence[tuple[int, int, float, bool, Sequence[float] | None]]) -> Tree:
    """A tree to which splits were added one by one: the leaf, column, threshold, missing to the
    left, and the members that go left, if it is by them."""
    left, right, feature = [-1], [-1], [-2]
    threshold, missing = [0.0], [False]
    members: dict[int, Sequence[float]] = {}
    for leaf, column, cut, missing_left, among in splits:
        leaves = [node for node, child in enumerate(left) if child < 0]
        node = leaves[leaf % len(leaves)]
        feature[node], threshold[node], missing[node] = column, cut, missing_left
        left[node], right[node] = len(left), len(left) + 1
        if among is not None:
            members[node] = among
        for values, nothing in ((left, -1), (right, -1), (feature, -2)):
            values += [nothing, nothing]
        threshold += [0.0, 0.0]
        missing += [False, False]
    whole = [np.array(values, dtype=np.int64) for values in (left, right, feature)]
    return Tree(*whole, np.array(threshold), np.array(missing), members)


def chain(depth: int) -> Tree:
    """A tree in which every split is of the leaf to the right."""
    return grown([(-1, 0, float(cut), True, None) for cut in range(depth)])


def both(trees: list[Tree], outputs: int = 1, **options: Any) -> tuple[TreeSums, Any]:
    columns = options.pop("columns", COLUMNS)

    def leaves(number: int, nodes: Any) -> Any:
        return np.random.default_rng(number).normal(size=100)[nodes] * 10.0 ** (number % 5)

    def target(number: int) -> int:
        return number % outputs

    onnx = emit(trees, leaves, target, targets=outputs, columns=columns)
    sums = TreeSums(onnx, options.get("single", False), 7.0, np.arange(outputs) / 3)
    return sums, masked(trees, leaves, target, sums)


splits = st.one_of(
    st.tuples(
        st.integers(0, 50),
        st.integers(0, COLUMNS - 1),
        st.sampled_from(EDGES),
        st.booleans(),
        st.none(),
    ),
    st.tuples(
        st.integers(0, 50),
        st.just(CODES),
        st.just(0.0),
        st.booleans(),
        st.lists(st.integers(0, 4).map(float), min_size=1),
    ),
)
forests = st.lists(st.lists(splits, max_size=LEAVES - 1).map(grown), min_size=1, max_size=12)
rows_of_numbers = st.tuples(
    *[st.sampled_from(NUMBERS)] * CODES, st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, math.nan])
)
tables = st.lists(rows_of_numbers, min_size=FEWEST_ROWS, max_size=80)


@given(forests, tables, st.integers(1, 3))
def test_the_sums_are_those_of_followed_nodes_to_the_last_bit(trees, table, outputs):
    sums, words = both(trees, outputs)
    rows = np.array(table)
    assert words(rows).tolist() == sums(rows).tolist()
    assert words(rows[:3]).tolist() == sums(rows[:3]).tolist()


def test_many_rows_and_trees_are_taken_in_lots():
    draw = np.random.default_rng(0)
    trees = [
        grown([(draw.integers(50), draw.integers(3), cut, False, None) for cut in draw.random(31)])
        for _ in range(150)
    ]
    rows = draw.random((1_000, COLUMNS))
    sums, words = both(trees)
    assert isinstance(words, MaskedTrees)
    assert np.array_equal(words(rows), sums(rows))
    assert np.array_equal(words(rows[::-1]), sums(rows)[::-1])


def test_a_number_beyond_float32_is_refused_where_trees_round():
    _, words = both([chain(3)], single=True)
    assert isinstance(words, MaskedTrees)
    with pytest.raises(Invalid, match="too great"):
        words(np.full((FEWEST_ROWS, COLUMNS), 1e300))


@pytest.mark.parametrize(
    ("trees", "columns"),
    [
        pytest.param([chain(LEAVES)], 1, id="a leaf more than a word has bits"),
        pytest.param([grown([])], 1, id="no splits"),
        pytest.param(
            [grown([(0, column, 0.0, True, None)]) for column in range(MOST_COLUMNS + 1)],
            MOST_COLUMNS + 1,
            id="many columns",
        ),
    ],
)
def test_other_trees_keep_being_followed(trees, columns):
    sums, words = both(trees, columns=columns)
    assert words is sums


def test_trees_with_too_many_thresholds_keep_being_followed(monkeypatch):
    monkeypatch.setattr("app.compiling.masks.MOST_WORDS", 4)
    sums, words = both([chain(3)])
    assert words is sums


def test_a_step_is_told_with_its_trees_followed():
    sums, words = both([chain(3)])
    assert isinstance(words, MaskedTrees)
    others = Chain([sums, sums])
    assert followed(others) is others
    plain = followed(Chain([others, words]))
    assert plain.steps == [others, sums]


@pytest.mark.parametrize("field", ["leaves", "starts", "columns", "cuts", "masks"])
def test_words_of_other_shapes_are_refused(field):
    _, words = both([chain(3), chain(4)])
    names = ("columns", "cuts", "masks", "leaves", "starts")
    parts = {name: getattr(words, name) for name in names}
    parts[field] = parts[field][:-1] if field in {"leaves", "starts"} else []
    with pytest.raises(ValueError, match=r"leaves|word|zip"):
        MaskedTrees(words.trees, **parts)
