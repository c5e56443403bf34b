"""A linear model that learns from one row at a time: the fold of a stream of labelled rows.

Rows are plain objects. A text, a boolean or a column named in ``categories`` is one-hot, hashed
into a bounded number of slots; a number is standardised by the mean and deviation seen so far; what
is missing is a category of its own. Classification is logistic (multinomial with the first class as
reference), regression linear on the standardised target; both learn by gradient steps of a constant
size, so that what is long past fades. The same rows in the same order give the same bytes of state
in every process: float64, no randomness, nothing that depends on the interpreter's hashes.
"""

import hashlib
import json
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final
from zlib import crc32

import numpy as np

from app.scoring.frame import as_text

CLASSIFICATION: Final = "classification"
REGRESSION: Final = "regression"
MOST_CLASSES: Final = 100
LEAST_SHARE: Final = 1e-9
_MAGIC: Final = b"MYOL1"
_BIAS: Final = -1
_FARTHEST: Final = 5.0
_LONGEST_STEP: Final = 0.5
_STORED: Final = np.dtype([("slot", "<i4"), ("weight", "<f8")])

Label = str | int | bool


@dataclass(frozen=True)
class OnlineSpec:
    """What is learnt: ``features`` predict a label (classification) or a number (regression)."""

    task: str
    features: tuple[str, ...]
    categories: frozenset[str] = frozenset()
    rate: float = 0.02
    slot_bits: int = 18

    def as_dict(self) -> dict[str, Any]:
        """The spec as JSON knows it."""
        return {
            **asdict(self),
            "features": list(self.features),
            "categories": sorted(self.categories),
        }

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "OnlineSpec":
        """The spec that ``as_dict`` told."""
        features, categories = tuple(told["features"]), frozenset(told["categories"])
        return cls(told["task"], features, categories, told["rate"], told["slot_bits"])


class _Spread:
    """Mean and deviation of the numbers seen so far (Welford)."""

    __slots__ = ("count", "mean", "squares")

    def __init__(self, count: int = 0, mean: float = 0.0, squares: float = 0.0) -> None:
        self.count, self.mean, self.squares = count, mean, squares

    def add(self, value: float) -> None:
        self.count += 1
        before = value - self.mean
        self.mean += before / self.count
        self.squares += before * (value - self.mean)

    def deviation(self) -> float:
        found = math.sqrt(self.squares / self.count) if self.count > 1 else 0.0
        return found if 0.0 < found < math.inf else 1.0

    def standardised(self, value: float) -> float:
        far = (value - self.mean) / self.deviation()
        return min(max(far, -_FARTHEST), _FARTHEST)

    def parts(self) -> list[float]:
        return [self.count, self.mean, self.squares]


