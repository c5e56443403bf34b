"""Compiling what holds other parts together: pipelines, and transformers side by side."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import check_array

from app.compiling.flow import (
    Built,
    Flow,
    NotCompilable,
    Origin,
    Plan,
    as_matrix,
    build_model,
    build_transformer,
    chained,
    picked,
    predicts,
    transforms,
)
from app.scoring.encoder import Together
from app.scoring.step import Step


def through(transformer: Any, flow: Flow, plan: Plan) -> Built:
    """The steps of a transformer, or of "passthrough"."""
    if transformer is None or (isinstance(transformer, str) and transformer == "passthrough"):
        return [], flow
    return build_transformer(transformer, flow, plan)


@transforms(Pipeline)
def build_pipeline(pipeline: Pipeline, flow: Flow, plan: Plan) -> Built:
    """Transformers one after the other."""
    steps: list[Step] = []
    for _, transformer in pipeline.steps:
        more, flow = through(transformer, flow, plan)
        steps += more
    return steps, flow


@predicts(Pipeline)
def build_model_pipeline(pipeline: Pipeline, flow: Flow, plan: Plan) -> list[Step]:
    """Transformers one after the other, then the final estimator."""
    steps, after = build_pipeline(Pipeline(pipeline.steps[:-1]), flow, plan)
    return [*steps, *build_model(pipeline.steps[-1][1], after, plan)]


@transforms(ColumnTransformer)
def build_column_transformer(union: ColumnTransformer, flow: Flow, plan: Plan) -> Built:
    """Transformers side by side, each on its columns."""
    branches = []
    for _, transformer, columns in union.transformers_:
        places = positions(union, columns)
        if not places or (isinstance(transformer, str) and transformer == "drop"):
            continue
        steps, after = picked(flow, places)
        more, after = through(transformer, after, plan)
        branches.append(([*steps, *more], after))
    return beside(branches, plan)


@transforms(FeatureUnion)
def build_feature_union(union: FeatureUnion, flow: Flow, plan: Plan) -> Built:
    """Transformers side by side, each on everything."""
    if union.transformer_weights:
        raise NotCompilable("a FeatureUnion with weights has no compiled form")
    parts = [part for _, part in union.transformer_list if part != "drop"]
    return beside([through(part, flow, plan) for part in parts], plan)


@transforms(FunctionTransformer)
def build_function(transformer: FunctionTransformer, flow: Flow, plan: Plan) -> Built:
    """The identity; other functions are code, which no table can hold."""
    del plan
    checks = isinstance(transformer.func, partial) and transformer.func.func is check_array
    if transformer.func is not None and not checks:
        raise NotCompilable("a FunctionTransformer runs code, which has no compiled form")
    return [], flow


def beside(branches: Sequence[Built], plan: Plan) -> Built:
    """Branches that start from the same flow, as one matrix."""
    chains: list[Step] = []
    origins: list[Origin | None] = []
    gaps = False
    for steps, flow in branches:
        more, matrix = as_matrix(flow, plan)
        chains.append(chained([*steps, *more]))
        origins += matrix.origins
        gaps = gaps or matrix.gaps
    if not chains:
        raise NotCompilable("no column of the data is used")
    plan.widen(len(origins))
    joined = chains[0] if len(chains) == 1 else Together(chains)
    return [joined], Flow.matrix(len(origins), origins, gaps=gaps)


def positions(union: ColumnTransformer, columns: Any) -> list[int]:
    """The positions of columns that are given by name, position, slice or mask."""
    if isinstance(columns, (str, int, np.integer)):
        columns = [columns]
    every = np.arange(union.n_features_in_)
    if isinstance(columns, slice):
        if isinstance(columns.start, str) or isinstance(columns.stop, str):
            raise NotCompilable("a slice of column names has no compiled form")
        return [int(place) for place in every[columns]]
    if any(isinstance(column, str) for column in columns):
        names = {name: place for place, name in enumerate(union.feature_names_in_)}
        return [names[column] for column in columns]
    chosen: list[int] = every[np.asarray(columns, dtype=_index_dtype(columns))].tolist()
    return chosen


def _index_dtype(columns: Sequence[Any]) -> type:
    return bool if len(columns) and isinstance(columns[0], (bool, np.bool_)) else int
