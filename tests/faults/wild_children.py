# ruff: noqa: T201 - some of them print
"""Fits that do what no fit should, each for the run whose random state is its number."""

import ctypes
import os
import signal
import time
from pathlib import Path

from app.training import child
from tests.faults.rounds import rounds

PRINTED_MEGABYTES = rounds(quick=64, full=1024)


def take_memory():
    taken = []
    while True:
        taken.append(b"x" * (16 << 20))


def segfault():
    ctypes.string_at(0)


def loop():
    # One native call that keeps the interpreter for hours.
    pow(3, 10**10)


def fork_without_end():
    """With an end after all, should the limit not hold."""
    for _ in range(150):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    time.sleep(60)


def write_ten_gigabytes():
    with Path("big").open("wb") as file:
        file.writelines(b"x" * (1 << 20) for _ in range(10 << 10))


def print_without_end():
    line = "x" * 1023
    for _ in range(PRINTED_MEGABYTES << 10):
        print(line)


def be_killed():
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def be_killed_once():
    """An attempt's folder is named for it."""
    if Path.cwd().name.endswith("-1"):
        be_killed()


def behave():
    """As a fit should."""


WAYS = (
    behave,
    take_memory,
    segfault,
    loop,
    fork_without_end,
    write_ten_gigabytes,
    print_without_end,
    be_killed,
    be_killed_once,
)


def fit(arguments, report):
    """In the place of the fit: what the run's number says, then the fit."""
    WAYS[arguments["spec"]["random_state"]]()
    return child.fit(arguments, report)
