"""The words of small trees, by column and interval: what ``scoring.masks`` combines."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.compiling.emitter import Tree
from app.scoring.masks import LEAVES, MaskedTrees
from app.scoring.step import Step, stored_fields
from app.scoring.trees import TreeSums

MOST_COLUMNS: Final = 32
"""The work grows with the columns, whether or not a tree asks about them."""
MOST_WORDS: Final = 2**21
"""8 MB: the tables are read all over, so they have to fit into a processor's cache."""

_EVERY_LEAF: Final = np.uint32(2**LEAVES - 1)

Span = tuple[int, int]


def masked(
    trees: Sequence[Tree],
    leaves: Callable[[int, NDArray[np.int64]], Any],
    target: Callable[[int], int],
    sums: TreeSums,
) -> MaskedTrees | TreeSums:
    """``sums`` with the words of its trees, where these are small enough for it to be faster.

    ``leaves(i, nodes)`` are the numbers that tree ``i`` has at these leaves, ``target(i)`` is its
    output.
    """
    cuts = _cuts(trees)
    words = sum(len(found) + 2 for found in cuts.values()) * len(trees)
    small = all(len(tree.leaves) <= LEAVES for tree in trees)
    if not (small and 0 < len(cuts) <= MOST_COLUMNS and words <= MOST_WORDS):
        return sums
    outputs = np.array([target(number) for number in range(len(trees))])
    order = np.argsort(outputs, kind="stable").tolist()
    masks = {
        column: np.full((len(found) + 2, len(trees)), _EVERY_LEAF) for column, found in cuts.items()
    }
    numbers = np.zeros((len(trees), LEAVES))
    for place, number in enumerate(order):
        tree = trees[number]
        nodes, spans = _from_left_to_right(tree)
        numbers[place, : len(nodes)] = leaves(number, np.array(nodes))
        for node, (start, end) in spans.items():
            column = int(tree.feature[node])
            right = ~_goes_left(tree, node, cuts[column])
            masks[column][right, place] &= ~np.uint32(2**end - 2**start)
    starts = np.searchsorted(outputs[order], np.arange(len(sums.base) + 1)).tolist()
    columns = list(cuts)
    return MaskedTrees(
        sums, columns, [cuts[c] for c in columns], [masks[c] for c in columns], numbers, starts
    )


def followed(value: Any) -> Any:
    """A step, with the trees of which nodes are followed for any number of rows."""
    if isinstance(value, MaskedTrees):
        return value.trees
    if isinstance(value, list):
        made = [followed(item) for item in value]
        return made if any(new is not old for new, old in zip(made, value, strict=True)) else value
    if not isinstance(value, Step):
        return value
    parts = {name: getattr(value, name) for name in stored_fields(type(value))}
    changed = {name: followed(part) for name, part in parts.items()}
    changed = {name: part for name, part in changed.items() if part is not parts[name]}
    return replace(value, **changed) if changed else value  # type: ignore[type-var]


def _cuts(trees: Sequence[Tree]) -> dict[int, NDArray[np.float64]]:
    """The ends of the intervals in which nothing changes, by column: a member is one by itself."""
    found: dict[int, list[Any]] = {}
    for tree in trees:
        for node in np.flatnonzero(tree.left >= 0).tolist():
            ends = found.setdefault(int(tree.feature[node]), [])
            if node in tree.members:
                codes = np.array(tree.members[node])
                ends += [codes, np.nextafter(codes, -np.inf)]
            else:
                ends.append(tree.threshold[node : node + 1])
    return {column: np.unique(np.concatenate(ends)) for column, ends in sorted(found.items())}


def _goes_left(tree: Tree, node: int, cuts: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the node sends a number of each interval to the left; the last is what is missing."""
    numbers = np.append(cuts, np.inf)
    if node in tree.members:
        left = np.isin(numbers, tree.members[node])
    else:
        left = numbers <= tree.threshold[node]
    return np.append(left, tree.missing_left[node])


def _from_left_to_right(tree: Tree) -> tuple[list[int], dict[int, Span]]:
    """The leaves, and for each inner node which of them are to its left: from, to."""
    leaves: list[int] = []
    spans: dict[int, Span] = {}
    starts: dict[int, int] = {}
    ahead = [(0, False)]
    while ahead:
        node, left_done = ahead.pop()
        if tree.left[node] < 0:
            leaves.append(node)
        elif left_done:
            spans[node] = (starts[node], len(leaves))
            ahead.append((int(tree.right[node]), False))
        else:
            starts[node] = len(leaves)
            ahead += [(node, True), (int(tree.left[node]), False)]
    return leaves, spans
