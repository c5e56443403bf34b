"""The main loops of what needs every service. Only this module imports the services' workers."""

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import click
from flask import Flask
from prometheus_client import CollectorRegistry

from app.api_process import SERVER_VARIABLE
from app.config import Settings
from app.crew import LOAD_VARIABLE, RETIRE
from app.datasets.backlog import KIND as DATASET_JOB
from app.factory import create_app
from app.housekeeping import chores, start_chores, sweeps
from app.kernel.heaps import share_heaps
from app.kernel.jobs.claims import Job
from app.kernel.jobs.headcount import Load
from app.kernel.jobs.load import Teller
from app.kernel.jobs.queue import JobQueue
from app.kernel.jobs.worker import Worker
from app.kernel.leash import die_with
from app.kernel.logs import configure_logs
from app.kernel.migrations import upgrade
from app.kernel.numbers_taken import take_number
from app.kernel.one_core import stay_on_one_core
from app.kernel.process_metrics import tell_neighbours, timed_jobs
from app.kernel.sandbox.parent import Sandbox
from app.kernel.sqlite_files import check_sound
from app.kernel.tracing import tracer
from app.models.imports import JOB as IMPORT_JOB
from app.models.workers import PRELOAD as IMPORT_PRELOAD
from app.models.workers import ImportHandler
from app.predictions.batches import JOB as BATCH_JOB
from app.predictions.workers import PRELOAD as BATCH_PRELOAD
from app.predictions.workers import BatchHost, BatchWorker
from app.settings_table import SettingsError
from app.streams.views.batches import JOB as VIEW_JOB
from app.streams.views.recompute import ViewWorker
from app.supervisor import refuse_unfinished_restore
from app.training.peers import ModelsPeer as TrainingModelsPeer
from app.training.service import JOB as TRAINING_JOB
from app.training.workers import PRELOAD as TRAINING_PRELOAD
from app.training.workers import FitHost, TrainingWorker
from app.watching import neighbour_checks
from app.wiring import Wiring

_LOOKING_SECONDS = 3.0
_SUCCESSION_SECONDS = 15.0
"""How long a process may wait for the number of the one that it replaces."""
PRELOADS = (*TRAINING_PRELOAD, *BATCH_PRELOAD, *IMPORT_PRELOAD)


def run_role(name: str, settings: Settings) -> None:
    """Run one role, of those that need every service, until it is told to stop."""
    kind = name.partition("-")[0]
    roles: dict[str, Callable[[Settings], None]] = {
        "migrate": run_migrations,
        "worker": partial(run_worker, name=name),
    }
    if kind not in roles:
        raise SettingsError(f"No such role: {name}; there are {', '.join(roles)}")
    roles[kind](settings)


def run_migrations(settings: Settings) -> None:
    """Bring every database up to date; on the very first start print the admin key, once.

    Raises SettingsError for what no role could start with, DatabaseCorrupt.
    """
    refuse_unfinished_restore(settings)
    wiring = Wiring(settings)
    _ = wiring.ring, wiring.store
    for database in wiring.databases():
        if database.file is not None:
            check_sound(database.file, seconds=_LOOKING_SECONDS)
    for service in settings.services:
        for history in ("kernel", service):
            upgrade(wiring.database(service), history)
    secret = wiring.access.ensure_admin() if "access" in settings.services else None
    if secret is not None:
        click.echo(f"\nThe admin key, shown this once:\n\n    {secret}\n")
    wiring.close()


def make_app() -> Flask:
    """The app inside one of granian's worker processes."""
    die_with(int(os.environ[SERVER_VARIABLE]))
    settings = Settings.from_environment()
    number = _own_number(settings) if settings.api_processes > 1 else None
    if settings.one_core:
        stay_on_one_core(number)
    share_heaps()
    name = "api" if number is None else f"api-{number}"
    configure_logs(settings.log_level, as_json=settings.log_json, role=name)
    tracer.start(name)
    wiring = Wiring(settings)
    app = create_app(settings, wiring)
    if number is not None:
        tell_neighbours(wiring.socket(name), wiring.registry)
    wiring.start_following()
    start_chores(sweeps(wiring))
    # Only under a supervisor are there neighbours to wait for.
    app.extensions["health"].checks |= neighbour_checks(wiring)
    app.extensions["health"].checks["disk"] = wiring.disk_reserve.check
    wiring.disk_reserve.take_back()
    return app


