"""Small disks of memory, and an installation that lies on them."""

import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from io import BytesIO

import pytest

from app.datasets.process import ingest_handlers
from app.kernel.local_rpc import Server
from tests.predictions.predicting import ROW, Predicting
from tests.training.running import Running

CSV = "mass,species\n" + "".join(
    f"{3000 + 9 * i},{'heavy' if i > 99 else 'light'}\n" for i in range(200)
)


@contextmanager
def small_disk(folder, megabytes):
    """A disk of that size at a new folder; skips the test where it can't be had."""
    folder.mkdir(parents=True)
    size = f"size={megabytes}m,mode=700"
    command = ["mount", "-t", "tmpfs", "-o", size, "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, check=False).returncode:
        pytest.skip("a disk of its own can only be mounted by root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def filled(disk, *, but=0):
    """Leave no room on a disk, but for so many bytes."""
    filler = disk / ".filler"
    try:
        with filler.open("wb", buffering=0) as file:
            for size in (1 << 16, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    pass
            file.truncate(file.tell() - but)
        yield
    finally:
        filler.unlink()


@contextmanager
def read_only(disk):
    """Let nobody write to a disk."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


class OnSmallDisks(Predicting):
    """All services and two models; SQLite lies on the disk ``home``, the artifacts on ``store``."""

    working = Running.working

    def __init__(self, home, store):
        self.home_disk, self.store_disk = home, store
        super().__init__(home, store_url=f"file://{store}", disk_reserve=4 << 20)
        self._ingest = Server(self.sockets / "ingest", ingest_handlers(self.settings))
        threading.Thread(target=self._ingest.run, daemon=True).start()
        self.app.extensions["health"].checks["disk"] = self.wiring.disk_reserve.check
        self.wiring.disk_reserve.take_back()

    def upload(self, name):
        """A new dataset with its first version."""
        form = {"name": name, "file": (BytesIO(CSV.encode()), f"{name}.csv", "text/csv")}
        return self.client().post("/api/v1/datasets", data=form)

    def submit(self, model):
        """Ask for a run on the dataset ``trained``."""
        wanted = {"model": model, "dataset": "trained", "target": "species"}
        body = {**wanted, "estimator": {"name": "LogisticRegression"}}
        return self.client().post("/api/v1/training-runs", json=body)

    def ended(self, answer, seconds=90):
        """The run of an accepted request, once it has ended, however often it is tried."""
        assert answer.status_code == 202, answer.text
        until = time.monotonic() + seconds
        while True:
            run = self.client().get(f"{answer.headers['Location']}?wait=5").json
            if run["state"] in ("succeeded", "failed", "cancelled"):
                return run
            assert time.monotonic() < until, run

    def predict(self, model):
        """What a model says of one row."""
        path = f"/api/v1/models/{model}/predict"
        return self.client().post(path, json={"inputs": [ROW]})

    def names(self, kind):
        """The names of all datasets or models."""
        return {item["name"] for item in self.client().get(f"/api/v1/{kind}").json["items"]}

    def readiness(self):
        """The status of ``/readyz``, and what it says of each part."""
        answer = self.client("").get("/readyz")
        return answer.status_code, answer.json["checks"]

    def close(self):
        """Stop the ingest too."""
        self._ingest.stop()
        super().close()
