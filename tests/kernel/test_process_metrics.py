"""Metrics of the processes next door: told over their sockets, merged, never in the way."""

import socket
import tempfile
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from app.kernel.errors import Unavailable
from app.kernel.local_rpc import Client, Server
from app.kernel.process_metrics import NeighbourMetrics, timed_jobs, with_metrics


class Host:
    """A folder of sockets, and the processes that answer there, as threads."""

    def __init__(self, folder):
        self.folder = folder
        self._servers = []

    def start(self, name, handlers):
        """Answer under a name."""
        server = Server(self.folder / name, handlers)
        self._servers.append(server)
        threading.Thread(target=server.run, daemon=True).start()

    def neighbour(self, name, handlers=None, registry=None):
        """A process that tells its metrics."""
        self.start(name, with_metrics(handlers or {}, registry or CollectorRegistry()))

    def stop(self):
        """End them all."""
        for server in self._servers:
            server.stop()


@pytest.fixture
def host():
    # Not below pytest's own folder: a socket's path is short.
    with tempfile.TemporaryDirectory(prefix="my-") as made:
        host = Host(Path(made))
        yield host
        host.stop()


def shown(folder):
    """What the API would show of them."""
    registry = CollectorRegistry()
    registry.register(NeighbourMetrics(lambda: folder))
    return generate_latest(registry).decode()


def test_answers_are_timed_by_process_and_method(host):
    for name in ("ingest", "scorer"):
        host.neighbour(name, {"ask": lambda arguments: arguments})
    for _ in range(3):
        assert Client(lambda: host.folder / "scorer", "scorer").ask("ask", {"a": 1}, seconds=5)
    text = shown(host.folder)
    assert 'modelyard_question_seconds_count{method="ask",process="scorer"} 3.0' in text
    assert 'process="ingest"} 3.0' not in text
    assert 'modelyard_process_up{process="ingest"} 1.0' in text
    assert text.count("# TYPE modelyard_question_seconds histogram") == 1


def test_a_process_that_is_gone_costs_only_its_own_samples(host):
    host.neighbour("scorer")
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(host.folder / "ingest"))
    text = shown(host.folder)
    assert 'modelyard_process_up{process="ingest"} 0.0' in text
    assert 'modelyard_process_up{process="scorer"} 1.0' in text


def test_a_process_that_hangs_does_not_hang_the_metrics(host):
    hanging = threading.Event()
    host.start("ingest", {"metrics": lambda _: hanging.wait(30)})
    assert 'modelyard_process_up{process="ingest"} 0.0' in shown(host.folder)
    hanging.set()


def test_where_no_supervisor_runs_there_is_nothing_to_tell(host):
    assert "process=" not in shown(host.folder / "nowhere")


def test_jobs_are_timed_by_kind_and_outcome(host):
    def fail(_job):
        raise Unavailable("The database can't be used right now")

    registry = CollectorRegistry()
    jobs = timed_jobs({"fit": lambda _job: None, "import": fail}, registry)
    jobs["fit"](None)
    with pytest.raises(Unavailable):
        jobs["import"](None)
    host.neighbour("worker-1", registry=registry)
    text = shown(host.folder)
    count = "modelyard_job_seconds_count"
    assert f'{count}{{kind="fit",outcome="ended",process="worker-1"}} 1.0' in text
    assert f'{count}{{kind="import",outcome="raised",process="worker-1"}} 1.0' in text
    assert 'modelyard_jobs_running{kind="fit",process="worker-1"} 0.0' in text
