"""Records through HTTP: how many a second, and what 30 tails beside leave of the server.

    python -m benchmarks.topics [--seconds 10] [--clients 1 2 4] [--tails 30] [--log-url nats://..]

Starts a server of its own on the loopback (SQLite, or the record log that is named) and a topic of
four partitions. Producing: so many clients, each a thread with one connection, send batches of 100
records of a flight each (150 bytes) one after another; told are records a second, the median and
the 99th percentile of a batch, and the CPU of the server's processes per 1,000 records. Then 30
clients follow the topic as server-sent events while one produces 100 records a second; ``/livez``
is asked 20 times a second, and told are its median, 99th percentile and maximum, beside those of
the same seconds without tails, and how long a record was on its way to the tails. Every tail must
have got every record, in order in each partition. It ends with what was promised and what was
found, and exits with 1 when a promise was not kept.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.server import Server

_LEAST_RATE, _SLOWEST_LIVEZ = 2000.0, 0.050
_BATCH, _PARTITIONS = 100, 4
_ORIGINS = ("EWR", "JFK", "LGA", "BOS")


def main() -> int:
    """Measure; 0 if the promises are kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--tails", type=int, default=30)
    parser.add_argument("--log-url", default="")
    given = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores", flush=True)
    environment = {"MODELYARD_WORKERS": "0", "MODELYARD_LOG_LEVEL": "error"}
    if given.log_url:
        environment["MODELYARD_LOG_URL"] = given.log_url
    with (
        tempfile.TemporaryDirectory(prefix="topics-") as folder,
        Server(Path(folder), environment) as server,
    ):
        best = max(_produce(server, count, given.seconds) for count in given.clients)
        slowest = _tail(server, given.tails, given.seconds)
    print(f"promised: {_LEAST_RATE:,.0f} records/s; found: {best:,.0f}")
    print(
        f"promised: /livez beside {given.tails} tails under {_SLOWEST_LIVEZ * 1000:.0f} ms at the"
    )
    print(f"99th percentile; found: {slowest * 1000:.1f} ms")
    return int(best < _LEAST_RATE or slowest > _SLOWEST_LIVEZ)


def _record(number: int) -> dict[str, Any]:
    origin = _ORIGINS[number % len(_ORIGINS)]
    value = {"flight": number, "carrier": "AA", "origin": origin, "dest": "LAX", "dep_delay": 4.5}
    return {"key": origin, "value": {**value, "sent": time.time()}}


def _topic(server: Server, name: str) -> str:
    with server.client() as client:
        made = client.post("/topics", json={"name": name, "partitions": _PARTITIONS})
        assert made.status_code == 201, made.text
    return f"/topics/{name}/records"


def _produce(server: Server, clients: int, seconds: float) -> float:
    """Records a second of so many clients."""
    path, taken = _topic(server, f"produced-{clients}"), list[float]()
    until = time.monotonic() + seconds

    def send() -> None:
        with server.client() as client:
            while time.monotonic() < until:
                started = time.perf_counter()
                records = [_record(number) for number in range(_BATCH)]
                answer = client.post(path, json={"records": records})
                assert answer.status_code == 201, answer.text
                taken.append(time.perf_counter() - started)

    before, started = _cpu(server), time.monotonic()
    threads = [threading.Thread(target=send) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = len(taken) * _BATCH / (time.monotonic() - started)
    cost = (_cpu(server) - before) / len(taken) / _BATCH * 1e6
    print(
        f"{clients} clients: {rate:,.0f} records/s; a batch {_told(taken)};"
        f" CPU {cost:.0f} ms per 1,000 records",
        flush=True,
    )
    return rate


@dataclass
class _Follower:
    """A client that follows a topic."""

    url: str
    key: str
    path: str
    seen: dict[int, list[int]] = field(default_factory=dict)
    delays: list[float] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Follow until stopped, resuming where a stream ended."""
        position: dict[str, str] = {}
        headers = {"Authorization": f"Bearer {self.key}"}
        with httpx.Client(base_url=self.url, headers=headers, timeout=60) as client:
            while not self.stopped.is_set():
                with client.stream("GET", self.path, headers=position) as answer:
                    assert answer.status_code == 200, answer.status_code
                    for line in answer.iter_lines():
                        self.ready.set()
                        if line.startswith("id: "):
                            position = {"Last-Event-ID": line[4:]}
                        if line.startswith("data: "):
                            self._take(json.loads(line[6:]))
                        if self.stopped.is_set():
                            return

    def _take(self, record: dict[str, Any]) -> None:
        self.seen.setdefault(record["partition"], []).append(record["offset"])
        self.delays.append(time.time() - record["value"]["sent"])


def _follow(told: Connection, url: str, key: str, path: str, count: int) -> None:
    """So many followers in a process of their own, until told to stop."""
    followers = [_Follower(f"{url}/api/v1", key, f"{path}/stream") for _ in range(count)]
    threads = [threading.Thread(target=one.run) for one in followers]
    for thread in threads:
        thread.start()
    told.send(all(one.ready.wait(30) for one in followers))
    told.recv()
    time.sleep(1)
    for one in followers:
        one.stopped.set()
    for thread in threads:
        thread.join(30)
    told.send(([one.seen for one in followers], [d for one in followers for d in one.delays]))


def _tail(server: Server, count: int, seconds: float) -> float:
    """The 99th percentile of /livez beside so many tails."""
    path = _topic(server, "followed")
    print(f"/livez without tails {_told(list(_livez(server, path, seconds)))}", flush=True)
    first = _ends(server)
    here, there = multiprocessing.get_context("spawn").Pipe()
    arguments = (there, server.url, server.admin_key, path, count)
    followers = multiprocessing.get_context("spawn").Process(target=_follow, args=arguments)
    followers.start()
    assert here.recv(), "not all tails have begun"
    beside = list(_livez(server, path, seconds))
    here.send("stop")
    seen, delays = here.recv()
    followers.join()
    wanted = {
        partition: list(range(first[partition], end))
        for partition, end in _ends(server).items()
        if end > first[partition]
    }
    assert all(one == wanted for one in seen), "a tail has missed a record"
    print(f"/livez beside {count} tails {_told(beside)}; a record to a tail {_told(delays)}")
    return _percentile(beside, 0.99)


def _ends(server: Server) -> dict[int, int]:
    with server.client() as client:
        bounds = client.get("/topics/followed").json()["partition_bounds"]
    return {told["partition"]: told["end"] for told in bounds}


def _livez(server: Server, path: str, seconds: float) -> Iterator[float]:
    """How long each /livez takes while 100 records a second are produced."""
    until, number = time.monotonic() + seconds, 0
    with server.client() as client, httpx.Client(base_url=server.url) as asking:
        while time.monotonic() < until:
            number += 1
            if number % 2:
                records = [_record(number + place) for place in range(10)]
                assert client.post(path, json={"records": records}).status_code == 201
            started = time.perf_counter()
            assert asking.get("/livez").status_code == 200
            yield time.perf_counter() - started
            time.sleep(0.05)


def _cpu(server: Server) -> float:
    processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def _told(values: list[float]) -> str:
    middle, high = statistics.median(values), _percentile(values, 0.99)
    return f"{middle * 1000:.1f} ms, p99 {high * 1000:.1f} ms, most {max(values) * 1000:.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
