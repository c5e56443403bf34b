"""What must not be left over once the server has stopped (I6), seen from its folders and tables.

First the chores that sweep, as the server does them now and then, with no age to wait for; then
nothing may be there that has no row: no job, no work folder, no temporary file, no artifact.
"""

import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from unittest import mock

import psutil
from sqlalchemy import select, text

from app.backup import STORED_IN
from app.config import Settings
from app.kernel.artifacts.folder import TEMPORARY
from app.kernel.jobs.queue import QUEUED, RUNNING, JobRow
from app.kernel.work_folders import sweep_work
from app.models import collection
from app.predictions import contents
from app.wiring import Wiring
from tests.soak.processes import family
from tests.soak.report import Report

ROOT = Path(__file__).resolve().parents[2]
_CACHE = "copies"
"""Below ``work/``: CSV copies of tables, kept on purpose until they are many."""


def check_leftovers(home: Path, environment: Mapping[str, str], report: Report) -> None:
    """All of them, for an installation that has been stopped."""
    mark = next(value for name, value in environment.items() if name.startswith("LC_"))
    _check_processes(mark, report)
    settings = Settings.from_environment({**environment, "MODELYARD_HOME": str(home)})
    with closing(Wiring(settings)) as wiring:
        _check_jobs(wiring, report)
        _check_database(wiring, report)
        _check_files(wiring, home, Path(environment["TMPDIR"]), report)
    _check_with_doctor(home, environment, report)


def _check_processes(mark: str, report: Report) -> None:
    check = report.check("I6 no process is left")
    check.expect(True, "")
    for process in family(mark).values():
        command = " ".join(process.cmdline())[-100:]
        check.expect(False, f"{process.pid} {command}")
        psutil.Process(process.pid).kill()


def _check_jobs(wiring: Wiring, report: Report) -> None:
    check = report.check("I6 no job is left without an end")
    for database in wiring.databases():
        with database.read() as session:
            for job in session.scalars(select(JobRow)):
                ended = job.state not in (QUEUED, RUNNING)
                check.expect(ended, f"{job.kind} {job.ref}: {job.state}, attempt {job.attempt}")


def _check_database(wiring: Wiring, report: Report) -> None:
    check = report.check("I2 the database is sound")
    for database in wiring.databases():
        with database.read() as session:
            if database.dialect == "sqlite":
                found = session.scalars(text("PRAGMA integrity_check")).all()
                check.expect(found == ["ok"], f"integrity_check: {found[:5]}")
                broken = session.execute(text("PRAGMA foreign_key_check")).all()
                check.expect(not broken, f"foreign_key_check: {broken[:5]}")
            else:
                check.expect(session.scalar(text("SELECT 1")) == 1, "no answer")


def _check_files(wiring: Wiring, home: Path, temporary: Path, report: Report) -> None:
    check = report.check("I6 no file is left that nobody names")
    work, store = home / "instance" / "work", home / "models_store"
    folders = [folder for folder in work.iterdir() if folder.name != _CACHE]
    places = [*folders, store / TEMPORARY, temporary]
    before = sum(len(list(place.iterdir())) for place in places)
    for folder in folders:
        sweep_work(folder, 0)
    wiring.store.sweep_temporary(0)
    orphans = len(list(wiring.datasets.leftovers.orphans(0)))
    wiring.datasets.leftovers.sweep(0)
    none = timedelta(0)
    with mock.patch.object(collection, "YOUNG", none), mock.patch.object(contents, "YOUNG", none):
        found = [*wiring.models.collector.run(deep=True), *wiring.batches.contents.run(deep=True)]
    report.notes.append(
        f"to sweep at the end: {before} temporary files, {orphans + len(found)} artifacts"
    )
    for finding in found:
        check.expect(finding.mended, f"{finding.code}: {finding.subject}, {finding.detail}")
    named = {
        stored.key
        for service, stored_in in STORED_IN.items()
        for stored in stored_in(wiring.database(service))
    }
    kept = {thing.key for thing in wiring.store.list()}
    for key in kept | named:
        check.expect(key in named, f"in the store and of no row: {key}")
        check.expect(key in kept, f"named by a row and not in the store: {key}")
    instance = {"lock", "modelyard.db", "modelyard.db-shm", "modelyard.db-wal", "secret"}
    instance |= {"reserve", "sockets", "work"}
    for path in (home / "instance").iterdir():
        check.expect(path.name in instance, f"in instance/: {path.name}")
    for place in places:
        for path in place.iterdir():
            check.expect(False, f"temporary: {path.relative_to(home.parent)}")


def _check_with_doctor(home: Path, environment: Mapping[str, str], report: Report) -> None:
    check = report.check("I2 the doctor finds nothing")
    command = [sys.executable, "-m", "app", "doctor", "--home", str(home)]
    done = subprocess.run(
        command, env=dict(environment), cwd=ROOT, check=False, capture_output=True, text=True
    )
    for line in done.stdout.splitlines():
        check.expect(not line.startswith("BAD"), line)
    check.expect(done.returncode == 0, f"status {done.returncode}: {done.stderr[-300:]}")
