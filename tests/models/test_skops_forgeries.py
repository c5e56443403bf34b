"""Models whose parts point outside their arrays, or do what no client may, are refused.

In scikit-learn itself many of them read or write foreign memory as soon as they predict.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.tree._tree import Tree

from tests.models.skops_files import LABELS, Importer, classifier, mixed_model, rows_of


@pytest.fixture
def importer(tmp_path: Path) -> Importer:
    return Importer(tmp_path)


# What the parts of a model may not say.


def forged_tree(tree: Tree, **changes: tuple[int, Any]) -> Tree:
    """The same tree with other values in its nodes: field=(node, value)."""
    state = tree.__getstate__()
    for field, (index, value) in changes.items():
        state["nodes"][field][index] = value
    classes = np.array([tree.max_n_classes], dtype=np.intp)
    forged = Tree(tree.n_features, classes, tree.n_outputs)
    forged.__setstate__(state)
    return forged


TREE_FORGERIES = [
    {"left_child": (0, 10**9)},
    {"left_child": (0, 0)},
    {"right_child": (0, -7)},
    {"right_child": (0, 10**6)},
    {"feature": (0, 3)},
    {"feature": (0, -2)},
    {"feature": (0, 10**12)},
]


@pytest.mark.parametrize("changes", TREE_FORGERIES, ids=str)
@pytest.mark.parametrize(
    "owner",
    [
        DecisionTreeClassifier(),
        RandomForestClassifier(2),
        GradientBoostingClassifier(n_estimators=2),
    ],
)
def test_a_forged_node_is_refused_and_does_not_crash(
    importer: Importer, owner: BaseEstimator, changes: dict[str, tuple[int, Any]]
) -> None:
    """In scikit-learn itself, predicting with such a tree reads outside its arrays."""
    model = classifier(owner)
    members = np.asarray(getattr(model, "estimators_", [model]), dtype=object).ravel()
    holder = next(member for member in members if member.tree_.node_count > 1)
    holder.tree_ = forged_tree(holder.tree_, **changes)
    error = importer.refuse(model)
    assert (error.errors[0].code, "Tree" in error.detail) == ("broken_structure", True)


def _fewer_features(model: Any) -> None:
    model.n_features_in_ = 2


def _wider_boosting(model: Any) -> None:
    model.estimators_ = np.hstack([model.estimators_, model.estimators_])


def _histogram_node(field: str, value: int) -> Callable[[Any], None]:
    def forge(model: Any) -> None:
        model._predictors[0][0].nodes[field][0] = value

    return forge


def _histogram_category(model: Any) -> None:
    model._bin_mapper.is_categorical_ = np.array([1, 0, 0], dtype=np.uint8)
    model._bin_mapper.bin_thresholds_[0] = np.array([1e6])


def _support(**changes: Any) -> Callable[[Any], None]:
    def forge(model: Any) -> None:
        for name, value in changes.items():
            setattr(model, name, value(getattr(model, name)))

    return forge


def _centres(model: Any) -> None:
    model.cluster_centers_ = model.cluster_centers_[:, :1].copy()


def _labels(model: Any) -> None:
    model._y = model._y + 1000


def _members_features(model: Any) -> None:
    model.estimators_features_[0] = np.array([0, 1, 99])


FORGERIES = {
    "forest of fewer features": (RandomForestClassifier(2), _fewer_features),
    "tree of fewer features": (DecisionTreeClassifier(), _fewer_features),
    "isolation forest of fewer": (IsolationForest(n_estimators=2), _fewer_features),
    "isolation forest of others": (IsolationForest(n_estimators=2), _members_features),
    "boosting of fewer features": (GradientBoostingClassifier(n_estimators=2), _fewer_features),
    "boosting that is wider": (GradientBoostingClassifier(n_estimators=2), _wider_boosting),
    "histogram child": (HistGradientBoostingClassifier(max_iter=1), _histogram_node("left", 9999)),
    "histogram cycle": (HistGradientBoostingClassifier(max_iter=1), _histogram_node("right", 0)),
    "histogram feature": (
        HistGradientBoostingClassifier(max_iter=1),
        _histogram_node("feature_idx", 10**6),
    ),
    "histogram category": (
        HistGradientBoostingClassifier(max_iter=1),
        _histogram_node("is_categorical", 1),
    ),
    "histogram categories": (HistGradientBoostingClassifier(max_iter=1), _histogram_category),
    "vectors of fewer features": (SVC(), _support(support_vectors_=lambda v: v[:, :1].copy())),
    "vectors that are fewer": (SVC(), _support(support_vectors_=lambda v: v[:1].copy())),
    "vectors with odd counts": (
        SVC(),
        _support(_n_support=lambda n: n + np.array([999, -999], "i4")),
    ),
    "coefficients that are fewer": (SVC(), _support(_dual_coef_=lambda c: c[:, :1].copy())),
    "no intercepts": (SVC(), _support(_intercept_=lambda i: i[:0])),
    "centres of fewer features": (KMeans(2, n_init=1), _centres),
    "labels of no class": (KNeighborsClassifier(3, algorithm="brute"), _labels),
    "neighbours of fewer features": (
        KNeighborsClassifier(3, algorithm="brute"),
        _support(_fit_X=lambda rows: rows[:, :1].copy()),
    ),
}


@pytest.mark.parametrize(("owner", "forge"), FORGERIES.values(), ids=FORGERIES)
def test_a_forged_part_is_refused_and_does_not_crash(
    importer: Importer, owner: BaseEstimator, forge: Callable[[Any], None]
) -> None:
    rows = np.repeat(rows_of(), 3, axis=0)
    model = owner.fit(rows, np.repeat(LABELS, 3))
    forge(model)
    assert importer.refuse(model).errors[0].code == "broken_structure"


def _vocabulary(model: Pipeline) -> None:
    words = model[0].named_transformers_["notes"].vocabulary_
    words[next(iter(words))] = 10**6


def _one_hot_width(model: Pipeline) -> None:
    model[0].named_transformers_["places"]._n_features_outs = [1]


def _one_hot_order(model: Pipeline) -> None:
    encoder = model[0].named_transformers_["places"]
    encoder.categories_ = [np.array([5.0, 1.0])]


def _one_hot_mapping(model: Pipeline) -> None:
    encoder = model[0].named_transformers_["places"]
    encoder._infrequent_enabled = True
    encoder._infrequent_indices = [np.array([10**6])]
    encoder._default_to_infrequent_mappings = [None]


@pytest.mark.parametrize("forge", [_vocabulary, _one_hot_width, _one_hot_order, _one_hot_mapping])
def test_an_encoder_cannot_point_outside_its_matrix(
    importer: Importer, forge: Callable[[Pipeline], None]
) -> None:
    model = mixed_model()
    forge(model)
    assert importer.refuse(model).errors[0].code == "broken_structure"


def test_a_random_state_cannot_point_outside_its_array(importer: Importer) -> None:
    model = classifier()
    state = np.random.RandomState(0)
    told = state.get_state(legacy=False)
    told["state"]["pos"] = 10**6
    state.set_state(told)
    model.random_state_ = state
    assert importer.refuse(model).errors[0].code == "broken_structure"


def _memory(model: Pipeline) -> None:
    model.memory = "/tmp/cache"


def _files(model: Pipeline) -> None:
    model[0].named_transformers_["notes"].input = "filename"


def _pattern(model: Pipeline) -> None:
    model[0].named_transformers_["notes"].token_pattern = r"(a+)+$"


def _long_ngrams(model: Pipeline) -> None:
    model[0].named_transformers_["notes"].ngram_range = (1, 10**6)


def _type_as_analyzer(model: Pipeline) -> None:
    model[0].named_transformers_["notes"].analyzer = str


@pytest.mark.parametrize("forge", [_memory, _files, _pattern, _long_ngrams])
def test_parameters_that_no_client_may_set_are_refused(
    importer: Importer, forge: Callable[[Pipeline], None]
) -> None:
    """``input='filename'`` would read files whose names are in the rows."""
    model = mixed_model()
    forge(model)
    assert importer.refuse(model).errors[0].code in {"not_allowed", "broken_structure"}


def test_functions_are_refused(importer: Importer) -> None:
    model = make_pipeline(FunctionTransformer(np.sin), LogisticRegression()).fit(rows_of(), LABELS)
    error = importer.refuse(model)
    assert error.errors[0].code == "untrusted_type"
    assert "numpy.sin" in error.detail
