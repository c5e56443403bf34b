"""Waiting for records: one of those who wait in a process looks, on behalf of all of them."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

_LOOK_SECONDS = 0.05
Ends = Mapping[str, Mapping[int, int]]


class Watch:
    """Knows the ends of the topics that somebody waits for; thread-safe.

    ``look`` tells the ends of topics; one that it leaves out is gone. It is asked again after
    ``pause`` seconds, and soon where somebody comes to wait.
    """

    def __init__(self, look: Callable[[Sequence[str]], Ends], pause: float = _LOOK_SECONDS) -> None:
        self._look_for = look
        self._pause = pause
        self._changed = threading.Condition()
        self._waited_for: Counter[str] = Counter()
        self._ends: dict[str, dict[int, int]] = {}
        self._told: dict[str, dict[int, int]] = {}
        self._looks = 0
        self._last_look = 0.0
        self._somebody_looks = False

    def wait(
        self, topic: str, positions: Mapping[int, int], until: float, stopped: Callable[[], bool]
    ) -> None:
        """Until a look finds a record at one of the positions or no such topic, or time is over.

        The first look is one that began after the call.
        """
        with self._changed:
            self._waited_for[topic] += 1
            try:
                fresh = self._looks + 1 + self._somebody_looks
                while (now := time.monotonic()) < until and not stopped():
                    pause = _LOOK_SECONDS if self._looks < fresh else self._pause
                    if now >= self._last_look + pause and not self._somebody_looks:
                        self._look()
                    if self._looks >= fresh and self._is_beyond(topic, positions):
                        return
                    self._changed.wait(max(0.0, min(_LOOK_SECONDS, until - time.monotonic())))
            finally:
                self._waited_for -= Counter([topic])

    def tell(self, topic: str, ends: Mapping[int, int]) -> None:
        """A topic has come so far, somebody says."""
        with self._changed:
            if topic in self._waited_for:
                for known in (self._told, self._ends):
                    _advance(known.setdefault(topic, {}), ends)
                self._changed.notify_all()

    def _is_beyond(self, topic: str, positions: Mapping[int, int]) -> bool:
        ends = self._ends.get(topic)
        return ends is None or any(
            ends.get(partition, 0) > position for partition, position in positions.items()
        )

    def _look(self) -> None:
        self._somebody_looks = True
        self._told = {}
        topics = list(self._waited_for)
        self._changed.release()
        ends: Ends = self._ends
        try:
            ends = self._look_for(topics)
        finally:
            self._changed.acquire()
            self._somebody_looks = False
            self._last_look = time.monotonic()
            self._ends = {topic: dict(numbers) for topic, numbers in ends.items()}
            for topic, numbers in self._told.items():
                _advance(self._ends.setdefault(topic, {}), numbers)
            self._looks += 1
            self._changed.notify_all()


def _advance(known: dict[int, int], ends: Mapping[int, int]) -> None:
    known.update({number: max(end, known.get(number, 0)) for number, end in ends.items()})
