"""What is done now and then: forget what is over, and sweep up what died left behind."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial

import structlog

from app.kernel.errors import ServiceError
from app.kernel.events import EventLog
from app.kernel.idempotency import IdempotencyStore
from app.kernel.jobs.queue import SYSTEM_CLOCK, Clock, JobQueue
from app.kernel.long_work.reconciling import end_orphans
from app.kernel.sql import Database
from app.kernel.work_folders import sweep_work
from app.predictions.batches import KIND as BATCHES
from app.streams.views.batches import KIND as VIEW_BATCHES
from app.streams.views.batches import made
from app.training.peers import ModelsPeer
from app.training.service import KIND as RUNS
from app.training.workers import registered
from app.wiring import Wiring

Chores = Mapping[str, Callable[[], object]]
Room = Callable[[], AbstractContextManager[None]]
_PAUSE_SECONDS = 300.0
_TEMPORARY_SECONDS = 600.0
# What lives is locked from its first moment: younger ones may be about to be.
_FOLDER_SECONDS = 60.0
_WORK_FOLDERS = ("uploads", "imports", "runs", "batches", "views")
log = structlog.get_logger("housekeeping")


def chores(wiring: Wiring, clock: Clock = SYSTEM_CLOCK) -> Chores:
    """The chores of an installation, for the workers of any host, and those of this host."""
    found: dict[str, Callable[[], object]] = {}
    jobs_kept = timedelta(days=wiring.settings.jobs_days)
    events_kept = timedelta(days=wiring.settings.events_days)
    for number, database in enumerate(wiring.databases()):
        found[f"jobs-{number}"] = partial(JobQueue(database, clock).forget, jobs_kept)
        found[f"events-{number}"] = partial(_forget_events, database, events_kept, clock)
        found[f"idempotency-{number}"] = IdempotencyStore(database, clock=clock.now).forget
    if "datasets" in wiring.settings.services:
        found["datasets"] = wiring.datasets.leftovers.sweep
    if "models" in wiring.settings.services:
        found["models"] = wiring.models.collector.run
    if "predictions" in wiring.settings.services:
        found["predictions"] = lambda: wiring.predictions.sweep(clock.now())
        found["batches"] = lambda: wiring.batches.sweep(clock.now())
        found["results"] = wiring.batches.contents.run
        database = wiring.database("predictions")
        found["batches-jobs"] = partial(end_orphans, database, BATCHES)
    if "streams" in wiring.settings.services:
        found["streams"] = wiring.topics.sweep
        found["views"] = wiring.lambda_views.leftovers.sweep
        found["views-jobs"] = partial(end_orphans, wiring.database("streams"), VIEW_BATCHES, made)
        found["records"] = wiring.record_log.trim
    if "training" in wiring.settings.services:
        database = wiring.database("training")
        models = ModelsPeer(wiring.peer("training", "models"))
        found["runs-jobs"] = partial(end_orphans, database, RUNS, partial(registered, models))
    found["store"] = partial(wiring.store.sweep_temporary, _TEMPORARY_SECONDS)
    return found | dict(sweeps(wiring))


def _forget_events(database: Database, kept: timedelta, clock: Clock) -> int:
    return EventLog([database]).forget(clock.now() - kept)


def sweeps(wiring: Wiring) -> Chores:
    """The chores of each host: what its own dead processes left on its disk, by name."""
    work = wiring.settings.instance / "work"
    return {
        f"work-{name}": partial(sweep_work, work / name, _FOLDER_SECONDS) for name in _WORK_FOLDERS
    }


def start_chores(known: Chores, room: Room = nullcontext) -> None:
    """Keep house in a thread of its own; ``room`` is entered meanwhile."""
    threading.Thread(target=_keep_house, args=(known, room), daemon=True, name="chores").start()


def _keep_house(known: Chores, room: Room) -> None:
    while True:
        time.sleep(_PAUSE_SECONDS)
        with room():
            do_chores(known)


def do_chores(known: Chores) -> None:
    """Each chore once; one that fails keeps no other from being done."""
    for name, chore in known.items():
        try:
            chore()
        except (ServiceError, OSError) as error:
            log.warning("chore_failed", chore=name, error=str(error))
