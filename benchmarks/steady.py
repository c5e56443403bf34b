"""What a single-row prediction costs at half of what the server can do, beside a bare WSGI app.

    python -m benchmarks.steady [--rounds 5] [--seconds 5]

Modelyard and the app, which sends the body back, run on the same server, on one core; the client
has the others to itself and never sleeps. The peak is what eight callers get who ask again as soon
as they are answered. Then requests come at half of that rate whether or not they are answered, to
one system after the other, in each round with the same bodies. CPU is that of all processes of a
system, so of Modelyard's also of those that have nothing to do; ratios are medians of those within
a round. A machine that stands still now and then makes p99 long for any system, so it is told
beside the app's, too. It ends with what was promised and what was found, and exits with 1 when a
promise was not kept.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.load import Load, json_post
from benchmarks.measured import judged
from benchmarks.serving import models
from benchmarks.serving.systems import Echo, Modelyard, Stage, System

_CALLERS = 8
_MOST_CPU, _MOST_TAIL, _MOST_REFUSED = 4, 5, 0.05
_PORT = 18_500


class Found(NamedTuple):
    """One window of one system: milliseconds, microseconds of CPU a request; how many were
    answered, and how many found the line full, for the machine stands still now and then, and all
    that was due comes at once."""

    p50: float
    p99: float
    cpu: float
    answered: int
    refused: int


def main() -> int:
    """Measure; 0 when all promises were kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), Path(folder) / "models", Path(folder))
        stage.models.mkdir()
        models.make(stage.models)
        systems: list[System] = [Modelyard(stage, _PORT), Echo(stage, _PORT + 10)]
        try:
            for system in systems:
                system.start()
            _share_the_cores(systems)
            kept = [
                promise
                for model in models.MODELS
                for promise in _promises(model, systems, options.rounds, options.seconds)
            ]
        finally:
            for system in systems:
                system.stop()
    return judged(kept)


def _share_the_cores(systems: list[System]) -> None:
    """One core for all systems, the others for this process."""
    first, *others = sorted(os.sched_getaffinity(0))
    for system in systems:
        for process in system.tree():
            for thread in process.threads():
                os.sched_setaffinity(thread.id, {first})
    if others:
        os.sched_setaffinity(0, others)


def _promises(
    model: str, systems: list[System], rounds: int, seconds: float
) -> list[tuple[str, bool]]:
    loads = {system.name: _load(system, model) for system in systems}
    ours, echo = (system.name for system in systems)
    loads[ours].closed(_CALLERS, 2)
    peak = loads[ours].closed(_CALLERS, seconds).rate(200)
    found = [
        {system.name: _window(system, loads[system.name], peak / 2, seconds) for system in systems}
        for _ in range(rounds)
    ]
    for load in loads.values():
        load.close()
    print(f"{model}: {peak:.0f}/s at the peak; at half of it")
    for name in loads:
        print(f"  {name:<10} {_told([one[name] for one in found])}", flush=True)
    cpu = median(one[ours].cpu / one[echo].cpu for one in found)
    tail = median(one[ours].p99 / one[ours].p50 for one in found)
    beside = median(one[ours].p99 / one[echo].p99 for one in found)
    refused = sum(one[ours].refused for one in found)
    asked = sum(one[ours].answered for one in found) + refused
    return [
        (
            f"{model}: CPU a request is {cpu:.1f} x the bare app's, {_MOST_CPU} at most",
            cpu <= _MOST_CPU,
        ),
        (
            f"{model}: p99 is {tail:.1f} x p50, {_MOST_TAIL} at most ({beside:.1f} x the app's)",
            tail <= _MOST_TAIL,
        ),
        (
            f"{model}: {refused} of {asked} are refused, {_MOST_REFUSED:.0%} at most",
            refused <= _MOST_REFUSED * asked,
        ),
    ]


def _load(system: System, model: str) -> Load:
    target = system.target(model)
    body = system.body(model, system.stage.rows(model)[:1])
    path = target.url.partition(f":{system.port}")[2]
    key = target.headers.get("Authorization", "").removeprefix("Bearer ")
    return Load(system.port, json_post(system.port, path, key, body), spins=True)


def _window(system: System, load: Load, rate: float, seconds: float) -> Found:
    burnt = system.cpu_seconds()
    answers = load.open(rate, seconds, most=64)
    burnt = system.cpu_seconds() - burnt
    answered, refused = answers.count(200), answers.count(503)
    if not answered or answers.broken or not set(answers.seconds) <= {200, 503}:
        counts = {status: answers.count(status) for status in answers.seconds}
        raise RuntimeError(f"{system.name} did not answer: {counts}, broken {answers.broken}")
    p50, p99 = (answers.quantile(200, share) * 1000 for share in (0.5, 0.99))
    return Found(p50, p99, burnt / answered * 1e6, answered, refused)


def _told(found: list[Found]) -> str:
    p50, p99, cpu, *_ = (median(values) for values in zip(*found, strict=True))
    refused = sum(one.refused for one in found)
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, CPU {cpu:.0f} us a request, {refused} refused"


if __name__ == "__main__":
    sys.exit(main())
