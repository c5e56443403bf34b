"""What a training run is asked to do, checked against the columns of its dataset version.

Knows neither scikit-learn nor the data: the API process checks a request with it, and the process
that fits gets it back from JSON.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

from app.kernel.errors import FieldError, Invalid
from app.training.catalog.entries import TASKS, NormalisedSpec
from app.training.catalog.lookup import Catalog

SUPERVISED: Final = ("classification", "regression")
METHODS: Final = ("holdout", "cross_validation", "time_split")
FOLDS: Final = (2, 20)
TEST_FRACTIONS: Final = (0.05, 0.5)
LARGEST_RANDOM_STATE: Final = 2**32 - 1
TARGET_TYPES: Final[Mapping[str, frozenset[str]]] = {
    "classification": frozenset({"string", "boolean", "integer", "number"}),
    "regression": frozenset({"integer", "number", "boolean"}),
}


class FitError(Exception):
    """The data and the request don't make a model; the message tells the client why."""

    code: ClassVar[str] = "fit_error"
    expected: ClassVar[bool] = True


@dataclass(frozen=True)
class ColumnInfo:
    """One column of the dataset version."""

    name: str
    type: str


@dataclass(frozen=True)
class Validation:
    """How the model is judged: on which rows that it was not fitted on."""

    method: str = "holdout"
    test_fraction: float = 0.2
    folds: int = 5
    column: str | None = None


@dataclass(frozen=True)
class FitSpec:
    """One training run. ``features``, ``task`` and ``validation`` are None where left to us."""

    columns: tuple[ColumnInfo, ...]
    estimator: NormalisedSpec
    target: str | None = None
    features: tuple[str, ...] | None = None
    task: str | None = None
    validation: Validation | None = None
    random_state: int = 42
    refit: bool = True
    threads: int = 1
    memory_bytes: int = 1 << 30

    @classmethod
    def checked(cls, **wanted: Any) -> "FitSpec":
        """Make one; ``Invalid`` lists what contradicts the columns or itself."""
        spec = cls(**wanted)
        errors = list(_problems(spec))
        if errors:
            told = "1 problem" if len(errors) == 1 else f"{len(errors)} problems"
            raise Invalid(f"{told} in the training run", errors=errors)
        return spec

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], catalog: Catalog) -> "FitSpec":
        """From the JSON form; everything is checked again."""
        known = dict(document)
        known["columns"] = tuple(ColumnInfo(**column) for column in known["columns"])
        known["estimator"] = catalog.validate_spec(known["estimator"])
        if known.get("features") is not None:
            known["features"] = tuple(known["features"])
        if known.get("validation") is not None:
            known["validation"] = Validation(**known["validation"])
        return cls.checked(**known)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {**asdict(self), "estimator": self.estimator.document}

    def type_of(self, name: str) -> str:
        """The type of a column."""
        return next(column.type for column in self.columns if column.name == name)

    @property
    def known_task(self) -> str | None:
        """The task, where the request alone decides it: named, or the estimator has but one."""
        if self.task is not None:
            return self.task
        if self.target is None:
            return self.estimator.tasks[0] if len(self.estimator.tasks) == 1 else None
        possible = [task for task in self.estimator.tasks if task in SUPERVISED]
        return possible[0] if len(possible) == 1 else None

    @property
    def wanted_features(self) -> tuple[str, ...]:
        """The named features, or all columns but the target."""
        if self.features is not None:
            return self.features
        return tuple(column.name for column in self.columns if column.name != self.target)


def _problems(spec: FitSpec) -> Iterable[FieldError]:
    names = [column.name for column in spec.columns]
    yield from _target_problems(spec, names)
    yield from _feature_problems(spec, names)
    yield from _validation_problems(spec)
    if not _is_integer(spec.random_state) or not 0 <= spec.random_state <= LARGEST_RANDOM_STATE:
        detail = f"must be an integer from 0 to {LARGEST_RANDOM_STATE}"
        allowed = {"type": "integer", "minimum": 0, "maximum": LARGEST_RANDOM_STATE}
        yield FieldError("/random_state", "out_of_range", detail, allowed)


def _target_problems(spec: FitSpec, names: list[str]) -> Iterable[FieldError]:
    task = spec.known_task
    if spec.task is not None and spec.task not in TASKS:
        yield FieldError("/task", "not_an_option", "no such task", list(TASKS))
    elif spec.task is not None and spec.task not in spec.estimator.tasks:
        detail = f"the estimator is not for {spec.task}"
        yield FieldError("/estimator", "conflict", detail, {"tasks": list(spec.estimator.tasks)})
    elif spec.target is None and (task is None or task in SUPERVISED):
        yield FieldError(
            "/target", "missing", "name the column to predict, or an unsupervised task"
        )
    elif spec.target is not None and not set(spec.estimator.tasks) & set(SUPERVISED):
        yield FieldError("/target", "conflict", f"{spec.estimator.tasks[0]} has no target")
    elif spec.target is not None and task is not None and task not in SUPERVISED:
        yield FieldError("/target", "conflict", f"{task} has no target")
    elif spec.target is not None and spec.target not in names:
        yield FieldError("/target", "unknown_column", "no such column", names[:100])
    elif spec.target is not None:
        allowed = TARGET_TYPES[task] if task else TARGET_TYPES["classification"]
        if spec.type_of(spec.target) not in allowed:
            told = spec.type_of(spec.target)
            detail = f"a {told} column cannot be the target of {task or 'a model'}"
            yield FieldError("/target", "type", detail, sorted(allowed))


def _feature_problems(spec: FitSpec, names: list[str]) -> Iterable[FieldError]:
    seen: set[str] = set()
    known = set(names)
    for index, feature in enumerate(spec.features or ()):
        at = f"/features/{index}"
        if feature not in known:
            yield FieldError(at, "unknown_column", "no such column", names[:100])
        elif feature == spec.target:
            yield FieldError(at, "conflict", "the target cannot be a feature")
        elif feature in seen:
            yield FieldError(at, "duplicate", "named twice")
        seen.add(feature)
    if not spec.wanted_features:
        yield FieldError("/features", "missing", "a model needs at least one feature")


def _validation_problems(spec: FitSpec) -> Iterable[FieldError]:
    validation = spec.validation
    if validation is None:
        return
    at = "/validation"
    if validation.method not in METHODS:
        yield FieldError(f"{at}/method", "not_an_option", "no such method", list(METHODS))
    if validation.method == "cross_validation":
        low, high = FOLDS
        if not _is_integer(validation.folds) or not low <= validation.folds <= high:
            detail = f"must be an integer from {low} to {high}"
            yield FieldError(f"{at}/folds", "out_of_range", detail)
        if not spec.refit:
            detail = "cross-validation makes a model of each fold: there is no single one to keep"
            yield FieldError("/refit", "conflict", detail)
    else:
        low_share, high_share = TEST_FRACTIONS
        share = validation.test_fraction
        if isinstance(share, bool) or not low_share <= share <= high_share:
            detail = f"must be a number from {low_share} to {high_share}"
            yield FieldError(f"{at}/test_fraction", "out_of_range", detail)
    if validation.method == "time_split":
        dates = [column.name for column in spec.columns if column.type == "datetime"]
        if validation.column not in dates:
            detail = "a split in time needs a datetime column"
            yield FieldError(f"{at}/column", "unknown_column", detail, dates)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
