"""Encoded matrices are those of scikit-learn's transformers, to the last bit."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from app.compiling.compiler import compile_pipeline
from app.kernel.errors import Invalid
from app.kernel.repeated import Repeated
from app.scoring.encoder import Batch
from app.scoring.estimator import data_frame
from app.scoring.frame import Recipe, converter, prepare
from app.scoring.matrix import dense
from app.scoring.model import CompiledModel
from app.scoring.pieces import Form, piece_of
from app.scoring.step import Chain

FEW = settings(max_examples=30, deadline=None)
GAPPY = st.lists(st.none() | st.floats(-1e6, 1e6), min_size=4, max_size=12)
LEVEL = st.none() | st.sampled_from(["a", "b", "É", "", "long name", "d", "e", "nan"])
LEVELS = st.lists(LEVEL, min_size=3, max_size=25)
TEXTS = st.lists(st.text("ab cdÉé\u0301ﬁ漢1_-.\n\t ", max_size=25), min_size=1, max_size=6)


def recipe(kind: str) -> Recipe:
    return Recipe.from_list([{"name": name, "source": name, "kind": kind} for name in ("x", "y")])


def both(
    transformer: Any, kind: str, trained: Any, asked: Any, target: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """What scikit-learn and the compiled form make of ``asked``."""
    columns = "x" if kind == "text" else ["x", "y"]
    whole = ColumnTransformer([("part", transformer, columns)], sparse_threshold=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole.fit(data_frame(prepare(recipe(kind), trained)), target)
        expected = whole.transform(data_frame(prepare(recipe(kind), asked)))
    return np.asarray(expected, dtype=np.float64), encoded(compiled(whole, kind, expected), asked)


def repeated(values: Any) -> Repeated:
    """A column as its different values."""
    different = list(dict.fromkeys(values))
    return Repeated(different, np.array([different.index(value) for value in values], dtype=int))


def compiled(whole: Any, kind: str, expected: Any) -> CompiledModel:
    output = {"task": "decomposition", "components": expected.shape[1]}
    return compile_pipeline(whole, recipe(kind), output)


def encoded(model: CompiledModel, asked: Any) -> np.ndarray:
    """The matrix, made in one batch; the same must come of values told once each, and of one row
    after the other."""
    matrix = dense(model.step(Batch(model.recipe, asked)))
    told_once = {name: repeated(values) for name, values in asked.items()}
    np.testing.assert_array_equal(dense(model.step(Batch(model.recipe, told_once))), matrix)
    piece = piece_of(Chain([model.step]), Form.ROW)
    for place, values in enumerate(zip(*asked.values(), strict=True)):
        named = dict(zip(asked, values, strict=True))
        alone = piece.run([converter(column)(named[column.source]) for column in model.recipe])
        if piece.gives is Form.ARRAYS:
            alone = dense(alone)[0]
        np.testing.assert_array_equal(alone, matrix[place])
    return matrix


def pair(values: list[Any]) -> dict[str, list[Any]]:
    return {"x": values, "y": values[::-1]}


@FEW
@given(
    GAPPY,
    GAPPY,
    st.sampled_from(["mean", "median", "most_frequent", "constant"]),
    st.sampled_from([StandardScaler(), RobustScaler(), MaxAbsScaler(), MinMaxScaler(clip=True)]),
    st.booleans(),
)
def test_numbers_are_imputed_and_scaled_alike(trained, asked, strategy, scaler, indicator):
    assume(any(value is not None for value in trained))
    imputer = SimpleImputer(strategy=strategy, add_indicator=indicator)
    expected, given_ = both(make_pipeline(imputer, scaler), "number", pair(trained), pair(asked))
    np.testing.assert_array_equal(given_, expected)


@FEW
@given(
    LEVELS,
    LEVELS,
    st.sampled_from(["ignore", "infrequent_if_exist"]),
    st.sampled_from([None, "first", "if_binary"]),
    st.sampled_from([None, 2, 0.2]),
    st.sampled_from([None, 2, 3]),
)
def test_categories_are_one_hot_alike(trained, asked, unknown, drop, rare, most):
    encoder = OneHotEncoder(
        handle_unknown=unknown, drop=drop, min_frequency=rare, max_categories=most
    )
    try:
        expected, given_ = both(encoder, "category", pair(trained), pair(asked))
    except ZeroDivisionError:
        # A ColumnTransformer of scikit-learn cannot be fitted to no columns at all.
        assume(False)
    np.testing.assert_array_equal(given_, expected)


@FEW
@given(LEVELS, LEVELS, st.sampled_from([-1, np.nan]), st.sampled_from([-2, np.nan]))
def test_categories_are_numbered_alike(trained, asked, unknown, missing):
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=unknown, encoded_missing_value=missing
    )
    expected, given_ = both(encoder, "category", pair(trained), pair(asked))
    np.testing.assert_array_equal(given_, expected)


@FEW
@given(LEVELS, LEVELS, st.sampled_from([2, 3]))
def test_rare_categories_are_numbered_together_alike(trained, asked, most):
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, max_categories=most
    )
    expected, given_ = both(encoder, "category", pair(trained), pair(asked))
    np.testing.assert_array_equal(given_, expected)


@pytest.mark.parametrize("classes", [2, 3, None])
@settings(max_examples=8, deadline=None)
@given(st.lists(LEVEL, min_size=30, max_size=30), LEVELS)
def test_categories_get_the_same_means_of_the_target(classes, trained, asked):
    random = np.random.default_rng(0)
    target = random.normal(size=30) if classes is None else np.arange(30) % classes
    kind = {2: "binary", 3: "multiclass", None: "continuous"}[classes]
    encoder = TargetEncoder(target_type=kind, cv=3, random_state=0)
    expected, given_ = both(encoder, "category", pair(trained), pair(asked), target)
    np.testing.assert_array_equal(given_, expected)


@FEW
@given(LEVELS, LEVELS, st.sampled_from(["most_frequent", "constant"]))
def test_strings_are_imputed_alike(trained, asked, strategy):
    imputer = SimpleImputer(strategy=strategy)
    encoder = OneHotEncoder(handle_unknown="ignore")
    assume(any(value is not None for value in trained))
    expected, given_ = both(make_pipeline(imputer, encoder), "category", pair(trained), pair(asked))
    np.testing.assert_array_equal(given_, expected)


@FEW
@given(GAPPY, GAPPY)
def test_numbers_that_serve_as_categories_are_one_hot_alike(trained, asked):
    encoder = OneHotEncoder(handle_unknown="ignore")
    both_asked = pair([*asked, *trained])
    expected, given_ = both(encoder, "number", pair(trained), both_asked)
    np.testing.assert_array_equal(given_, expected)


@FEW
@given(
    TEXTS,
    TEXTS,
    st.sampled_from(["word", "char", "char_wb"]),
    st.sampled_from([(1, 1), (1, 2), (2, 3)]),
    st.sampled_from([None, "ascii", "unicode"]),
    st.booleans(),
    st.booleans(),
)
def test_terms_are_counted_alike(trained, asked, analyzer, sizes, accents, lowercase, binary):
    vectorizer = CountVectorizer(
        analyzer=analyzer,
        ngram_range=sizes,
        strip_accents=accents,
        lowercase=lowercase,
        binary=binary,
    )
    try:
        vectorizer.fit(trained)
    except ValueError:
        assume(False)
    expected, given_ = both(vectorizer, "text", pair(trained), pair(asked))
    np.testing.assert_array_equal(given_, expected)


@FEW
@given(
    TEXTS,
    TEXTS,
    st.sampled_from(["l1", "l2", None]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, "english", ["ab"]]),
)
def test_terms_are_weighed_alike(trained, asked, norm, sublinear, idf, stop_words):
    vectorizer = TfidfVectorizer(
        norm=norm, sublinear_tf=sublinear, use_idf=idf, stop_words=stop_words
    )
    try:
        vectorizer.fit(trained)
    except ValueError:
        assume(False)
    expected, given_ = both(vectorizer, "text", pair(trained), pair(asked))
    np.testing.assert_allclose(given_, expected, rtol=1e-15, atol=1e-16)


def test_missing_texts_count_as_empty():
    vectorizer = TfidfVectorizer()
    asked = {"x": [None, "one"], "y": [None, None]}
    expected, given_ = both(vectorizer, "text", pair(["one two", "two"]), asked)
    np.testing.assert_array_equal(given_, expected)
    assert not given_[0].any()


def test_many_categories_stay_sparse_and_are_the_same():
    levels = [f"level {number}" for number in range(400)]
    asked = pair([*levels[::7], None, "unknown"])
    encoder = OneHotEncoder(handle_unknown="ignore")
    expected, given_ = both(encoder, "category", pair(levels), asked)
    assert given_.shape[1] == 800
    np.testing.assert_array_equal(given_, expected)


def test_a_strict_encoder_refuses_what_it_does_not_know():
    whole = ColumnTransformer([("part", OneHotEncoder(), ["x"])], sparse_threshold=0.0)
    whole.fit(pd.DataFrame({"x": ["a", "b"], "y": ["", ""]}))
    model = compiled(whole, "category", np.empty((1, 2)))
    assert model.score({"x": ["b"], "y": [""]}).rows() == [{"components": [0.0, 1.0]}]
    with pytest.raises(Invalid, match="does not know the category 'c'"):
        model.score({"x": ["a", "c"], "y": ["", ""]})
