"""What follows from the constants: how many of each part a load needs, and which fills up first."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scale import check, measure
from benchmarks.scale.measure import Constants
from benchmarks.scale.queues import least_servers, mean_wait, wait_within

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"
PREDICTIONS = (10, 1_000, 100_000)
RUNS = (1, 100, 10_000)
RECORDS = (100, 10_000, 100_000)
BUSY = 0.6
"""How busy a part may be: beyond, waits grow faster than loads."""
MACHINE = 32
"""Cores of the largest machine that is thought of, for what several can't share."""
FIT_SECONDS = 60.0
"""CPU seconds of a run that fits something larger, beside those of a small one."""
_MOST_WAIT = 10.0
_BOTTLENECK = "the first bottleneck"
_DAY = 86_400
_MEGA, _GIGA = 1e6, 1e9


@dataclass(frozen=True)
class Part:
    """How many cores a load keeps busy of one part.

    ``machine``: it is one machine, of ``MACHINE`` cores at most; else there are as many of it as
    one likes, of a core each, and one to begin with.
    """

    name: str
    cores: float
    machine: bool = False

    @property
    def units(self) -> int:
        """How many to have of it."""
        return max(1, math.ceil(self.cores / BUSY))

    @property
    def fills(self) -> float:
        """How full it is where there is one of each."""
        return self.cores / (MACHINE if self.machine else 1)


def first_full(parts: Sequence[Part]) -> str:
    """Which part is full and can't grow, or else the one that fills up first as loads grow."""
    first = max(parts, key=lambda part: part.fills)
    for part in parts:
        if part.machine and part.fills > BUSY:
            return f"**{part.name}**: {part.fills / BUSY:.1f} times what {MACHINE} cores bear"
    if first.fills > BUSY:
        return f"{first.name}: {_cores(first.cores)} cores busy"
    return f"none; the fullest: {first.name}, {first.fills:.1%}"


def predictions(known: Constants) -> Iterator[list[str]]:
    """Rows of the table of predictions of one row."""
    costs_of = ("API processes", "nginx, cores", "Postgres, cores", "mean / p99 in the API, ms")
    yield ["predictions/s", "kept", *costs_of, "kept a day", _BOTTLENECK]
    for rate in PREDICTIONS:
        for kept in (False, True):
            service = known.stored_seconds if kept else known.predict_seconds
            database = rate * known.stored_database_seconds if kept else 0.0
            api = Part("API", rate * service)
            parts = [api, Part("nginx", rate * known.gateway_seconds, machine=True)]
            parts += [Part("Postgres", database, machine=True)] if kept else []
            share = api.cores / api.units
            alone = known.predict_alone + service - known.predict_seconds
            mean = alone + mean_wait(share, 1, service)
            late = alone + wait_within(0.99, share, 1, service)
            yield [
                f"{rate:,}",
                "yes" if kept else "no",
                f"{api.units:,}",
                _cores(parts[1].cores),
                _cores(database) if kept else "-",
                f"{mean * 1000:.1f} / {late * 1000:.1f}",
                _bytes(rate * _DAY * known.stored_bytes) if kept else "-",
                first_full(parts),
            ]


def runs(known: Constants) -> Iterator[list[str]]:
    """Rows of the table of training runs."""
    costs_of = ("workers", "cores busy", "memory of workers", "mean wait", "Postgres, cores")
    yield ["runs/hour", "CPU of a run", *costs_of, "artifacts a day", _BOTTLENECK]
    for an_hour in RUNS:
        for seconds in (known.run_seconds, known.run_seconds + FIT_SECONDS):
            rate = an_hour / 3600
            busy = rate * seconds
            workers = least_servers(busy, seconds, _MOST_WAIT)
            database = rate * known.run_database_seconds + workers * known.database_idle_share
            api = Part("API", rate * known.run_api_seconds)
            parts = [Part("workers", busy), Part("Postgres", database, machine=True), api]
            yield [
                f"{an_hour:,}",
                f"{seconds:.1f} s",
                f"{workers:,}",
                _cores(busy),
                _bytes(workers * (known.worker_memory + known.fit_memory)),
                f"{known.run_start + mean_wait(busy, workers, seconds):.1f} s",
                _cores(database),
                _bytes(an_hour * 24 * known.run_bytes),
                first_full(parts),
            ]


