"""Compiling what wraps or combines other estimators; each member is compiled for itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, NuSVC

from app.compiling.encoders import floats
from app.compiling.flow import (
    Flow,
    NotCompilable,
    Plan,
    as_matrix,
    build_model,
    chained,
    inner,
    matrix_for,
    picked,
    predicts,
)
from app.compiling.trees import (
    TREE_CLASSIFIERS,
    TREE_REGRESSORS,
    mean_of_trees,
    shares,
)
from app.scoring.cores import Column, JudgeMany, Rejudge, Values
from app.scoring.encoder import Together
from app.scoring.ensembles import Blend, Calibrate, Majority, Opinion, Shares
from app.scoring.numbers import Stretch
from app.scoring.step import Step


@predicts(GridSearchCV, RandomizedSearchCV)
def build_search(search: Any, flow: Flow, plan: Plan) -> list[Step]:
    """The estimator that the search found best."""
    return build_model(search.best_estimator_, flow, plan)


@predicts(FrozenEstimator)
def build_frozen(frozen: FrozenEstimator, flow: Flow, plan: Plan) -> list[Step]:
    """The estimator within."""
    return build_model(frozen.estimator, flow, plan)


def weights_of(voting: Any) -> list[float] | None:
    """The weights of the members that vote."""
    if voting.weights is None:
        return None
    members = zip(voting.estimators, voting.weights, strict=True)
    return [float(weight) for (_, member), weight in members if member != "drop"]


def sharing(member: Any, flow: Flow, plan: Plan, classes: int) -> Step:
    """A member that was trained on the positions of the classes, up to shares of all of them."""
    places = [int(place) for place in member.classes_]
    return chained([*build_model(member, flow, plan), Shares(places, classes)])


@predicts(VotingClassifier)
def build_voting_classifier(voting: VotingClassifier, flow: Flow, plan: Plan) -> list[Step]:
    """The mean of the members' probabilities, or the majority of their labels."""
    weights, classes = weights_of(voting), len(voting.classes_)
    if voting.voting == "soft":
        members = [sharing(member, flow, plan, classes) for member in voting.estimators_]
        return [Blend(members, weights), JudgeMany("identity")]
    judges = [chained(build_model(member, flow, plan)) for member in voting.estimators_]
    return [Majority(judges, weights, classes)]


@predicts(VotingRegressor)
def build_voting_regressor(voting: VotingRegressor, flow: Flow, plan: Plan) -> list[Step]:
    """The mean of the members' values."""
    members = [chained(build_model(member, flow, plan)) for member in voting.estimators_]
    return [Blend(members, weights_of(voting))]


@predicts(BaggingClassifier)
def build_bagging_classifier(bagging: BaggingClassifier, flow: Flow, plan: Plan) -> list[Step]:
    """The mean of members that were trained on samples of rows and columns."""
    steps, flow = matrix_for(bagging, flow, plan)
    members, features = bagging.estimators_, bagging.estimators_features_
    classes = len(bagging.classes_)
    if all(type(member) in TREE_CLASSIFIERS for member in members):
        return [*steps, *shares(members, features, flow, plan, classes)]
    chains = []
    for member, columns in zip(members, features, strict=True):
        first, part = picked(flow, columns)
        chains.append(chained([*first, sharing(member, part, plan, classes)]))
    return [*steps, Blend(chains, None), JudgeMany("identity")]


@predicts(BaggingRegressor)
def build_bagging_regressor(bagging: BaggingRegressor, flow: Flow, plan: Plan) -> list[Step]:
    """The mean of members that were trained on samples of rows and columns."""
    steps, flow = matrix_for(bagging, flow, plan)
    members, features = bagging.estimators_, bagging.estimators_features_
    if all(type(member) in TREE_REGRESSORS for member in members):
        return [*steps, *mean_of_trees(members, features, flow, plan)]
    chains = []
    for member, columns in zip(members, features, strict=True):
        first, part = picked(flow, columns)
        chains.append(chained([*first, *build_model(member, part, plan)]))
    return [*steps, Blend(chains, None)]


@predicts(StackingClassifier, StackingRegressor)
def build_stacking(stacking: Any, flow: Flow, plan: Plan) -> list[Step]:
    """What the members say, as columns for a final estimator."""
    branches: list[Step] = []
    width = 0
    for member, method in zip(stacking.estimators_, stacking.stack_method_, strict=True):
        steps = build_model(member, flow, plan)
        opinion, columns = _opinion(member, method)
        branches.append(chained([*steps, opinion]))
        width += columns
    if stacking.passthrough:
        steps, after = as_matrix(flow, plan)
        branches.append(chained(steps or [Stretch(np.ones(flow.width), np.zeros(flow.width))]))
        width += after.width
    final = build_model(stacking.final_estimator_, Flow.matrix(width, gaps=True), plan)
    return [Together(branches), *final]


def _opinion(member: Any, method: str) -> tuple[Step, int]:
    """The columns that stacking takes from a member, and how many."""
    if not is_classifier(member):
        return Column(), 1
    classes = len(member.classes_)
    if not np.array_equal(member.classes_, np.arange(classes)):
        raise NotCompilable("stacking of members that were trained on other classes")
    if method == "predict":
        return Opinion("labels"), 1
    if method == "predict_proba":
        return (Opinion("second"), 1) if classes == 2 else (Opinion("probabilities"), classes)
    refuse_other_decision(member)
    return Opinion("decision"), 1 if classes == 2 else classes


