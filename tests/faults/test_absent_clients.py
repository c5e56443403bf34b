"""Clients that stall or go away, and an API that is away: nothing stays, nobody else waits."""

import contextlib
import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from tests.faults.rounds import rounds
from tests.server import NO_TLS, NO_WORK, Server

CSV = "species,mass\n" + "Adelie,3750\nGentoo,5200\n" * 100_000
CSV_TYPE = {"Content-Type": "text/csv"}
VERSIONS = "/datasets/penguins/versions"
# The promise is a second, on a machine that has nothing else to do.
SOON = 5
# Connections that the pools of one SQLite file keep for good: sixteen to read, as many to write.
KEPT = 32


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with a dataset of two megabytes."""
    with Server(tmp_path_factory.mktemp("absent"), NO_WORK) as started:
        with started.client() as client:
            client.post("/datasets", json={"name": "penguins"}).raise_for_status()
            client.post(VERSIONS, content=CSV, headers=CSV_TYPE).raise_for_status()
        yield started


def api(server):
    """The processes that answer HTTP."""
    (main, *_) = server.processes("role api")
    return [main, *main.children(recursive=True)]


def held(server):
    """The API's file descriptors but those of its database, and the files of uploads under way.

    SQLite closes a file only when nobody in the process locks it, and until then opens it with
    the spare descriptor: there are as many as there ever were connections at once.
    """
    # Unlike a glob, a walk doesn't mind folders that go meanwhile.
    uploads = server.home / "instance" / "work" / "uploads"
    files = [name for *_, names in os.walk(uploads) for name in names]
    descriptors = sum(process.num_fds() for process in api(server))
    return descriptors - len(of_database(server)), files


def of_database(server):
    """The files of its database that the API has open, each as often as it is."""
    opened = [told.path for process in api(server) for told in process.open_files()]
    return [path for path in opened if ".db" in path.rpartition("/")[2]]


def connections(server):
    """The connections of clients that the API has not let go of."""
    found = [told for process in api(server) for told in process.net_connections("tcp")]
    return [told for told in found if told.raddr and told.laddr.port == server.port]


def head(server, line, *headers):
    told = [line, f"Host: 127.0.0.1:{server.port}", f"Authorization: Bearer {server.admin_key}"]
    return "\r\n".join([*told, *headers, "", ""]).encode()


def connected(server, sent):
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    connection.sendall(sent)
    return connection


def eventually(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def unanswered(server):
    """One of each kind: a head, a body and an upload that don't end, an answer that isn't read."""
    kinds = [
        b"GET /livez HTTP/1.1\r\nX-A: ",
        head(server, "POST /api/v1/projects HTTP/1.1", "Content-Type: application/json")[:-2]
        + b"Content-Length: 1000\r\n\r\n{",
        head(server, f"POST /api/v1{VERSIONS} HTTP/1.1", "Content-Type: text/csv")[:-2]
        + b"Content-Length: 100000\r\n\r\nspecies",
        head(server, f"GET /api/v1{VERSIONS}/1/content HTTP/1.1", "Accept: text/csv"),
    ]
    return [connected(server, sent) for sent in kinds]


@pytest.mark.fault("F24")
def test_two_hundred_connections_that_stall_delay_nobody_and_leave_nothing(server):
    # What the first of them open for good, such as connections to the database, the next find.
    stall_and_go(server)
    before, _ = held(server)
    stall_and_go(server)
    eventually(lambda: held(server)[0] <= before + 5)
    eventually(lambda: sum(path.endswith("-wal") for path in of_database(server)) <= KEPT)
    with server.client() as client:
        made = client.post("/projects", json={"name": "afterwards"})
        assert made.status_code == 201, made.text


def stall_and_go(server):
    """Two hundred connections that stall; the others are served; then they go."""
    stalled = [connection for _ in range(50) for connection in unanswered(server)]
    taken = []
    with httpx.Client(base_url=server.url, timeout=60, verify=NO_TLS) as client:
        for _ in range(rounds(quick=30, full=300)):
            started = time.monotonic()
            assert client.get("/livez").status_code == 200
            taken.append(time.monotonic() - started)
    assert sorted(taken)[int(len(taken) * 0.99)] < SOON
    with server.client() as client:
        assert client.get("/projects").status_code == 200
    for connection in stalled:
        connection.close()
    eventually(lambda: not connections(server) and not held(server)[1])


@pytest.mark.fault("F25")
def test_downloads_and_uploads_that_are_broken_off_leave_nothing(server):
    """Elsewhere each left a temporary file, until the disk was full and the server died."""
    upload = head(server, f"POST /api/v1{VERSIONS} HTTP/1.1", "Content-Type: text/csv")[:-2]
    upload += f"Content-Length: {len(CSV)}\r\n\r\n".encode() + CSV[: len(CSV) // 2].encode()
    download = head(server, f"GET /api/v1{VERSIONS}/1/content HTTP/1.1", "Accept: text/csv")

    def broken_off():
        with contextlib.suppress(ConnectionError), connected(server, upload):
            pass
        with contextlib.suppress(ConnectionError), connected(server, download) as connection:
            connection.recv(1000)

    broken_off()
    eventually(lambda: not held(server)[1])
    before, _ = held(server)
    threads = sum(process.num_threads() for process in api(server))
    for _ in range(rounds(quick=20, full=100)):
        broken_off()
    eventually(lambda: held(server)[0] <= before + 5 and not held(server)[1])
    eventually(lambda: sum(process.num_threads() for process in api(server)) <= threads + 10)
    with server.client() as client:
        assert [version["version"] for version in client.get(VERSIONS).json()["items"]] == [1]


@pytest.fixture
def stopped(server):
    """A function that stops the API for a while."""

    def stop(seconds):
        processes = api(server)
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        for process in processes:
            process.send_signal(signal.SIGCONT)

    yield stop
    for process in api(server):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)


@pytest.mark.fault("F7")
def test_an_api_that_was_stopped_goes_on_and_keeps_deadlines(server, stopped):
    seconds = rounds(quick=3, full=30)
    with server.client() as client, ThreadPoolExecutor(1) as pool:
        position = client.get("/events", params={"after": "latest"}).json()["next_position"]
        asked = {"params": {"wait": 20, "after": position}, "headers": {"X-Request-Timeout": "2"}}
        waiting = pool.submit(client.get, "/events", **asked)
        time.sleep(0.5)
        pause = threading.Thread(target=stopped, args=(seconds,))
        pause.start()
        time.sleep(0.2)
        once = {"json": {"name": "stopped"}, "headers": {"Idempotency-Key": "stopped"}}
        with server.client() as impatient, pytest.raises(httpx.TimeoutException):
            impatient.post("/projects", **once, timeout=1)
        pause.join()
        continued = time.monotonic()
        assert waiting.result().status_code in (200, 504)
        # Not the twenty seconds that were asked for, of which the deadline leaves two.
        assert time.monotonic() - continued < 10
        eventually(lambda: client.post("/projects", **once).status_code == 201)
        names = [project["name"] for project in client.get("/projects").json()["items"]]
        assert names.count("stopped") == 1
    assert "unforeseen_error" not in server.log()
