"""Bounded places: what waits or takes long holds one, so that it can't take all the threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.kernel.errors import Unavailable


class Slots:
    """So many at once, and no more."""

    def __init__(self, most: int, what: str) -> None:
        self._places = threading.BoundedSemaphore(most)
        self._what = what

    @contextmanager
    def hold(self, wait: float = 0.0) -> Iterator[None]:
        """Hold a place for the block; raises Unavailable when none is free in ``wait`` seconds."""
        if not self._places.acquire(timeout=wait or None, blocking=wait > 0):
            raise Unavailable(f"Too many {self._what} at once", retry_after=1)
        try:
            yield
        finally:
            self._places.release()
