"""How a server stops, and what is left of it when it is killed: one server, ended in many ways."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.server import NO_TLS, Server, wait_for

PENGUINS = Path(__file__).resolve().parents[2] / "examples" / "penguins.csv"
STOPPED_SECONDS, GONE_SECONDS = 60.0, 20.0
NOW_SECONDS = 10.0
"""An orderly stop takes 15 with requests under way that last as long."""
READY_SECONDS = 30.0
WAITS = 40
SLOW_ONES = [f"slow-{number}" for number in range(10)]
EVERYBODY = ("supervisor", "api", "its views", "ingest", "scorer", "worker", "helper", "child")
SLOW = {"name": "RandomForestClassifier", "params": {"n_estimators": 1000}}
SETTINGS = {"MODELYARD_LOG_LEVEL": "info", "MODELYARD_STREAM_SLOTS": "64"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.fault("F31")]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A server with a table, that the tests may end; and how long its start took, on a machine
    that does other things too.
    """
    started = time.monotonic()
    with Server(tmp_path_factory.mktemp("home"), SETTINGS) as server:
        seconds = time.monotonic() - started
        with server.client() as client:
            for name in ("penguins", *SLOW_ONES):
                assert client.post("/datasets", json={"name": name}).status_code == 201
            assert upload(client, "penguins").status_code == 201
        yield server, seconds


@pytest.fixture
def server(home):
    """The server, started anew where the last test has ended it."""
    if not home[0].runs:
        home[0].start()
    return home[0]


@pytest.fixture
def ready_seconds(home):
    """How long a start may take: what is promised, unless the machine is too busy for that."""
    return max(READY_SECONDS, 3 * home[1])


def upload(client, name, *, pieces=1, pause=0.0):
    """Send a table's version, in pieces."""
    csv = PENGUINS.read_bytes()
    size = -(-len(csv) // pieces)

    def body() -> Iterator[bytes]:
        for start in range(0, len(csv), size):
            time.sleep(pause)
            yield csv[start : start + size]

    headers = {"Content-Type": "text/csv", "Content-Length": str(len(csv))}
    return client.post(f"/datasets/{name}/versions", content=body(), headers=headers)


def running_run(client):
    """The path of a run that a fit child is at work on."""
    wanted = {"model": "m", "dataset": "penguins", "target": "species", "estimator": SLOW}
    answer = client.post("/training-runs", json=wanted)
    assert answer.status_code == 202, answer.text
    path = f"/training-runs/{answer.json()['id']}"
    until = time.monotonic() + 60
    while client.get(path).json()["progress"]["step"] != "fit":
        assert time.monotonic() < until
        time.sleep(0.05)
    return path


def family(server):
    """All processes of the server, the supervisor first."""
    first = psutil.Process(server.pid)
    return [first, *first.children(recursive=True)]


def in_flight(server, path, seconds, names=()):
    """Requests that the server has taken and not answered: waits for a run, and slow uploads. How
    each will be answered.
    """

    def wait():
        with server.client() as client, contextlib.suppress(httpx.TransportError):
            return client.get(path, params={"wait": seconds}).status_code

    def send(name):
        with server.client() as client:
            return upload(client, name, pieces=4 * seconds, pause=0.25).status_code

    pool = ThreadPoolExecutor(WAITS + len(names))
    answers = [pool.submit(send, name) for name in names]
    answers += [pool.submit(wait) for _ in range(WAITS)]
    until = time.monotonic() + seconds
    while connections(server) < len(answers):
        assert time.monotonic() < until, "they are answered before all are under way"
        time.sleep(0.1)
    assert not any(answer.done() for answer in answers)
    return answers


def connections(server):
    """How many the server has accepted."""
    apis = server.processes("role api")
    found = [one for api in apis for one in api.net_connections("tcp4")]
    return sum(one.laddr.port == server.port and one.status == "ESTABLISHED" for one in found)


def readiness(server):
    """The status of readiness and the word on the process; nobody there: 0."""
    try:
        answer = httpx.get(f"{server.url}/readyz", timeout=30, verify=NO_TLS)
    except httpx.HTTPError:
        return 0, ""
    return answer.status_code, answer.json()["checks"]["process"]


def press_control_c(processes):
    """Signal the first of some processes as a terminal does: with all of its group."""
    group = os.getpgid(processes[0].pid)
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(process.pid) == group:
                os.kill(process.pid, signal.SIGINT)


def asked_often(ask, times=8, pause=0.1):
    """What is answered when it is asked again and again, whether answered yet or not."""
    with ThreadPoolExecutor(times) as pool:
        return [pool.submit(ask) for _ in range(times) if time.sleep(pause) is None]


def test_a_killed_http_server_leaves_no_worker_of_its_own_and_is_back(server, ready_seconds):
    api = server.processes("role api")[0]
    children = api.children(recursive=True)
    others = [process for process in family(server) if process not in (api, *children)]
    assert children
    api.kill()
    assert psutil.wait_procs(children, GONE_SECONDS)[1] == []
    started = time.monotonic()
    server.wait_until_ready()
    assert time.monotonic() - started < ready_seconds
    assert all(process.is_running() for process in others)


def test_it_is_unready_first_answers_what_it_has_and_hands_the_fit_back(server):
    with server.client() as client:
        path = running_run(client)
    processes, answers = family(server), in_flight(server, path, 10, SLOW_ONES)
    press_control_c(processes)
    asked = asked_often(lambda: readiness(server))
    status, seconds = server.wait(STOPPED_SECONDS)
    assert (503, "stopping") in [answer.result() for answer in asked]
    assert [answer.result(30) for answer in answers] == [201] * len(SLOW_ONES) + [200] * WAITS
    assert (status, psutil.wait_procs(processes, GONE_SECONDS)[1]) == (0, []), seconds
    server.start()
    with server.client() as client:
        for name in SLOW_ONES:
            assert client.get(f"/datasets/{name}/versions/1").json()["state"] == "succeeded"
        ended = wait_for(client, path)
        assert (ended["state"], ended["attempt"]) == ("succeeded", 2), ended


def test_a_killed_supervisor_leaves_nobody_behind_and_another_finishes_the_run(
    server, ready_seconds
):
    with server.client() as client:
        path = running_run(client)
    processes = family(server)
    assert len(processes) >= len(EVERYBODY)
    server.kill()
    assert psutil.wait_procs(processes, GONE_SECONDS)[1] == []
    started = time.monotonic()
    server.start()
    assert time.monotonic() - started < ready_seconds
    with server.client() as client:
        ended = wait_for(client, path)
        assert (ended["state"], ended["attempt"]) == ("succeeded", 2), ended


def test_a_second_signal_is_now(server):
    with server.client() as client:
        path = running_run(client)
    in_flight(server, path, 20)
    processes = family(server)
    os.kill(server.pid, signal.SIGTERM)
    time.sleep(0.2)
    os.kill(server.pid, signal.SIGTERM)
    status, seconds = server.wait(STOPPED_SECONDS)
    assert (status, seconds < NOW_SECONDS) == (0, True), seconds
    assert psutil.wait_procs(processes, GONE_SECONDS)[1] == []
