"""The rows of a batch as they lie in the artifact store, and those held in memory.

A file is text: a line that says what was folded, then a line for each group in the order of the
keys: key, tab, tallies. The same records give the same bytes.
"""

import json
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from app.kernel.artifacts.store import ArtifactStore
from app.streams.views.aggregation import Groups
from app.streams.views.tables import Offsets

FOLDER: Final = "views"
_HELD_BYTES: Final = 128 << 20


@dataclass(frozen=True)
class BatchRows:
    """The groups of a batch by their keys, as text."""

    rows: Mapping[str, str] = field(default_factory=dict)
    records: int = 0
    skipped: int = 0

    @cached_property
    def keys(self) -> list[str]:
        """The keys in their order."""
        return sorted(self.rows)

    def after(self, key: str, limit: int) -> list[str]:
        """The next keys after one."""
        start = bisect_right(self.keys, key)
        return self.keys[start : start + limit]

    @classmethod
    def parse(cls, content: bytes) -> "BatchRows":
        """Those of a file."""
        head, *lines = content.decode("ascii").rstrip("\n").split("\n")
        told = json.loads(head)
        rows = dict(line.split("\t", 1) for line in lines)
        return cls(rows, told["records"], told["skipped"])


def lines_of(groups: Groups, offsets: Offsets) -> Iterator[bytes]:
    """A file in pieces."""
    told = {
        "offsets": dict(sorted(offsets.items(), key=lambda pair: int(pair[0]))),
        "records": groups.records,
        "skipped": groups.skipped,
    }
    yield json.dumps(told).encode() + b"\n"
    for key, text in groups.rows():
        yield f"{key}\t{text}\n".encode()


NOTHING: Final = BatchRows()


class HeldBatches:
    """The batches asked for last, up to a number of bytes; they never change."""

    def __init__(self, store: ArtifactStore, most_bytes: int = _HELD_BYTES) -> None:
        self._store = store
        self._most = most_bytes
        self._lock = threading.Lock()
        self._held: OrderedDict[str, tuple[BatchRows, int]] = OrderedDict()

    def open(self, contents: Mapping[str, Any] | None) -> BatchRows:
        """The rows of a batch; none without contents. Raises ArtifactMissing, ArtifactCorrupt."""
        if contents is None:
            return NOTHING
        key, size = contents["key"], contents["bytes"]
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key][0]
        rows = BatchRows.parse(self._store.open(key, contents["digest"], size=size))
        with self._lock:
            self._held[key] = (rows, size)
            while len(self._held) > 1 and sum(one[1] for one in self._held.values()) > self._most:
                self._held.popitem(last=False)
        return rows
