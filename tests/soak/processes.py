"""Who belongs to the installation under test, found from outside: by a mark in the environment.

The mark is a variable that even the sandbox passes on, so no process gets lost, whoever its parent
is by now. Their roles are read off their command lines and the process tree.
"""

import os
import time
from contextlib import suppress

import psutil

VARIABLE = "LC_MODELYARD_SOAK"
_FORKSERVER = "app.kernel.sandbox.forkserver"
_TRACKER = "resource_tracker"


def family(mark: str) -> dict[int, psutil.Process]:
    """All living processes with that mark, by id; not the one that asks."""
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            marked = process.environ().get(VARIABLE) == mark
            if marked and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = process
    return found


def by_role(mark: str) -> dict[str, list[psutil.Process]]:
    """The living processes of each role."""
    processes = family(mark)
    roles: dict[str, list[psutil.Process]] = {}
    for process in processes.values():
        with suppress(psutil.Error):
            roles.setdefault(_role(process, processes), []).append(process)
    return roles


def _role(process: psutil.Process, processes: dict[int, psutil.Process]) -> str:
    command = process.cmdline()
    parent = processes.get(process.ppid())
    above = parent.cmdline() if parent is not None else []
    if _FORKSERVER in command:
        return "fit child" if _FORKSERVER in above else "forkserver"
    if "serve" in command:
        return "supervisor"
    if command[-2:] == ["role", "api"] and "serve" in above:
        return "server"
    if above[-2:] == ["role", "api"]:
        return "tracker" if any(_TRACKER in part for part in command) else "api"
    return command[-1].partition("-")[0] if "role" in command else "other"


def wait_until_gone(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that still live after so long."""
    until = time.monotonic() + seconds
    while (living := [one for one in processes if _lives(one)]) and time.monotonic() < until:
        time.sleep(0.05)
    return living


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
