"""How soon a training run begins: from its acceptance to `running`, and to the child that fits.

    python -m benchmarks.run_start [--runs 40] [--databases sqlite postgres]

Starts a server of its own on the loopback over each database (Postgres too is started here, and
ends with the block), trains once so that everything is warm, and then asks for one run after the
other, each when the one before has ended and after a pause of a drawn length, so that none meets
the workers at a moment of its own choosing. The clock starts when the 202 is there and stops when
GET /training-runs/{id} shows another state than `queued`; it is asked every 5 ms. That the child
fits is what the run's events say: the time of the first step that is no reading, less that of
`running`. Then nobody asks for anything, and the CPU seconds of each of the server's processes are
counted: what an idle server burns. It ends with what was promised and what was found, and exits
with 1 when a promise was not kept.
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import httpx
import psutil

from benchmarks.measured import cpu_of, judged
from tests.server import Server, wait_for
from tests.soak.installation import postgres

_PENGUINS = Path(__file__).resolve().parents[1] / "examples" / "penguins.csv"
_MOST_SECONDS, _MOST_IDLE = 0.3, 0.02
_LOOK = 0.005
_READING = {"reading", "read"}


def main() -> int:
    """Measure; 0 when all promises were kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=40, help="on each database")
    parser.add_argument("--idle", type=float, default=20, help="seconds of idleness to look at")
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
            client = stack.enter_context(server.client())
            kept += _measured(server, client, database, options.runs, options.idle)
    return judged(kept)


def _measured(
    server: Server, client: httpx.Client, database: str, runs: int, idle: float
) -> list[tuple[str, bool]]:
    files = {"file": ("penguins.csv", _PENGUINS.read_bytes(), "text/csv")}
    client.post("/datasets", data={"name": "penguins"}, files=files).raise_for_status()
    for _ in range(2):
        _started(client)
    found = []
    for _ in range(runs):
        time.sleep(random.uniform(0, 0.5))
        found.append(_started(client))
    begun, fitting = ([one[place] for one in found] for place in (0, 1))
    for what, seconds in (("202 to running", begun), ("running to fitting", fitting)):
        print(f"{database:<8}  {what:<18}  {_shown(seconds)}", flush=True)
    share = _idle(server, database, idle)
    middle = statistics.median(begun)
    told = f"{database}: a run is running {middle * 1000:.0f} ms after the 202 at the median"
    return [
        (f"{told}, {_MOST_SECONDS * 1000:.0f} at most", middle <= _MOST_SECONDS),
        (
            f"{database}: an idle worker burns {share:.1%} of a core, {_MOST_IDLE:.0%} at most",
            share <= _MOST_IDLE,
        ),
    ]


def _started(client: httpx.Client) -> tuple[float, float]:
    """Seconds from the acceptance to `running`, and from there to fitting."""
    wanted = {
        "model": "penguins",
        "dataset": "penguins",
        "target": "species",
        "estimator": {"name": "LogisticRegression"},
    }
    answer = client.post("/training-runs", json=wanted)
    accepted = time.monotonic()
    answer.raise_for_status()
    path = f"/training-runs/{answer.json()['id']}"
    while client.get(path).json()["state"] == "queued":
        time.sleep(_LOOK)
    begun = time.monotonic() - accepted
    assert wait_for(client, path)["state"] == "succeeded"
    events = client.get(f"{path}/events", headers={"Accept": "application/json"}).json()["items"]
    moments = {
        event["data"].get("step", event["type"]): datetime.fromisoformat(event["time"])
        for event in reversed(events)
    }
    fitting = min(
        moment
        for event, moment in moments.items()
        if event not in {*_READING, "queued", "running", "succeeded"}
    )
    return begun, (fitting - moments["running"]).total_seconds()


def _shown(seconds: list[float]) -> str:
    ranked = sorted(seconds)
    nearly = ranked[min(len(ranked) - 1, int(len(ranked) * 0.95))]
    return (
        f"median {statistics.median(ranked) * 1000:4.0f} ms, p95 {nearly * 1000:4.0f},"
        f" most {ranked[-1] * 1000:4.0f}, load average {os.getloadavg()[0]:.1f}"
    )


def _idle(server: Server, database: str, seconds: float) -> float:
    """The share of a core that a worker burns while nobody asks for anything."""
    main = psutil.Process(server.pid)
    time.sleep(2)
    processes = [main, *main.children(recursive=True)]
    before = {process: cpu_of([process]) for process in processes}
    time.sleep(seconds)
    shares = {process: (cpu_of([process]) - before[process]) / seconds for process in processes}
    roles = {process: _role(process) for process in processes}
    for process in sorted(processes, key=lambda one: -shares[one]):
        if shares[process] > 0.0005:
            print(f"{database:<8}  idle {roles[process]:<24}  {shares[process]:.2%} of a core")
    print(f"{database:<8}  idle {'all together':<24}  {sum(shares.values()):.2%} of a core")
    return max(share for process, share in shares.items() if roles[process].startswith("worker"))


def _role(process: psutil.Process) -> str:
    words = process.cmdline()
    return words[-1] if "role" in words else words[2] if len(words) > 2 else process.name()


if __name__ == "__main__":
    sys.exit(main())
