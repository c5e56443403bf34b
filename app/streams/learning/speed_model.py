"""The speed layer of a model: a fold of one partition's records into a learner and its metrics.

The batch model's answers come with the records. What a layer answers to a row is noted when the
row comes, and judged when its label comes, before anyone learns from it. Equal records and equal
answers of the batch model give equal bytes of state.
"""

import hashlib
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.scoring.frame import as_text
from app.scoring.online import CLASSIFICATION, OnlineLearner, OnlineSpec
from app.streams.learning.drift import Adwin
from app.streams.learning.labelling import Example, Half, Halves, Row
from app.streams.learning.merges import (
    BLEND,
    HEDGE,
    RESIDUAL,
    WARM_START,
    Answer,
    Hedge,
    averaged,
    blended,
    mixed,
)
from app.streams.learning.prequential import Prequential, drift_signal

LAYERS: Final = ("batch", "speed", "merged")
MOST_WAITING: Final = 10_000


@dataclass(frozen=True)
class SpeedSpec:
    """What is learnt, how it is merged, and how many halves of examples may wait."""

    online: OnlineSpec
    merge: str = BLEND
    most_waiting: int = MOST_WAITING


class SpeedModel:
    """The state of one partition."""

    def __init__(self, spec: SpeedSpec) -> None:
        self.spec = spec
        self.learner = OnlineLearner(spec.online)
        # Learns what the batch model's answers lack; starts anew with each batch.
        self.correction = OnlineLearner(spec.online)
        self.halves = Halves(spec.most_waiting)
        self.hedge = Hedge()
        self.metrics = {layer: Prequential(spec.online.task) for layer in LAYERS}
        self.watch = Adwin()
        self.since = 0
        self.drifts = 0

    def seed(self, half: Half, *, learn: bool = True) -> Example | None:
        """Take in a record from before the batch's cut: no answer to it is judged."""
        if half.target is not None:
            self.learner.check(half.target)
        example = self.halves.join(half)
        if example is not None and learn:
            self.learner.learn_one(example.row, example.target)
        return example

    def take(
        self,
        half: Half,
        batch: Answer | None = None,
        judged: Mapping[str, Prequential] | None = None,
    ) -> str | None:
        """Take in a record, with the batch model's answer to its row; tells a drift.

        What all three layers have answered is judged in ``judged``, too. Raises ValueError for a
        record that can't be learnt from; nothing has changed then.
        """
        if half.target is not None:
            self.learner.check(half.target)
        noted = None if half.row is None else self._noted(half.row, batch)
        example = self.halves.join(half, noted)
        return None if example is None else self._learn(example, judged or {})

    def _noted(self, row: Row, batch: Answer | None) -> list[Answer | None]:
        batch = None if batch is None else _rounded(batch)
        return [batch, self.learner.predict_one(row), answer([self], row, batch)]

    def _learn(self, example: Example, judged: Mapping[str, Prequential]) -> str | None:
        classified = self.spec.online.task == CLASSIFICATION
        target = as_text(example.target) if classified else example.target
        batch = example.kept[0] if example.kept else None
        self.learner.learn_one(example.row, example.target)
        if self.spec.merge == RESIDUAL and batch is not None:
            self._correct(example.row, example.target, batch)
        self.since += 1
        return self._judge(example.kept, target, judged) if example.kept else None

    def _correct(self, row: Row, target: Any, batch: Answer) -> None:
        if isinstance(batch, Mapping):
            self.correction.expect(batch)
            self.correction.learn_one(row, as_text(target), batch)
        else:
            self.correction.learn_one(row, target - batch)

    def _judge(
        self, noted: Sequence[Answer | None], target: Any, judged: Mapping[str, Prequential]
    ) -> str | None:
        pairs = zip(LAYERS, noted, strict=True)
        answers = {layer: told for layer, told in pairs if told is not None}
        losses = {layer: self.metrics[layer].add(told, target) for layer, told in answers.items()}
        if len(answers) == len(LAYERS):
            for layer, total in judged.items():
                total.add(answers[layer], target)
        if "batch" in losses and "speed" in losses:
            self.hedge.learn(self._unit(losses["batch"]), self._unit(losses["speed"]))
        # The layer that drift makes worse is the one that doesn't learn.
        loss = losses.get("batch", losses.get("speed"))
        change = None if loss is None else self.watch.add(drift_signal(self._unit(loss)))
        self.drifts += change is not None
        return change

    def _unit(self, loss: float) -> float:
        """A loss in nats: the log-loss itself, or half the squared error in deviations."""
        if self.spec.online.task == CLASSIFICATION:
            return loss
        return min((loss / self.learner.target_deviation) ** 2 / 2, 100.0)

    def state(self) -> bytes:
        """Everything, as bytes."""
        told = {
            "merge": self.spec.merge,
            "halves": self.halves.as_dict(),
            "hedge": self.hedge.weight,
            "metrics": {layer: found.as_dict() for layer, found in self.metrics.items()},
            "watch": self.watch.as_dict(),
            "since": self.since,
            "drifts": self.drifts,
        }
        head = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
        parts = [head, self.learner.state(), self.correction.state()]
        return b"".join(struct.pack("<I", len(part)) + part for part in parts)

    def digest(self) -> str:
        """SHA-256 of the state."""
        return hashlib.sha256(self.state()).hexdigest()

    @classmethod
    def restored(cls, state: bytes) -> "SpeedModel":
        """The layer whose state this is; raises ValueError when it is none."""
        head, learnt, correction = _parts(state)
        told = json.loads(head)
        learner, halves = OnlineLearner.restored(learnt), Halves.of(told["halves"])
        layer = cls(SpeedSpec(learner.spec, told["merge"], halves.most))
        layer.learner, layer.correction = learner, OnlineLearner.restored(correction)
        layer.halves, layer.hedge = halves, Hedge(told["hedge"])
        layer.metrics = {name: Prequential.of(found) for name, found in told["metrics"].items()}
        layer.watch = Adwin.of(told["watch"])
        layer.since, layer.drifts = told["since"], told["drifts"]
        return layer


