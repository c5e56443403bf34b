"""The environment of a process of ours that runs for others: no secret, no address, few threads."""

import os
import sys
from pathlib import Path

_PASSED_ON = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_PASSED_ON_PREFIXES = ("LC_", "PYTHON")


def bare_environment() -> dict[str, str]:
    """What it needs to find our modules; libraries start no threads, so that it may fork."""
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    # Threads that spin while they wait for one another take the cores from everybody.
    waiting = {"OMP_WAIT_POLICY": "PASSIVE"}
    path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
    return {**passed, **threads, **waiting, "PYTHONPATH": path}
