"""A wrong conversion never serves: defects planted into compiled steps are noticed, all of them."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import KNNImputer
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, SplineTransformer
from threadpoolctl import threadpool_limits

from app.compiling import compiler, emitter, verify
from app.compiling import trees as compile_trees
from app.compiling.compiler import compile_and_verify
from app.scoring import encoder
from app.scoring.categories import Codes, OneHot
from app.scoring.cores import Affine, JudgeMany, JudgeTwo, Values
from app.scoring.curves import Splines
from app.scoring.estimator import answer
from app.scoring.masks import MaskedTrees
from app.scoring.neighbors import FindNeighbors, ImputeFromNeighbors, VoteOfNeighbors
from app.scoring.numbers import Impute, Scale
from app.scoring.step import Step
from app.scoring.texts import CountTerms, WeighTerms
from app.scoring.trees import TreeSums
from tests.compiling.cases import (
    RECIPE,
    Case,
    coded,
    frame,
    output_of,
    scaled,
    signature_of,
    small,
    table,
)

HGB = {"max_iter": 12, "random_state": 0}
LINE = Case("line", lambda: scaled(text=True), LogisticRegression(), "two")
LINES = Case("lines", scaled, LogisticRegression(), "three")
COUNTS = Case("counts", scaled, PoissonRegressor(), "positive")
BOOSTING = Case("boosting", coded, HistGradientBoostingClassifier(**HGB), "two")
FOREST = Case("forest", coded, RandomForestClassifier(9, random_state=0), "two")
STEPS = Case("steps", small, GradientBoostingRegressor(n_estimators=9, random_state=0), "number")
VOTES = Case("votes", small, AdaBoostClassifier(n_estimators=7, random_state=0), "two")
NEAR = Case("near", small, KNeighborsClassifier(weights="distance"), "three")
BENT = Case("bent", small, Pipeline([("s", SplineTransformer()), ("m", Ridge())]), "number")
FILLED = Case(
    "filled",
    lambda: ColumnTransformer([("n", KNNImputer(n_neighbors=3), ["mass", "price", "flag"])]),
    Ridge(),
    "number",
)
HONEST = (LINE, LINES, COUNTS, BOOSTING, FOREST, STEPS, VOTES, NEAR, BENT, FILLED)


@pytest.fixture(scope="module", autouse=True)
def remembered():
    """scikit-learn's answers, which no defect changes, are asked for once."""
    known: dict[Any, Any] = {}

    def remember(pipeline: Any, prepared: Any, output: Any) -> Any:
        rows = [a.tobytes() if a.dtype.kind == "f" else tuple(a) for a in prepared.values()]
        key = (id(pipeline), *rows)
        if key not in known:
            known[key] = (answer(pipeline, prepared, output), pipeline)
        return known[key][0]

    with pytest.MonkeyPatch.context() as patch, threadpool_limits(1):
        patch.setattr(verify, "answer", remember)
        yield


@pytest.fixture(scope="module")
def reason_of() -> Callable[..., str | None]:
    """Why a case isn't served by its compiled form; pipelines are fitted once."""
    pipelines: dict[str, Any] = {}

    def reason(case: Case) -> str | None:
        if case.name not in pipelines:
            pipelines[case.name] = case.fitted()
        signature = signature_of(output_of(pipelines[case.name], case.target))
        result = compile_and_verify(pipelines[case.name], RECIPE, signature, table())
        assert (result.compiled is None) == (result.reason is not None)
        return result.reason

    return reason


@pytest.mark.parametrize("case", HONEST, ids=lambda case: case.name)
def test_an_honest_conversion_passes(case, reason_of):
    assert reason_of(case) is None


def planted(step: Any, kind: type[Step], change: Callable[[Any], Any]) -> Any:
    """The step with every step of this kind within it changed."""
    if isinstance(step, list):
        return [planted(one, kind, change) for one in step]
    if not isinstance(step, Step):
        return step
    parts = {f.name: getattr(step, f.name) for f in fields(step) if f.init}  # type: ignore[arg-type]
    whole = type(step)(**{name: planted(part, kind, change) for name, part in parts.items()})
    return change(whole) if type(step) is kind else whole


