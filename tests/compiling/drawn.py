"""Pipelines drawn at random from the catalogue, with random options, fitted on small hard tables.

Tables have gaps, categories seen once, ties, whole numbers past 2**24 and constant columns; the
rows to ask about have strangers and values far out besides. The same seed draws the same.
"""

import math
import random
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.impute import SimpleImputer
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from app.compiling.rows import json_value
from app.kernel.errors import Invalid
from app.scoring.estimator import answer
from app.scoring.frame import Recipe, prepare
from app.training.catalog.entries import Entry
from app.training.catalog.lookup import Catalog
from app.training.fit.columns import as_frame, decide_columns
from app.training.fit.model import REFUSALS, Maker
from app.training.fit.report import signature
from app.training.fit.spec import ColumnInfo, FitError, FitSpec
from app.training.fit.table import Table

TYPES = {
    "size": "number",
    "tied": "number",
    "count": "integer",
    "ripe": "boolean",
    "place": "string",
    "maker": "string",
    "note": "string",
    "day": "datetime",
}
TASKS = ("classification", "regression", "clustering", "outlier_detection", "decomposition")
SHARES = (6, 5, 1, 1, 2)
MOST = {
    "n_estimators": 6,
    "max_iter": 40,
    "n_components": 4,
    "n_quantiles": 40,
    "cv": 3,
    "n_init": 2,
    "n_clusters": 5,
    "n_neighbors": 9,
    "degree": 3,
    "n_knots": 6,
    "n_bins": 6,
    "n_iter": 2,
    "max_fun": 60,
    "hidden_layer_sizes": 6,
    "batch_size": 64,
}
LEAST = {"max_iter": 5, "max_fun": 20}
SEARCHES = {"GridSearchCV": "param_grid", "RandomizedSearchCV": "param_distributions"}


@dataclass(frozen=True)
class Drawn:
    """A fitted pipeline with all that training would pass on about it."""

    told: str
    pipeline: Any
    recipe: Recipe
    signature: Mapping[str, Any]
    sample: Mapping[str, Any]
    fresh: Mapping[str, list[Any]]


def draw(seed: int) -> Drawn | None:
    """The pipeline of this seed; None where the catalogue or scikit-learn refuses it."""
    chance = random.Random(seed)
    task = chance.choices(TASKS, SHARES)[0]
    rows = chance.choice([40, 90, 160])
    table = _table(seed, rows, chance.choice([0.0, 0.1, 0.3]))
    features = [name for name in TYPES if chance.random() < 0.6] or ["size"]
    described = _spec(chance, task)
    try:
        checked = Catalog.load().validate_spec(described)
        infos = tuple(ColumnInfo(name, kind) for name, kind in TYPES.items())
        spec = FitSpec(infos, checked, task=task, random_state=seed % 7)
        columns = decide_columns(table, features, named=True)
        frame = as_frame(columns, table)
        with warnings.catch_warnings(), np.errstate(all="ignore"), threadpool_limits(1):
            warnings.simplefilter("ignore")
            target = _target(chance, table, task)
            model = _imported(chance, Maker(spec, task, columns, rows).make(frame, target)[0], task)
            model.fit(frame, target)
            told = signature(task, columns, table, model, frame)
            answer(model, prepare(columns.recipe, table.columns), told["output"])
    except (Invalid, FitError, *REFUSALS):
        return None
    unseen = _table(seed + 1_000_003, 40, 0.15)
    return Drawn(
        f"seed {seed}: {task} {described} on {features} as {model[:-1]}"[:1500],
        model,
        columns.recipe,
        told,
        {name: [json_value(value) for value in table.columns[name]] for name in features},
        _fresh(chance, unseen, features, told),
    )


def _table(seed: int, rows: int, gaps: float) -> Table:
    of = np.random.default_rng(seed)
    places = ["north", "Süd", "west", "", "nan", "once"]
    words = ["a", "small", "Note", "of", "über", "it's", "東京", "x1", "THE", "end."]
    moments = np.datetime64("2024-01-01") + of.integers(0, 90_000_000, rows).astype("m8[s]")
    columns: dict[str, Any] = {
        "size": of.normal(2, 3, rows) * 10.0 ** of.integers(-2, 3),
        "tied": of.choice([0.0, 0.1, 0.25, 1.0, 16777217.0], rows, p=[0.3, 0.3, 0.2, 0.1, 0.1]),
        "count": of.integers(0, 4, rows) * (2**25 + 1 if seed % 3 == 0 else 1),
        "ripe": of.random(rows) < 0.4,
        "place": _strings(of.choice(places, rows, p=[0.4, 0.3, 0.1, 0.1, 0.08, 0.02])),
        "maker": _strings([f"maker {n}" for n in of.integers(0, 55, rows)]),
        "note": _strings([" ".join(of.choice(words, of.integers(3, 9))) for _ in range(rows)]),
        "day": moments.astype("datetime64[us]"),
    }
    masked = {
        name: np.ma.masked_array(values, mask=of.random(rows) < (0 if name == "ripe" else gaps))
        for name, values in columns.items()
    }
    return Table(masked, TYPES, rows)


