"""The chores: each named thing is swept, and one that fails keeps no other from being done."""

import os

from app.housekeeping import chores, do_chores
from app.kernel.errors import Unavailable
from app.settings_table import SERVICES


def test_every_work_folder_is_swept(sqlite_yard):
    work = sqlite_yard.settings.instance / "work"
    for name in ("uploads", "imports", "runs", "batches"):
        (work / name / "left").mkdir(parents=True)
        os.utime(work / name / "left", (0, 0))
    do_chores(chores(sqlite_yard.wiring))
    assert list(work.glob("*/*")) == []


def test_every_service_that_keeps_bytes_has_a_chore(sqlite_yard):
    found = chores(sqlite_yard.wiring)
    assert set(SERVICES) - {"access", "training"} <= set(found)
    assert {"batches", "store", "jobs-0", "idempotency-0"} <= set(found)


def test_a_chore_that_fails_keeps_no_other_from_being_done():
    done = []

    def fail():
        raise Unavailable("The artifact store does not answer")

    do_chores({"first": fail, "second": lambda: done.append("second")})
    assert done == ["second"]
