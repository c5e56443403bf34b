"""The comparison with scikit-learn notices what would be wrong, however small."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

from app.compiling import trees as compile_trees
from app.compiling.compiler import compile_and_verify
from app.scoring import categories, cores, numbers, texts
from app.scoring.encoder import Numbers
from app.scoring.format import load
from app.scoring.pieces import MAKERS, Form, Piece
from tests.compiling.cases import (
    INPUTS,
    RECIPE,
    Case,
    coded,
    output_of,
    scaled,
    signature_of,
    table,
)

LINE = Case("line", lambda: scaled(text=True), LogisticRegression(), "two")
FOREST = Case("forest", coded, RandomForestClassifier(n_estimators=9, random_state=0), "two")
BOOSTING = Case("boosting", coded, HistGradientBoostingClassifier(max_iter=12), "two")


def reason_of(case: Case, task: str | None = None) -> str | None:
    pipeline = case.fitted()
    output = output_of(pipeline, case.target, task)
    with threadpool_limits(1):
        return compile_and_verify(pipeline, RECIPE, signature_of(output), table()).reason


@pytest.mark.parametrize("case", [LINE, FOREST, BOOSTING], ids=lambda case: case.name)
def test_nothing_is_wrong_with_what_the_defects_below_are_put_into(case):
    assert reason_of(case) is None


def change_trees(monkeypatch, name, **changed):
    """Have trees of this kind emitted with something changed."""
    real = getattr(compile_trees, name)

    def changed_tree(*arguments):
        tree = real(*arguments)
        return replace(tree, **{field: make(tree) for field, make in changed.items()})

    monkeypatch.setattr(compile_trees, name, changed_tree)


def test_it_notices_thresholds_off_by_the_least_that_float64_can_tell(monkeypatch):
    change_trees(
        monkeypatch,
        "tree_of_histograms",
        threshold=lambda tree: np.nextafter(tree.threshold, -np.inf),
    )
    assert "differ" in reason_of(BOOSTING)


def test_it_notices_thresholds_narrowed_to_float32(monkeypatch):
    narrowed = {"threshold": lambda tree: tree.threshold.astype(np.float32).astype(np.float64)}
    change_trees(monkeypatch, "tree_of_histograms", **narrowed)
    assert "differ" in reason_of(BOOSTING)


@pytest.mark.parametrize(
    ("case", "name"), [(FOREST, "tree_of"), (BOOSTING, "tree_of_histograms")], ids=["rf", "hgb"]
)
def test_it_notices_missing_values_sent_the_other_way(case, name, monkeypatch):
    change_trees(monkeypatch, name, missing_left=lambda tree: ~tree.missing_left)
    assert "differ" in reason_of(case)


def test_it_notices_forests_fed_with_doubles(monkeypatch):
    real = compile_trees.TreeSums
    monkeypatch.setattr(compile_trees, "TreeSums", lambda onnx, _, *rest: real(onnx, False, *rest))
    assert "differ" in reason_of(FOREST)


def test_it_notices_a_leaf_of_many_with_another_value(monkeypatch):
    real = compile_trees.value_leaves

    def off_by_a_millionth(*arguments):
        leaves = real(*arguments)
        return lambda number, nodes: leaves(number, nodes) + (number == 3) * 1e-6

    monkeypatch.setattr(compile_trees, "value_leaves", off_by_a_millionth)
    forest = RandomForestRegressor(n_estimators=9, random_state=0)
    assert "differ" in reason_of(Case("forest", coded, forest, "number"))


def test_it_notices_depths_weighed_by_another_formula(monkeypatch):
    monkeypatch.setattr(compile_trees, "average_path_length", lambda rows: float(np.log(rows)))
    forest = IsolationForest(n_estimators=9, random_state=0)
    assert "differ" in reason_of(Case("isolation", scaled, forest, "none"), "outlier_detection")


def spoil(monkeypatch, kind, changed):
    """Have a step of this kind answer otherwise."""
    real = kind.__call__
    monkeypatch.setattr(kind, "__call__", lambda step, value: changed(real, step, value))


def test_it_notices_an_unknown_category_taken_for_a_known_one(monkeypatch):
    def first_instead(real, step, value):
        known = [list(levels) for levels in step.levels]
        moved = [
            [level if level in levels else levels[0] for level in column]
            for column, levels in zip(value, known, strict=True)
        ]
        return real(step, moved)

    spoil(monkeypatch, categories.OneHot, first_instead)
    spoil(monkeypatch, categories.Codes, first_instead)
    assert "differ" in reason_of(LINE)
    assert "differ" in reason_of(BOOSTING)


def test_it_notices_an_indicator_that_is_dropped(monkeypatch):
    def without(real, step, value):
        matrix = real(step, value)
        matrix[:, len(step.kept) :] = 0.0
        return matrix

    spoil(monkeypatch, numbers.Impute, without)
    assert "differ" in reason_of(LINE)


def test_it_notices_text_of_which_only_ascii_is_read(monkeypatch):
    def ascii_only(real, step, value):
        return real(step, [text.encode("ascii", "ignore").decode() for text in value])

    spoil(monkeypatch, texts.CountTerms, ascii_only)
    assert "differ" in reason_of(LINE)


def test_it_notices_a_label_rule_of_another_threshold(monkeypatch):
    def stricter(real, step, value):
        judged = real(step, value)
        return judged._replace(labels=(judged.decision > 0.05).astype(np.int64))

    spoil(monkeypatch, cores.JudgeTwo, stricter)
    assert "labels differ" in reason_of(LINE)


def test_it_notices_a_row_alone_that_is_answered_otherwise(monkeypatch):
    def farther(step, _form):
        return Piece(lambda row: [row[column] + 1e-5 for column in step.columns], Form.CELLS)

    monkeypatch.setitem(MAKERS, (Numbers, Form.ROW), farther)
    assert "one row alone" in reason_of(LINE)


def test_it_notices_a_missing_value_that_only_scikit_learn_refuses(monkeypatch):
    spoil(monkeypatch, numbers.RefuseMissing, lambda _real, _step, value: np.nan_to_num(value))
    prices = ColumnTransformer([("prices", "passthrough", ["price"])])
    # Not one real row lacks a price; the rows made for the comparison do, if the signature lets.
    inputs = [{**item, "nullable": True} for item in INPUTS]
    pipeline = Case("gappy", lambda: prices, Ridge(), "number").fitted()
    signature = {"inputs": inputs, "output": {"task": "regression"}}
    result = compile_and_verify(pipeline, RECIPE, signature, table())
    assert "scikit-learn alone refuses a row" in result.reason


def test_golden_rows_are_scikit_learns_answers_about_usual_and_unusual_rows():
    pipeline = FOREST.fitted()
    signature = signature_of(output_of(pipeline, "two"))
    golden = load(compile_and_verify(pipeline, RECIPE, signature, table()).compiled).golden
    assert len(golden.columns["mass"]) == 16
    assert set(golden.answers) == {"labels", "probabilities"}
    assert golden.tolerance < 1e-8
    known = set(zip(*[map(str, table()[name]) for name in golden.columns], strict=True))
    rows = list(zip(*[map(str, values) for values in golden.columns.values()], strict=True))
    assert [row in known for row in rows] == [True] * 8 + [False] * 8


def test_other_seeds_choose_other_rows_and_agree():
    boosted = BOOSTING.fitted()
    signature = signature_of(output_of(boosted, "two"))
    files = [
        compile_and_verify(boosted, RECIPE, signature, table(), seed=seed).compiled
        for seed in (1, 2)
    ]
    assert files[0] != files[1]
