"""How soon a record counts in the merged answer of a Lambda view, under a steady load of records.

    python -m benchmarks.views [--seconds 40] [--rate 500] [--databases sqlite postgres]

Starts a server of its own on the loopback over each database (Postgres too is started here), makes
a topic of three partitions and a view of flights by origin and carrier: count, sum, variance,
distinct planes and quantiles. A client produces `rate` flights a second over HTTP, in batches of a
twentieth of a second. Beside it another one produces single records and, from each 201 on, asks for
an answer again and again until its `speed_offsets` are past the record. Every tenth of the time a
batch is asked for. A third client looks all the while that the count of the view, and its offsets
with it, never go back and agree. It ends with what was promised and what was found, and exits with
1 when a promise was not kept.
"""

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from app.streams.views.measures import FUNCTIONS
from benchmarks.measured import judged
from tests.server import Server
from tests.soak.installation import postgres

_MOST_SECONDS = 1.0
_LOOK = 0.01
_BATCHES = 9
_VIEW = {
    "name": "delays",
    "kind": "aggregate",
    "topic": "flights",
    "aggregate": {
        "group_by": ["origin", "carrier"],
        "measures": [
            {"name": name, "function": name, "field": "minutes"}
            for name in FUNCTIONS
            if name not in ("min", "max", "mean")
        ],
    },
}


def _flight(chance: random.Random) -> dict[str, Any]:
    return {
        "origin": chance.choice(["EWR", "JFK", "LGA"]),
        "carrier": chance.choice(["UA", "AA", "B6", "DL", "EV", "MQ", "US", "WN", "VX", "FL"]),
        "minutes": chance.randrange(-30, 400) if chance.random() < 0.5 else chance.random() * 90,
        "plane": f"N{chance.randrange(4000)}",
    }


class _Measured:
    """One server, with its clients."""

    def __init__(self, server: Server, rate: int) -> None:
        self._server = server
        self._rate = rate
        self._stopped = threading.Event()
        self.produced = 0
        self.waits: list[float] = []
        self.counts: list[int] = []
        self.batches = 0

    def run(self, seconds: float) -> None:
        """Load and look for so long."""
        with self._server.client() as client:
            _asked(client, "POST", "/topics", json={"name": "flights", "partitions": 3})
            _asked(client, "POST", "/lambda-views", json=_VIEW)
            (place,) = self._send(client, [_flight(random.Random(0))])
            # Processors may start after the API is ready.
            while not self._counts(client, place):
                time.sleep(_LOOK)
            self.produced = 0
        acts = (self._produce, self._probe, self._count, lambda: self._recompute(seconds))
        threads = [threading.Thread(target=act) for act in acts]
        for thread in threads:
            thread.start()
        self._stopped.wait(seconds)
        self._stopped.set()
        for thread in threads:
            thread.join()

    def _produce(self) -> None:
        chance, due = random.Random(1), time.monotonic()
        with self._server.client() as client:
            while not self._stopped.is_set():
                flights = [_flight(chance) for _ in range(self._rate // 20)]
                self._send(client, flights)
                due += 0.05
                self._stopped.wait(max(0.0, due - time.monotonic()))

    def _send(self, client: httpx.Client, flights: list[dict[str, Any]]) -> list[Any]:
        records = [{"key": flight["plane"], "value": flight} for flight in flights]
        told = _asked(client, "POST", "/topics/flights/records", json={"records": records})
        self.produced += len(flights)
        return list(told["offsets"])

    def _probe(self) -> None:
        chance = random.Random(2)
        with self._server.client() as client:
            while not self._stopped.is_set():
                (place,) = self._send(client, [_flight(chance)])
                since = time.monotonic()
                while not self._counts(client, place):
                    time.sleep(_LOOK)
                self.waits.append(time.monotonic() - since)
                self._stopped.wait(chance.random())

    def _counts(self, client: httpx.Client, place: Mapping[str, int]) -> bool:
        told = _asked(client, "GET", "/lambda-views/delays/values?page_size=1")
        return bool(told["speed_offsets"][str(place["partition"])] > place["offset"])

    def _count(self) -> None:
        with self._server.client() as client:
            while not self._stopped.is_set():
                told = _asked(client, "GET", "/lambda-views/delays/values?page_size=500")
                count = sum(group["values"]["count"] for group in told["items"])
                if count != sum(told["speed_offsets"].values()):
                    raise AssertionError(f"{count} are counted, not {told['speed_offsets']}")
                self.counts.append(count)
                self._stopped.wait(0.1)

    def _recompute(self, seconds: float) -> None:
        with self._server.client() as client:
            while not self._stopped.wait(seconds / (_BATCHES + 1)):
                client.post("/lambda-views/delays/batches")
            told = _asked(client, "GET", "/lambda-views/delays/batches?page_size=500")
            self.batches = sum(one["outcome"] == "serving" for one in told["items"])


def _asked(client: httpx.Client, method: str, path: str, **options: Any) -> Any:
    answer = client.request(method, path, **options)
    if answer.is_error:
        raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
    return answer.json()


def main() -> int:
    """Measure; 0 when all promises were kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--rate", type=int, default=500, help="records a second")
    both = ["sqlite", "postgres"]
    parser.add_argument("--databases", nargs="+", choices=both, default=both)
    options = parser.parse_args()
    kept: list[tuple[str, bool]] = []
    for database in options.databases:
        with ExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            environment = {"MODELYARD_WORKERS": "1"}
            if database == "postgres":
                environment["MODELYARD_DATABASE_URL"] = stack.enter_context(postgres())
            server = stack.enter_context(Server(home, environment))
            measured = _Measured(server, options.rate)
            measured.run(options.seconds)
            kept += _judged(measured, database, options.seconds)
    return judged(kept)


def _judged(measured: _Measured, database: str, seconds: float) -> list[tuple[str, bool]]:
    waits = sorted(measured.waits)
    median = statistics.median(waits)
    rate = measured.produced / seconds
    print(
        f"{database}: {rate:.0f} records/s, {measured.batches} batches swapped in; "
        f"{len(waits)} records looked for: seen after {median * 1000:.0f} ms at the median, "
        f"{waits[int(0.95 * len(waits))] * 1000:.0f} ms at 95 %, {waits[-1] * 1000:.0f} ms at most"
    )
    forward = measured.counts == sorted(measured.counts)
    promise = f"{database}: a record counts in under {_MOST_SECONDS:.0f} s at the median"
    looks = f"{database}: the count never goes back ({len(measured.counts)} looks)"
    return [(promise, median < _MOST_SECONDS), (looks, forward and measured.batches > 1)]


if __name__ == "__main__":
    sys.exit(main())
