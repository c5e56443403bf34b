"""A server that is killed by what it is asked: the next one is there at once, and nobody stays."""

import contextlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from app.kernel.local_rpc import Client, Lost
from tests.kernel.keeper_process import LIMIT_SECONDS

ROOT = Path(__file__).parents[2]
BACK_SECONDS = 20.0
"""Thrice what is promised; 0.02 s on a quiet machine."""


class Kept:
    """A keeper in a process of its own, and clients of its sockets."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.kernel.keeper_process", str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
        )
        assert self.process.stdout.readline() == b"ready\n"

    def ask(self, method, *, alone=False, **arguments):
        path = self.folder / ("alone/one" if alone else "shared")
        client = Client(lambda: path, "kept", keep=False)
        return client.ask(method, arguments, seconds=30)

    def lost(self, method, *, alone):
        with pytest.raises(Lost) as caught:
            self.ask(method, alone=alone)
        return caught.value.exit_status

    def children(self):
        return psutil.Process(self.process.pid).children()


@pytest.fixture
def kept():
    # A socket's path has 104 bytes at most: pytest's own folders are longer.
    with tempfile.TemporaryDirectory(prefix="my-") as folder:
        made = Kept(folder)
        yield made
        made.process.kill()
        made.process.wait()
        made.process.stdout.close()


def in_background(kept, method, *, alone):
    def ask():
        with contextlib.suppress(Lost):
            kept.ask(method, alone=alone)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def test_everybody_is_answered_by_one_process_and_each_alone_by_its_own(kept):
    assert len({kept.ask("pid") for _ in range(3)}) == 1
    assert len({kept.ask("pid", alone=True) for _ in range(3)}) == 3
    assert kept.ask("double", number=21, alone=True) == kept.ask("double", number=21) == 42


def test_the_next_server_is_there_at_once_also_after_several_crashes(kept):
    for _ in range(4):
        kept.lost("crash", alone=False)
        started = time.monotonic()
        assert kept.ask("double", number=2) == 4
        assert time.monotonic() - started < BACK_SECONDS


def test_how_a_process_died_that_answered_alone_is_told(kept):
    server = kept.ask("pid")
    assert kept.lost("crash", alone=True) == -signal.SIGSEGV
    started = time.monotonic()
    assert kept.lost("compute_for_ever", alone=True) == -signal.SIGALRM
    assert LIMIT_SECONDS <= time.monotonic() - started < LIMIT_SECONDS + BACK_SECONDS
    assert kept.ask("pid") == server


def test_what_ends_in_time_is_not_killed_later(kept):
    server = kept.ask("pid")
    assert kept.ask("quick") == "done"
    time.sleep(1.5 * LIMIT_SECONDS)
    assert kept.ask("pid") == server


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_when_the_keeper_ends_so_do_all_its_servers(kept, number):
    busy = [in_background(kept, "sleep", alone=alone) for alone in (True, False)]
    until = time.monotonic() + 60
    while len(kept.children()) < 2:
        assert time.monotonic() < until
        time.sleep(0.01)
    family = kept.children()
    kept.process.send_signal(number)
    assert kept.process.wait(60) == (0 if number == signal.SIGTERM else -number)
    assert not psutil.wait_procs(family, timeout=60)[1]
    for thread in busy:
        thread.join(60)
        assert not thread.is_alive()
