"""Many rows through ensembles of small trees at once, without a branch.

The way of QuickScorer (Lucchese et al., SIGIR 2015), over arrays: a tree's leaves are the bits of a
word, and a number in a column rules out some of them, whatever the other columns hold. So each
column has a table: for each interval between two thresholds the words of all trees. A row reaches,
in each tree, the first leaf that is left when the words of its columns are combined. That takes no
guess about which way a node goes, which is what costs time when nodes are followed: for 10,000 rows
and 100 trees of 31 leaves a seventh of it.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.scoring.matrix import Dense, Matrix
from app.scoring.step import Step
from app.scoring.trees import TreeSums

LEAVES: Final = 32
"""The most leaves of a tree: the bits of a word."""
FEWEST_ROWS: Final = 16
"""For fewer rows following the nodes is faster."""
_CELLS_AT_ONCE: Final = 50_000
"""Rows times trees: what is made on the way, 24 bytes for each, stays in the cache of a core."""
_ISOLATED: Final = np.uint32(0x077CB531)
"""Its products with the powers of 2 differ in their five highest bits (a de Bruijn sequence)."""

Words = NDArray[np.uint32]


@dataclass(eq=False)
class MaskedTrees(Step, kind="masked_trees"):
    """The same sums as ``trees``, to the last bit: (rows, outputs).

    Of each of the ``columns`` that trees ask about, ``cuts`` has the thresholds, ascending, and
    ``masks`` the words, (intervals, trees): interval ``i`` ends with the ``i``-th threshold, the
    last but one is beyond all of them, the last is for what is missing. ``leaves`` are the numbers
    at the leaves, (trees, 32), from left to right. The trees of output ``i`` begin at
    ``starts[i]``, in the order in which they are added.
    """

    trees: TreeSums
    columns: list[int]
    cuts: list[Dense]
    masks: list[Words]
    leaves: Dense
    starts: list[int]
    _numbers: Dense = field(init=False)
    _places: NDArray[np.intp] = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.leaves)
        if not self.columns or self.leaves.shape != (count, LEAVES) or self.starts[-1] != count:
            raise ValueError("the leaves are not those of the trees")
        for cuts, masks in zip(self.cuts, self.masks, strict=True):
            if masks.shape != (len(cuts) + 2, count) or masks.dtype != np.uint32:
                raise ValueError("there is not a word for each interval and tree")
        bits = np.uint32(1) << np.arange(LEAVES, dtype=np.uint32)
        self._numbers = np.empty_like(self.leaves)
        self._numbers[:, (bits * _ISOLATED) >> np.uint32(27)] = self.leaves
        self._places = np.arange(count)[:, np.newaxis] * LEAVES

    def __call__(self, value: Matrix) -> Dense:
        if len(value) < FEWEST_ROWS:
            return self.trees(value)
        matrix = self.trees.compared(value)
        intervals = [
            _intervals(matrix[:, column], cuts)
            for column, cuts in zip(self.columns, self.cuts, strict=True)
        ]
        sums = np.empty((len(matrix), len(self.starts) - 1))
        # Never a lot of one row: of a single column numpy adds up the numbers in another order.
        lots = max(len(matrix) // max(_CELLS_AT_ONCE // len(self.leaves), 2), 1)
        ends = [len(matrix) * lot // lots for lot in range(lots + 1)]
        for start, end in pairwise(ends):
            self._add_up([places[start:end] for places in intervals], sums[start:end])
        return self.trees.finished(sums)

    def _add_up(self, intervals: list[NDArray[np.intp]], sums: Dense) -> None:
        first, *others = zip(self.masks, intervals, strict=True)
        words = first[0].take(first[1], axis=0)
        more = np.empty_like(words)
        for masks, places in others:
            # With any other mode numpy writes to a copy first; no place is out of range.
            masks.take(places, axis=0, out=more, mode="clip")
            words &= more
        np.negative(words, out=more)
        words &= more
        words *= _ISOLATED
        words >>= np.uint32(27)
        # One tree after the other, as in ``trees``: numpy adds up along a row in another order.
        reached = self._numbers.take(words.T + self._places)
        for output, (start, end) in enumerate(pairwise(self.starts)):
            sums[:, output] = reached[start:end].sum(axis=0)


def _intervals(numbers: Dense, cuts: Dense) -> NDArray[np.intp]:
    places = np.searchsorted(cuts, numbers)
    places[np.isnan(numbers)] = len(cuts) + 1
    return places
