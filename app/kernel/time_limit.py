"""A time limit that holds inside native code too: the kernel ends the process.

For processes that somebody starts again. No thread of ours could end another one that computes in
native code, and none gets to run while that code keeps the interpreter.
"""

import itertools
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class TimeLimit:
    """Ends this process, by SIGALRM, when one of its blocks takes longer; used by many threads."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._until: dict[int, float] = {}

    @contextmanager
    def kept(self) -> Iterator[None]:
        """The block must end in time."""
        with self._lock:
            number = next(self._numbers)
            self._until[number] = time.monotonic() + self._seconds
            self._set_alarm()
        try:
            yield
        finally:
            with self._lock:
                del self._until[number]
                self._set_alarm()

    def _set_alarm(self) -> None:
        # All blocks have the same time, so the one that began first is the one that is due first.
        first = next(iter(self._until.values()), None)
        left = 0.0 if first is None else max(first - time.monotonic(), 0.001)
        signal.setitimer(signal.ITIMER_REAL, left)
