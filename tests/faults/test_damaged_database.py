"""Damage to SQLite files: a start refuses them with what to do, a request gets 503."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from app.__main__ import main
from app.kernel.errors import DatabaseCorrupt
from app.kernel.sqlite_files import check_sound
from tests.faults.rounds import rounds
from tests.yard import Yard

pytestmark = pytest.mark.fault("F17")
ROOT = Path(__file__).parents[2]
PAGE = 4096
WRITER = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("PRAGMA journal_mode=WAL")
c.execute("INSERT INTO kernel_idempotency (id, project, key_id, key, fingerprint, lease_until,"
          " expires_at) VALUES ('x', 'p', 'k', 'k', 'f', '2026-01-01', '2026-01-01')")
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory):
    """A home that was stopped as it should be."""
    home = tmp_path_factory.mktemp("lived-in")
    yard = Yard(home)
    for number in range(40):
        body = {"name": f"project-{number}", "description": "x" * 900}
        assert yard.client().post("/api/v1/projects", json=body).status_code == 201
    yard.close()
    return home


@pytest.fixture
def home(lived_in, tmp_path):
    shutil.copytree(lived_in, tmp_path / "home")
    return tmp_path / "home"


def database(home):
    return home / "instance" / "modelyard.db"


def run(command, home):
    return CliRunner().invoke(main, [command, "--home", str(home)])


def refused(result, *words):
    assert result.exit_code == 1, result.output
    for word in (*words, "modelyard restore --home"):
        assert word in result.output
    assert "Traceback" not in result.output


def harm(file, page, content):
    with file.open("r+b") as opened:
        opened.seek((page - 1) * PAGE)
        opened.write(content)


@pytest.mark.parametrize("content", [bytes(PAGE), b"\xa5" * PAGE], ids=["zeros", "garbage"])
def test_whichever_page_is_lost_it_is_noticed(home, content):
    file = database(home)
    sound = file.read_bytes()
    last = len(sound) // PAGE
    for page in {1, *range(2, last + 1, rounds(quick=5, full=1))}:
        harm(file, page, content)
        with pytest.raises(DatabaseCorrupt, match="is damaged"):
            check_sound(file)
        harm(file, page, sound[(page - 1) * PAGE : page * PAGE])
    check_sound(file, deep=True)


def test_a_server_does_not_start_on_a_damaged_file(home):
    harm(database(home), 5, b"\xa5" * PAGE)
    command = [sys.executable, "-m", "app", "serve", "--home", str(home), "--port", "1"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MODELYARD_")}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1
    assert f"{database(home)} is damaged" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_no_database_is_told(home):
    database(home).write_bytes(b"no database, but long enough to be read as one" * 99)
    refused(run("migrate", home), "is damaged: file is not a database")


def root_of(file, name):
    with closing(sqlite3.connect(file)) as opened:
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        return opened.execute(query, [name]).fetchone()[0]


def test_the_doctor_also_compares_indexes_with_their_tables(home):
    # A well-formed page of an index that has no entries.
    empty = b"\x0a" + bytes(4) + PAGE.to_bytes(2) + bytes(PAGE - 7)
    harm(database(home), root_of(database(home), "ix_kernel_audit_project"), empty)
    refused(run("doctor", home), "BAD  database of access", "is damaged")


def test_a_request_that_meets_damage_is_503(sqlite_yard):
    """It was 500, an internal error, which tells nobody what to do."""
    yard = sqlite_yard
    yard.close()
    file = yard.wiring.database("access").file
    harm(file, root_of(file, "access_projects"), b"\xa5" * PAGE)
    answer = yard.client().get("/api/v1/projects")
    assert (answer.status_code, answer.json["type"]) == (503, "/problems/database-corrupt")
    assert not answer.json["retryable"]
    assert str(file) not in answer.text


def test_a_damaged_file_does_not_take_the_place_of_an_earlier_backup(home, tmp_path):
    """Damage was backed up like anything else, over the last backup that was sound."""
    file = tmp_path / "yard.tar"
    command = ["backup", "--home", str(home), str(file)]
    assert CliRunner().invoke(main, command).exit_code == 0
    sound = file.read_bytes()
    harm(database(home), root_of(database(home), "predictions_stored"), b"\xa5" * PAGE)
    refused(CliRunner().invoke(main, command), "is damaged")
    assert file.read_bytes() == sound
    assert {path.name for path in tmp_path.iterdir()} == {"home", "yard.tar"}


@pytest.fixture
def killed(home):
    """The file, after a writer that had acknowledged something was killed."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(database(home))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert writer.stdout.readline() == b"written\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    for pipe in (writer.stdin, writer.stdout):
        pipe.close()
    return database(home)


def acknowledged(file):
    with closing(sqlite3.connect(file)) as opened:
        return opened.execute("SELECT id FROM kernel_idempotency").fetchall() == [("x",)]


def beside(file, suffix):
    return file.with_name(file.name + suffix)


def test_a_log_that_was_removed_is_missed(killed, home):
    """The server started, and what had been acknowledged last was not there."""
    beside(killed, "-wal").unlink()
    refused(run("migrate", home), "has lost its log modelyard.db-wal")
    refused(run("doctor", home), "BAD  database of access", "has lost its log")
    assert not beside(killed, "-wal").exists()
    beside(killed, "-shm").unlink()
    assert run("migrate", home).exit_code == 0


def test_the_logs_index_is_made_again(killed, home):
    beside(killed, "-shm").unlink()
    assert run("migrate", home).exit_code == 0
    assert acknowledged(killed)


def test_after_a_kill_alone_nothing_is_refused(killed, home):
    assert run("migrate", home).exit_code == 0
    assert acknowledged(killed)
