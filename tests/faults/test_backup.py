"""Backups while several processes write, and backups that are killed."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from app import backup
from app.administration import examine
from app.factory import create_app
from app.kernel import faults
from app.kernel.auth import new_key
from app.kernel.backup_file import verified
from app.restore import restore
from app.settings_table import SERVICES
from app.wiring import Wiring
from tests.faults.rounds import rounds
from tests.models.modelyard import Modelyard
from tests.yard import Yard

ROOT = Path(__file__).parents[2]
API = "/api/v1"


class Writer:
    """A process that writes until the block is left; ``acknowledged`` counts from 1."""

    def __init__(self, settings, name):
        self.name = name
        self.acknowledged = 0
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MODELYARD_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.writing_process", name],
            cwd=ROOT,
            env={**inherited, **settings.environment()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._told = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self._process.stdout:
            with self._told:
                self.acknowledged = int(line) + 1
                self._told.notify_all()

    def wait_for(self, count):
        with self._told:
            done = self._told.wait_for(lambda: self.acknowledged >= count, timeout=60)
        assert done, self._process.stderr.read() if self._process.poll() else "it is too slow"

    def stop(self):
        self._process.terminate()
        self._reader.join()
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            pipe.close()


@contextmanager
def writing(settings, count):
    writers = [Writer(settings, f"writer{number}") for number in range(count)]
    try:
        yield writers
    finally:
        for writer in writers:
            writer.stop()


def urls(folder):
    return {name: f"sqlite:///{folder}/{name}.db" for name in SERVICES}


def names(client, path):
    """The names of all things of a kind."""
    found, token = set(), None
    while True:
        query = {"page_size": 500} | ({"page_token": token} if token else {})
        answer = client.get(f"{API}{path}", query_string=query).json
        found |= {item["name"] for item in answer["items"]}
        token = answer.get("next_page_token")
        if not token:
            return found


def is_deleted(name):
    return int(name.rpartition("-")[2]) % 3 == 1


def check(settings, promised):
    """All that was acknowledged is there, and no effect is there without its cause."""
    bad = [found.text for found in examine(settings, repair=False) if not found.well]
    # Between the end of a model's rows and that of its bytes, only the bytes are left to clear.
    assert [text for text in bad if ": leftover: " not in text] == []
    wiring = Wiring(settings)
    client = create_app(settings, wiring).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {settings.admin_key}"
    projects, models, datasets = (names(client, p) for p in ("/projects", "/models", "/datasets"))
    for writer, count in promised.items():
        assert {f"{writer}-{number}" for number in range(count)} <= datasets
    assert datasets <= projects
    assert models <= projects
    assert {name for name in datasets if not is_deleted(name)} <= models
    for model in models:
        assert client.post(f"{API}/models/{model}/versions/1/verify").json["state"] == "ready"
    wiring.close()


@pytest.mark.fault("I1", "I2")
def test_backups_of_several_files_under_writers_are_each_of_one_moment(tmp_path):
    """Databases, store and secret agree: what came later is never there without what it needs."""
    old = Yard(tmp_path / "old", own_urls=urls(tmp_path / "old"), admin_key=new_key())
    promised = []
    with writing(old.settings, count=2) as writers:
        for number in range(rounds(quick=2, full=20)):
            for writer in writers:
                writer.wait_for(writer.acknowledged + 3)
            promised.append({writer.name: writer.acknowledged for writer in writers})
            backup.back_up(old.settings, tmp_path / f"{number}.tar")
    for number, acknowledged in enumerate(promised):
        home = tmp_path / f"new-{number}"
        settings = old.settings.with_(home=home, own_database_urls=urls(home))
        assert restore(settings, tmp_path / f"{number}.tar").missing == {}
        check(settings, acknowledged)
    old.close()


POINTS = ("backup.copied", "backup.artifact", "backup.drafted", "backup.named")


def back_up_and_die(settings, file, point):
    """A backup by a process of its own, which is killed at a point."""
    child = os.fork()
    if child == 0:
        faults._RULES.update(faults.parse(f"{point}=kill@1"))
        with suppress(BaseException):
            backup.back_up(settings, file)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


@pytest.mark.fault("F4", "F13")
@pytest.mark.parametrize("point", POINTS)
def test_what_a_killed_backup_leaves_is_cleared_away_by_the_next_one(tmp_path, point):
    """A draft of it, as large as all artifacts, lay there for ever under its process's number."""
    made = Modelyard(tmp_path / "home", services=SERVICES)
    folder = tmp_path / "backups"
    folder.mkdir()
    backup.back_up(made.settings, folder / "monday.tar")
    monday = (folder / "monday.tar").read_bytes()
    made.register()
    back_up_and_die(made.settings, folder / "monday.tar", point)
    manifest = verified(folder / "monday.tar")
    assert len(manifest["artifacts"]) == (1 if point == "backup.named" else 0)
    assert point == "backup.named" or (folder / "monday.tar").read_bytes() == monday

    backup.back_up(made.settings, folder / "tuesday.tar")
    assert {path.name for path in folder.iterdir()} == {"monday.tar", "tuesday.tar"}
    assert len(verified(folder / "tuesday.tar")["artifacts"]) == 1
    made.close()


def test_two_backups_to_one_file_do_not_meet(tmp_path):
    made = Modelyard(tmp_path / "home")
    made.register()
    file = tmp_path / "yard.tar"
    with backup._work(file):
        with pytest.raises(backup.BackupError, match="Another backup to"):
            backup.back_up(made.settings, file)
        backup.back_up(made.settings, tmp_path / "other.tar")
    backup.back_up(made.settings, file)
    assert {path.name for path in tmp_path.iterdir()} == {"home", "other.tar", "yard.tar"}
    made.close()
