"""A batch's child scores all rows in their order, whatever the columns are called."""

import duckdb
import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from app.compiling.compiler import compile_and_verify
from app.predictions.batch_child import run
from app.scoring.estimator import data_frame
from app.scoring.frame import Recipe, prepare

MASS, ISLAND = 'the "mass", kg', "select"
RECIPE = Recipe.from_list(
    [
        {"name": "mass", "source": MASS, "kind": "number"},
        {"name": "island", "source": ISLAND, "kind": "category"},
    ]
)
SIGNATURE = {
    "inputs": [
        {"name": MASS, "type": "number", "nullable": False},
        {"name": ISLAND, "type": "string", "nullable": True},
    ],
    "output": {"task": "classification", "classes": [False, True], "probabilities": True},
}
ROWS = 30_000


@pytest.fixture(scope="module")
def pipeline():
    """A fitted forest, and its compiled form."""
    mass = np.random.default_rng(0).uniform(0, 100, 300)
    columns = {MASS: mass, ISLAND: ["Biscoe", "Dream", None] * 100}
    kept = ColumnTransformer(
        [("number", "passthrough", ["mass"]), ("category", OneHotEncoder(), ["island"])]
    )
    made = Pipeline([("kept", kept), ("forest", RandomForestClassifier(5, random_state=0))])
    made.fit(data_frame(prepare(RECIPE, columns)), mass > 40)
    result = compile_and_verify(made, RECIPE, SIGNATURE, columns)
    assert result.compiled is not None, result.reason
    return made, result.compiled


@pytest.mark.parametrize("threads", [1, 3])
def test_every_row_gets_its_own_answer_however_many_threads_there_are(
    pipeline, threads, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").write_bytes(pipeline[1])
    quoted = MASS.replace(chr(34), chr(34) * 2)
    islands = "CASE WHEN range % 7 = 0 THEN 'Biscoe' WHEN range % 5 > 0 THEN 'Dream' END"
    duckdb.sql(
        f"COPY (SELECT range AS number, {islands} AS \"{ISLAND}\", 'x' AS prediction,"
        f' hash(range) % 1000 / 10.0 AS "{quoted}"'
        f" FROM range({ROWS})) TO 'table.parquet' (FORMAT parquet)"
    )

    told = run(
        {
            "parquet": "table.parquet",
            "model": "model",
            "format": "compiled",
            "threads": threads,
            "chunk_rows": 20_000,
            "finished": 0,
            "part_file": "part-%06d.parquet",
        },
        lambda _: None,
    )

    columns = duckdb.sql("FROM 'output.parquet'").fetchnumpy()
    assert (told, columns["number"].tolist()) == ({"rows": ROWS}, list(range(ROWS)))
    asked = data_frame(prepare(RECIPE, columns))
    assert np.abs(columns["probability_true"] - pipeline[0].predict_proba(asked)[:, 1]).max() < 1e-9
    assert (columns["prediction_"] == pipeline[0].predict(asked)).all()
