"""An exported graph says what scikit-learn says, in float64, or is not offered."""

import json

import numpy as np
import onnxruntime
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression, PoissonRegressor, SGDClassifier
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, LinearSVC
from threadpoolctl import threadpool_limits

from app.compiling.compiler import compile_and_verify
from app.scoring.cores import JudgeMany
from app.scoring.estimator import answer
from app.scoring.format import NotLoadable, load
from app.scoring.frame import prepare
from app.training.export import models as export_models
from app.training.export.onnx import PUBLIC, export_onnx, feeds
from app.training.export.steps import EXPORTERS
from tests.compiling.cases import (
    INPUTS,
    RECIPE,
    Case,
    coded,
    output_of,
    scaled,
    signature_of,
    small,
    table,
)

TREES = {"n_estimators": 5, "random_state": 0}
HGB = {"max_iter": 8, "random_state": 0}
MEMBERS = [("a", LogisticRegression()), ("b", RandomForestClassifier(**TREES))]


def blend() -> VotingClassifier:
    trees = Pipeline([("prepare", coded()), ("model", HistGradientBoostingClassifier(**HGB))])
    linear = Pipeline([("prepare", scaled()), ("model", LogisticRegression())])
    return VotingClassifier([("t", trees), ("l", linear)], voting="soft", weights=[0.7, 0.3])


CASES = [
    (Case("blend", None, blend(), "two"), None),
    (Case("blend", None, blend(), "three"), None),
    (Case("forest", coded, RandomForestClassifier(**TREES), "three"), None),
    (Case("boosting", small, GradientBoostingClassifier(**TREES), "three"), None),
    (Case("one_vs_rest", scaled, SGDClassifier(loss="log_loss", random_state=0), "three"), None),
    (Case("huber", scaled, SGDClassifier(loss="modified_huber", random_state=0), "three"), None),
    (Case("layers", small, MLPClassifier((4,), max_iter=9, random_state=0), "two"), None),
    (Case("gauss", small, GaussianNB(), "three"), None),
    (Case("sigmoid", small, CalibratedClassifierCV(LinearSVC(), cv=2), "three"), None),
    (Case("bags", coded, BaggingClassifier(max_features=0.5, **TREES), "three"), None),
    (Case("majority", small, VotingClassifier(MEMBERS, weights=[1, 2]), "three"), None),
    (Case("stack", small, StackingClassifier(MEMBERS, cv=2), "three"), None),
    (
        Case(
            "threshold", small, FixedThresholdClassifier(LogisticRegression(), threshold=0.3), "two"
        ),
        None,
    ),
    (Case("histograms", coded, HistGradientBoostingRegressor(**HGB), "number"), None),
    (Case("forest", coded, RandomForestRegressor(**TREES), "number"), None),
    (Case("counts", small, PoissonRegressor(), "positive"), None),
    (Case("isolation", scaled, IsolationForest(**TREES), "none"), "outlier_detection"),
    (Case("centers", small, KMeans(3, n_init=1, random_state=0), "none"), "clustering"),
    (Case("components", small, PCA(3, whiten=True), "none"), "decomposition"),
]


def exported(case, task=None):
    pipeline = case.fitted()
    output = output_of(pipeline, case.target, task)
    with threadpool_limits(1):
        compiled = compile_and_verify(pipeline, RECIPE, signature_of(output), table()).compiled
    return pipeline, output, compiled, export_onnx(compiled, INPUTS, table())


@pytest.mark.parametrize(("case", "task"), CASES, ids=[f"{c.name}-{c.target}" for c, _ in CASES])
def test_a_graph_says_what_scikit_learn_says_on_rows_it_never_saw(case, task):
    pipeline, output, compiled, result = exported(case, task)
    assert result.reason is None
    assert result.verified["label_flips"] == 0
    assert result.verified["rows"] > len(table()["mass"])
    unseen = table(rows=97, seed=5)
    session = onnxruntime.InferenceSession(result.onnx, providers=["CPUExecutionProvider"])
    rows = [dict(zip(unseen, values, strict=True)) for values in zip(*unseen.values(), strict=True)]
    missing = session.get_modelmeta().custom_metadata_map["missing_category"]
    taken = {item.name for item in session.get_inputs()}
    fed = {n: a for n, a in feeds(load(compiled), rows, missing).items() if n in taken}
    names = [item.name for item in session.get_outputs()]
    given = dict(zip(names, session.run(names, fed), strict=True))
    expected = answer(pipeline, prepare(RECIPE, unseen), output).arrays()
    assert {PUBLIC[name] for name in expected} == set(given)
    for name, array in expected.items():
        told = given[PUBLIC[name]]
        if name == "labels":
            assert told.tolist() == [output["classes"][place] for place in array]
        else:
            np.testing.assert_allclose(told, array, rtol=1e-8, atol=1e-8)


def test_a_graph_tells_how_it_is_to_be_fed():
    _, output, _, result = exported(Case("forest", coded, RandomForestClassifier(**TREES), "two"))
    session = onnxruntime.InferenceSession(result.onnx, providers=["CPUExecutionProvider"])
    known = session.get_modelmeta().custom_metadata_map
    assert json.loads(known["recipe"]) == RECIPE.as_list()
    assert json.loads(known["output"]) == output
    assert known["missing_category"] == "<missing>"
    kinds = {item.name: (item.type, item.shape) for item in session.get_inputs()}
    assert kinds["mass"] == ("tensor(double)", ["rows", 1])
    assert kinds["island"] == ("tensor(string)", ["rows", 1])
    assert "comment" not in kinds


REFUSED = [
    (Case("text", lambda: scaled(text=True), LogisticRegression(), "two"), "texts have no ONNX"),
    (Case("kernel", small, SVC(), "two"), "'kernel' has no ONNX form"),
    (
        Case("knots", small, CalibratedClassifierCV(LinearSVC(), method="isotonic", cv=2), "two"),
        "isotonic calibration has no ONNX form",
    ),
]


@pytest.mark.parametrize(("case", "reason"), REFUSED, ids=[case.name for case, _ in REFUSED])
def test_what_has_no_onnx_form_is_refused_with_the_reason(case, reason):
    result = exported(case)[3]
    assert (result.onnx, result.verified) == (None, None)
    assert reason in result.reason


def test_a_graph_that_says_something_else_is_not_offered(monkeypatch):
    monkeypatch.setattr(export_models, "_in_shares", lambda value, _: value)
    case = Case("one_vs_rest", scaled, SGDClassifier(loss="log_loss", random_state=0), "three")
    assert "numbers differ" in exported(case)[3].reason


def test_a_graph_with_other_labels_is_not_offered(monkeypatch):
    real = EXPORTERS[JudgeMany]

    def least(step, value, graph):
        labels = graph.add("ArgMin", value, axis=1, keepdims=0)
        return real(step, value, graph)._replace(labels=labels)

    monkeypatch.setitem(EXPORTERS, JudgeMany, least)
    case = Case("forest", coded, RandomForestClassifier(**TREES), "three")
    assert "other labels" in exported(case)[3].reason


def test_other_files_than_compiled_models_are_refused():
    with pytest.raises(NotLoadable):
        export_onnx(b"PK", INPUTS, table())