def records(known: Constants) -> Iterator[list[str]]:
    """Rows of the table of records."""
    costs_of = ("API processes", "NATS, cores of one node", "of three nodes")
    yield ["records/s", *costs_of, "kept a day", _BOTTLENECK]
    for rate in RECORDS:
        api = Part("API", rate * known.record_seconds)
        # With three copies each node does what one alone would.
        node = Part("NATS", rate * known.record_log_seconds, machine=True)
        yield [
            f"{rate:,}",
            f"{api.units:,}",
            _cores(node.cores),
            _cores(3 * node.cores),
            _bytes(rate * _DAY * known.record_bytes),
            first_full([api, node]),
        ]


def costs(known: Constants) -> Iterator[list[str]]:
    """Rows of the table of what was measured."""
    yield ["what", "of whom", "cost"]
    for what, whom, seconds in (
        ("a prediction of one row", "API", known.predict_seconds),
        ("a prediction of 100 rows", "API", known.hundred_rows_seconds),
        ("a request", "nginx", known.gateway_seconds),
        ("a prediction that is kept", "API", known.stored_seconds),
        ("the same", "Postgres", known.stored_database_seconds),
        ("a small run", "worker and child", known.run_seconds),
        ("the same, asked for and waited for", "API", known.run_api_seconds),
        ("the same", "Postgres", known.run_database_seconds),
        ("a record, 100 at a time", "API", known.record_seconds),
        ("the same", "one NATS server", known.record_log_seconds),
    ):
        yield [what, whom, _seconds(seconds)]
    yield ["nothing", "an idle worker", f"{known.worker_idle_share:.1%} of a core"]
    yield ["nothing", "Postgres, beside one server", f"{known.database_idle_share:.1%} of a core"]
    for what, whom, size in (
        ("memory", "an API process", known.api_memory),
        ("memory", "a worker, with what fits are forked from", known.worker_memory),
        ("memory, more", "a small fit", known.fit_memory),
        ("kept", "a prediction", known.stored_bytes),
        ("kept", "a model version of a small run", known.run_bytes),
        ("kept", "a record, of one copy", known.record_bytes),
    ):
        yield [what, whom, _bytes(size)]


def checked(_: Constants) -> Iterator[list[str]]:
    """Rows of the table of what was foretold and found."""
    yield ["what", "foretold", "found", "off", "load average"]
    for one in check.read():
        digits = (f"{value:.4g}" for value in (one.foretold, one.found))
        yield [one.what, *digits, f"{one.off:+.0%}", f"{one.load_average:g}"]


def _seconds(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us" if seconds < 0.01 else f"{seconds:.2f} s"


def _cores(cores: float) -> str:
    return f"{cores:.2g}" if cores < 10 else f"{cores:,.0f}"


def _bytes(size: float) -> str:
    for unit, name in ((1e12, "TB"), (_GIGA, "GB"), (_MEGA, "MB"), (1e3, "kB")):
        if size >= unit:
            return (
                f"{size / unit:,.3g} {name}" if size < 1000 * unit else f"{size / unit:,.0f} {name}"
            )
    return f"{size:.0f} bytes"


TABLES: dict[str, Callable[[Constants], Iterator[list[str]]]] = {
    "costs": costs,
    "predictions": predictions,
    "runs": runs,
    "records": records,
    "checked": checked,
}


def filled(page: str, known: Constants) -> str:
    """The page with what stands between its marks written anew."""
    told = f"{known.measured_on}, load average {known.load_average:g}"
    page = _between(page, "measured", told)
    for name, table in TABLES.items():
        head, *rows = table(known)
        lines = [head, ["---"] * len(head), *rows]
        text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        page = _between(page, name, f"\n{text}\n")
    return page


def _between(page: str, name: str, text: str) -> str:
    first, last = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, after = page.partition(first)
    _, ended, rest = after.partition(last)
    if not found or not ended:
        raise ValueError(f"the page has no place for {name}")
    return f"{before}{first}{text}{last}{rest}"


def write_page() -> None:
    """Put what follows from the constants into docs/scale.md."""
    PAGE.write_text(filled(PAGE.read_text(), measure.read()))
