"""Compiling transformers of categories and texts into tables.

The tables of ordinal and target encoders are read off by asking the fitted encoder about every
category that it knows, and about one that it doesn't: what it answers is what the table holds.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, TargetEncoder

from app.compiling.flow import Built, Flow, NotCompilable, Plan, as_levels, transforms
from app.scoring.categories import Codes, OneHot
from app.scoring.encoder import Level, Texts
from app.scoring.numbers import Normalize
from app.scoring.step import Step
from app.scoring.texts import CountTerms, WeighTerms


def level(value: Any) -> Level:
    """A category as the tables hold it: a string, a float, or None for what is missing."""
    if isinstance(value, str):
        return str(value)
    if value is None or value is pd.NA or math.isnan(value):
        return None
    return float(value)


@transforms(OneHotEncoder)
def build_one_hot(encoder: OneHotEncoder, flow: Flow, plan: Plan) -> Built:
    """A column for each category, with rare ones together and one of them dropped, if asked for."""
    plan.know(flow, encoder.categories_)
    steps, flow = as_levels(flow)
    rare = _infrequent(encoder)
    start = 0
    codes, unknown = [], []
    for place, categories in enumerate(encoder.categories_):
        numbers, other, width = _one_hot_codes(encoder, place, categories, rare[place])
        codes.append([start + number if number >= 0 else -1 for number in numbers])
        unknown.append(start + other if other >= 0 else -1)
        start += width
    levels = [[level(category) for category in column] for column in encoder.categories_]
    refuse = encoder.handle_unknown == "error"
    return [*steps, OneHot(levels, codes, unknown, start, refuse)], Flow.matrix(start)


def _infrequent(encoder: OneHotEncoder) -> list[set[Level]]:
    if encoder.min_frequency is None and encoder.max_categories is None:
        return [set() for _ in encoder.categories_]
    listed = encoder.infrequent_categories_
    return [set() if rare is None else {level(one) for one in rare} for rare in listed]


def _one_hot_codes(
    encoder: OneHotEncoder, place: int, categories: Any, rare: set[Level]
) -> tuple[list[int], int, int]:
    """The column of each category, that of any other one, and how many columns there are.

    Frequent categories come first, in order; the infrequent ones share the last column.
    """
    frequent = [one for one in map(level, categories) if one not in rare]
    numbers = {one: number for number, one in enumerate(frequent)}
    codes = [numbers.get(one, len(frequent)) for one in map(level, categories)]
    width = len(frequent) + bool(rare)
    takes_unknown = encoder.handle_unknown in {"infrequent_if_exist", "warn"}
    unknown = len(frequent) if rare and takes_unknown else -1
    dropped = None if encoder.drop_idx_ is None else encoder.drop_idx_[place]
    if dropped is None:
        return codes, unknown, width
    gone = codes[int(dropped)]

    def after_drop(code: int) -> int:
        return -1 if code == gone else code - (code > gone)

    return [after_drop(code) for code in codes], after_drop(unknown), width - 1


@transforms(OrdinalEncoder)
def build_ordinal(encoder: OrdinalEncoder, flow: Flow, plan: Plan) -> Built:
    """A number for each category."""
    plan.know(flow, encoder.categories_)
    return _tabled(encoder, flow, 1, refuse=encoder.handle_unknown == "error")


@transforms(TargetEncoder)
def build_target(encoder: TargetEncoder, flow: Flow, plan: Plan) -> Built:
    """The mean of the target for each category, one per class where there are several."""
    plan.know(flow, encoder.categories_)
    numbers = len(encoder.classes_) if encoder.target_type_ == "multiclass" else 1
    return _tabled(encoder, flow, numbers, refuse=False)


def _tabled(encoder: Any, flow: Flow, numbers: int, *, refuse: bool) -> Built:
    """A table for every column, of ``numbers`` numbers for each category."""
    steps, after = as_levels(flow)
    levels = [[level(category) for category in column] for column in encoder.categories_]
    asked = [
        list(column) if refuse else [*column, _unknown(column)] for column in encoder.categories_
    ]
    answers = _ask(encoder, asked)
    tables = []
    for place, column in enumerate(asked):
        table = answers[: len(column), place * numbers : (place + 1) * numbers]
        if refuse:
            table = np.vstack([table, np.full((1, numbers), np.nan)])
        tables.append(np.ascontiguousarray(table))
    gaps = any(np.isnan(table).any() for table in tables)
    codes = Codes(levels, tables, refuse)
    return [*steps, codes], Flow.matrix(after.width * numbers, gaps=gaps)


def _unknown(categories: Any) -> Any:
    """A value like these categories that is none of them."""
    levels = [one for one in map(level, categories) if one is not None]
    if categories.dtype.kind == "f":
        return np.nextafter(max(levels, default=0.0), np.inf)
    return "".join(str(one) for one in levels) + "?"


def _ask(encoder: Any, columns: Sequence[Sequence[Any]]) -> Any:
    """What the encoder makes of columns of any lengths; shorter ones repeat their first value."""
    rows = max(map(len, columns))
    filled = [[*column, *[column[0]] * (rows - len(column))] for column in columns]
    arrays = [
        np.array(column, dtype=categories.dtype if categories.dtype.kind == "f" else object)
        for column, categories in zip(filled, encoder.categories_, strict=True)
    ]
    names = getattr(encoder, "feature_names_in_", None)
    if names is None:
        asked: Any = np.column_stack(arrays)
    else:
        columns_by_name = zip(names, arrays, strict=True)
        asked = pd.DataFrame({name: pd.Series(a, dtype=a.dtype) for name, a in columns_by_name})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(encoder.transform(asked), dtype=np.float64)


@transforms(CountVectorizer)
def build_counts(vectorizer: CountVectorizer, flow: Flow, plan: Plan) -> Built:
    """How often each term of the vocabulary occurs."""
    if flow.kind != "frame" or flow.width != 1:
        raise NotCompilable("a text vectorizer must stand on one column of the data")
    column = flow.prepared()[0]
    if plan.recipe.columns[column].kind != "text":
        raise NotCompilable("a text vectorizer must stand on a column of texts")
    counter = _counter(vectorizer)
    plan.terms.setdefault(column, []).extend(counter.vocabulary)
    return [Texts(column), counter], Flow.matrix(len(vectorizer.vocabulary_))


def _counter(vectorizer: CountVectorizer) -> CountTerms:
    code = [vectorizer.preprocessor, vectorizer.tokenizer]
    custom = callable(vectorizer.analyzer) or callable(vectorizer.strip_accents)
    if custom or any(part is not None for part in code) or vectorizer.input != "content":
        raise NotCompilable("a vectorizer with code or files of its own has no compiled form")
    terms = sorted(vectorizer.vocabulary_.items(), key=lambda item: int(item[1]))
    if [int(column) for _, column in terms] != list(range(len(terms))):
        raise NotCompilable("the vocabulary of the vectorizer leaves columns out")
    shortest, longest = vectorizer.ngram_range
    return CountTerms(
        vocabulary=[term for term, _ in terms],
        analyzer=vectorizer.analyzer,
        shortest=int(shortest),
        longest=int(longest),
        lowercase=bool(vectorizer.lowercase),
        accents=vectorizer.strip_accents or None,
        pattern=vectorizer.token_pattern or "",
        stop_words=sorted(vectorizer.get_stop_words() or ()),
        binary=bool(vectorizer.binary),
    )


@transforms(TfidfVectorizer)
def build_tfidf(vectorizer: TfidfVectorizer, flow: Flow, plan: Plan) -> Built:
    """Counts of terms, weighted by how rare they are, in rows of length 1."""
    if vectorizer.dtype != np.float64:
        raise NotCompilable("a TfidfVectorizer of another type than float64 has no compiled form")
    steps, flow = build_counts(vectorizer, flow, plan)
    idf = vectorizer.idf_ if vectorizer.use_idf else None
    return [*steps, *_weights(vectorizer, idf)], flow


@transforms(TfidfTransformer)
def build_tfidf_weights(transformer: TfidfTransformer, flow: Flow, plan: Plan) -> Built:
    """Weights of counts that another step made."""
    del plan
    if flow.kind != "matrix":
        raise NotCompilable("a TfidfTransformer needs counts")
    idf = transformer.idf_ if transformer.use_idf else None
    return _weights(transformer, idf), Flow.matrix(flow.width)


def _weights(transformer: Any, idf: Any) -> list[Step]:
    weights = None if idf is None else np.asarray(idf, dtype=np.float64)
    weigh: list[Step] = [WeighTerms(bool(transformer.sublinear_tf), weights)]
    return weigh if transformer.norm is None else [*weigh, Normalize(transformer.norm)]
