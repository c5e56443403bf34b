"""What is asked of each service all the time, so that it shows who goes on while one is away.

A probe knows who answers it and whom that one has to ask. Each has a thread, notes every answer
with its time, and judges nothing: that is done afterwards, for each outage.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import httpx

from tests.soak.caller import fault_of
from tests.soak.load import BASE

MODEL, TOPIC = "probed", "probed"
_STRANGER = {"Authorization": "Bearer myk_stranger_" + "x" * 43}
_PAUSE = 0.3
_ROW = {"mass": 1.5, "height": 40.0}
_RUN = {"model": "never", "dataset": BASE, "target": "kind"}


@dataclass(frozen=True)
class Probe:
    """A request; ``needs`` are the services that the one who answers must ask."""

    service: str
    method: str
    path: str
    normal: int = 200
    needs: frozenset[str] = frozenset()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As it is told."""
        return f"{self.service}: {self.method} {self.path}"

    def is_touched_by(self, service: str) -> bool:
        """Whether it can't be answered without that service."""
        return service == self.service or service in self.needs


PROBES = (
    Probe("access", "GET", "/projects"),
    Probe("datasets", "GET", f"/datasets/{BASE}"),
    Probe("models", "GET", f"/models/{MODEL}"),
    Probe("training", "GET", "/training-runs", options={"params": {"page_size": 5}}),
    Probe("predictions", "POST", f"/models/{MODEL}/predict", options={"json": {"inputs": [_ROW]}}),
    Probe("streams", "GET", f"/topics/{TOPIC}/partitions/0/records"),
    Probe(
        "datasets",
        "DELETE",
        f"/datasets/{BASE}",
        needs=frozenset({"training", "models", "predictions", "streams"}),
        options={"params": {"dry_run": "true"}},
    ),
    Probe(
        "training",
        "POST",
        "/training-runs",
        needs=frozenset({"datasets"}),
        options={"params": {"validate_only": "true"}, "json": _RUN},
    ),
    Probe(
        "predictions",
        "POST",
        "/models/never/predict",
        404,
        frozenset({"models"}),
        {"json": {"inputs": [_ROW]}},
    ),
    Probe("models", "GET", "/models", 401, frozenset({"access"}), {"headers": _STRANGER}),
)


@dataclass(frozen=True)
class Seen:
    """One answer: when it was asked for, how long it took, what it was (0: there was none)."""

    at: float
    seconds: float
    status: int
    fault: str | None = None
    told: str = ""
    """What a refusal said."""


class Prober(threading.Thread):
    """Asks one thing again and again."""

    def __init__(self, probe: Probe, client: httpx.Client) -> None:
        super().__init__(name=probe.name, daemon=True)
        self.probe = probe
        self.seen: list[Seen] = []
        self._client = client
        self._stopping = threading.Event()

    def run(self) -> None:
        """Ask until stopped."""
        while not self._stopping.wait(_PAUSE):
            self.seen.append(self._ask())

    def stop(self) -> None:
        """Ask no more."""
        self._stopping.set()

    def _ask(self) -> Seen:
        at = time.monotonic()
        one = self.probe
        with suppress(httpx.TransportError):
            answer = self._client.request(one.method, one.path, **one.options)
            took = time.monotonic() - at
            fault = fault_of(answer)
            told = "" if answer.is_success or fault else answer.json()["detail"]
            return Seen(at, took, answer.status_code, fault, told)
        return Seen(at, time.monotonic() - at, 0)

    def between(self, since: float, until: float) -> list[Seen]:
        """What was asked for and answered in that time."""
        return [one for one in self.seen if since <= one.at and one.at + one.seconds <= until]

    def is_well_since(self, moment: float) -> float | None:
        """From when on it has been as it should be, after a moment; None: it isn't yet."""
        after = [one for one in self.seen if one.at >= moment]
        well = None
        for one in after:
            if one.status != self.probe.normal:
                well = None
            elif well is None:
                well = one.at + one.seconds
        return well


def wait_until_well(probers: list[Prober], seconds: float) -> bool:
    """Wait until all are answered as they should be."""
    since = time.monotonic()
    return wait_for_it(lambda: all(one.is_well_since(since) for one in probers), seconds)


def wait_for_it(holds: Callable[[], bool], seconds: float) -> bool:
    """Wait until something holds; whether it does."""
    until = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < until:
        time.sleep(0.1)
    return held


def milliseconds(seen: list[Seen]) -> float:
    """The median."""
    return 1000 * median(one.seconds for one in seen) if seen else 0.0
