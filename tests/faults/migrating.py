# ruff: noqa: T201 - it tells the test what happens by its output
"""Processes that start an installation at once, or are killed while they do, for the tests.

For each line ``{"settings", "faults", "count", "kill_after"}`` that this process reads it forks so
many children, lets them all go at the same moment, and prints how each ended and what it said. So
the imports are paid once.
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
import time

from app.config import Settings
from app.kernel import faults
from app.roles import run_migrations


def start_one(order, begin, output):
    """Be a child: wait for the start, then migrate."""
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    faults._RULES = faults.parse(order.get("faults", ""))
    settings = Settings.from_environment(order["settings"])
    os.read(begin, 1)
    status = 1
    with contextlib.suppress(BaseException):
        run_migrations(settings)
        status = 0
    sys.stdout.flush()
    os._exit(status)


def start(order):
    """Start the children of one line; the exit status and the output of each."""
    begin, go = os.pipe()
    children = []
    for _ in range(order["count"]):
        output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - read and closed below
        if (pid := os.fork()) == 0:
            os.close(go)
            start_one(order, begin, output)
        children.append((pid, output))
    os.close(begin)
    # The end of the pipe is what all of them see at once.
    os.close(go)
    if order.get("kill_after") is not None:
        time.sleep(order["kill_after"])
        for pid, _ in children:
            os.kill(pid, signal.SIGKILL)
    ended = []
    for pid, output in children:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        output.seek(0)
        ended.append([status, output.read()])
        output.close()
    return ended


if __name__ == "__main__":
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(start(json.loads(line))), flush=True)
