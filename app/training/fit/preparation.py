"""Builds the first step of every pipeline: from the prepared frame to a matrix of numbers.

A ``View`` tells what the rest of the pipeline can take; the same columns look different to trees
(codes, gaps left open), to linear models (one column a category, gaps filled and marked, scaled)
and to models of counts (nothing below zero).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)
from sklearn.utils import get_tags

from app.training.fit.columns import MOST_LEVELS, Columns, Treatment

MOST_WORDS: Final = 50_000
TEXT_COMPONENTS: Final = 50
ROWS_FOR_RARE_LEVELS: Final = 500
RARE_LEVEL: Final = 10
RARE_WORD_ROWS: Final = 200

Named = tuple[str, Any, Any]


@dataclass(frozen=True)
class View:
    """What the pipeline behind the preparation can take.

    ``trees``: no scaling, categories as codes. ``gaps``: missing values may stay. ``sparse``: a
    sparse matrix will do. ``positive``: nothing may be below zero. ``scale``: numbers are put on
    one scale here. ``named`` holds what the client named to take the place of the usual imputer
    (``numbers``), category encoder (``categories``) or text vectoriser (``text``).
    """

    task: str
    rows: int
    random_state: int
    trees: bool = False
    gaps: bool = False
    sparse: bool = False
    positive: bool = False
    scale: bool = True
    named: Mapping[str, BaseEstimator] = field(default_factory=dict)

    @property
    def supervised(self) -> bool:
        """Whether there is a target that an encoder may look at."""
        return self.task in {"classification", "regression"}

    @classmethod
    def for_estimators(
        cls, estimators: list[BaseEstimator], *, trees: bool, **known: Any
    ) -> "View":
        """What all of these together can take, by their own account."""
        tags = [get_tags(estimator).input_tags for estimator in estimators]
        return cls(
            trees=trees,
            gaps=all(tag.allow_nan for tag in tags),
            sparse=all(tag.sparse for tag in tags),
            positive=any(tag.positive_only for tag in tags),
            **known,
        )


def column_transformer(columns: Columns, view: View) -> ColumnTransformer:
    """The unfitted preparation of these columns for that view."""
    if view.sparse and view.gaps and columns.of_kind("text"):
        # Forests take gaps, and sparse matrices, but not gaps in sparse matrices.
        view = replace(view, gaps=False)
    parts: list[Named] = []
    if numbers := columns.of_kind("numbers"):
        parts.append(("numbers", _numbers(view), _names(numbers)))
    few = columns.of_kind("levels")
    many = columns.of_kind("many_levels")
    if "categories" in view.named:
        few, many = few + many, []
    if few:
        parts.append(("levels", _levels(view), _names(few)))
    if many:
        parts.append(("many_levels", _many_levels(view), _names(many)))
    for index, text in enumerate(columns.of_kind("text")):
        parts.append((f"text_{index}", _text(text, view), text.column.name))
    threshold = 0.3 if view.sparse else 0.0
    return ColumnTransformer(parts, sparse_threshold=threshold, verbose_feature_names_out=False)


def width(columns: Columns, view: View) -> int:
    """About how many columns the matrix will have, at the most."""
    total = 0
    for treatment in columns.treatments:
        if treatment.kind == "numbers":
            total += 1 if view.trees and view.gaps else 1 + treatment.gaps
        elif treatment.kind == "text":
            total += MOST_WORDS if view.sparse else TEXT_COMPONENTS
        elif treatment.kind == "levels" or isinstance(view.named.get("categories"), OneHotEncoder):
            total += 1 if view.trees else treatment.size + 1
        else:
            total += 1
    return total


def _names(treatments: list[Treatment]) -> list[str]:
    return [treatment.column.name for treatment in treatments]


def _numbers(view: View) -> Any:
    imputer = view.named.get("numbers")
    if imputer is None and view.trees and view.gaps:
        return "passthrough"
    if imputer is None:
        # On one scale with the rest, a rare gap is many deviations away: without a target to tell
        # what it means, clusters and components would be about gaps.
        imputer = SimpleImputer(
            strategy="median", add_indicator=view.supervised, keep_empty_features=True
        )
    return _chain(("impute", imputer), ("scale", _scaler(view)))


def _levels(view: View) -> Any:
    encoder = view.named.get("categories")
    if isinstance(encoder, TargetEncoder):
        return _target_encoded(encoder, view)
    if isinstance(encoder, OneHotEncoder):
        return clone(encoder).set_params(sparse_output=view.sparse)
    if encoder is not None or view.trees:
        return _codes(encoder or OrdinalEncoder(handle_unknown="use_encoded_value"), view)
    rare = RARE_LEVEL if view.rows >= ROWS_FOR_RARE_LEVELS else None
    return _one_hot(view, min_frequency=rare)


def _many_levels(view: View) -> Any:
    if view.supervised:
        return _target_encoded(TargetEncoder(), view)
    if view.trees:
        return _codes(OrdinalEncoder(handle_unknown="use_encoded_value"), view)
    return _one_hot(view, max_categories=MOST_LEVELS)


def _one_hot(view: View, **limits: int | None) -> OneHotEncoder:
    return OneHotEncoder(handle_unknown="infrequent_if_exist", sparse_output=view.sparse, **limits)


def _codes(encoder: BaseEstimator, view: View) -> Any:
    missing = np.nan if view.gaps else -1
    coded = clone(encoder).set_params(unknown_value=missing, encoded_missing_value=missing)
    return _chain(("encode", coded), ("scale", _scaler(view)))


def _target_encoded(encoder: TargetEncoder, view: View) -> Any:
    # An integer target would be taken for classes, a boolean one of a regression too.
    kind = "continuous" if view.task == "regression" else "auto"
    told = clone(encoder).set_params(target_type=kind)
    return _chain(("encode", told), ("scale", _scaler(view)))


def _text(treatment: Treatment, view: View) -> Any:
    vectoriser = view.named.get("text")
    if vectoriser is None:
        vectoriser = TfidfVectorizer(
            ngram_range=(1, 2),
            sublinear_tf=True,
            min_df=2 if view.rows >= RARE_WORD_ROWS else 1,
            max_features=MOST_WORDS,
        )
    if view.sparse:
        return vectoriser
    components = max(1, min(TEXT_COMPONENTS, treatment.size // 4, view.rows // 8))
    reducer = TruncatedSVD(components, random_state=view.random_state)
    below_zero = MinMaxScaler(clip=True) if view.positive else None
    return _chain(("words", vectoriser), ("reduce", reducer), ("scale", below_zero))


def _scaler(view: View) -> BaseEstimator | None:
    if view.positive:
        return MinMaxScaler(clip=True)
    if view.trees or not view.scale:
        return None
    return StandardScaler()


def _chain(*steps: tuple[str, BaseEstimator | None]) -> Any:
    """A pipeline of the steps that are there, or the one step alone."""
    present = [(name, step) for name, step in steps if step is not None]
    return present[0][1] if len(present) == 1 else Pipeline(present)
