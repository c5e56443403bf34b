"""A compiled model answers alike about rows together, alone, in parts and from many threads."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kernel.errors import Invalid
from app.kernel.repeated import Repeated
from app.scoring.cores import Affine, Constant, Greatest, JudgeMany, JudgeTwo, Values
from app.scoring.encoder import Numbers
from app.scoring.estimator import answer
from app.scoring.frame import Recipe
from app.scoring.model import CompiledModel
from app.scoring.scores import Scores, joined
from app.scoring.step import Chain, Step

RECIPE = Recipe.from_list([{"name": n, "source": n, "kind": "number"} for n in ("a", "b")])
COLUMNS: dict[str, Any] = {"a": [1.0, -2.0, 3.5, 0.0, 1e6], "b": [1, 2, 3, 4, 5]}
LINE = Affine(np.array([[0.5], [-0.25]]), np.array([0.1]))
TWO = Affine(np.array([[0.5, 1.0], [-0.25, 0.0]]), np.zeros(2))


def model(*steps: Step, task: str = "classification", **output: Any) -> CompiledModel:
    if task == "classification":
        output = {"classes": [False, True], "probabilities": True, **output}
    chain = Chain([Numbers([0, 1]), *steps])
    return CompiledModel(RECIPE, {"task": task, **output}, chain, 2, {})


LOGISTIC = model(LINE, JudgeTwo("logistic"))


def test_many_rows_are_answered_in_parts():
    wide = replace(LOGISTIC, widest=2**21)
    assert wide.score(COLUMNS).rows() == LOGISTIC.score(COLUMNS).rows()
    arrays = {name: np.ma.MaskedArray(values) for name, values in COLUMNS.items()}
    assert wide.score(arrays).rows() == LOGISTIC.score(COLUMNS).rows()


def test_a_column_of_few_values_is_answered_in_parts():
    wide = replace(LOGISTIC, widest=2**21)
    few = {**COLUMNS, "b": Repeated([7, 9], np.array([1, 0, 0, 1, 0]))}
    assert list(few["b"]) == [9, 7, 7, 9, 7]
    assert [few["b"][0], few["b"][-1], *few["b"][1:3]] == [9, 7, 7, 7]
    assert wide.score(few).rows() == LOGISTIC.score({**COLUMNS, "b": [9, 7, 7, 9, 7]}).rows()


def test_one_row_of_arrays_may_be_masked():
    forgiving = model(Constant(np.array([0.2, 0.8])), JudgeMany("identity"))
    masked = {name: np.ma.MaskedArray([1.0], [True]) for name in COLUMNS}
    assert forgiving.score(masked).rows() == [
        {"label": True, "probabilities": {"false": 0.2, "true": 0.8}}
    ]


def test_other_columns_and_their_order_do_not_matter():
    turned = {"c": ["x"] * 5, "b": COLUMNS["b"], "a": COLUMNS["a"]}
    assert LOGISTIC.score(turned).rows() == LOGISTIC.score(COLUMNS).rows()


def test_threads_share_a_model():
    expected = LOGISTIC.score(COLUMNS).rows()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: LOGISTIC.score(COLUMNS).rows(), range(400)))
    assert all(one == expected for one in answers)


TASKS = {
    "classification": LOGISTIC,
    "regression": model(LINE, Values(), task="regression"),
    "clustering": model(TWO, Greatest(), task="clustering", clusters=None),
    "outlier_detection": model(LINE, Values(), task="outlier_detection"),
    "decomposition": model(TWO, task="decomposition", components=2),
}
WIRE = {
    "classification": {"label": True, "probabilities": {"false": 0.413, "true": 0.587}},
    "regression": {"value": 0.35},
    "clustering": {"cluster": 1},
    "outlier_detection": {"outlier": False, "score": -0.35},
    "decomposition": {"components": [0.25, 1.0]},
}


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, 3) if isinstance(value, float) else value


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_its_answer(task):
    assert rounded(TASKS[task].score(COLUMNS).rows()[0]) == WIRE[task]


@pytest.mark.parametrize("task", TASKS)
def test_rows_alone_get_the_answers_that_they_get_together(task):
    alone = TASKS[task].alone(("b", "c", "a"))
    rows = zip(COLUMNS["b"], "vwxyz", COLUMNS["a"], strict=True)
    assert [alone(row) for row in rows] == TASKS[task].score(COLUMNS).rows()


NUMBERS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.just(10**400))


@given(NUMBERS, NUMBERS)
def test_a_row_alone_of_any_numbers_gets_the_answer_that_it_gets_in_a_table(a, b):
    forgiving = model(Constant(np.array([0.5])), Values("identity"), task="regression")
    for one in (LOGISTIC, TASKS["regression"], forgiving):
        answers = []
        for ask in (lambda m: m.alone(("a", "b"))([a, b]), lambda m: m.score({"a": [a], "b": [b]})):
            try:
                answer = ask(one)
            except Invalid as error:
                answers.append(error.errors)
            else:
                answers.append(answer if isinstance(answer, dict) else answer.rows()[0])
        assert answers[0] == answers[1]


@pytest.mark.parametrize("task", TASKS)
def test_no_rows_get_no_answers_of_the_same_shape(task):
    nothing = TASKS[task].score({"a": [], "b": []})
    some = TASKS[task].score(COLUMNS)
    assert nothing.rows() == []
    assert len(nothing) == 0
    for name, array in some.arrays().items():
        empty = nothing.arrays()[name]
        assert (empty.shape, empty.dtype) == ((0, *array.shape[1:]), array.dtype)


def test_a_model_without_probabilities_tells_labels_alone():
    plain = model(LINE, JudgeTwo(None), probabilities=False)
    assert plain.score(COLUMNS).rows()[:2] == [{"label": True}, {"label": False}]
    assert plain.alone(("a", "b"))((1.0, 1)) == {"label": True}


@pytest.mark.parametrize("task", [task for task in TASKS if task != "clustering"])
def test_what_has_no_finite_answer_is_refused_with_its_row(task):
    missing = {"a": [1.0, None, 2.0], "b": [1, 2, 3]}
    with pytest.raises(Invalid, match="row 1"):
        TASKS[task].score(missing)
    with pytest.raises(Invalid, match="row 0"):
        TASKS[task].score({"a": [None], "b": [1]})
    with pytest.raises(Invalid, match="row 0"):
        TASKS[task].alone(("a", "b"))((None, 1))


def test_absent_columns_and_other_types_are_refused():
    with pytest.raises(Invalid) as absent:
        LOGISTIC.score({"a": [1.0]})
    assert absent.value.errors[0].pointer == "/b"
    with pytest.raises(Invalid, match="a number was expected, not str"):
        LOGISTIC.score({"a": ["1.0"], "b": [1]})
    with pytest.raises(Invalid, match="the column is absent") as absent:
        LOGISTIC.alone(("a",))
    assert absent.value.errors[0].pointer == "/b"
    with pytest.raises(Invalid, match="a number was expected, not str") as other:
        LOGISTIC.alone(("b", "a"))((1, "1.0"))
    assert other.value.errors[0].pointer == "/a"
    with pytest.raises(Invalid, match="1 rows where others have 5"):
        LOGISTIC.score({**COLUMNS, "b": [1]})


def test_answers_to_parts_are_joined():
    parts = [LOGISTIC.score({n: v[s] for n, v in COLUMNS.items()}) for s in PARTS]
    assert joined(parts).rows() == LOGISTIC.score(COLUMNS).rows()
    assert joined(parts[:1]) is parts[0]


PARTS = (slice(0, 2), slice(2, 5))


class Fitted:
    """An estimator that gives its rows back, as scikit-learn's shapes have it."""

    classes_ = np.array(["no", "yes"], dtype=object)

    def predict(self, frame):
        return self.classes_[(frame["a"] > 0).to_numpy().astype(int)]

    def predict_proba(self, frame):
        return np.stack([1 - frame["b"], frame["b"]], axis=1)

    def decision_function(self, frame):
        return frame["a"].to_numpy()


def test_scikit_learn_is_asked_for_what_the_task_needs():
    prepared = {"a": np.array([-1.0, 2.0]), "b": np.array([0.25, 0.75])}
    output = {"task": "classification", "classes": ["no", "yes"], "probabilities": True}
    told = answer(Fitted(), prepared, output)
    assert told.rows()[0] == {"label": "no", "probabilities": {"no": 0.75, "yes": 0.25}}
    unusual = answer(Fitted(), prepared, {"task": "outlier_detection"})
    assert unusual.rows() == [
        {"outlier": True, "score": 1.0},
        {"outlier": False, "score": -2.0},
    ]


def test_classes_that_are_numbers_have_names_like_categories():
    scores = Scores(
        "classification", [1, 2.5], labels=np.array([1]), probabilities=np.array([[0.5, 0.5]])
    )
    assert scores.rows() == [{"label": 2.5, "probabilities": {"1": 0.5, "2.5": 0.5}}]
