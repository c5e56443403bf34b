"""What the server has promised: written down by the clients from the answers that they got.

A thing is known by its path and has one client that writes it. Of each the ledger keeps the
contents that it may have now: one after an acknowledged write; after one whose outcome is unknown
(a timeout, a broken connection, a 503) that one too. ``GONE`` stands for "it isn't there".

A thing whose path only the answer tells carries a mark of its own, which is also the
Idempotency-Key of the request that makes it: so it can be found and counted all the same.
"""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Content = Mapping[str, Any]
GONE: Content = {"(gone)": True}


@dataclass
class Mark:
    """A thing that a client wanted to be made: how it shows in its collection, and its path once
    it is promised."""

    collection: str
    sign: Any
    path: str | None = None


@dataclass
class Ledger:
    """All promises; any thread may write and read."""

    marks: dict[str, Mark] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    _things: dict[str, list[Content]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def holds(self, path: str, **content: Any) -> None:
        """Acknowledged: it is there, with this among its content."""
        with self._lock:
            known = [before for before in self._things.get(path, [{}]) if before is not GONE]
            changed = [{**before, **content} for before in known or [{}]]
            self._things[path] = [c for n, c in enumerate(changed) if c not in changed[:n]]

    def may_hold(self, path: str, **content: Any) -> None:
        """Unknown: it may have been changed."""
        with self._lock:
            known = self._things.get(path, [GONE])
            changed = [{} if before is GONE else before for before in known]
            self._things[path] = [*known, *({**before, **content} for before in changed)]

    def gone(self, path: str) -> None:
        """Acknowledged: it isn't there any more, nor what lies below it."""
        with self._lock:
            for below in self._below(path):
                self._things[below] = [GONE]

    def may_be_gone(self, path: str) -> None:
        """Unknown: it may have been deleted, with what lies below it."""
        with self._lock:
            for below in self._below(path):
                self._things[below] = [*self._things.get(below, []), GONE]

    def _below(self, path: str) -> list[str]:
        return [path, *(known for known in self._things if known.startswith(f"{path}/"))]

    def tried(self, mark: str, collection: str, sign: Any) -> None:
        """A client asks for a thing to be made, under this mark."""
        with self._lock:
            self.marks[mark] = Mark(collection, sign)

    def made(self, mark: str, path: str, **content: Any) -> None:
        """Acknowledged: the thing with this mark has been made."""
        with self._lock:
            self.marks[mark].path = path
        self.holds(path, **content)

    def count(self, outcome: str) -> None:
        """One more write with that outcome: ``acknowledged``, ``refused`` or ``unknown``."""
        with self._lock:
            self.outcomes[outcome] += 1

    def things(self) -> dict[str, list[Content]]:
        """The contents that each thing may have, by path."""
        with self._lock:
            return {path: list(contents) for path, contents in self._things.items()}

    def is_there(self, path: str) -> bool:
        """Whether it can't be gone."""
        with self._lock:
            contents = self._things.get(path)
            return bool(contents) and GONE not in contents


def differences(found: Content | None, allowed: list[Content]) -> str | None:
    """What of a thing (``None``: it isn't there) contradicts all that it may be; None: nothing."""
    if found is None:
        return None if GONE in allowed else "it isn't there"
    wanted = [content for content in allowed if content is not GONE]
    if not wanted:
        return "it is there again"
    wrong = [
        {
            name: (value, found.get(name))
            for name, value in content.items()
            if not same(value, found.get(name))
        }
        for content in wanted
    ]
    return None if {} in wrong else f"promised and found: {wrong[0]}"


def same(one: Any, other: Any) -> bool:
    """Equal, numbers but for the last digits: rows scored together may be summed otherwise."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 1e-9 * max(1.0, abs(one))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return set(one) == set(other) and all(same(one[key], other[key]) for key in one)
    return bool(one == other)
