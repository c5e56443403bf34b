"""The batch of a model view: a model version trained on exactly the examples of ``[origin, N)``.

In order: cut; gather the examples and the learners' states at the cut in one pass; keep the states
in the artifact store and the examples as a dataset version; ask for a training run. The job then
steps aside until the run has ended: it would else hold the place that the run needs. Then the speed
states are rebuilt from the cut, beside those that answers are merged with, and the batch is swapped
in (``swap``). Until that moment answers are the old batch's.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from app.kernel import faults
from app.kernel.artifacts.store import ArtifactStore
from app.kernel.errors import Invalid
from app.kernel.jobs.claims import Later
from app.kernel.long_work.handler import Attempt, WorkCancelled, WorkFailed
from app.kernel.long_work.lifecycle import CANCELLED, FAILED, SUCCEEDED
from app.streams.views.contents import FOLDER
from app.streams.views.gathering import Gathering, TooManyExamples
from app.streams.views.model_definition import ModelDefinition
from app.streams.views.ports import Training
from app.streams.views.tables import LambdaView, Offsets, ViewBatch

FIRST_LOOK_SECONDS: Final = 1.0
_LONGEST_LOOK_SECONDS: Final = 10.0
_LEAST_EXAMPLES: Final = 20
_HEAD: Final = struct.Struct("<II")
Read = Callable[[str, int, int, int], Any]


class ModelBatches:
    """Makes the batches of model views, but for the swap."""

    def __init__(self, store: ArtifactStore, training: Training) -> None:
        self._store = store
        self._training = training

    def begin(
        self, attempt: Attempt[ViewBatch], view: LambdaView, cut: Offsets, read: Read
    ) -> None:
        """Gather, keep and ask for the run, whose id the batch then has."""
        definition = ModelDefinition.of(view.definition)
        gathering = self._gather(attempt, view, definition, cut, read)
        if len(gathering.rows) < _LEAST_EXAMPLES:
            told = f"There are {len(gathering.rows)} examples: {_LEAST_EXAMPLES} are needed"
            raise WorkFailed("too_few_examples", told)
        batch = attempt.row
        attempt.on_progress({"fraction": 0.4, "step": "storing", "message": ""})
        key = f"{batch.project}/{FOLDER}/{batch.id}-{batch.attempt}.seeds"
        stored = self._store.put(key, _seed_bytes(gathering))
        tags = _tags(view, batch, cut)
        call = attempt.call
        try:
            version = attempt.insist(
                lambda: self._training.keep_rows(call, definition.dataset, gathering.rows)
            )
            faults.hit("views.examples_kept")
            wanted = definition.run(version, tags)
            run = attempt.insist(lambda: self._training.train(call, wanted))
        except Invalid as error:
            told = "; ".join(f"{one.pointer}: {one.detail}" for one in error.errors)
            raise WorkFailed("not_trainable", told or error.detail) from error
        training = {
            "dataset": definition.dataset,
            "dataset_version": version,
            "run": run,
            "model": definition.model,
            "tags": tags,
            "seeds": {**vars(stored)},
            "examples": len(gathering.rows),
        }
        counts = {"records": gathering.records, "skipped": gathering.skipped}
        attempt.keep(offsets=cut, training=training, **counts)
        self._check(attempt, run)

    def _check(self, attempt: Attempt[ViewBatch], run: str) -> None:
        """Raise WorkCancelled for a batch that was cancelled before the run was known to be its."""
        try:
            attempt.check()
        except WorkCancelled:
            self._training.cancel(attempt.call, run)
            raise

    def _gather(
        self,
        attempt: Attempt[ViewBatch],
        view: LambdaView,
        definition: ModelDefinition,
        cut: Offsets,
        read: Read,
    ) -> Gathering:
        gathering, total = Gathering(definition), sum(cut.values()) - sum(view.origin.values())
        for place, start in view.origin.items():
            one, offset = gathering.begin(int(place), cut[place]), start
            while offset < cut[place]:
                records = read(view.topic_id, int(place), offset, cut[place] - offset)
                try:
                    one.take(records)
                except TooManyExamples as error:
                    raise WorkFailed("too_large", "A batch can't take so many examples") from error
                offset = records[-1].offset + 1
                fraction = 0.4 * gathering.records / total
                attempt.on_progress({"fraction": fraction, "step": "gathering", "message": ""})
                attempt.check()
        return gathering

    def finished(self, attempt: Attempt[ViewBatch]) -> dict[str, Any]:
        """What the run has made, with its version; raises Later while it goes on, WorkFailed."""
        training = dict(attempt.row.training or {})
        run = self._training.run(attempt.call, training["run"])
        if run["state"] in (FAILED, CANCELLED):
            error = run.get("error") or {"code": run["state"], "detail": "It was cancelled"}
            told = f"The training run {run['id']}: {error['code']}: {error['detail']}"
            raise WorkFailed("training_failed", told[:400])
        if run["state"] != SUCCEEDED:
            seconds = min(FIRST_LOOK_SECONDS * 1.2**attempt.row.attempt, _LONGEST_LOOK_SECONDS)
            raise Later(seconds, f"the training run {run['id']} goes on")
        version = self._training.version(attempt.call, training["model"], run["model_version"])
        self._training.tag(attempt.call, training["model"], run["model_version"], training["tags"])
        columns = [one["name"] for one in version["signature"]["inputs"]]
        return {**training, "model_version": run["model_version"], "columns": columns}

    def learners(self, training: Mapping[str, Any]) -> dict[int, bytes]:
        """The learners' states at a batch's cut, by partition."""
        seeds = training["seeds"]
        content = self._store.open(seeds["key"], seeds["digest"], size=seeds["bytes"])
        return dict(_seeds(content))


def _seed_bytes(gathering: Gathering) -> Iterator[bytes]:
    for partition, seed in sorted(gathering.seeds.items()):
        state = seed.state()
        yield _HEAD.pack(partition, len(state))
        yield state


def _seeds(content: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(content):
        partition, length = _HEAD.unpack_from(content, at)
        at += _HEAD.size + length
        yield partition, content[at - length : at]


def _tags(view: LambdaView, batch: ViewBatch, cut: Offsets) -> dict[str, str]:
    """What the run and the model version tell of the batch."""
    return {
        "lambda_view": view.name,
        "batch": str(batch.number),
        "offsets": _told_offsets(cut),
        "from_offsets": _told_offsets(view.origin),
    }


def _told_offsets(offsets: Offsets) -> str:
    """Offsets as a tag can hold them: the first ones, where there are very many partitions."""
    return ",".join(f"{place}:{offset}" for place, offset in offsets.items())[:255]
