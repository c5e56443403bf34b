"""Group commit: what several threads want written at once is written in one transaction.

A transaction costs a database the same, whether it writes one row or a hundred: it waits for the
disk once. So the first who comes writes at once; those who come meanwhile are written together
when it is done, by the first of them. Nobody waits for company.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
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
_FAULTS_OF_ALL: Final = (Unavailable, StorageFull, DatabaseCorrupt)


@dataclass(eq=False)
class _Entry(Generic[Item]):
    item: Item
    written: bool = False
    error: Exception | None = None


class GroupCommit(Generic[Item]):
    """Hands items to ``write``, some at once; thread-safe.

    ``write`` keeps all items in one transaction, or raises and keeps none. Where it refuses
    several for another reason than the database's trouble, each is tried alone.
    """

    def __init__(self, write: Callable[[Sequence[Item]], None]) -> None:
        self._write = write
        self._turn = threading.Lock()
        self._line: deque[_Entry[Item]] = deque()

    def put(self, item: Item, patience: float = _LONGEST_WAIT) -> None:
        """Return when the item is durable.

        Raises what ``write`` raised about it, DeadlineExceeded when ``patience`` in seconds ended
        before its turn: then it is not written.
        """
        entry = _Entry(item)
        self._line.append(entry)
        if not self._turn.acquire(timeout=max(0.0, min(patience, _LONGEST_WAIT))):
            if self._withdraw(entry):
                raise DeadlineExceeded("The deadline passed while waiting to be stored")
            # It is being written: what becomes of it is known when the turn is over.
            self._turn.acquire()
        try:
            if not entry.written and entry.error is None:
                self._write_line()
        finally:
            self._turn.release()
        if entry.error is not None:
            raise copy(entry.error) from entry.error

    def _withdraw(self, entry: _Entry[Item]) -> bool:
        try:
            self._line.remove(entry)
        except ValueError:
            return False
        return True

    def _write_line(self) -> None:
        """Write those who wait: oneself and, as far as there is room, the others."""
        entries: list[_Entry[Item]] = []
        while self._line and len(entries) < _TOGETHER:
            entries.append(self._line.popleft())
        if not self._try(entries):
            for entry in entries:
                self._try([entry])

    def _try(self, entries: Sequence[_Entry[Item]]) -> bool:
        """Whether it is known now what became of each."""
        try:
            self._write([entry.item for entry in entries])
        except Exception as error:  # noqa: BLE001 (raised for those who wait)
            if len(entries) > 1 and not isinstance(error, _FAULTS_OF_ALL):
                return False
            for entry in entries:
                entry.error = error
        else:
            for entry in entries:
                entry.written = True
        return True
