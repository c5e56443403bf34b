"""What is loaded from artifacts and kept: the least recently used dropped past a number of bytes.

Each is loaded by one thread while the others wait for that one only.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from prometheus_client import Counter, Gauge

Loaded = TypeVar("Loaded")
Location = Mapping[str, Any]
USUAL_GROWTH = 20
"""Loaded trees take so many times the bytes of their compressed file; other models take less."""
OpenArtifact = Callable[[Location, str], bytes]


@dataclass(frozen=True)
class CacheMetrics:
    """What is told of a cache: bytes of artifacts, how many, and looks by their outcome."""

    bytes: Gauge
    models: Gauge
    lookups: Counter


class LoadedArtifacts(Generic[Loaded]):
    """Looks a version's loaded artifact up, or loads it.

    ``load`` makes of the bytes what is kept, and says how many bytes of the room that takes.
    """

    def __init__(
        self,
        format_: str,
        open_artifact: OpenArtifact,
        load: Callable[[Location, bytes], tuple[Loaded, int]],
        most_bytes: int,
        metrics: CacheMetrics,
    ) -> None:
        self._format = format_
        self._open = open_artifact
        self._load = load
        self._most = most_bytes
        self._metrics = metrics
        self._hits = metrics.lookups.labels("hit")
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, tuple[Loaded, int]] = OrderedDict()
        self._loading: dict[str, threading.Lock] = {}

    def get(self, location: Location) -> Loaded:
        """What was loaded of a version."""
        digest = self._artifact(location)["digest"]
        with self._lock:
            found = self._loaded.get(digest)
            if found is not None:
                self._loaded.move_to_end(digest)
                self._hits.inc()
                return found[0]
            gate = self._loading.setdefault(digest, threading.Lock())
        with gate:
            with self._lock:
                found = self._loaded.get(digest)
            if found is None:
                self._metrics.lookups.labels("miss").inc()
                try:
                    found = self._load(location, self._open(location, self._format))
                    self._keep(digest, found)
                finally:
                    self._loading.pop(digest, None)
        return found[0]

    def holds(self, location: Location) -> bool:
        """Whether it is loaded."""
        return self._artifact(location)["digest"] in self._loaded

    def has_room(self, location: Location) -> bool:
        """Whether it could be loaded, at its usual size, without dropping another one."""
        needed: int = self._artifact(location)["bytes"] * USUAL_GROWTH
        with self._lock:
            return self._total() + needed <= self._most

    def drop(self, location: Location) -> None:
        """Let go of it."""
        with self._lock:
            self._loaded.pop(self._artifact(location)["digest"], None)
            self._tell()

    def _keep(self, digest: str, found: tuple[Loaded, int]) -> None:
        with self._lock:
            self._loaded[digest] = found
            while len(self._loaded) > 1 and self._total() > self._most:
                self._loaded.popitem(last=False)
            self._tell()

    def _artifact(self, location: Location) -> Mapping[str, Any]:
        found: Mapping[str, Any] = next(
            item for item in location["artifacts"] if item["format"] == self._format
        )
        return found

    def _tell(self) -> None:
        self._metrics.bytes.set(self._total())
        self._metrics.models.set(len(self._loaded))

    def _total(self) -> int:
        return sum(size for _, size in self._loaded.values())
