"""Counters and histograms for hot paths: an observation is set aside, and taken in with others.

The Prometheus client takes a lock for each number it changes and walks all buckets for each
observation, a tenth of what a small request costs. Here an observation is an append; a lot of them
is sorted into the buckets at once, or all when somebody looks.
"""

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final, Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

_LOT: Final = 512


class Amounts:
    """What has been added up under the same labels; thread-safe."""

    def __init__(self) -> None:
        self.sum = 0.0
        self._fresh: deque[float] = deque()
        self._lock = threading.Lock()

    def add(self, amount: float = 1) -> None:
        """Count an amount, or observe it."""
        self._fresh.append(amount)
        if len(self._fresh) >= _LOT:
            self.take_in()

    def take_in(self) -> None:
        """Add up what has been set aside."""
        with self._lock:
            for _ in range(len(self._fresh)):
                self._take(self._fresh.popleft())

    def _take(self, amount: float) -> None:
        self.sum += amount


class Observed(Amounts):
    """Amounts by size: how many fell into each bucket, the last of which is for all greater."""

    def __init__(self, bounds: Sequence[float]) -> None:
        super().__init__()
        self.counts = [0] * (len(bounds) + 1)
        self._bounds = bounds

    def _take(self, amount: float) -> None:
        self.sum += amount
        self.counts[bisect_left(self._bounds, amount)] += 1


Kept = TypeVar("Kept", bound=Amounts)


class _Family(Collector, Generic[Kept]):
    """Amounts by their labels, as the registry asks for them."""

    def __init__(
        self, name: str, told: str, labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self._name, self._told, self._labels = name, told, labels
        self._kept: dict[tuple[str, ...], Kept] = {}
        registry.register(self)

    def of(self, *labels: str) -> Kept:
        """The amounts under these labels; asked for once, and kept by who adds to them."""
        return self._kept.setdefault(labels, self._new())

    def _new(self) -> Kept:
        raise NotImplementedError

    def _all(self) -> Iterator[tuple[tuple[str, ...], Kept]]:
        for labels, kept in list(self._kept.items()):
            kept.take_in()
            yield labels, kept


class Counter(_Family[Amounts]):
    """A metric that only grows."""

    def _new(self) -> Amounts:
        return Amounts()

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The metric as it stands."""
        family = CounterMetricFamily(self._name, self._told, labels=self._labels)
        for labels, kept in self._all():
            family.add_metric(labels, kept.sum)
        yield family


class Histogram(_Family[Observed]):
    """How many observations, mostly of seconds, are no greater than each bound."""

    def __init__(
        self,
        name: str,
        told: str,
        labels: Sequence[str],
        registry: CollectorRegistry,
        bounds: Sequence[float],
    ) -> None:
        super().__init__(name, told, labels, registry)
        self._bounds = bounds
        self._shown = [*map(str, map(float, bounds)), "+Inf"]

    def _new(self) -> Observed:
        return Observed(self._bounds)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The metric as it stands."""
        family = HistogramMetricFamily(self._name, self._told, labels=self._labels)
        for labels, kept in self._all():
            buckets = list(zip(self._shown, accumulate(kept.counts), strict=True))
            family.add_metric(labels, buckets, kept.sum)
        yield family