def unwrapped(estimator: Any) -> Any:
    """The estimator that decides, within searches and pipelines."""
    if isinstance(estimator, FrozenEstimator):
        return unwrapped(estimator.estimator)
    if isinstance(estimator, (GridSearchCV, RandomizedSearchCV)):
        return unwrapped(estimator.best_estimator_)
    if isinstance(estimator, Pipeline):
        return unwrapped(estimator.steps[-1][1])
    return estimator


def refuse_other_decision(estimator: Any) -> None:
    """Refuse classifiers whose decision function isn't the score that the steps judge by."""
    core = unwrapped(estimator)
    pairs = isinstance(core, (SVC, NuSVC)) and len(core.classes_) > 2
    if pairs or isinstance(core, (BaggingClassifier, StackingClassifier)):
        raise NotCompilable(f"the decision function of {type(core).__name__} has no compiled form")


@predicts(CalibratedClassifierCV)
def build_calibrated(model: CalibratedClassifierCV, flow: Flow, plan: Plan) -> list[Step]:
    """The mean of classifiers, each with its scores made into calibrated probabilities."""
    members = [_calibrated(part, flow, plan) for part in model.calibrated_classifiers_]
    return [Blend(members, None), JudgeMany("identity")]


def _calibrated(part: Any, flow: Flow, plan: Plan) -> Step:
    if part.method not in {"sigmoid", "isotonic"}:
        raise NotCompilable(f"calibration by {part.method!r} has no compiled form")
    classes = part.classes.tolist()
    use = "second" if len(classes) == 2 else "probabilities"
    if hasattr(part.estimator, "decision_function"):
        refuse_other_decision(part.estimator)
        use = "decision"
    places = [classes.index(known) for known in part.estimator.classes_.tolist()]
    curves = part.calibrators
    isotonic = [curve for curve in curves if isinstance(curve, IsotonicRegression)]
    sigmoid = [curve for curve in curves if not isinstance(curve, IsotonicRegression)]
    step = Calibrate(
        places=[1] if len(classes) == 2 else places[: len(curves)],
        classes=len(classes),
        slopes=[float(curve.a_) for curve in sigmoid],
        offsets=[float(curve.b_) for curve in sigmoid],
        knots=[floats(curve.X_thresholds_) for curve in isotonic],
        heights=[floats(curve.y_thresholds_) for curve in isotonic],
    )
    return chained([*build_model(part.estimator, flow, plan), Opinion(use), step])


@predicts(TunedThresholdClassifierCV)
def build_tuned_threshold(model: Any, flow: Flow, plan: Plan) -> list[Step]:
    """A classifier with a threshold found by cross-validation."""
    positive = inner(inner(model, "_curve_scorer"), "_get_pos_label")()
    return rejudged(model, model.best_threshold_, positive, flow, plan)


@predicts(FixedThresholdClassifier)
def build_fixed_threshold(model: Any, flow: Flow, plan: Plan) -> list[Step]:
    """A classifier with a threshold that the user gave."""
    if model.threshold == "auto":
        by_shares = _threshold_by(model) == "probabilities"
        return rejudged(model, 0.5 if by_shares else 0.0, model.pos_label, flow, plan)
    return rejudged(model, model.threshold, model.pos_label, flow, plan)


def rejudged(model: Any, threshold: float, positive: Any, flow: Flow, plan: Plan) -> list[Step]:
    """The classifier within, with a threshold on the score of its positive class."""
    classes: Sequence[Any] = model.classes_.tolist()
    place = 1 if positive is None else classes.index(positive)
    by = _threshold_by(model)
    if by == "decision":
        refuse_other_decision(model.estimator_)
    steps = build_model(model.estimator_, flow, plan)
    return [*steps, Rejudge(float(threshold), place, by)]


def _threshold_by(model: Any) -> str:
    """What the threshold is compared with."""
    asked = model.response_method
    shares_asked = asked == "predict_proba" or (
        asked == "auto" and hasattr(model.estimator_, "predict_proba")
    )
    return "probabilities" if shares_asked else "decision"


@predicts(TransformedTargetRegressor)
def build_transformed_target(model: Any, flow: Flow, plan: Plan) -> list[Step]:
    """A regressor whose target was transformed; its values are transformed back."""
    steps = build_model(model.regressor_, flow, plan)
    transformer = model.transformer_
    if isinstance(transformer, FunctionTransformer) and not transformer.inv_kw_args:
        links = {None: "identity", np.exp: "exp", np.expm1: "expm1"}
        if transformer.inverse_func in links:
            return [*steps, Column(), Values(links[transformer.inverse_func])]
    if type(transformer) is StandardScaler:
        factor = transformer.scale_ if transformer.with_std else np.ones(1)
        offset = transformer.mean_ if transformer.with_mean else np.zeros(1)
        return [*steps, Column(), Stretch(floats(factor), floats(offset)), Values()]
    raise NotCompilable("the transformation of the target has no compiled form")
