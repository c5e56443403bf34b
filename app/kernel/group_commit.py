"""Group commit: what several threads want written at once is written in one transaction.

A transaction costs a database the same, whether it writes one row or a hundred: it waits for the
disk once. So the first who comes writes at once; those who come meanwhile are written together
when it is done, by the first of them. Who were just answered soon come again: so one who comes
after several were written together waits a moment for as many. Who comes alone waits for nobody.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from typing import Final, Generic, TypeVar

from app.kernel.errors import (
    DatabaseCorrupt,
    DeadlineExceeded,
    StorageFull,
    Unavailable,
)

Item = TypeVar("Item")
_TOGETHER: Final = 256
_LONGEST_WAIT: Final = 3600.0
_GATHERING_SECONDS: Final = 0.002
_FAULTS_OF_ALL: Final = (Unavailable, StorageFull, DatabaseCorrupt)


class _Entry(Generic[Item]):
    def __init__(self, item: Item) -> None:
        self.item = item
        self.error: Exception | None = None
        self.known = False
        self.called = threading.Event()


class GroupCommit(Generic[Item]):
    """Hands items to ``write``, some at once; thread-safe.

    ``write`` keeps all items in one transaction, or raises and keeps none. Where it refuses
    several for another reason than the database's trouble, each is tried alone.
    """

    def __init__(self, write: Callable[[Sequence[Item]], None]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._line: deque[_Entry[Item]] = deque()
        self._writing = False
        self._before = 0
        self._enough = threading.Condition(self._lock)

    def put(self, item: Item, patience: float = _LONGEST_WAIT) -> None:
        """Return when the item is durable.

        Raises what ``write`` raised about it, DeadlineExceeded when ``patience`` in seconds ended
        before its turn: then it is not written.
        """
        entry = _Entry(item)
        with self._lock:
            self._line.append(entry)
            leads, self._writing = not self._writing, True
            if len(self._line) == self._before:
                self._enough.notify()
        if not leads:
            self._wait(entry, patience)
        if not entry.known:
            self._write_line()
        if entry.error is not None:
            raise copy(entry.error) from entry.error

    def _wait(self, entry: _Entry[Item], patience: float) -> None:
        """Wait until what became of it is known, or until it is called to write."""
        if entry.called.wait(max(0.0, min(patience, _LONGEST_WAIT))):
            return
        with self._lock:
            if entry in self._line and not entry.called.is_set():
                self._line.remove(entry)
                raise DeadlineExceeded("The deadline passed while waiting to be stored")
        # It is being written: that can't be taken back.
        entry.called.wait()

    def _write_line(self) -> None:
        """Write those who wait, oneself among them, and call the next."""
        with self._lock:
            self._enough.wait_for(
                lambda: len(self._line) >= self._before, timeout=_GATHERING_SECONDS
            )
            count = self._before = min(len(self._line), _TOGETHER)
            entries = [self._line.popleft() for _ in range(count)]
        try:
            if not self._try(entries):
                for entry in entries:
                    self._try([entry])
        finally:
            with self._lock:
                self._writing = bool(self._line)
                if self._line:
                    self._line[0].called.set()
            for entry in entries:
                entry.called.set()

    def _try(self, entries: Sequence[_Entry[Item]]) -> bool:
        """Whether it is known now what became of each."""
        try:
            self._write([entry.item for entry in entries])
        except Exception as error:  # noqa: BLE001 (raised for those who wait)
            if len(entries) > 1 and not isinstance(error, _FAULTS_OF_ALL):
                return False
            for entry in entries:
                entry.error = error
        for entry in entries:
            entry.known = True
        return True
