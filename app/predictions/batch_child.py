"""What a batch prediction's child process does: Parquet in, Parquet and CSV out, in chunks.

The rows keep their order and all their columns; the outputs stand beside them: ``prediction`` and,
of a classifier, ``probability_<class>``; ``prediction`` (regression); ``cluster``; ``outlier`` and
``outlier_score``; ``component_<n>``. A name that the dataset has already gets underscores. Memory
is bounded by the chunk, of which only the columns that the model needs are read: the outputs of
each are a file of their own, and laid beside the dataset's columns at the end. Files of chunks that
an earlier attempt has finished are taken as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from app.kernel.repeated import Repeated, are_few
from app.scoring.estimator import answer
from app.scoring.format import load
from app.scoring.frame import Column, Recipe, prepare
from app.scoring.loader import load_sklearn
from app.scoring.output_columns import output_columns
from app.scoring.scores import Array, Scores, joined

OUTPUT = "output.parquet"
OUTPUT_CSV = "output.csv"
Score = Callable[[Mapping[str, Column]], Scores]

_PIECE_ROWS = 8192
_CHUNK = "SELECT {0} FROM dataset WHERE file_row_number >= ? AND file_row_number < ?"
_BESIDE = """(
    SELECT * FROM (SELECT * EXCLUDE (file_row_number) FROM dataset)
    POSITIONAL JOIN (SELECT * EXCLUDE (file_row_number) FROM outputs)
)"""
_FILES = (
    f"COPY {_BESIDE} TO '{OUTPUT}' (FORMAT parquet, COMPRESSION zstd)",
    f"COPY {_BESIDE} TO '{OUTPUT_CSV}' (FORMAT csv, HEADER)",
)


def run(arguments: Mapping[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Score ``parquet`` with ``model`` (a local artifact of ``format``) into ``output.*`` of the
    current folder, which has the first ``finished`` parts already; how many rows.
    """
    recipe, score = _scorer(arguments)
    wanted = _CHUNK.format(", ".join(map(_identifier, recipe.sources)))
    with duckdb.connect(config=_settings(arguments["threads"])) as connection:
        _create_view(connection, "dataset", [Path(arguments["parquet"])])
        rows = (connection.execute("SELECT count(*) FROM dataset").fetchone() or (0,))[0]
        taken = [row[0] for row in connection.execute("DESCRIBE dataset").fetchall()][:-1]
        size = arguments["chunk_rows"]
        chunks = max(1, -(-rows // size))
        parts = [Path(arguments["part_file"] % number) for number in range(chunks)]
        for number in range(arguments["finished"], chunks):
            chunk = connection.execute(wanted, [number * size, (number + 1) * size]).fetchnumpy()
            _write(connection, _beside(score(chunk), taken), parts[number])
            told = {"fraction": 0.9 * (number + 1) / chunks, "step": "scoring", "message": ""}
            # What has one chunk only has nothing to resume.
            report({**told, "finished": number + 1} if chunks > 1 else told)
        report({"fraction": 0.95, "step": "writing", "message": ""})
        _create_view(connection, "outputs", parts)
        # Rows that are laid beside others take one thread, whatever they are written as.
        with ThreadPoolExecutor(len(_FILES)) as pool:
            list(pool.map(lambda query: connection.cursor().execute(query), _FILES))
    return {"rows": rows}


def _scorer(arguments: Mapping[str, Any]) -> tuple[Recipe, Score]:
    data = Path(arguments["model"]).read_bytes()
    if arguments["format"] == "compiled":
        model = load(data)
        return model.recipe, partial(_spread, model.score, arguments["threads"])
    estimator = load_sklearn(data, expected_sklearn_minor=arguments["sklearn_minor"])
    recipe, output = Recipe.from_list(arguments["recipe"]), arguments["output"]
    return recipe, lambda columns: answer(estimator, prepare(recipe, columns), output)


def _spread(score: Score, threads: int, columns: Mapping[str, Array]) -> Scores:
    """The scores of rows that several threads share; most of what a compiled model does lets the
    other threads run.
    """
    rows = max(map(len, columns.values()))
    short = {name: _short(column) for name, column in columns.items()}
    pieces = [
        {name: column[start : start + _PIECE_ROWS] for name, column in short.items()}
        for start in range(0, max(1, rows), _PIECE_ROWS)
    ]
    with ThreadPoolExecutor(threads) as pool:
        return joined(list(pool.map(score, pieces)))


def _short(column: Array) -> Column:
    """Texts told once each where few are different: then they are looked up once, too."""
    if column.dtype != object:
        return column
    codes, different = pd.factorize(np.ma.getdata(column))
    codes[np.ma.getmaskarray(column)] = -1
    if not are_few(len(different), len(column)):
        return column
    # What is missing has the code -1, the last of the values.
    return Repeated([*different, None], codes)


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _settings(threads: int) -> dict[str, str | bool | int | float | list[str]]:
    return {
        "threads": threads,
        "memory_limit": "512MB",
        "preserve_insertion_order": "true",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "temp_directory": str(Path.cwd() / "spill"),
    }


def _create_view(connection: duckdb.DuckDBPyConnection, name: str, paths: Sequence[Path]) -> None:
    """The rows of some files in order; their last column is the row's number in its file."""
    listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    source = f"read_parquet([{listed}], file_row_number = true)"
    connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {source}")  # noqa: S608 (our own names and paths, quoted)


def _beside(scores: Scores, taken: Sequence[str]) -> dict[str, Array]:
    """The outputs as columns, under names that the dataset does not have."""
    # DuckDB, like SQL, does not tell names apart by their case.
    known = {name.lower() for name in taken}
    free: dict[str, Array] = {}
    for name, column in output_columns(scores).items():
        unused = name
        while unused.lower() in known:
            unused += "_"
        known.add(unused.lower())
        free[unused] = column
    return free


def _write(connection: duckdb.DuckDBPyConnection, columns: Mapping[str, Array], part: Path) -> None:
    connection.register("chunk", pd.DataFrame(columns))
    connection.execute(f"COPY chunk TO '{part}' (FORMAT parquet, COMPRESSION zstd)")
    connection.unregister("chunk")
