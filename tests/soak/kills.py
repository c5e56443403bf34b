"""The kills: every few seconds SIGKILL to a process of a role drawn from the seed.

A supervisor that was killed is started again, as an operator's init would. With it, or with the
server's main process, all below must end within five seconds.
"""

import random
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import httpx
import psutil

from tests.server import NO_TLS, Server
from tests.soak.processes import by_role, family, wait_until_gone

WEIGHTS = {
    "api": 6,
    "worker": 5,
    "fit child": 6,
    "forkserver": 2,
    "scorer": 2,
    "ingest": 2,
    "server": 1,
    "supervisor": 1,
}
GONE_SECONDS = 5.0
_CALM_SECONDS = (0.8, 2.4)
_READY_SECONDS = 20.0
_IMPATIENCE = 0.2
"""How often the next kill doesn't wait until all are back from the last one."""


@dataclass
class Killed:
    """What was killed, and what came of it."""

    roles: Counter[str] = field(default_factory=Counter)
    survivors: list[str] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)
    """Seconds from a killed supervisor's new start until it was ready."""
    recoveries: list[tuple[float, str]] = field(default_factory=list)
    """Seconds from any other kill until the server was ready (again), and the role."""


class Killer(threading.Thread):
    """Kills until it is stopped."""

    def __init__(self, server: Server, mark: str, seed: str) -> None:
        super().__init__(name="killer", daemon=True)
        self.killed = Killed()
        self.error: BaseException | None = None
        self._server = server
        self._mark = mark
        self._random = random.Random(seed)
        self._stopping = threading.Event()

    def run(self) -> None:
        """Wait a while, kill, look at what becomes of it."""
        try:
            while not self._stopping.wait(self._random.uniform(*_CALM_SECONDS)):
                self._kill_one()
        except BaseException as error:  # noqa: BLE001 - a door: the soak tells of it
            self.error = error

    @property
    def count(self) -> int:
        """How many have been killed so far."""
        return sum(list(self.killed.roles.values()))

    def stop(self) -> None:
        """Kill no more."""
        self._stopping.set()

    def _kill_one(self) -> None:
        role = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        hurried = self._random.random() < _IMPATIENCE
        victims = by_role(self._mark).get(role, [])
        if role == "fit child" and not victims:
            victims = self._wait_for_child()
        if not victims:
            return
        victim = self._random.choice(sorted(victims, key=lambda one: one.pid))
        below = self._below(role, victim)
        with suppress(psutil.NoSuchProcess):
            victim.kill()
            self.killed.roles[role] += 1
        started = time.monotonic()
        self._judge_survivors(role, below)
        if role == "supervisor":
            self._start_again()
        elif not hurried and self._wait_until_ready():
            self.killed.recoveries.append((time.monotonic() - started, role))

    def _wait_for_child(self) -> list[psutil.Process]:
        until = time.monotonic() + 3
        while time.monotonic() < until and not self._stopping.wait(0.05):
            if victims := by_role(self._mark).get("fit child"):
                return victims
        return []

    def _below(self, role: str, victim: psutil.Process) -> list[psutil.Process]:
        """Who must end with a victim."""
        if role == "supervisor":
            return list(family(self._mark).values())
        with suppress(psutil.NoSuchProcess):
            return victim.children(recursive=True)
        return []

    def _judge_survivors(self, role: str, below: list[psutil.Process]) -> None:
        for survivor in wait_until_gone(below, GONE_SECONDS):
            with suppress(psutil.Error):
                told = " ".join(survivor.cmdline())[-80:]
                self.killed.survivors.append(f"{role} killed, {GONE_SECONDS:.0f} s later: {told}")
                survivor.kill()

    def _start_again(self) -> None:
        self._server.kill()
        started = time.monotonic()
        self._server.start()
        self.killed.restarts.append(time.monotonic() - started)

    def _wait_until_ready(self) -> bool:
        until = time.monotonic() + _READY_SECONDS
        while time.monotonic() < until and not self._stopping.is_set():
            with suppress(httpx.HTTPError):
                if (
                    httpx.get(f"{self._server.url}/readyz", timeout=2, verify=NO_TLS).status_code
                    == 200
                ):
                    return True
            time.sleep(0.1)
        return False
