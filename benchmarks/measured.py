"""What one piece of work costs: wall seconds, CPU seconds of its processes, and their memory."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.server import Server


@dataclass
class Cost:
    """What a piece of work took; ``cpu`` is that of the processes that were looked at."""

    wall: float = 0.0
    cpu: float = 0.0


@contextmanager
def cost(cpu: Callable[[], float] = lambda: sum(os.times()[:4])) -> Iterator[Cost]:
    """The cost of the block; without ``cpu``, of this process and its ended children."""
    found = Cost()
    started, burnt = time.monotonic(), cpu()
    yield found
    found.wall, found.cpu = time.monotonic() - started, cpu() - burnt


def cpu_of(processes: Sequence[psutil.Process]) -> float:
    """CPU seconds of processes and of their ended children."""
    seconds = 0.0
    for process in processes:
        with suppress(psutil.Error):
            seconds += sum(process.cpu_times()[:4])
    return seconds


def api_of(server: Server) -> list[psutil.Process]:
    """The processes that answer a server's requests."""
    (starter, *_) = server.processes("role api")
    return [starter, *starter.children(recursive=True)]


def judged(kept: Sequence[tuple[str, bool]]) -> int:
    """Tell which promises hold; the status to exit with, 0 when all do."""
    for promise, holds in kept:
        print(f"{'kept ' if holds else 'SHORT'}  {promise}")
    return 0 if all(holds for _, holds in kept) else 1


class Peak:
    """The most that some processes held together while the block ran, looked at all the time.

    ``held`` tells what one of them holds, bytes.
    """

    def __init__(
        self,
        processes: Callable[[], Sequence[int]],
        seconds: float = 0.05,
        held: Callable[[int], int] | None = None,
    ) -> None:
        self.bytes = 0
        self._processes = processes
        self._held = share_of if held is None else held
        self._seconds = seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._ended.wait(self._seconds):
            self._add()

    def _add(self) -> None:
        self.bytes = max(self.bytes, sum(map(self._held, self._processes())))

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._add()


def own_peak() -> Peak:
    """Of this process and its children: what each of those that live has ever held, added up."""
    own = psutil.Process()
    # To find children takes milliseconds; what a process has ever held is there until it ends.
    return Peak(lambda: [own.pid, *(one.pid for one in own.children())], 0.5, _ever_held)


def _ever_held(pid: int) -> int:
    return _told(pid, "status", "VmHWM:")


def share_of(pid: int) -> int:
    """A process's proportional share of memory (PSS), bytes; 0 when it has ended."""
    return _told(pid, "smaps_rollup", "Pss:")


def _told(pid: int, file: str, name: str) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return 0
