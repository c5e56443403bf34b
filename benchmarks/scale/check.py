"""What the model foretells of loads beside what a real server makes of them."""

import json
import math
import os
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import Load
from benchmarks.measured import cpu_of
from benchmarks.scale.measure import (
    PREDICT,
    Constants,
    Place,
    ask_for_run,
    between,
    place,
    request,
    rows,
    train,
)
from benchmarks.scale.queues import wait_within
from tests.server import wait_for

CHECKED = Path(__file__).with_name("checked.json")
_SHARES = (0.3, 0.6)
_SEED = 7


@dataclass(frozen=True)
class Checked:
    """One figure: as it was foretold, and as it was."""

    what: str
    foretold: float
    found: float
    load_average: float

    @property
    def off(self) -> float:
        """How far what was found lies above what was foretold, as a share of that."""
        return self.found / self.foretold - 1


def check(known: Constants, seconds: float, runs: int) -> list[Checked]:
    """Load a real server as the model was asked about."""
    with place() as here:
        return [*_predictions(here, known, seconds), _runs(here, known, runs)]


def _predictions(here: Place, known: Constants, seconds: float) -> Iterator[Checked]:
    asked = request(here.server, PREDICT, rows(1))
    api, service = here.of_api(), known.predict_seconds
    with Load(here.server.port, asked) as load:
        load.closed(8, 2)
        before = cpu_of(api)
        found = load.closed(8, seconds)
        got = (cpu_of(api) - before) / seconds
    yield _told("predictions/s of one API process", 1 / service, found.rate(200))
    yield _told(f"the same, of the {got:.0%} of a core that it got", got / service, found.rate(200))
    for share in _SHARES:
        with Load(here.server.port, asked) as load:
            found = load.open(share / service, seconds)
        foretold = known.predict_alone + wait_within(0.5, share, 1, service)
        what = f"median ms of a prediction, the API {share:.0%} busy"
        yield _told(what, 1000 * foretold, 1000 * found.quantile(200, 0.5))


def _runs(here: Place, known: Constants, count: int) -> Checked:
    """Runs that arrive as they like, to one worker that is busy six tenths of the time."""
    alone = statistics.fmean(_lasted(train(here.client)) for _ in range(3))
    draw, share = random.Random(_SEED), 0.6
    gaps = [draw.expovariate(share / alone) for _ in range(count)]
    paths = []
    due = time.monotonic()
    for gap in gaps:
        due += gap
        time.sleep(max(0.0, due - time.monotonic()))
        paths.append(ask_for_run(here.client))
    ended = [wait_for(here.client, path, seconds=600) for path in paths]
    assert {run["state"] for run in ended} == {"succeeded"}
    # The line is as long as these very arrivals make it, each as long as three runs took before.
    foretold = known.run_start + statistics.fmean(_lindley(gaps, alone))
    found = statistics.fmean(between(run, "created_at", "started_at") for run in ended)
    return _told(f"mean seconds that a run waits for one worker, {count} runs", foretold, found)


def _lasted(run: dict[str, Any]) -> float:
    return between(run, "started_at", "finished_at")


def _lindley(gaps: Sequence[float], service: float) -> Iterator[float]:
    """The waits of arrivals with these gaps before one server."""
    waited = 0.0
    for place_in_line, gap in enumerate(gaps):
        waited = max(0.0, waited + service - gap) if place_in_line else 0.0
        yield waited


def _told(what: str, foretold: float, found: float) -> Checked:
    assert math.isfinite(foretold)
    load = round(os.getloadavg()[0], 1)
    return Checked(what, float(f"{foretold:.4g}"), float(f"{found:.4g}"), load)


def write(found: Sequence[Checked]) -> None:
    """Keep what was found."""
    CHECKED.write_text(json.dumps([asdict(one) for one in found], indent=2) + "\n")


def read() -> list[Checked]:
    """What was found last."""
    return [Checked(**one) for one in json.loads(CHECKED.read_text())]