def _own_number(settings: Settings) -> int:
    """Which of several API processes this is."""
    return take_number(settings.instance, "api", settings.api_processes, _SUCCESSION_SECONDS)


@dataclass(frozen=True)
class Handled:
    """What does a job of one kind, and what ends its work when the job is given up."""

    handle: Callable[[Job], None]
    on_failure: Callable[[Job, Exception], None]


def run_worker(settings: Settings, name: str = "worker") -> None:
    """Do the jobs of all databases until SIGTERM, or until it is to retire and holds none."""
    tracer.start(name)
    wiring = Wiring(settings)
    registry = CollectorRegistry()
    create_app(settings, wiring)
    on_load = load_teller()
    with Sandbox(preload=PRELOADS) as sandbox:
        kinds = job_kinds(wiring, sandbox)
        worker = Worker(
            job_queues(wiring),
            timed_jobs({kind: kinds[kind].handle for kind in kinds}, registry),
            lambda job, error: kinds[job.kind].on_failure(job, error),
            slots=settings.slots,
            lease=settings.lease_seconds,
            on_load=on_load,
        )
        signal.signal(RETIRE, lambda *_: worker.retire())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.drain())
        sandbox.warm()
        start_chores(chores(wiring), wiring.disk_reserve.lent)
        answering = tell_neighbours(wiring.socket(name), registry)
        worker.run()
        answering.stop()
    wiring.close()
    tracer.stop()


def load_teller() -> Callable[[Load], None]:
    """What tells the supervisor, if there is one, of the load."""
    descriptor = os.environ.pop(LOAD_VARIABLE, None)
    return Teller(socket.socket(fileno=int(descriptor))).tell if descriptor else lambda _: None


def job_queues(wiring: Wiring) -> dict[str, JobQueue]:
    """One queue for each database, named after a service that has it."""
    served = wiring.settings.services
    by_database = {wiring.database(service): service for service in reversed(served)}
    return {service: wiring.jobs(service) for service in by_database.values()}


def job_kinds(wiring: Wiring, sandbox: Sandbox) -> dict[str, Handled]:
    """Who handles each kind of job of the services served here."""
    folder = wiring.settings.instance / "work"
    kinds: dict[str, Handled] = {}
    if "datasets" in wiring.settings.services:
        backlog = wiring.datasets.backlog
        kinds[DATASET_JOB] = Handled(backlog.run, backlog.fail)
    if "models" in wiring.settings.services:
        imports = ImportHandler(wiring.models, wiring.store, sandbox, folder / "imports")
        kinds[IMPORT_JOB] = Handled(imports.handle, imports.on_failure)
    if "training" in wiring.settings.services:
        training = TrainingWorker(
            wiring.database("training"),
            wiring.store,
            TrainingModelsPeer(wiring.peer("training", "models")),
            FitHost(folder / "runs", wiring.fit_threads),
        ).handler(sandbox)
        kinds[TRAINING_JOB] = Handled(training.handle, training.on_failure)
    if "predictions" in wiring.settings.services:
        batches = BatchWorker(
            wiring.database("predictions"),
            wiring.store,
            wiring.directory,
            wiring.artifact_reader.open,
            BatchHost(
                folder / "batches",
                wiring.fit_threads,
                wall_seconds=wiring.settings.max_wall_seconds,
            ),
        ).handler(sandbox)
        kinds[BATCH_JOB] = Handled(batches.handle, batches.on_failure)
    if "streams" in wiring.settings.services:
        views = ViewWorker(
            *(wiring.database("streams"), wiring.store, wiring.record_log),
            models=wiring.model_batches(),
            model_fold=wiring.model_speed,
        ).handler(sandbox, folder / "views")
        kinds[VIEW_JOB] = Handled(views.handle, views.on_failure)
    return kinds
