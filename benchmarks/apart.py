"""A prediction of a service that lives alone, beside one of a server of all services.

    python -m benchmarks.apart [--rounds 20] [--seconds 1]

Starts two installations on the loopback: all services in one server over SQLite, and each service
alone over a Postgres database of its own, with NATS and behind nginx. Both train the same model on
the penguins. Then one caller, under a key that the access service made, asks for the prediction of
one row as fast as it is answered. It goes round: for some seconds it asks the one server, the
predictions service, and that through nginx, in turns, each round beginning with the next of them.
So what the machine does besides hits all alike, and only ratios within a round are judged: told
are their medians, least and greatest, for the median and the 99th percentile of a call and for the
CPU time of the process that answers. The calls by which the predictions service asks others
meanwhile are counted by itself.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from prometheus_client.parser import text_string_to_metric_families

from app.predictions.resources import EXAMPLE_ROW
from benchmarks.load import Load, json_post
from benchmarks.measured import api_of, cpu_of
from tests.outages.outages import fleet_apart
from tests.server import Server, wait_for

_PENGUINS = Path(__file__).resolve().parents[1] / "examples" / "penguins.csv"
_PATH = "/api/v1/models/penguins/predict"
_MODEL = {"name": "LogisticRegression"}
_ALIKE = {"MODELYARD_PROXY": "1", "MODELYARD_WORKERS": "1"}
"""As the servers apart have it."""
_MILLISECONDS = 1e3
_MICROSECONDS = 1e6


@dataclass
class Way:
    """One way to a prediction: where it is asked for, who answers, what each round found."""

    name: str
    load: Load
    server: Server
    calls: int = 0
    medians: list[float] = field(default_factory=list)
    tails: list[float] = field(default_factory=list)
    burnt: list[float] = field(default_factory=list)

    def ask(self, seconds: float) -> None:
        """One round's share."""
        processes = api_of(self.server)
        before = cpu_of(processes)
        answers = self.load.closed(1, seconds)
        count = answers.count(httpx.codes.OK)
        assert list(answers.seconds) == [httpx.codes.OK], answers.seconds.keys()
        self.calls += count
        self.medians.append(_MILLISECONDS * answers.quantile(httpx.codes.OK, 0.5))
        self.tails.append(_MILLISECONDS * answers.quantile(httpx.codes.OK, 0.99))
        self.burnt.append(_MICROSECONDS * (cpu_of(processes) - before) / count)


def main() -> int:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each way in each round")
    given = parser.parse_args()
    with ExitStack() as held:
        folder = held.enter_context(tempfile.TemporaryDirectory(prefix="apart-"))
        one = held.enter_context(Server(Path(folder), _ALIKE))
        fleet = held.enter_context(fleet_apart())
        alone = fleet.servers["predictions"]
        keys = [_train(made.client) for made in (one, fleet)]

        def way(name: str, url: str, key: str, server: Server) -> Way:
            port = urlsplit(url).port
            assert port is not None
            request = json_post(port, _PATH, key, {"inputs": [EXAMPLE_ROW]})
            return Way(name, held.enter_context(Load(port, request)), server)

        ways = [
            way("one server", one.url, keys[0], one),
            way("alone", alone.url, keys[1], alone),
            way("alone, through nginx", fleet.url, keys[1], alone),
        ]
        for each in ways:
            each.load.closed(1, 2 * given.seconds)
        before = _asked(alone)
        for number in range(given.rounds):
            first = number % len(ways)
            for each in (*ways[first:], *ways[:first]):
                each.ask(given.seconds)
        peers = _asked(alone) - before
    _tell(ways)
    asked = sum(each.calls for each in ways[1:])
    print(f"\nThe predictions service answered {asked} calls and asked others {peers:.0f} times.")
    return 0


def _train(client_of: Callable[[], httpx.Client]) -> str:
    """A model; the secret of a key that may use it."""
    with client_of() as client:
        file = {"file": ("penguins.csv", _PENGUINS.read_bytes(), "text/csv")}
        client.post("/datasets", data={"name": "penguins"}, files=file).raise_for_status()
        wanted = {"model": "penguins", "dataset": "penguins", "target": "species"}
        run = client.post("/training-runs", json={**wanted, "estimator": _MODEL}).raise_for_status()
        ended = wait_for(client, f"/training-runs/{run.json()['id']}")
        assert ended["state"] == "succeeded", ended
        key = client.post("/keys", json={"name": "caller", "role": "predictor"})
        return str(key.raise_for_status().json()["secret"])


def _asked(server: Server) -> float:
    """How often a service has called another."""
    with server.client() as client:
        told = client.get(f"{server.url}/metrics").raise_for_status().text
    return sum(
        sample.value
        for family in text_string_to_metric_families(told)
        if family.name == "modelyard_peer_calls"
        for sample in family.samples
        if sample.name.endswith("_total")
    )


def _tell(ways: list[Way]) -> None:
    """A table in Markdown."""
    base = ways[0]
    print(f"{len(base.medians)} rounds, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| way | p50 ms | p99 ms | CPU us/call | p50 beside | p99 beside | CPU beside |")
    print("|---|---|---|---|---|---|---|")
    for way in ways:
        pairs = ((way.medians, base.medians), (way.tails, base.tails), (way.burnt, base.burnt))
        found = [f"{statistics.median(values):.3g}" for values, _ in pairs]
        print(f"| {' | '.join([way.name, *found, *(_beside(*pair) for pair in pairs)])} |")


def _beside(values: list[float], base: list[float]) -> str:
    """The median of the rounds' ratios, the least and the greatest."""
    if values is base:
        return ""
    ratios = [one / other for one, other in zip(values, base, strict=True)]
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]"


if __name__ == "__main__":
    sys.exit(main())
