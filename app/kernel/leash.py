"""A process that ends with its parent, also when that is killed with SIGKILL."""

import ctypes
import os
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
_LOOK_SECONDS = 1.0


def die_with(parent: int, by: signal.Signals = signal.SIGKILL) -> None:
    """Send this process the signal when ``parent`` dies; at once if it is gone already.

    On Linux the kernel does it; elsewhere a thread looks once a second, which needs an interpreter
    that gets to run threads.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(by), 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent, by), daemon=True).start()
    if os.getppid() != parent:
        os.kill(os.getpid(), by)


def _watch(parent: int, by: signal.Signals) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os.kill(os.getpid(), by)