def answer(layers: Sequence[SpeedModel], row: Row, batch: Answer | None) -> Answer | None:
    """The merged answer of a batch model and the speed layers of one or more partitions.

    Where nothing has been learnt since the batch's cut, exactly the batch model's answer; without
    a batch model the learners' own. None: nobody can answer yet.
    """
    if batch is None:
        return _speed(layers, row)
    awake = [layer for layer in layers if layer.since]
    if awake and awake[0].spec.merge == RESIDUAL:
        return _corrected(awake, row, batch)
    speed = _speed(layers, row) if awake else None
    return batch if speed is None else _merged(awake, batch, speed)


def _merged(awake: Sequence[SpeedModel], batch: Answer, speed: Answer) -> Answer:
    merge = awake[0].spec.merge
    if merge == HEDGE:
        weight = math.fsum(layer.hedge.weight for layer in awake) / len(awake)
        return mixed(batch, speed, weight)
    return speed if merge == WARM_START else blended(batch, speed)


def _speed(layers: Sequence[SpeedModel], row: Row) -> Answer | None:
    found = [(layer.learner.predict_one(row), float(layer.learner.learnt)) for layer in layers]
    told = [(one, weight) for one, weight in found if one is not None]
    if len(told) < 2:
        return told[0][0] if told else None
    return averaged([one for one, _ in told], [weight for _, weight in told])


def _corrected(layers: Sequence[SpeedModel], row: Row, batch: Answer) -> Answer:
    answers: list[Answer] = []
    for layer in layers:
        base = batch if isinstance(batch, Mapping) else None
        told = layer.correction.predict_one(row, base)
        if told is None:
            answers.append(batch)
        elif isinstance(told, float) and not isinstance(batch, Mapping):
            answers.append(batch + told)
        else:
            answers.append(told)
    return answers[0] if len(answers) == 1 else averaged(answers, [1.0] * len(answers))


def _rounded(told: Answer) -> Answer:
    """The same to 12 digits: the last bits depend on what else a model is asked about at once."""
    if isinstance(told, Mapping):
        return {label: float(f"{share:.12g}") for label, share in told.items()}
    return float(f"{told:.12g}")


def _parts(state: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(state):
        (length,) = struct.unpack_from("<I", state, at)
        found.append(state[at + 4 : at + 4 + length])
        at += 4 + length
    if len(found) != 3:
        raise ValueError("Not the state of a speed layer")
    return found
