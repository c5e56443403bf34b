"""Looks through an object built from a client's file for what native code would follow blindly.

scikit-learn trusts the inside of its fitted objects: a node's child is an index into an array, a
vocabulary's number is a column. What a file says there is checked against the arrays' real sizes,
or made anew, before anything is predicted. Parameters are held to what a client may set when
training here: no functions, files, caches or patterns.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any, Final

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
)
from sklearn.ensemble._forest import BaseForest
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.feature_selection import f_classif, f_regression
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, LocalOutlierFactor
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import SVC, SVR, OneClassSVM
from sklearn.tree import BaseDecisionTree
from sklearn.tree._tree import Tree

from app.models.skops.archive import refused

MAX_OBJECTS: Final = 5_000_000
LONGEST_NGRAM: Final = 10
_LEAF: Final = -1
_WORDS: Final = r"(?u)\b\w\w+\b"
_PLAIN: Final = (str, bytes, int, float, complex, type(None), slice, np.generic, np.dtype)
_CODE: Final = (type, FunctionType)
_CATEGORIES: Final = 256
_PRIORS: Final = (DummyClassifier, DummyRegressor)


def check_object(model: Any) -> None:
    """Raise Invalid for anything that could reach outside; makes some parts of the model anew.

    Afterwards no part uses more than one thread, prints, or caches.
    """
    objects = list(reachable(model))
    for item in objects:
        if hasattr(item, "__dict__"):
            _check_attributes(item)
        if isinstance(item, BaseEstimator):
            _check_parameters(item)
    fitted = [item for item in objects if not _is_template(item)]
    for kinds, check in _CHECKS:
        for item in fitted:
            if isinstance(item, kinds):
                _checked(check, item)


def _is_template(item: Any) -> bool:
    """Whether it is an estimator that was never fitted, kept as a parameter: it can't predict."""
    return isinstance(item, BaseEstimator) and vars(item).keys() == vars(clone(item)).keys()


def _checked(check: Callable[[Any], None], item: Any) -> None:
    try:
        check(item)
    except (AttributeError, TypeError, ValueError, IndexError, KeyError, OverflowError) as error:
        raise _broken(item) from error


def _require(item: Any, holds: object) -> None:
    if not holds:
        raise _broken(item)


def _broken(item: Any) -> Exception:
    name = type(item).__name__
    return refused("broken_structure", f"The parts of a {name} do not fit together")


def reachable(model: Any) -> Iterator[Any]:
    """Every object that can be reached through attributes and containers, each once."""
    waiting, seen = [model], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, (*_PLAIN, *_CODE)) or id(item) in seen:
            continue
        seen.add(id(item))
        if len(seen) > MAX_OBJECTS:
            raise refused("too_large", f"The model has more than {MAX_OBJECTS} parts")
        yield item
        if isinstance(item, Mapping):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            waiting += item
        elif isinstance(item, np.ndarray):
            waiting += item.ravel().tolist() if item.dtype.hasobject else []
        waiting += vars(item).values() if hasattr(item, "__dict__") else []


def _check_attributes(item: Any) -> None:
    """No attribute may take the place of what the class itself says or does."""
    for name in vars(item):
        if inspect.getattr_static(type(item), name, None) is not None:
            raise refused("broken_structure", f"{type(item).__name__}.{name[:80]} is a value")


def _check_parameters(estimator: BaseEstimator) -> None:
    name = type(estimator).__name__
    try:
        params = estimator.get_params(deep=False)
    except AttributeError as error:
        raise refused("broken_structure", f"A {name} lacks a parameter") from error
    for param, value in params.items():
        is_function = callable(value) and not isinstance(value, BaseEstimator)
        plain_type = isinstance(value, type) and issubclass(value, np.generic | int | float | str)
        if is_function and not plain_type and value not in (f_classif, f_regression):
            raise _not_taken(name, param)
        allowed = {"memory": None, "input": "content", "token_pattern": _WORDS}
        told = value if isinstance(value, str | None) else "something else"
        if (param in allowed and told != allowed[param]) or told == "precomputed":
            raise _not_taken(name, param)
    for param, value in {"n_jobs": None, "verbose": 0, "warm_start": False}.items():
        if param in params:
            setattr(estimator, param, value)


def _not_taken(name: str, param: str) -> Exception:
    return refused("not_allowed", f"{name}.{param} has a value that is not taken from a client")


def _check_tree(tree: Tree) -> None:
    _require(tree, 0 < tree.node_count == tree.capacity and tree.n_outputs == 1)
    nodes = tree.__getstate__()["nodes"]
    inner = nodes["left_child"] != _LEAF
    own = np.flatnonzero(inner)
    for child in (nodes["left_child"][inner], nodes["right_child"][inner]):
        _require(tree, np.all((child > own) & (child < len(nodes))))
    feature = nodes["feature"][inner]
    _require(tree, np.all((feature >= 0) & (feature < tree.n_features)))