def _strings(values: Any) -> Any:
    return np.array([str(value) for value in values], dtype=object)


def _target(chance: random.Random, table: Table, task: str) -> Any:
    if task not in {"classification", "regression"}:
        return None
    of = np.random.default_rng(table.rows)
    plain = {name: np.ma.getdata(values) for name, values in table.columns.items()}
    size, tied = plain["size"], np.minimum(plain["tied"], 2)
    value = (size - size.mean()) / size.std() + tied + plain["ripe"] + of.normal(0, 0.5, table.rows)
    if task == "regression":
        return np.exp(value / 2) if chance.random() < 0.5 else value
    if chance.random() < 0.5:
        return value > np.median(value)
    names = np.array(["é", "b", "a b", "1"][: chance.choice([3, 4])], dtype=object)
    cuts = np.quantile(value, np.linspace(0, 1, len(names) + 1)[1:-1])
    return names[np.digitize(value, cuts)]


def _fresh(
    chance: random.Random, unseen: Table, features: list[str], told: Mapping[str, Any]
) -> dict[str, list[Any]]:
    """Rows that the model never saw, some of which it never saw the like of."""
    nullable = {item["name"]: item["nullable"] for item in told["inputs"]}
    found = {}
    for name in features:
        values = [json_value(value) for value in unseen.columns[name]]
        odd = _ODD[TYPES[name]]
        values += [chance.choice(odd if chance.random() < 0.5 else values) for _ in range(40)]
        known = next(value for value in values if value is not None)
        found[name] = [known if v is None and not nullable[name] else v for v in values]
    return found


_ODD: dict[str, list[Any]] = {
    "number": [0, -0.0, 1e-300, 1e5, -1e9, 2**53 + 1, 1e18, 0.1, 0.25],
    "integer": [0, -1, 3, 2**24 + 1, 2**40, -(2**53)],
    "boolean": [True, False],
    "string": ["", " ", "NORTH", "never seen", "None", "é", "x" * 300, "maker 3", "sud", "the END"],
    "datetime": ["1969-12-31T23:59:59Z", "2024-02-29T12:00:00+05:30", "2031-12-31T23:59:59.9Z"],
}


def _spec(chance: random.Random, task: str) -> dict[str, Any]:
    entries = Catalog.load().list()
    steps = []
    for prepares in ("numbers", "categories", "text"):
        offered = [entry for entry in entries if entry.prepares == prepares]
        if chance.random() < 0.4:
            steps.append(_named(chance, chance.choice(offered), task))
    between = [e for e in entries if "step" in e.roles]
    count = chance.choices([0, 1, 2], [5, 4, 2])[0]
    steps += [_named(chance, chance.choice(between), task) for _ in range(count)]
    final = [e for e in entries if "final" in e.roles and task in e.tasks]
    steps.append(_named(chance, chance.choice(final), task))
    return {"steps": steps} if len(steps) > 1 else steps[0]


def _named(chance: random.Random, entry: Entry, task: str, depth: int = 0) -> dict[str, Any]:
    required = entry.parameters.get("required", ())
    params: dict[str, Any] = {}
    for key, schema in entry.properties.items():
        part = chance.choice(schema.get("anyOf", [schema]))
        if "x-grid" in schema or key == "scoring":
            continue
        nested = part.get("x-spec") or part.get("items", {}).get("x-spec")
        if nested and (key in required or (depth == 0 and chance.random() < 0.6)):
            inner = [_inner(chance, part, task, depth) for _ in range(chance.choice([2, 3]))]
            params[key] = inner if "items" in part else inner[0]
        elif not nested and (key in MOST or chance.random() < 0.35):
            params[key] = _value(chance, key, part, schema)
    if entry.name in SEARCHES:
        params[SEARCHES[entry.name]] = _grid(chance, params["estimator"])
    if isinstance(params.get("weights"), list):
        params["weights"] = [chance.choice([1, 2, 0.5]) for _ in params["estimators"]]
    return {"name": entry.name, "params": params}