def of(**changed: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Change these fields, each by what is made of the step."""
    return lambda step: replace(step, **{name: make(step) for name, make in changed.items()})


def without_rare(step: OneHot) -> OneHot:
    shared = [max(codes) for codes in step.codes]
    codes = [
        [-1 if code == rare and codes.count(rare) > 1 else code for code in codes]
        for codes, rare in zip(step.codes, shared, strict=True)
    ]
    return replace(step, codes=codes)


def last_swapped(codes: list[list[int]]) -> list[list[int]]:
    return [[*column[:-2], column[-1], column[-2]] for column in codes]


PLANTED: dict[str, tuple[Case, type[Step], Callable[[Any], Any]]] = {
    "classes swapped": (LINE, Affine, of(weights=lambda s: -s.weights, bias=lambda s: -s.bias)),
    "classes turned round": (LINES, Affine, of(weights=lambda s: s.weights[:, ::-1].copy())),
    "categories in another order": (LINE, OneHot, of(codes=lambda s: last_swapped(s.codes))),
    "codes in another order": (
        BOOSTING,
        Codes,
        of(tables=lambda s: [np.roll(t, 1, axis=0) for t in s.tables]),
    ),
    "rare categories dropped": (LINE, OneHot, without_rare),
    "strangers not taken for rare": (LINE, OneHot, of(unknown=lambda s: [-1] * len(s.unknown))),
    "a scale off by a millionth": (LINE, Scale, of(divisor=lambda s: s.divisor * (1 + 1e-6))),
    "a mean off by a millionth": (LINE, Scale, of(shift=lambda s: s.shift * (1 + 1e-6))),
    "another link of two": (LINE, JudgeTwo, of(link=lambda _: "clipped")),
    "another link of many": (LINES, JudgeMany, of(link=lambda _: "one_vs_rest")),
    "no link": (COUNTS, Values, of(function=lambda _: "logistic")),
    "almost the link": (COUNTS, Values, of(function=lambda _: "expm1")),
    "the indicator of another column": (LINE, Impute, of(indicated=lambda s: s.indicated[::-1])),
    "another fill": (LINE, Impute, of(fill=lambda s: s.fill + 1e-6)),
    "boosting averaged": (STEPS, TreeSums, of(divisor=lambda _: 9.0)),
    "boosting without its start": (STEPS, TreeSums, of(base=lambda s: s.base * 0.0)),
    "a forest summed": (FOREST, TreeSums, of(divisor=lambda _: 1.0)),
    "missing numbers taken for great ones": (
        BOOSTING,
        MaskedTrees,
        of(masks=lambda s: [np.vstack([m[:-1], m[-2:-1]]) for m in s.masks]),
    ),
    "thresholds that belong to the right": (
        BOOSTING,
        MaskedTrees,
        of(cuts=lambda s: [np.nextafter(c, -np.inf) for c in s.cuts]),
    ),
    "leaves of other trees": (
        BOOSTING,
        MaskedTrees,
        of(leaves=lambda s: np.roll(s.leaves, 1, axis=0)),
    ),
    "labels at another threshold": (LINE, JudgeTwo, of(threshold=lambda _: 0.05)),
    "tf-idf without logarithms": (LINE, WeighTerms, of(sublinear=lambda _: False)),
    "tf-idf without idf": (LINE, WeighTerms, of(idf=lambda _: None)),
    "capitals kept": (LINE, CountTerms, of(lowercase=lambda _: False)),
    "no pairs of words": (LINE, CountTerms, of(longest=lambda _: 1)),
    "a neighbour too few": (NEAR, FindNeighbors, of(count=lambda s: s.count - 1)),
    "another metric": (NEAR, FindNeighbors, of(metric=lambda _: "manhattan")),
    "neighbours all the same": (NEAR, VoteOfNeighbors, of(by_distance=lambda _: False)),
    "splines that go on": (BENT, Splines, of(outside=lambda _: "continue")),
    "gaps filled by other neighbours": (FILLED, ImputeFromNeighbors, of(count=lambda _: 2)),
}


def plant(monkeypatch: pytest.MonkeyPatch, kind: type[Step], change: Callable[[Any], Any]) -> None:
    """Have the steps of what is compiled changed."""
    real = compiler._planned

    def spoilt(*arguments: Any) -> Any:
        model, plan = real(*arguments)
        return replace(model, step=planted(model.step, kind, change)), plan

    monkeypatch.setattr(compiler, "_planned", spoilt)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_defect_is_noticed(name, reason_of, monkeypatch):
    case, kind, change = PLANTED[name]
    plant(monkeypatch, kind, change)
    noticed = ("differ from scikit-learn's", "scikit-learn alone refuses a row")
    assert any(told in reason_of(case) for told in noticed)


def test_it_notices_less_instead_of_less_or_equal(reason_of, monkeypatch):
    monkeypatch.setattr(emitter, "LESS_OR_EQUAL", 1)
    assert "differ" in reason_of(BOOSTING)
    assert "differ" in reason_of(FOREST)


@pytest.mark.parametrize("case", [BOOSTING, FOREST, VOTES], ids=lambda case: case.name)
def test_it_notices_a_tree_left_out(case, reason_of, monkeypatch):
    real = compile_trees.emit
    monkeypatch.setattr(
        compile_trees, "emit", lambda trees, *rest, **named: real(trees[:-1], *rest, **named)
    )
    assert "differ" in reason_of(case)


@pytest.mark.parametrize("part", ["hour", "weekday"])
def test_it_notices_parts_of_dates_in_another_time_zone(part, reason_of, monkeypatch):
    real = encoder.prepare_column

    def an_hour_later(column, raw):
        if column.part == part:
            # An hour after the last moment that there is, a row would be refused.
            last = "9999-12-31T23"
            raw = [
                value.replace("Z", "-01:00") if value and not value.startswith(last) else value
                for value in raw
            ]
        return real(column, raw)

    monkeypatch.setattr(encoder, "prepare_column", an_hour_later)
    assert "differ" in reason_of(LINE)


MANY = [f"level {number:04}" for number in range(300)]


def with_a_rare(case: Case, column: str, values: list[Any]) -> tuple[Any, dict[str, Any]]:
    """A pipeline fitted on a table in which this column has these values first, once each."""
    data = frame()
    data.loc[: len(values) - 1, column] = values
    target = np.arange(len(data)) % 2 == 0
    pipeline = Pipeline([("prepare", case.prepare()), ("model", case.estimator)])
    return pipeline.fit(data, target), signature_of(output_of(pipeline, "two"))


def rare_case(column: str, part: Any) -> Case:
    columns = [column] if column == "island" else column
    prepared = ColumnTransformer([("rare", part, columns), ("price", "passthrough", ["price"])])
    return Case("rare", lambda: prepared, LogisticRegression(), "two")


def test_it_notices_a_category_that_is_in_no_row_of_the_sample(monkeypatch):
    """The bug: of a column's categories only the commonest of a thousand rows were tried."""
    case = rare_case("island", OneHotEncoder(handle_unknown="ignore"))
    pipeline, signature = with_a_rare(case, "island", MANY)

    def swapped(step: OneHot) -> list[list[int]]:
        codes = dict(zip(step.levels[0], step.codes[0], strict=True))
        one, other = codes[MANY[0]], codes[MANY[1]]
        turned = {**codes, MANY[0]: other, MANY[1]: one}
        return [list(turned.values())]

    plant(monkeypatch, OneHot, of(codes=swapped))
    result = compile_and_verify(pipeline, RECIPE, signature, table())
    assert "differ" in result.reason


def test_it_notices_a_term_that_is_in_no_text_of_the_sample(monkeypatch):
    """The bug: only texts of the sample were compared, and rare terms are in none of them."""
    case = rare_case("comment", TfidfVectorizer())
    pipeline, signature = with_a_rare(case, "comment", ["zebra", "zoo zoo zebra zeal"])
    plant(
        monkeypatch,
        CountTerms,
        of(vocabulary=lambda s: [term.replace("zebra", "zebras") for term in s.vocabulary]),
    )
    result = compile_and_verify(pipeline, RECIPE, signature, table())
    assert "differ" in result.reason