def _check_decision_tree(model: BaseDecisionTree) -> None:
    tree = model.tree_
    _require(model, type(tree) is Tree and tree.n_features == model.n_features_in_)
    if is_classifier(model):
        _require(model, tree.max_n_classes == model.n_classes_ == len(model.classes_))


def _check_forest(model: BaseForest) -> None:
    _require(model, len(model.estimators_) > 0)
    for member in model.estimators_:
        _require(model, isinstance(member, BaseDecisionTree))
        _require(model, member.n_features_in_ == model.n_features_in_)
        if is_classifier(model):
            _require(model, member.n_classes_ == model.n_classes_ == len(model.classes_))


def _check_bagging(model: Any) -> None:
    _require(model, 0 < len(model.estimators_) == len(model.estimators_features_))
    for member, features in zip(model.estimators_, model.estimators_features_, strict=True):
        columns = np.asarray(features)
        _require(model, columns.ndim == 1 and columns.dtype.kind in "iu")
        _require(model, np.all((columns >= 0) & (columns < model.n_features_in_)))
        _require(model, member.n_features_in_ == len(columns))
        if isinstance(model, IsolationForest):
            _require(model, isinstance(member, BaseDecisionTree))
            whole = model._max_features == model.n_features_in_  # noqa: SLF001
            _require(model, not whole or len(columns) == model.n_features_in_)


def _check_gradient_boosting(model: Any) -> None:
    classes = model.n_classes_ if is_classifier(model) else 1
    width = 1 if classes <= 2 else classes
    members = model.estimators_
    _require(model, isinstance(members, np.ndarray) and members.ndim == 2 and len(members) > 0)
    _require(model, members.shape[1] == model.n_trees_per_iteration_ == width)
    for member in members.ravel():
        _require(model, isinstance(member, BaseDecisionTree) and not is_classifier(member))
        _require(model, member.n_features_in_ == model.n_features_in_)
        _check_decision_tree(member)
        _require(model, member.tree_.max_n_classes == 1)
    _require(model, model.init_ == "zero" or isinstance(model.init_, _PRIORS))
    rows = np.zeros((2, model.n_features_in_), dtype=np.float32)
    _require(model, model._raw_predict_init(rows).shape == (2, width))  # noqa: SLF001


def _check_histogram_boosting(model: Any) -> None:
    binned = model._bin_mapper  # noqa: SLF001
    thresholds, categorical = binned.bin_thresholds_, np.asarray(binned.is_categorical_)
    width = model.n_features_in_
    if model._preprocessor is not None:  # noqa: SLF001
        width = model._preprocessor.transform(np.zeros((1, width))).shape[1]  # noqa: SLF001
    _require(model, len(thresholds) == width and categorical.shape == (width,))
    for index in np.flatnonzero(categorical):
        values = np.asarray(thresholds[index], dtype=np.float64)
        _require(model, np.all((values >= 0) & (values < _CATEGORIES)))
    for round_ in model._predictors:  # noqa: SLF001
        _require(model, len(round_) == model.n_trees_per_iteration_)
        for predictor in round_:
            _check_predictor(predictor, categorical.astype(bool))


def _check_predictor(predictor: Any, categorical: "np.ndarray[Any, Any]") -> None:
    nodes, bits = predictor.nodes, predictor.raw_left_cat_bitsets
    _require(predictor, nodes.dtype == PREDICTOR_RECORD_DTYPE and nodes.ndim == 1 and len(nodes))
    _require(predictor, bits.dtype == np.uint32 and bits.ndim == 2 and bits.shape[1] == 8)
    inner = ~nodes["is_leaf"].astype(bool)
    own, split = np.flatnonzero(inner), nodes[inner]
    for child in (split["left"].astype(np.int64), split["right"].astype(np.int64)):
        _require(predictor, np.all((child > own) & (child < len(nodes))))
    feature = split["feature_idx"]
    _require(predictor, np.all((feature >= 0) & (feature < len(categorical))))
    by_category = split["is_categorical"].astype(bool)
    _require(predictor, np.all(categorical[feature[by_category]]))
    _require(predictor, np.all(split["bitset_idx"][by_category] < len(bits)))