def _inner(chance: random.Random, part: Mapping[str, Any], task: str, depth: int) -> dict[str, Any]:
    names = part.get("x-names") or part.get("items", {}).get("x-names")
    offered = [
        entry
        for entry in Catalog.load().list(task if task in {"classification", "regression"} else None)
        if (names is None or entry.name in names)
        and "final" in entry.roles
        and entry.name not in SEARCHES
        and (depth == 0 or not entry.parameters.get("required"))
    ]
    return _named(chance, chance.choice(offered), task, depth + 1)


def _grid(chance: random.Random, estimator: Mapping[str, Any]) -> dict[str, list[Any]]:
    entry = Catalog.load().get(estimator["name"])
    keys = [k for k, schema in entry.properties.items() if "x-spec" not in str(schema)]
    key = chance.choice(keys or ["none"])
    schema = entry.properties.get(key, {})
    parts = schema.get("anyOf", [schema])
    return {key: [_value(chance, key, chance.choice(parts), schema) for _ in range(2)]}


def _value(
    chance: random.Random, key: str, part: Mapping[str, Any], schema: Mapping[str, Any]
) -> Any:
    if "enum" in part or "const" in part:
        return chance.choice(part.get("enum", [part.get("const")]))
    kind, default = part.get("type"), schema.get("default")
    if kind == "boolean":
        return chance.random() < 0.5
    if kind == "integer":
        low = int(max(part.get("minimum", 0), LEAST.get(key, -5)))
        return chance.randint(low, max(low, min(MOST.get(key, 12), part.get("maximum", 12))))
    if kind == "number":
        low = part.get("minimum", part.get("exclusiveMinimum", -1e3))
        high = min(part.get("maximum", part.get("exclusiveMaximum", 1e3)), 1e3)
        usual = default if isinstance(default, float) and default else 1.0
        return min(max(usual * math.exp(chance.gauss(0, 1.5)), low + 1e-6), high - 1e-6)
    if kind != "array":
        return default
    pair = [_value(chance, key, part.get("items", {}), {}) for _ in range(2)]
    strict = part.get("x-ordered") == "strict" and pair[0] == pair[1]
    return [1, 2] if strict else sorted(pair) if "x-ordered" in part else pair


def _imported(chance: random.Random, model: Any, task: str) -> Any:
    """Sometimes what only an imported model can be: wrappers and encoders beyond the catalogue."""
    last = model.steps[-1][1]
    if task == "classification" and chance.random() < 0.08:
        last = chance.choice(
            [
                FixedThresholdClassifier(last, threshold=chance.choice([0.2, 0.5, 0.7])),
                TunedThresholdClassifierCV(last, cv=2, thresholds=7),
            ]
        )
    if task == "regression" and chance.random() < 0.1:
        turned = StandardScaler() if chance.random() < 0.5 else None
        functions = {} if turned else {"func": np.log1p, "inverse_func": np.expm1}
        last = TransformedTargetRegressor(last, transformer=turned, **functions)
    steps = [*model.steps[:-1], ("model", last)]
    if chance.random() < 0.3:
        prepare = model.steps[0][1]
        parts = [
            (name, _other_encoder(chance) if "levels" in name else part, columns)
            for name, part, columns in prepare.transformers
        ]
        threshold = prepare.sparse_threshold
        steps[0] = ("prepare", ColumnTransformer(parts, sparse_threshold=threshold))
    return Pipeline(steps)


def _other_encoder(chance: random.Random) -> Any:
    rare = chance.choice([{}, {"min_frequency": 0.2}, {"max_categories": 3}])
    if chance.random() < 0.5:
        encoder: Any = OneHotEncoder(
            drop=chance.choice([None, "first", "if_binary"]),
            handle_unknown=chance.choice(["ignore", "infrequent_if_exist", "error"]),
            sparse_output=False,
            **rare,
        )
    else:
        encoder = OrdinalEncoder(
            handle_unknown="use_encoded_value", unknown_value=-2, encoded_missing_value=-1, **rare
        )
    if chance.random() < 0.4:
        fill = chance.choice([{"strategy": "most_frequent"}, {"strategy": "constant"}])
        return Pipeline([("impute", SimpleImputer(**fill)), ("encode", encoder)])
    return encoder
