"""Clients that go on through a fault, and remember what they were told."""

import itertools
import threading
import time
from dataclasses import dataclass

import httpx

from tests.server import NO_TLS

RETRYABLE = (503, 504, 507)


@dataclass
class Told:
    """One answer: to which request, after how long."""

    name: str
    status: int
    seconds: float
    at: float
    answer: httpx.Response


class Writers:
    """Threads that make one dataset after the other; what was acknowledged must be there later."""

    _runs = itertools.count()

    def __init__(self, server, threads=4, pause=0.01):
        self._server = server
        self._pause = pause
        self._ended = threading.Event()
        self._run = next(self._runs)
        self.told = []
        self.unknown = []
        self._threads = [threading.Thread(target=self._write, args=(n,)) for n in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _write(self, thread):
        with self._server.client() as client:
            for number in itertools.count():
                if self._ended.wait(self._pause):
                    return
                name = f"w{self._run}-{thread}-{number}"
                since = time.monotonic()
                try:
                    answer = client.post("/datasets", json={"name": name})
                except httpx.HTTPError:
                    self.unknown.append(name)
                    continue
                now = time.monotonic()
                self.told.append(Told(name, answer.status_code, now - since, now, answer))

    @property
    def acknowledged(self):
        """The names that were answered with 201."""
        return [told.name for told in self.told if told.status == 201]

    def statuses(self):
        """All statuses that came."""
        return {told.status for told in self.told}


def assert_told_properly(answers, allowed=RETRYABLE):
    """Every refusal is a problem that says when to come back; there is never a 500."""
    for answer in answers:
        if answer.status_code < 400:
            continue
        assert answer.status_code in allowed, (answer.status_code, answer.text[:300])
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["retryable"] is True
        if answer.status_code == 503:
            assert int(answer.headers["Retry-After"]) >= 1


def assert_all_there(server, names):
    """Each of the datasets can be read; AssertionError names those that can't."""
    with server.client() as client:
        lost = [name for name in names if client.get(f"/datasets/{name}").status_code != 200]
    assert lost == []


def until(condition, seconds, pause=0.05):
    """How many seconds it took until a condition held."""
    since = time.monotonic()
    while not condition():
        assert time.monotonic() - since < seconds, f"not within {seconds} s"
        time.sleep(pause)
    return time.monotonic() - since


def status(url):
    """The status that a URL answers now; 0: nothing."""
    try:
        return httpx.get(url, timeout=30, verify=NO_TLS).status_code
    except httpx.HTTPError:
        return 0
