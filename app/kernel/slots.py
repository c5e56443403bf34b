"""Bounded places: what waits or takes long holds one, so that it can't take all the threads."""

from contextlib import AbstractContextManager
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

    def hold(self, wait: float = 0.0) -> AbstractContextManager[None]:
        """Hold a place for the block; raises Unavailable when none is free in ``wait`` seconds."""
        try:
            self._free.get(wait > 0, wait or None)
        except Empty:
            raise Unavailable(f"Too many {self._what} at once", retry_after=1) from None
        return self

    def __enter__(self) -> None:
        """Nothing: the place is held already."""

    def __exit__(self, *_: object) -> None:
        self._free.put(None)
