"""Runs as clients see them: asked for, listed, watched, cancelled, deleted."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from app.kernel import faults
from app.kernel.auth import Call
from app.kernel.errors import Invalid, NotFound
from app.kernel.holds import released_after
from app.kernel.http.pagination import Listing
from app.kernel.jobs.bounds import BoundedQueue
from app.kernel.long_work.desk import WorkDesk, WorkKind
from app.kernel.signing import KeyRing
from app.kernel.sql import Database, new_id
from app.training.catalog.entries import NormalisedSpec
from app.training.catalog.lookup import Catalog
from app.training.fit.spec import ColumnInfo, FitSpec, Validation
from app.training.ports import Datasets, HeldDataset
from app.training.tables import RunLog, TrainingRun

JOB = "training_run"
_HOLD_SECONDS = 300

RUNS = Listing(
    "TrainingRuns",
    {
        "created_at": TrainingRun.created_at,
        "state": TrainingRun.stored_state,
        "model": TrainingRun.model,
        "dataset": TrainingRun.dataset,
        "dataset_version": TrainingRun.dataset_version,
        "estimator": TrainingRun.estimator_name,
        "priority": TrainingRun.priority,
    },
    order=("created_at", "priority", "model"),
    identity=TrainingRun.id,
)
KIND = WorkKind("training", "run", JOB, "training run", TrainingRun, RUNS)


@dataclass(frozen=True)
class RunBounds:
    """What a run may ask for, and what it gets when it doesn't."""

    max_wall_seconds: float
    max_memory: int
    threads: int


@dataclass(frozen=True)
class Plan:
    """A request that would be accepted, with everything that it left to us filled in."""

    model: str
    held: HeldDataset
    spec: FitSpec
    priority: int
    limits: Mapping[str, Any]
    tags: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """The answer to ``?validate_only=true``."""
        document = self.spec.as_dict()
        document.pop("columns")
        return {
            **document,
            "valid": True,
            "model": self.model,
            "dataset": self.held.dataset,
            "dataset_version": self.held.version,
            "features": list(self.spec.wanted_features),
            "priority": self.priority,
            "limits": dict(self.limits),
            "tags": dict(self.tags),
        }


class TrainingRuns(WorkDesk[TrainingRun]):
    """What a client can do with runs."""

    def __init__(
        self,
        database: Database,
        ring: KeyRing,
        jobs: BoundedQueue,
        datasets: Datasets,
        bounds: RunBounds,
    ) -> None:
        super().__init__(KIND, database, ring, jobs)
        self._datasets = datasets
        self._bounds = bounds
        self.catalog = Catalog.load()

    def plan(self, call: Call, wanted: Mapping[str, Any]) -> Plan:
        """Check a request against its dataset's columns; raises Invalid with every reason.

        The dataset version is not held any more then.
        """
        with self._planned(call, wanted, new_id()) as plan:
            return plan

    @contextmanager
    def _planned(self, call: Call, wanted: Mapping[str, Any], run_id: str) -> Iterator[Plan]:
        """The plan of a run, in whose name the dataset version is held during the block."""
        estimator = self.catalog.validate_spec(wanted["estimator"])
        limits = self._limits(wanted["limits"])
        with self._held(call, wanted, holder=f"training-runs/{run_id}") as held:
            spec = self._spec(wanted, estimator, held, limits)
            yield Plan(wanted["model"], held, spec, wanted["priority"], limits, wanted["tags"])

    @contextmanager
    def _held(self, call: Call, wanted: Mapping[str, Any], *, holder: str) -> Iterator[HeldDataset]:
        dataset, version = wanted["dataset"], wanted["dataset_version"]
        try:
            held = self._datasets.hold(call, dataset, version, holder=holder, seconds=_HOLD_SECONDS)
        except NotFound as error:
            where = "/dataset" if version is None else "/dataset_version"
            raise Invalid.at(where, "unknown_dataset", error.detail) from error
        release = partial(self._datasets.release, call, holder=holder)
        with released_after(held, release):
            yield held

    def _limits(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        most = {
            "wall_seconds": self._bounds.max_wall_seconds,
            "memory_bytes": self._bounds.max_memory,
        }
        for name, largest in most.items():
            if wanted[name] > largest:
                allowed = {"maximum": largest}
                raise Invalid.at(f"/limits/{name}", "out_of_range", f"At most {largest}", allowed)
        return dict(wanted)

    def _spec(
        self,
        wanted: Mapping[str, Any],
        estimator: NormalisedSpec,
        held: HeldDataset,
        limits: Mapping[str, Any],
    ) -> FitSpec:
        validation = wanted["validation"]
        features = wanted["features"]
        return FitSpec.checked(
            columns=tuple(ColumnInfo(column["name"], column["type"]) for column in held.columns),
            estimator=estimator,
            target=wanted["target"],
            features=None if features is None else tuple(features),
            task=wanted["task"],
            validation=None if validation is None else Validation(**validation),
            random_state=wanted["random_state"],
            refit=wanted["refit"],
            threads=self._bounds.threads,
            memory_bytes=limits["memory_bytes"],
        )

    def create(self, call: Call, wanted: Mapping[str, Any]) -> TrainingRun:
        """Accept a run: the row, its job and its first event in one transaction.

        Raises Invalid, TooManyRequests and Unavailable when too many runs wait.
        """
        run_id = new_id()
        with self._planned(call, wanted, run_id) as plan:
            run = _run_of(run_id, call, plan)
            with self._changes.begin(call) as change:
                self._enqueue(change, run, plan.priority)
                change.answer(run)
            faults.hit("runs.accepted")
        return run

    def _forget(self, session: Session, row: TrainingRun) -> None:
        session.execute(delete(RunLog).where(RunLog.run_id == row.id))

    def log(self, call: Call, run_id: str) -> str:
        """What the run's process has printed so far; raises NotFound."""
        self.get(call, run_id)
        query = select(RunLog.text).where(RunLog.run_id == run_id).order_by(RunLog.seq)
        with self._database.read() as session:
            return "".join(session.scalars(query))

    def references(
        self, call: Call, *, dataset: str | None, version: int | None, model: str | None
    ) -> Sequence[Mapping[str, Any]]:
        """The runs not ended that need a dataset (version) or are to make a model's version."""
        which: list[ColumnElement[bool]] = []
        if dataset is not None:
            which.append(TrainingRun.dataset == dataset)
            if version is not None:
                which.append(TrainingRun.dataset_version == version)
        if model is not None:
            which.append(TrainingRun.model == model)
        return self._unended(call, *which)


def _run_of(run_id: str, call: Call, plan: Plan) -> TrainingRun:
    return TrainingRun(
        id=run_id,
        project=call.project,
        model=plan.model,
        dataset=plan.held.dataset,
        dataset_version=plan.held.version,
        dataset_digest=plan.held.digest,
        dataset_origin=plan.held.origin,
        dataset_storage=dict(plan.held.storage),
        spec=plan.spec.as_dict(),
        target=plan.spec.target,
        estimator_name=plan.spec.estimator.names[0] if plan.spec.estimator.names else "auto",
        priority=plan.priority,
        limits=dict(plan.limits),
        tags=dict(plan.tags),
    )