class OnlineLearner:
    """Learns by ``learn_one`` and answers by ``predict_one``, about 10 us each."""

    def __init__(self, spec: OnlineSpec) -> None:
        self.spec = spec
        self.learnt = 0
        self.classes: list[Label] = []
        self._places: dict[str, int] = {}
        # One map from slot to weight for each class but the first, or the one of the regression.
        self._weights: list[dict[int, float]] = [] if spec.task == CLASSIFICATION else [{}]
        self._target = _Spread()
        self._numbers = {name: _Spread() for name in spec.features if name not in spec.categories}
        self._mask = (1 << spec.slot_bits) - 1
        self._columns = [
            (name, crc32(name.encode()), name in spec.categories) for name in spec.features
        ]

    def learn_one(
        self, row: Mapping[str, Any], target: Any, base: Mapping[str, float] | None = None
    ) -> None:
        """Take a labelled row in.

        ``base``: another model's probabilities by the text of the label; what is learnt is then
        what its logits lack. Raises ValueError for a value or a label that no model can learn
        from; nothing has changed then.
        """
        self.check(target)
        slots = self._slots(row, seen=True)
        if self.spec.task == REGRESSION:
            self._learn_number(slots, float(target))
        else:
            self._learn_class(slots, self._place(_label(target)), base)
        self.learnt += 1

    def check(self, target: Any) -> None:
        """Raise ValueError for a target that can't be learnt."""
        if self.spec.task == REGRESSION:
            if _finite(target) is None:
                raise ValueError("The target isn't a finite number")
        elif as_text(_label(target)) not in self._places and len(self.classes) == MOST_CLASSES:
            raise ValueError(f"The label would be the one after the first {MOST_CLASSES}")

    def expect(self, labels: Iterable[Label]) -> None:
        """Labels that may come: an answer tells them from the first row on."""
        for label in labels:
            self._place(label)

    @property
    def target_deviation(self) -> float:
        """How far the numbers to foretell lie from their mean; 1 where that is unknown."""
        return self._target.deviation()

    def predict_one(
        self, row: Mapping[str, Any], base: Mapping[str, float] | None = None
    ) -> dict[str, float] | float | None:
        """The probability of each class by the text of its label, or the number.

        None before anything has been learnt. ``base`` as for ``learn_one``.
        """
        if not self.learnt:
            return None
        slots = self._slots(row)
        if self.spec.task == REGRESSION:
            return self._target.mean + self._target.deviation() * self._margins(slots)[0]
        return dict(zip(self._places, self._shares(slots, base), strict=True))

    def _shares(
        self, slots: Sequence[tuple[int, float]], base: Mapping[str, float] | None
    ) -> list[float]:
        margins = [0.0, *self._margins(slots)]
        if base is not None:
            for at, text in enumerate(self._places):
                margins[at] += math.log(max(base.get(text, 0.0), LEAST_SHARE))
        return softmax(margins)

    def _margins(self, slots: Sequence[tuple[int, float]]) -> list[float]:
        found = []
        for weights in self._weights:
            weight = weights.get
            total = 0.0
            for slot, value in slots:
                total += weight(slot, 0.0) * value
            found.append(total)
        return found

    def _learn_class(
        self, slots: Sequence[tuple[int, float]], place: int, base: Mapping[str, float] | None
    ) -> None:
        shares = self._shares(slots, base)
        for at, weights in enumerate(self._weights, 1):
            self._step(weights, slots, (at == place) - shares[at])

    def _learn_number(self, slots: Sequence[tuple[int, float]], target: float) -> None:
        self._target.add(target)
        wanted = self._target.standardised(target)
        self._step(self._weights[0], slots, wanted - self._margins(slots)[0])

    def _step(
        self, weights: dict[int, float], slots: Sequence[tuple[int, float]], error: float
    ) -> None:
        length = 0.0
        for _, value in slots:
            length += value * value
        # A longer step than half the way would overshoot, and grow without end.
        step = error * min(self.spec.rate, _LONGEST_STEP / length)
        for slot, value in slots:
            weights[slot] = weights.get(slot, 0.0) + step * value

    def _place(self, label: Label) -> int:
        text = as_text(label)
        if text not in self._places:
            self._places[text] = len(self.classes)
            self.classes.append(label)
            if len(self.classes) > 1:
                self._weights.append({})
        return self._places[text]

    def _slots(self, row: Mapping[str, Any], *, seen: bool = False) -> list[tuple[int, float]]:
        """Where a row's values lie, and how much of each; ``seen``: its numbers count from now."""
        found = [(_BIAS, 1.0)]
        new: list[tuple[_Spread, float]] = []
        mask = self._mask
        for name, seed, categorical in self._columns:
            value = row.get(name)
            if type(value) is str:
                found.append((crc32(value.encode("utf-8", "surrogatepass"), seed) & mask, 1.0))
                continue
            if value is None or (isinstance(value, float) and not math.isfinite(value)):
                found.append((~seed & mask, 1.0))
                continue
            if isinstance(value, bool) or (categorical and isinstance(value, int | float)):
                found.append((crc32(as_text(value).encode(), seed) & mask, 1.0))
                continue
            number = _finite(value)
            if number is None:
                raise ValueError(f"The value of {name} is neither text nor a finite number")
            spread = self._numbers[name]
            if seen:
                new.append((spread, number))
            found.append((seed & mask, spread.standardised(number)))
        for spread, number in new:
            spread.add(number)
        return found

    def state(self) -> bytes:
        """Everything learnt, as bytes: equal learners give equal bytes."""
        told = {
            "spec": self.spec.as_dict(),
            "learnt": self.learnt,
            "classes": self.classes,
            "target": self._target.parts(),
            "numbers": {name: spread.parts() for name, spread in self._numbers.items()},
            "sizes": [len(weights) for weights in self._weights],
        }
        head = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
        tables = [np.array(sorted(weights.items()), _STORED).tobytes() for weights in self._weights]
        return b"".join([_MAGIC, struct.pack("<I", len(head)), head, *tables])

    def digest(self) -> str:
        """SHA-256 of the state."""
        return hashlib.sha256(self.state()).hexdigest()

    @classmethod
    def restored(cls, state: bytes) -> "OnlineLearner":
        """The learner whose state this is; raises ValueError when it is none."""
        start = len(_MAGIC) + 4
        if state[: len(_MAGIC)] != _MAGIC or len(state) < start:
            raise ValueError("Not the state of an online learner")
        (length,) = struct.unpack_from("<I", state, len(_MAGIC))
        told = json.loads(state[start : start + length])
        learner = cls(OnlineSpec.of(told["spec"]))
        learner.learnt = told["learnt"]
        learner.expect(told["classes"])
        learner._target = _Spread(*told["target"])
        learner._numbers = {name: _Spread(*parts) for name, parts in told["numbers"].items()}
        at = start + length
        for weights, size in zip(learner._weights, told["sizes"], strict=True):
            table = np.frombuffer(state, _STORED, size, at)
            weights.update(zip(table["slot"].tolist(), table["weight"].tolist(), strict=True))
            at += size * _STORED.itemsize
        return learner


def softmax(margins: Sequence[float]) -> list[float]:
    """Shares that sum to one, from logits."""
    most = max(margins)
    parts = [math.exp(margin - most) for margin in margins]
    total = math.fsum(parts)
    return [part / total for part in parts]


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and abs(number) < 1e150 else None


def _label(value: Any) -> Label:
    if isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise ValueError("The target is neither text nor a whole number nor a boolean")
