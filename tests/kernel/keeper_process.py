# ruff: noqa: T201 - it tells the test that it serves
"""A keeper for the tests: its servers double numbers, and die in each way when they are told to."""

import ctypes
import os
import sys
import time
from pathlib import Path

from app.kernel.keeper import Keeper
from app.kernel.time_limit import TimeLimit

LIMIT_SECONDS = 1.5


def make_handlers():
    limit = TimeLimit(LIMIT_SECONDS)

    def compute_for_ever(_arguments):
        # One native call that keeps the interpreter.
        with limit.kept():
            return pow(3, 10**10)

    def quick(_arguments):
        with limit.kept():
            return "done"

    return {
        "double": lambda arguments: arguments["number"] * 2,
        "pid": lambda _: os.getpid(),
        "crash": lambda _: ctypes.string_at(0),
        "compute_for_ever": compute_for_ever,
        "quick": quick,
        "sleep": lambda _: time.sleep(60),
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    keeper = Keeper(folder / "shared", folder / "alone" / "one", make_handlers)
    print("ready", flush=True)
    keeper.run()
