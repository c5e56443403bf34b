"""``python -m benchmarks.serving install | run``: the peers into venvs of their own; a comparison.

A run fits the models, starts every system, checks that all answer the same, and then goes round:
each system in turn gets the same load for a few seconds, again and again. What is told are medians
of rounds, and medians of ratios within a round, since the machine's own mood changes between them.
"""

import argparse
import dataclasses
import datetime as dt
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving import models, report
from benchmarks.serving.load import Case, measure
from benchmarks.serving.systems import PEERS, SYSTEMS, Stage, System

HERE = Path(__file__).parent
VENVS = HERE / ".venvs"
FIRST_PORT = 18_000
SAME = 1e-6
CASES = tuple(
    Case(model, rows, clients)
    for rows, clients in ((1, 8), (1, 1), (100, 8))
    for model in models.MODELS
)


def install(_: argparse.Namespace) -> None:
    """Every peer into a venv of its own."""
    for wanted in sorted(PEERS.glob("*.txt")):
        venv = VENVS / wanted.stem
        if (venv / "installed").exists():
            continue
        print(f"installing {wanted.stem}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        pip = [venv / "bin" / "pip", "install", "-q", "-r", wanted]
        subprocess.run(pip, check=True)
        (venv / "installed").touch()


def run(options: argparse.Namespace) -> None:
    """Compare, and write ``serving.json``, ``serving.md`` and ``serving.svg``."""
    chosen = [kind for kind in SYSTEMS if not options.only or kind.name in options.only]
    cases = [case for case in CASES if not options.cases or options.cases in case.name]
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(VENVS, Path(folder) / "models", Path(folder))
        stage.models.mkdir()
        models.make(stage.models)
        systems = [kind(stage, FIRST_PORT + 10 * place) for place, kind in enumerate(chosen)]
        try:
            result = _compare(systems, cases, options, Path(folder))
        except BaseException:
            for log in Path(folder).glob("*.log"):
                print(f"--- {log.name}\n{log.read_text()[-2000:]}", file=sys.stderr)
            raise
        finally:
            for system in systems:
                system.stop()
    written = Path(options.to)
    written.mkdir(exist_ok=True)
    (written / "serving.json").write_text(json.dumps(result, indent=1) + "\n")
    (written / "serving.md").write_text(report.page(result))
    _draw(written)
    print(report.page(result))


def _compare(
    systems: Sequence[System], cases: Sequence[Case], options: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    told = {}
    for system in systems:
        began = time.monotonic()
        system.start()
        told[system.name] = {"start_seconds": time.monotonic() - began}
        print(f"{system.name} answers", flush=True)
    _agree(systems)
    time.sleep(5)
    for system in systems:
        told[system.name]["idle_bytes"] = system.memory_bytes()
    measured: dict[str, dict[str, list[dict[str, float]]]] = {
        case.name: {system.name: [] for system in systems} for case in cases
    }
    for case in cases:
        for turn in range(-1, options.rounds):
            for system in systems:
                seconds = options.seconds if turn >= 0 else min(2, options.seconds)
                found = measure(system, case, folder, seconds)
                if found.bad:
                    raise RuntimeError(f"{system.name}: {found.bad} bad answers, {case.name}")
                if turn >= 0:  # the first turn warms up
                    measured[case.name][system.name].append(dataclasses.asdict(found))
        print(report.table_of(measured, case.name), flush=True)
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "rounds": options.rounds,
        "seconds": options.seconds,
        "systems": told,
        "cases": measured,
    }


def _draw(folder: Path) -> None:
    """``serving.svg`` beside the result."""
    python, program = VENVS / "plot" / "bin" / "python", PEERS / "plot.py"
    subprocess.run([python, program, folder / "serving.json", folder / "serving.svg"], check=True)


def _agree(systems: Sequence[System]) -> None:
    """Raise unless all systems give the same probabilities for the same rows."""
    for model in models.MODELS:
        rows = systems[0].stage.rows(model)[:100]
        answers = {system.name: system.ask(model, rows) for system in systems}
        first, *others = [(name, one) for name, one in answers.items() if one is not None]
        for name, answer in others:
            worst = float(np.abs(np.asarray(first[1]) - np.asarray(answer)).max())
            if worst > SAME:
                raise RuntimeError(f"{model}: {name} differs from {first[0]} by {worst}")
    print("all systems answer the same", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    commands = parser.add_subparsers(required=True)
    commands.add_parser("install", help="install the peers").set_defaults(act=install)
    running = commands.add_parser("run", help="compare")
    running.add_argument("--rounds", type=int, default=5)
    running.add_argument("--seconds", type=int, default=5)
    running.add_argument("--only", action="append", help="a system; may be repeated")
    running.add_argument("--cases", help="only cases whose name has this in it")
    running.add_argument("--to", default=str(HERE.parent / "results"))
    running.set_defaults(act=run)
    options = parser.parse_args()
    options.act(options)


if __name__ == "__main__":
    main()