def _check_support_vectors(model: Any) -> None:
    vectors, each = model.support_vectors_, model._n_support  # noqa: SLF001
    dual, intercept = model._dual_coef_, model._intercept_
    pairs = math.comb(len(each), 2)
    _require(model, model._sparse is False)  # noqa: SLF001
    _require(model, model.kernel in {"linear", "poly", "rbf", "sigmoid"})
    _require(model, vectors.ndim == 2 and vectors.shape[1] == model.n_features_in_)
    _require(model, each.dtype == np.int32 and each.ndim == 1 and np.all(each >= 0))
    if isinstance(model, SVC):
        _require(model, len(each) == len(model.classes_) >= 2 and each.sum() == len(vectors))
    else:
        _require(model, len(each) == 2 and each[0] == len(vectors))
    _require(model, len(vectors) == len(model.support_) > 0)
    _require(model, dual.shape == (len(each) - 1, len(vectors)) and intercept.shape == (pairs,))
    for share in (model._probA, model._probB):  # noqa: SLF001
        _require(model, share.shape in {(0,), (pairs,)})


def _check_centres(model: Any) -> None:
    centres = model.cluster_centers_
    _require(model, centres.ndim == 2 and centres.shape[1] == model.n_features_in_)
    _require(model, len(centres) > 0)
    model._n_threads = 1  # noqa: SLF001


def _check_vocabulary(model: CountVectorizer) -> None:
    numbers = list(model.vocabulary_.values())
    _require(
        model, all(type(number) is int or isinstance(number, np.integer) for number in numbers)
    )
    _require(model, sorted(numbers) == list(range(len(numbers))))
    _require(model, all(isinstance(word, str) for word in model.vocabulary_))
    _require(model, 1 <= model.ngram_range[0] <= model.ngram_range[1] <= LONGEST_NGRAM)


def _check_one_hot(model: OneHotEncoder) -> None:
    columns = len(model.categories_)
    nothing = [None] * columns
    mappings = getattr(model, "_default_to_infrequent_mappings", nothing)
    infrequent = getattr(model, "_infrequent_indices", nothing)
    dropped: Any = model._drop_idx_after_grouping  # noqa: SLF001
    dropped = nothing if dropped is None else dropped
    widths = model._n_features_outs  # noqa: SLF001
    for parts in (mappings, infrequent, dropped, widths):
        _require(model, len(parts) == columns)
    for index, categories in enumerate(model.categories_):
        _require(model, _are_sorted(categories))
        mapping, width = mappings[index], len(categories)
        _require(model, (mapping is None) == (infrequent[index] is None))
        if mapping is not None:
            _require(model, mapping.shape == (width,) and mapping.dtype.kind in "iu")
            _require(model, np.all(mapping >= 0))
            width = int(mapping.max()) + 1
        if dropped[index] is not None:
            _require(model, 0 <= dropped[index] < width)
            width -= 1
        _require(model, widths[index] == width)


def _are_sorted(categories: "np.ndarray[Any, Any]") -> bool:
    """Whether they are as a binary search needs them; objects are looked up otherwise."""
    if categories.ndim != 1 or len(categories) == 0:
        return False
    if categories.dtype.kind == "O":
        return True
    known = categories[categories == categories]  # noqa: PLR0124 - drops NaN, the last one
    return len(known) >= len(categories) - 1 and bool(np.all(known[1:] > known[:-1]))


def _refit_neighbours(model: Any) -> None:
    """Build the search tree anew, from the rows that the model keeps."""
    rows: Any = model._fit_X  # noqa: SLF001
    target: Any = getattr(model, "_y", None)
    _require(model, rows.ndim == 2 and rows.shape[1] == model.n_features_in_)
    if isinstance(model, KNeighborsClassifier):
        _require(model, target.ndim == 1 and target.dtype.kind in "iu" and np.all(target >= 0))
        target = model.classes_[target]
    names = getattr(model, "feature_names_in_", None)
    again = clone(model).fit(rows) if target is None else clone(model).fit(rows, target)
    vars(model).clear()
    vars(model).update(vars(again))
    if names is not None:
        model.feature_names_in_ = names


def _check_random_state(state: np.random.RandomState) -> None:
    told = state.get_state(legacy=False)
    _require(state, told["bit_generator"] == "MT19937" and 0 <= told["state"]["pos"] <= 624)


_CHECKS: Final[tuple[tuple[Any, Callable[[Any], None]], ...]] = (
    (Tree, _check_tree),
    (BaseDecisionTree, _check_decision_tree),
    (BaseForest, _check_forest),
    ((BaggingClassifier, BaggingRegressor, IsolationForest), _check_bagging),
    ((SVC, SVR, OneClassSVM), _check_support_vectors),
    ((KMeans, MiniBatchKMeans), _check_centres),
    (CountVectorizer, _check_vocabulary),
    (OneHotEncoder, _check_one_hot),
    (np.random.RandomState, _check_random_state),
    # The last ones run some of the object's own code, when all of it has been looked at.
    ((GradientBoostingClassifier, GradientBoostingRegressor), _check_gradient_boosting),
    (
        (HistGradientBoostingClassifier, HistGradientBoostingRegressor),
        _check_histogram_boosting,
    ),
    ((KNeighborsClassifier, KNeighborsRegressor, LocalOutlierFactor), _refit_neighbours),
)
