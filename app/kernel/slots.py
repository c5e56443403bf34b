"""Bounded places: what waits or takes long holds one, so that it can't take all the threads."""

from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue

from app.kernel.errors import Unavailable


class Slots:
    """So many at once, and no more."""

    def __init__(self, most: int, what: str) -> None:
        # A queue of the free ones: threading's semaphores cost each request several times as much.
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(most):
            self._free.put(None)
        self._what = what

    @contextmanager
    def hold(self, wait: float = 0.0) -> Iterator[None]:
        """Hold a place for the block; raises Unavailable when none is free in ``wait`` seconds."""
        self.take(wait)
        try:
            yield
        finally:
            self.give_back()

    def take(self, wait: float = 0.0) -> None:
        """Take a place, to be given back in any case; raises as ``hold`` does."""
        try:
            self._free.get(wait > 0, wait or None)
        except Empty:
            raise Unavailable(f"Too many {self._what} at once", retry_after=1) from None

    def try_take(self) -> bool:
        """Take a place if one is free now; whether there was one."""
        try:
            self._free.get_nowait()
        except Empty:
            return False
        return True

    def give_back(self) -> None:
        """Give back a place that was taken."""
        self._free.put(None)
