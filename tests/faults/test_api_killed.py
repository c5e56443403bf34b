"""The API is killed while a client waits: nothing accepted is lost, and a retry doubles nothing."""

import hashlib
import random
import signal
import socket
import time
from base64 import b64encode
from contextlib import suppress
from datetime import timedelta

import httpx
import psutil
import pytest

from app.kernel import faults
from app.kernel.idempotency import IdempotencyRow
from app.kernel.sql import Database, utc_now
from app.kernel.work_folders import sweep_work
from tests.faults.rounds import rounds
from tests.faults.workers import eventually
from tests.server import Server

ROWS = b"mass,species\n" + b"".join(b"%d,%s\n" % (i, b"ab"[i % 2 : i % 2 + 1]) for i in range(5000))
WANTED = b'{"model": "m", "dataset": "rows", "target": "species"}'
# Each process of the API lives through one run and one upload, and dies at the second.
RULES = {"before the commit": "work.enqueued=kill@2", "after the commit": "runs.accepted=kill@2"}
VERSIONS = "/datasets/rows/versions"
SERVICES = "access,datasets,models,training"


class Killed(Server):
    """A server without workers whose API dies at its points, or when it is told to."""

    def __init__(self, home, rules, url):
        environment = {
            "MODELYARD_SERVICES": SERVICES,
            "MODELYARD_WORKERS": "0",
            "MODELYARD_DATABASE_URL": url,
            faults.VARIABLE: f"{rules}; uploads.received=kill@2",
        }
        super().__init__(home, environment)
        self.database_url = url or f"sqlite:///{home / 'instance' / 'modelyard.db'}"

    def api(self):
        """The process that answers, a child of granian's main one."""

        return eventually(lambda: self.processes("role api"))[-1]

    def kill_api(self):
        """Kill it; come back when another one answers."""
        process = self.api()
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
        eventually(lambda: not process.is_running())
        self.wait_until_ready()

    def post(self, path, **request):
        """The answer, or None where the API died over it."""
        try:
            with self.client() as client:
                return client.post(path, **request)
        except httpx.TransportError:
            self.wait_until_ready()
            return None

    def pass_a_minute(self):
        """As if a minute had gone by for the Idempotency-Keys that a dead process held."""
        database = Database(self.database_url)
        with database.write() as session:
            held = session.query(IdempotencyRow).filter(IdempotencyRow.status.is_(None))
            held.update({"lease_until": utc_now() - timedelta(seconds=1)})
        database.close()

    def run(self, key):
        """Ask for a run under a key."""
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        return self.post("/training-runs", content=WANTED, headers=headers)

    def upload(self, key):
        """Send the next version of the dataset under a key."""
        digest = b64encode(hashlib.sha256(ROWS).digest()).decode()
        headers = {
            "Idempotency-Key": key,
            "Content-Type": "text/csv",
            "Content-Digest": f"sha-256=:{digest}:",
        }
        return self.post(VERSIONS, content=ROWS, headers=headers)

    def until_answered(self, ask):
        """The answer to a request that is repeated as a careful client would."""
        for _ in range(10):
            answer = ask()
            if answer is not None and answer.status_code in (200, 201, 202):
                return answer.json()
            if answer is not None:
                assert answer.status_code == 409, answer.text
                assert 1 <= int(answer.headers["Retry-After"]) <= 60
                self.pass_a_minute()
        raise AssertionError("it was never answered")

    def versions(self):
        """The versions of the dataset, the first one first."""
        with self.client() as client:
            listed = client.get(VERSIONS, params={"page_size": 200}).json()["items"]
        return sorted(version["version"] for version in listed)

    def runs(self):
        """The ids of all runs."""
        with self.client() as client:
            listed = client.get("/training-runs", params={"page_size": 200}).json()["items"]
        return [run["id"] for run in listed]

    def work_folders(self):
        """What uploads have left on the disk."""
        return list((self.home / "instance" / "work" / "uploads").glob("*"))


@pytest.fixture(scope="module")
def server(request, tmp_path_factory):
    kind, moment = request.param
    url = request.getfixturevalue("postgres_url")() if kind == "postgresql" else ""
    with Killed(tmp_path_factory.mktemp("home"), RULES[moment], url) as running:
        assert running.post("/datasets", json={"name": "rows"}).status_code == 201
        assert running.upload("first").status_code == 201
        yield running


FULL = [pytest.mark.slow, pytest.mark.long]
SERVERS = [
    *(("sqlite", moment) for moment in RULES),
    *(pytest.param(("postgresql", moment), marks=FULL) for moment in RULES),
]


@pytest.mark.fault("F1")
@pytest.mark.parametrize("server", SERVERS, indirect=True, ids=str)
def test_a_run_whose_answer_was_lost_is_there_once(server):
    before = server.runs()
    answered = [
        server.until_answered(lambda number=number: server.run(f"run-{number}"))["id"]
        for number in range(rounds(quick=2, full=20))
    ]
    assert sorted(server.runs()) == sorted([*before, *answered])


@pytest.mark.fault("F1")
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("server", [SERVERS[1]], indirect=True, ids=str)
def test_runs_are_there_once_whenever_the_api_is_killed(server):
    seed = random.Random(1)
    for number in range(rounds(quick=3, full=40)):
        with socket.create_connection(("127.0.0.1", server.port)) as line:
            line.sendall(_request(server, f"random-{number}"))
            time.sleep(seed.uniform(0, 0.08))
            server.kill_api()
        one = server.until_answered(lambda number=number: server.run(f"random-{number}"))
        again = server.until_answered(lambda number=number: server.run(f"random-{number}"))
        assert one["id"] == again["id"]


def _request(server, key):
    head = (
        "POST /api/v1/training-runs HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {server.admin_key}\r\nIdempotency-Key: {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(WANTED)}\r\n\r\n"
    )
    return head.encode() + WANTED


@pytest.mark.fault("F2")
@pytest.mark.parametrize("server", [SERVERS[1]], indirect=True, ids=str)
def test_an_upload_that_was_cut_leaves_no_version(server):
    before = server.versions()
    for part in (0.0, 0.5, 0.99):
        with socket.create_connection(("127.0.0.1", server.port)) as line:
            line.sendall(
                f"POST /api/v1{VERSIONS} HTTP/1.1\r\nHost: localhost\r\n"
                f"Authorization: Bearer {server.admin_key}\r\nContent-Type: text/csv\r\n"
                f"Content-Length: {len(ROWS)}\r\n\r\n".encode()
            )
            line.sendall(ROWS[: int(part * len(ROWS))])
            eventually(server.work_folders)
            server.kill_api()
        assert server.versions() == before
        assert sweep_work(server.home / "instance" / "work" / "uploads", 0) == 1
        assert server.work_folders() == []
    told = server.until_answered(lambda: server.upload("cut"))
    assert server.versions() == [*before, told["version"]]


@pytest.mark.fault("F2")
@pytest.mark.parametrize("server", [SERVERS[1]], indirect=True, ids=str)
def test_an_upload_that_was_received_whole_and_not_answered_is_there_once(server):
    server.kill_api()
    server.until_answered(lambda: server.upload("whole-1"))
    before = server.versions()
    assert server.upload("whole-2") is None
    assert server.versions() == before
    assert sweep_work(server.home / "instance" / "work" / "uploads", 0) == 1
    told = server.until_answered(lambda: server.upload("whole-2"))
    assert server.versions() == [*before, told["version"]]
    assert server.work_folders() == []
