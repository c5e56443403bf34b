"""What the server does under five times the load it has room for, and while it trains.

    python -m benchmarks.overload [--rows 1] [--trees 500] [--seconds 60] [--fits 4] [--slots 1]
        [--set MODELYARD_PREDICT_SLOTS=1]

Starts a server of its own on the loopback, trains a model, and measures single predictions: with
one caller (unloaded), with ever more callers (the peak), by an open loop of five times the peak,
and with one caller while fits run. The first two are measured before and after the third, and taken
together: the machine is not equally fast all the time. It ends with what was promised and what was
found, and exits with 1 when a promise was not kept.

Until the fits the client has the cores to itself on which the API doesn't run, and never sleeps.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from app.predictions.resources import EXAMPLE_ROW
from benchmarks.load import Answers, Load, json_post, quantile
from benchmarks.measured import api_of, judged
from tests.server import Server, wait_for

_PENGUINS = Path(__file__).resolve().parents[1] / "examples" / "penguins.csv"
_CALLERS = (2, 4, 8, 16)
_TIMES = 5
# A fit that takes longer than it is looked at.
_TREES = {"name": "RandomForestClassifier", "params": {"n_estimators": 5000}}


def main() -> int:
    """Measure; 0 when all promises were kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1, help="of each prediction")
    parser.add_argument("--trees", type=int, help="of a forest that predicts; default: auto")
    parser.add_argument("--seconds", type=float, default=60, help="of the overload")
    parser.add_argument("--fits", type=int, default=4, help="asked for while predictions go on")
    parser.add_argument("--slots", type=int, default=1, help="how many of them run at once")
    parser.add_argument("--set", action="append", default=[], help="NAME=VALUE, of the server")
    options = parser.parse_args()
    settings = {"MODELYARD_SLOTS": str(options.slots)}
    settings |= dict(setting.split("=", 1) for setting in options.set)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(Server(home, settings))
        client = stack.enter_context(server.client())
        _train(client, options.trees)
        kept = _overload(server, options.rows, options.seconds) if options.seconds else []
        if options.fits:
            kept += _beside_training(server, client, options.fits, options.slots)
    return judged(kept)


def _train(client: httpx.Client, trees: int | None) -> None:
    files = {"file": ("penguins.csv", _PENGUINS.read_bytes(), "text/csv")}
    client.post("/datasets", data={"name": "penguins"}, files=files).raise_for_status()
    forest = {"name": "RandomForestClassifier", "params": {"n_estimators": trees}}
    run = _started(client, "penguins", forest if trees else "auto")
    assert wait_for(client, run)["state"] == "succeeded"


def _started(client: httpx.Client, model: str, estimator: object) -> str:
    wanted = {"model": model, "dataset": "penguins", "target": "species", "estimator": estimator}
    answer = client.post("/training-runs", json=wanted)
    answer.raise_for_status()
    return f"/training-runs/{answer.json()['id']}"


def _load(server: Server, rows: int = 1, *, spins: bool = False) -> Load:
    body = {"inputs": [EXAMPLE_ROW] * rows}
    path = "/api/v1/models/penguins/predict"
    return Load(server.port, json_post(server.port, path, server.admin_key, body), spins=spins)


def _overload(server: Server, rows: int, seconds: float) -> list[tuple[str, bool]]:
    with _apart_from(server):
        first = _within_capacity(server, rows)
        before = _memory(server)
        with _load(server, rows, spins=True) as load:
            found = _told(f"{_TIMES} x the peak", load.open(_TIMES * _peak(first), seconds))
        grown = _memory(server) / before
        second = _within_capacity(server, rows)
    alone = [*first[1].seconds[200], *second[1].seconds[200]]
    slow = found.quantile(200, 0.99) / quantile(alone, 0.99)
    shed = found.quantile(503, 0.5)
    share = found.rate(200) / statistics.mean((_peak(first), _peak(second)))
    return [
        (f"p99 of the admitted is {slow:.2f} x the unloaded, 2 at most", slow <= 2),
        (f"the median refusal takes {shed * 1000:.1f} ms, 50 at most", shed < 0.05),
        (f"goodput is {share:.0%} of the peak, 80 % at least", share >= 0.8),
        (f"memory is {grown:.2f} x what it was, 1.2 at most", grown <= 1.2),
    ]


def _within_capacity(server: Server, rows: int) -> dict[int, Answers]:
    """What one caller finds, and ever more of them."""
    found = {}
    with _load(server, rows, spins=True) as load:
        load.closed(1, 2)
        found[1] = _told("one caller", load.closed(1, 15))
    for callers in _CALLERS:
        with _load(server, rows, spins=True) as load:
            found[callers] = _told(f"{callers} callers", load.closed(callers, 5))
    return found


def _peak(found: Mapping[int, Answers]) -> float:
    return max(answers.rate(200) for answers in found.values())


@contextmanager
def _apart_from(server: Server) -> Iterator[None]:
    """This process on the cores that the API's don't use, as far as there are any."""
    mine = os.sched_getaffinity(0)
    (*_, answering) = api_of(server)
    if others := mine - set(answering.cpu_affinity()):
        os.sched_setaffinity(0, others)
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


def _beside_training(
    server: Server, client: httpx.Client, fits: int, slots: int
) -> list[tuple[str, bool]]:
    with _load(server) as load:
        alone = _told("one caller", load.closed(1, 15))
        runs = [_started(client, "forest", _TREES) for _ in range(fits)]
        at_once = min(fits, slots)
        while _running(client, runs) < at_once:
            time.sleep(0.2)
        beside = _told(f"beside {at_once} fits", load.closed(1, 15))
        running = _running(client, runs)
    for run in runs:
        client.post(f"{run}/cancel")
    assert running == at_once, f"only {running} fits were still running"
    slow = beside.quantile(200, 0.99) / alone.quantile(200, 0.99)
    return [(f"p99 beside {at_once} fits is {slow:.2f} x that without, 2 at most", slow <= 2)]


def _running(client: httpx.Client, runs: list[str]) -> int:
    return sum(client.get(run).json()["state"] == "running" for run in runs)


def _memory(server: Server) -> int:
    """What the API's processes hold, bytes."""
    return sum(process.memory_info().rss for process in api_of(server))


def _told(what: str, found: Answers) -> Answers:
    """A line of what was found."""
    told = [f"{what:<16}", f"{found.rate(200):6.0f}/s"]
    for status in sorted(found.seconds):
        middle, most = (found.quantile(status, share) * 1000 for share in (0.5, 0.99))
        told.append(f"{status}: {found.count(status)} (p50 {middle:.1f} ms, p99 {most:.1f} ms)")
    if found.broken or found.unsent:
        told.append(f"broken {found.broken}, unsent {found.unsent}")
    share = found.client_seconds / (found.ended - found.started)
    told.append(f"client {share:.0%} of a core, load average {os.getloadavg()[0]:.1f}")
    print("  ".join(told), flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
