"""A table with every kind of column, and pipelines fitted on it as training would build them."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from app.kernel.errors import Invalid
from app.scoring.estimator import data_frame
from app.scoring.frame import Recipe, prepare
from app.scoring.model import CompiledModel
from app.scoring.scores import Scores

ROWS = 400
WORDS = ["the", "quick", "Brown", "över", "lazy", "dog", "café", "東京", "don't", "x1", "data-base"]
ISLANDS = ["Torg", "Drêam", "Bisc", "rare1", "rare2", ""]

INPUTS = [
    {"name": "mass", "type": "number", "nullable": True},
    {"name": "count", "type": "integer", "nullable": True},
    {"name": "flag", "type": "boolean", "nullable": False},
    {"name": "price", "type": "number", "nullable": False},
    {"name": "island", "type": "string", "nullable": True},
    {"name": "level", "type": "integer", "nullable": True},
    {"name": "comment", "type": "string", "nullable": True},
    {"name": "when", "type": "datetime", "nullable": True},
]
RECIPE = Recipe.from_list(
    [
        {"name": "mass", "source": "mass", "kind": "number"},
        {"name": "count", "source": "count", "kind": "number"},
        {"name": "flag", "source": "flag", "kind": "number"},
        {"name": "price", "source": "price", "kind": "number"},
        {"name": "island", "source": "island", "kind": "category"},
        {"name": "level", "source": "level", "kind": "category"},
        {"name": "comment", "source": "comment", "kind": "text"},
        {"name": "when__hour", "source": "when", "kind": "date_part", "part": "hour"},
        {"name": "when__weekday", "source": "when", "kind": "date_part", "part": "weekday"},
    ]
)
NUMBERS = ["mass", "count", "flag", "price", "when__hour", "when__weekday"]
CATEGORIES = ["island", "level"]


@cache
def table(rows: int = ROWS, seed: int = 0) -> dict[str, list[Any]]:
    """Raw columns as JSON has them, with something missing in most."""
    random = np.random.default_rng(seed)

    def gappy(values: Sequence[Any], share: float) -> list[Any]:
        gone = random.random(rows) < share
        return [None if absent else value for absent, value in zip(gone, values, strict=True)]

    seconds = random.integers(0, 30_000_000, rows)
    moments = np.datetime64("2013-01-01T00:00:00") + seconds.astype("timedelta64[s]")
    islands = random.choice(ISLANDS, rows, p=[0.4, 0.3, 0.2, 0.04, 0.03, 0.03])
    texts = [" ".join(random.choice(WORDS, random.integers(0, 9))) for _ in range(rows)]
    return {
        "mass": gappy(random.normal(40, 9, rows).round(3).tolist(), 0.1),
        "count": gappy(random.integers(0, 2**26, rows).tolist(), 0.05),
        "flag": (random.random(rows) < 0.3).tolist(),
        "price": random.lognormal(3, 1, rows).tolist(),
        "island": gappy(islands.tolist(), 0.05),
        "level": gappy(random.integers(1, 5, rows).tolist(), 0.05),
        "comment": gappy(texts, 0.03),
        "when": gappy([f"{moment}Z" for moment in moments], 0.03),
    }


@cache
def targets() -> dict[str, Any]:
    """A target of two classes, one of three, one of numbers, one of positive numbers."""
    columns = table()
    random = np.random.default_rng(1)
    mass = np.array([40.0 if value is None else value for value in columns["mass"]])
    noise = random.normal(0, 0.7, ROWS)
    value = mass / 10 + np.log(columns["price"]) + noise
    three = np.array(["low", "middle", "high"])[np.digitize(value, np.quantile(value, [0.3, 0.7]))]
    return {
        "two": value > np.median(value),
        "three": three,
        "number": value - 7.0,
        "positive": np.exp(value / 4),
        "none": None,
    }


def scaled(*, text: bool = False) -> ColumnTransformer:
    """The linear view: numbers imputed with indicators and scaled, categories one-hot."""
    numbers = Pipeline(
        [
            ("impute", SimpleImputer(strategy="median", add_indicator=True)),
            ("scale", StandardScaler()),
        ]
    )
    rare = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=30)
    parts: list[Any] = [("numbers", numbers, NUMBERS), ("categories", rare, CATEGORIES)]
    if text:
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        parts.append(("comment", words, "comment"))
    return ColumnTransformer(parts)


def coded() -> ColumnTransformer:
    """The view of trees: numbers as they are, categories as codes."""
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan
    )
    parts = [("numbers", "passthrough", NUMBERS), ("categories", codes, CATEGORIES)]
    return ColumnTransformer(parts)


def small() -> ColumnTransformer:
    """A few dense columns without anything missing."""
    numbers = Pipeline([("impute", SimpleImputer()), ("scale", StandardScaler())])
    parts = [
        ("numbers", numbers, ["mass", "price", "when__hour"]),
        ("categories", OneHotEncoder(handle_unknown="ignore"), ["island"]),
    ]
    return ColumnTransformer(parts, sparse_threshold=0.0)


@dataclass(frozen=True)
class Case:
    """A pipeline to fit: what prepares, what predicts, and for which target."""

    name: str
    prepare: Callable[[], Any] | None
    estimator: Any
    target: str

    def fitted(self) -> Any:
        """The pipeline, fitted; without ``prepare`` the estimator has the frame itself."""
        model = self.estimator
        if self.prepare is not None:
            model = Pipeline([("prepare", self.prepare()), ("model", self.estimator)])
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore")
            return model.fit(frame(), targets()[self.target])


def frame() -> Any:
    """The prepared frame of the table."""
    return data_frame(prepare(RECIPE, table()))


def output_of(pipeline: Any, target: str, task: str | None = None) -> dict[str, Any]:
    """The output of the signature of a fitted pipeline."""
    if target in {"two", "three"}:
        classes = pipeline.classes_.tolist()
        shares = hasattr(pipeline, "predict_proba")
        return {"task": "classification", "classes": classes, "probabilities": shares}
    if target in {"number", "positive"}:
        return {"task": "regression"}
    if task == "decomposition":
        return {"task": task, "components": pipeline.transform(frame()).shape[1]}
    return {"task": task}


def answered_otherwise_as_a_batch(
    model: CompiledModel, columns: Mapping[str, Sequence[Any]]
) -> list[Any]:
    """The rows whose answer as one row of JSON isn't, to the last bit, that of a batch of one."""

    def bits(scores: Callable[[Any], Scores], row: Any) -> Any:
        try:
            with np.errstate(all="ignore"):
                given = scores(row)
        except Invalid:
            return "refused"
        return {name: (a.dtype, a.shape, a.tobytes()) for name, a in given.arrays().items()}

    def alone(row: Any) -> Scores:
        return model.alone(tuple(row)).scores(list(row.values()))

    def batch(row: Any) -> Scores:
        return model.score({name: [value] for name, value in row.items()})

    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [row for row in rows if bits(alone, row) != bits(batch, row)]


def signature_of(output: Mapping[str, Any]) -> dict[str, Any]:
    """The signature of a model on the table."""
    return {"inputs": INPUTS, "output": dict(output)}
