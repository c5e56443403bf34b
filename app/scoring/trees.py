"""Trees: ensembles of them run by onnxruntime in float64, so that every row takes the exact path.

A ``TreeEnsemble`` of ai.onnx.ml 5 compares doubles with doubles, sends NaN where training decided,
and adds up the weights of the leaves that a row reaches.
"""

import os
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from app.kernel.errors import Invalid
from app.scoring.matrix import Dense, Matrix, dense
from app.scoring.step import Step

# At its import onnxruntime writes to the home folder and reports to its makers, unless told not to.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

INPUT: Final = "x"
OUTPUT: Final = "y"

_BEYOND_SINGLE: Final = 2.0**128 - 2.0**103
"""From here on a number is rounded to an infinite float32."""
_TOO_GREAT: Final = "a number is too great for this model (beyond float32)"

REFUSALS: Final = (
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NotImplemented,
    state.RuntimeException,
)
"""What onnxruntime raises for a model that it cannot run; they have no common base of their own."""

onnxruntime.disable_telemetry_events()


def session(model: bytes) -> onnxruntime.InferenceSession:
    """A session on this ONNX model: the caller's thread alone does the work, on the CPU.

    Raises ``ValueError`` if onnxruntime cannot run it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except REFUSALS as error:
        raise ValueError(f"onnxruntime refuses the trees: {error}") from error


@dataclass(eq=False)
class TreeSums(Step, kind="tree_sums"):
    """The sums of the leaves, ``sums / divisor + base``: (rows, outputs).

    With ``single`` the numbers are rounded to float32 first, as scikit-learn's forests do; a number
    beyond float32 raises ``Invalid``.
    """

    onnx: bytes
    single: bool
    divisor: float
    base: Dense
    _session: onnxruntime.InferenceSession = field(init=False)

    def __post_init__(self) -> None:
        self._session = session(self.onnx)

    def __call__(self, value: Matrix) -> Dense:
        return self.finished(_reached(self._session, self.compared(value)))

    def compared(self, value: Matrix) -> Dense:
        """The numbers that are compared with the thresholds."""
        return _compared(value, self.single)

    def finished(self, sums: Dense) -> Dense:
        """What comes of the bare sums."""
        return sums / self.divisor + self.base

    def sums_of(self, cells: list[float]) -> list[float]:
        """The bare sums for one row."""
        if not self.single:
            row = np.array([cells])
        elif any(abs(cell) >= _BEYOND_SINGLE for cell in cells):
            raise Invalid(_TOO_GREAT)
        else:
            row = np.array([cells], dtype=np.float32).astype(np.float64)
        sums: list[list[float]] = self._session.run([OUTPUT], {INPUT: row})[0].tolist()
        return sums[0]


@dataclass(eq=False)
class TreeLeaves(Step, kind="tree_leaves"):
    """For trees whose leaves have several numbers: the mean of the leaves' rows in ``tables``.

    The ensemble gives one output per tree: the row of ``tables`` that belongs to the leaf.
    """

    onnx: bytes
    single: bool
    divisor: float
    tables: Dense
    _session: onnxruntime.InferenceSession = field(init=False)

    def __post_init__(self) -> None:
        self._session = session(self.onnx)

    def __call__(self, value: Matrix) -> Dense:
        leaves = _reached(self._session, _compared(value, self.single)).T.astype(np.int64)
        picked = self.tables.take(leaves, axis=0)
        # One tree after the other, as scikit-learn adds; numpy's sum does so as well, and for all
        # rows at once, but where each tree has but one number.
        lone = picked[0].size == 1
        sums: Dense = np.add.accumulate(picked)[-1] if lone else picked.sum(axis=0)
        return sums / self.divisor


@dataclass(eq=False)
class WeightedMedian(Step, kind="weighted_median"):
    """The median of each row's numbers, which have these weights."""

    weights: Dense

    def __call__(self, value: Dense) -> Dense:
        order = np.argsort(value, axis=1)
        passed = np.cumsum(self.weights[order], axis=1)
        middle = (passed >= 0.5 * passed[:, -1:]).argmax(axis=1)
        every = np.arange(len(value))
        medians: Dense = value[every, order[every, middle]]
        return medians


@dataclass(eq=False)
class Isolation(Step, kind="isolation"):
    """Depths in an isolation forest, (rows, 1), to the decision: below 0 is an outlier."""

    denominator: float
    offset: float

    def __call__(self, value: Dense) -> Dense:
        depths = value[:, 0]
        if self.denominator == 0:
            return np.full(len(depths), -0.5 - self.offset)
        decision: Dense = -(2.0 ** -(depths / self.denominator)) - self.offset
        return decision


def _compared(value: Matrix, single: bool) -> Dense:
    matrix = dense(value)
    if not single:
        return matrix
    try:
        with np.errstate(over="raise"):
            return matrix.astype(np.float32).astype(np.float64)
    except FloatingPointError as error:
        raise Invalid(_TOO_GREAT) from error


def _reached(trees: onnxruntime.InferenceSession, matrix: Dense) -> Dense:
    """What the ensemble adds up for each row."""
    sums: Dense = trees.run([OUTPUT], {INPUT: matrix})[0]
    return sums
