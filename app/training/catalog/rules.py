"""The words in which the catalogue's reviews are written, and the rules that hold for all of them.

``catalog_supervised``, ``catalog_unsupervised`` and ``catalog_steps`` say what people decided about
each estimator; ``build`` merges that with scikit-learn's own parameter constraints and
writes ``catalogue.json``. A parameter is offered only if JSON can express it and it stands neither
in ``SERVER_SETS`` nor in ``LEFT_OUT``: callables, regular expressions, file names, cache folders
and whatever costs memory or threads are not a client's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Schema = dict[str, Any]

CLASSIFICATION: Final = ("classification",)
REGRESSION: Final = ("regression",)
SUPERVISED: Final = ("classification", "regression")
CLUSTERING: Final = ("clustering",)
OUTLIERS: Final = ("outlier_detection",)
DECOMPOSITION: Final = ("decomposition",)


@dataclass(frozen=True)
class Reviewed:
    """The decisions about one estimator.

    ``roles`` tells where it may stand: ``final`` (it is the model), ``step`` (it transforms the
    numeric matrix before the model) or ``preparation`` (it takes the place of the automatic
    imputer, category encoder or text vectoriser; ``prepares`` says which). ``family`` tells what
    its input should look like: ``trees`` need no scaling. ``params`` holds schemas that take the
    place of the derived ones, None for a parameter that is not offered. ``defaults`` are ours
    where they differ from scikit-learn's, ``fixed`` is always set and never offered.
    """

    tasks: tuple[str, ...] = ()
    roles: tuple[str, ...] = ("final",)
    family: str = "scaled"
    prepares: str | None = None
    needs_target: bool = False
    params: Mapping[str, Schema | None] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    conditions: tuple[Schema, ...] = ()
    max_rows: int | None = None


def integer(minimum: int, maximum: int) -> Schema:
    """Integers in a closed range of ours."""
    return {"type": "integer", "minimum": minimum, "maximum": maximum, "x-cap": True}


def number(minimum: float, maximum: float) -> Schema:
    """Numbers in a closed range of ours."""
    return {"type": "number", "minimum": minimum, "maximum": maximum, "x-cap": True}


def fraction() -> Schema:
    """A share: above 0, at most 1, written with a decimal point where 1 would be a count."""
    return {"type": "number", "exclusiveMinimum": 0, "maximum": 1}


def options(*values: Any) -> Schema:
    """One of these."""
    return {"enum": list(values)}


def numbers(item: Schema, at_least: int, at_most: int) -> Schema:
    """A list of such values."""
    return {"type": "array", "items": item, "minItems": at_least, "maxItems": at_most}


def span(item: Schema, *, strict: bool) -> Schema:
    """A pair from low to high; ``strict`` if they must differ."""
    return {**numbers(item, 2, 2), "x-ordered": "strict" if strict else "weak"}


def either(*schemas: Schema) -> Schema:
    """Whatever one of these accepts."""
    return {"anyOf": [part for schema in schemas for part in schema.get("anyOf", [schema])]}


def spec(*tasks: str, names: tuple[str, ...] = (), optional: bool = False) -> Schema:
    """A nested estimator of these tasks, of these names if any are given."""
    nested: Schema = {"type": "object", "x-spec": list(tasks)}
    if names:
        nested["x-names"] = list(names)
    return either(nested, {"type": "null"}) if optional else nested


def rule(when: Mapping[str, Schema], then: Mapping[str, Schema], detail: str) -> Schema:
    """A rule across parameters: where all of ``when`` hold, ``then`` must hold.

    A parameter that is not given counts with its default; ``build`` sees to that.
    """
    return {
        "if": {"properties": dict(when)},
        "then": {"properties": dict(then)},
        "x-detail": detail,
    }


SERVER_SETS: Final = frozenset(
    {"n_jobs", "verbose", "warm_start", "random_state", "memory", "copy", "copy_X", "copy_x"}
)
"""Parameters that the server alone decides about; naming one is refused with that reason."""

LEFT_OUT: Final = frozenset(
    {
        *("input", "encoding", "decode_error", "preprocessor", "tokenizer", "token_pattern"),
        *("vocabulary", "dtype", "callback", "pre_dispatch", "cache_size", "precompute", "order"),
        *("metric_params", "kernel_params", "solver_options", "covariance_estimator", "refit"),
        *("categories", "missing_values", "feature_name_combiner", "prefit", "importance_getter"),
        *("oob_score", "compute_score", "store_covariance", "store_precision", "compute_labels"),
        *("verbose_interval", "evaluate_every", "total_samples", "store_cv_results", "fun_args"),
        *("alpha_per_target", "flatten_transform", "monotonic_cst", "interaction_cst"),
        *("categorical_features", "init_size", "w_init", "weights_init", "means_init"),
        *("precisions_init", "mean_prior", "covariance_prior", "noise_variance_init", "seeds"),
        *("class_prior", "decision_function_shape", "break_ties", "sparse_output", "priors"),
        *("error_score", "return_train_score", "keep_empty_features", "constant", "perp_tol"),
        *("compute_inverse_components", "dense_output", "multi_class", "cluster_all"),
        *("power_iteration_normalizer", "n_oversamples", "iterated_power", "whiten_solver"),
    }
)
"""Parameters that are no use, no JSON, or not safe from a client, wherever they occur."""

CAPS: Final[Mapping[str, float]] = {
    "n_estimators": 5000,
    "max_iter": 100_000,
    "max_fun": 1_000_000,
    "n_components": 10_000,
    "degree": 5,
    "max_doc_update_iter": 10_000,
    "n_clusters": 10_000,
    "n_init": 100,
    "n_iter": 100,
    "n_neighbors": 10_000,
    "n_quantiles": 100_000,
    "n_knots": 100,
    "n_bins": 1000,
    "n_iter_no_change": 10_000,
    "leaf_size": 10_000,
    "p": 10,
}
"""Upper bounds of work, by the parameter's name, where scikit-learn knows none."""

POSITIVE_TOL: Final[Schema] = {"type": "number", "exclusiveMinimum": 0, "maximum": 1e6}
"""``tol=0`` never stops early, so it is not offered anywhere."""

NULL: Final[Schema] = {"type": "null"}
COUNT_OR_FRACTION: Final = either(integer(1, 1_000_000), fraction())
FOLDS: Final = integer(2, 10)
FOLDS_OR_NULL: Final = either(FOLDS, NULL)
