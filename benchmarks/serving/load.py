"""Load by wrk: one thread, so many connections, for so many seconds."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.systems import System

SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True)
class Case:
    """What is asked: about which model, how many rows a request, by how many clients at once."""

    model: str
    rows: int
    clients: int

    @property
    def name(self) -> str:
        """Such as ``rf, 1 row, 8 clients``."""
        plural = "" if self.rows == 1 else "s"
        return f"{self.model}, {self.rows} row{plural}, {self.clients} clients"


@dataclass(frozen=True)
class Measured:
    """One window of one system: rates a second, milliseconds, microseconds of CPU a request."""

    rate: float
    p50: float
    p99: float
    cpu: float
    bad: int


def bodies(system: System, case: Case, folder: Path) -> Path:
    """A file of request bodies, each about other rows."""
    path = folder / f"{system.name}-{case.model}-{case.rows}.jsonl"
    if not path.exists():
        rows = system.stage.rows(case.model)
        starts = range(0, len(rows) - case.rows + 1, case.rows)
        asked = [system.body(case.model, rows[start : start + case.rows]) for start in starts]
        path.write_text("".join(json.dumps(body) + "\n" for body in asked))
    return path


def measure(system: System, case: Case, folder: Path, seconds: int) -> Measured:
    """One window of load."""
    target = system.target(case.model)
    command = ["wrk", "-t1", f"-c{case.clients}", f"-d{seconds}s", "--timeout", "30s"]
    command += ["-s", str(SCRIPT), target.url, "--", str(bodies(system, case, folder))]
    command += [target.headers[name] for name in ("Authorization",) if name in target.headers]
    before = system.cpu_seconds()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    spent = system.cpu_seconds() - before
    told = json.loads(done.stdout.splitlines()[-1])
    requests = max(1, told["requests"])
    return Measured(
        rate=told["requests"] / told["seconds"],
        p50=told["p50"] / 1000,
        p99=told["p99"] / 1000,
        cpu=spent / requests * 1e6,
        bad=told["bad"] + told["broken"],
    )
