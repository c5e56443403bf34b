"""The catalogue refuses whatever it does not know, and says what it would have taken."""

import json
import subprocess
import sys
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.kernel.errors import FieldError, Invalid, NotFound
from app.training.catalog.build import build, path, render
from app.training.catalog.lookup import Catalog

CATALOG = Catalog.load()
FOREST = "RandomForestClassifier"


def refused(spec: Any) -> list[FieldError]:
    with pytest.raises(Invalid) as refusal:
        CATALOG.validate_spec(spec)
    assert refusal.value.status == 422
    return list(refusal.value.errors)


def codes(spec: Any) -> list[str]:
    return [error.code for error in refused(spec)]


def forest(**params: Any) -> dict[str, Any]:
    return {"name": FOREST, "params": params}


def test_the_file_is_what_scikit_learn_and_the_reviews_make() -> None:
    assert path().read_text(encoding="utf-8") == render(build())


def test_the_process_that_checks_needs_no_scikit_learn() -> None:
    code = (
        "import sys; from app.training.catalog.lookup import Catalog; import app.training.fit.spec;"
        "Catalog.load().validate_spec({'name': 'Ridge'});"
        "sys.exit(bool({'sklearn', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_there_are_estimators_for_every_task_and_steps_before_them() -> None:
    finals = {entry.name: entry.tasks for entry in CATALOG.list(role="final")}
    by_task = [task for tasks in finals.values() for task in tasks]
    counted = {task: by_task.count(task) for task in set(by_task)}
    assert counted["classification"] >= 18
    assert counted["regression"] >= 18
    assert counted["clustering"] >= 6
    assert counted["outlier_detection"] >= 4
    assert counted["decomposition"] >= 6
    assert len(CATALOG.list(role="step")) + len(CATALOG.list(role="preparation")) >= 20


@pytest.mark.parametrize("entry", CATALOG.list(), ids=lambda entry: entry.name)
def test_each_entry_has_a_valid_schema_that_takes_its_own_defaults(entry: Any) -> None:
    jsonschema.Draft202012Validator.check_schema(entry.parameters)
    validator = jsonschema.Draft202012Validator({**entry.parameters, "required": []})
    assert not list(validator.iter_errors(entry.defaults))
    assert entry.summary
    assert not set(entry.properties) & {"n_jobs", "random_state", "verbose", "memory", "warm_start"}


def test_no_deprecated_parameter_is_offered() -> None:
    assert "penalty" not in CATALOG.get("LogisticRegression").properties
    assert "probability" not in CATALOG.get("SVC").properties
    assert not any("deprecated" in str(entry.parameters) for entry in CATALOG.list())


def test_every_integer_has_an_upper_bound() -> None:
    def integers(schema: Any) -> Any:
        for part in schema.get("anyOf", [schema]):
            if part.get("type") == "integer":
                yield part
            yield from integers(part["items"]) if "items" in part else ()

    found = [i for e in CATALOG.list() for p in e.properties.values() for i in integers(p)]
    assert len(found) > 150
    assert all(schema["maximum"] <= 1_000_000 for schema in found)


def test_auto_and_a_plain_estimator_pass() -> None:
    assert CATALOG.validate_spec("auto").is_auto
    spec = CATALOG.validate_spec(forest(n_estimators=200, max_features=0.5))
    assert spec.tasks == ("classification",)
    assert spec.document == forest(n_estimators=200, max_features=0.5)


def test_a_checked_specification_passes_again_unchanged() -> None:
    members = [{"name": "LogisticRegression"}, {"steps": [{"name": "PCA"}, {"name": "SVC"}]}]
    voting = {"name": "VotingClassifier", "params": {"estimators": members, "voting": "hard"}}
    first = CATALOG.validate_spec({"steps": [{"name": "OneHotEncoder"}, voting]})
    again = CATALOG.validate_spec(json.loads(json.dumps(first.document)))
    assert again == first
    assert first.names[0] == "OneHotEncoder"


def test_an_unknown_name_in_the_catalogue_is_not_found() -> None:
    with pytest.raises(NotFound) as refusal:
        CATALOG.get("RandomForest")
    assert len(refusal.value.extra["did_you_mean"]) <= 3


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "sklearn.utils._testing.os.system",
        "__import__",
        f"{FOREST}.__init__",
        "",
        "x" * 1_000_000,
        7,
        None,
        ["Ridge"],
    ],
    ids=lambda name: str(name)[:20],
)
def test_names_are_looked_up_and_never_imported(name: Any) -> None:
    for spec in (name, {"name": name}):
        for error in refused(spec):
            assert error.code in {"unknown_estimator", "type"}
            assert len(error.detail) < 300
            assert len((error.allowed or {}).get("did_you_mean", [])) <= 3


def test_a_misspelt_name_gets_close_ones() -> None:
    with pytest.raises(Invalid) as refusal:
        CATALOG.validate_spec({"name": "RandomForestClasifier"})
    assert refusal.value.extra["did_you_mean"][0] == FOREST
    assert refusal.value.errors[0].pointer == "/estimator/name"


@pytest.mark.parametrize("param", ["input", "token_pattern", "tokenizer", "vocabulary", "encoding"])
def test_a_text_step_cannot_be_told_to_read_files(param: str) -> None:
    step = {"name": "CountVectorizer", "params": {param: "filename"}}
    spec = {"steps": [step, {"name": "LogisticRegression"}]}
    assert codes(spec) == ["unknown_parameter"]


def test_no_folder_for_a_cache_is_taken() -> None:
    assert codes(forest(memory="/tmp/x")) == ["not_allowed"]
    steps = {"steps": [{"name": "PCA"}, {"name": FOREST}], "memory": "/tmp/x"}
    assert codes(steps) == ["unknown_field"]


@pytest.mark.parametrize(
    "spec",
    [
        {"steps": [{"name": "FunctionTransformer"}, {"name": "Ridge"}]},
        {"name": "KNeighborsClassifier", "params": {"metric": "pyfunc"}},
        {"name": "KNeighborsClassifier", "params": {"weights": "builtins.eval"}},
        {"name": "SVC", "params": {"kernel": "precomputed"}},
        {"name": "HistGradientBoostingClassifier", "params": {"scoring": "builtins.eval"}},
        {
            "name": "GridSearchCV",
            "params": {
                "estimator": {"name": "Ridge"},
                "param_grid": {"alpha": [1.0]},
                "pre_dispatch": "__import__('os').system('true')",
            },
        },
        {
            "name": "GridSearchCV",
            "params": {
                "estimator": {"name": "Ridge"},
                "param_grid": {"alpha": [1.0]},
                "scoring": "builtins.eval",
            },
        },
    ],
)
def test_nothing_callable_is_taken(spec: Any) -> None:
    assert refused(spec)


def test_a_billion_trees_are_over_the_limit() -> None:
    (error,) = refused(forest(n_estimators=10**9))
    assert error.pointer == "/estimator/params/n_estimators"
    assert error.code == "limit_exceeded"
    assert error.allowed == {"type": "integer", "minimum": 1, "maximum": 5000}


def test_work_is_multiplied_out_through_nested_estimators() -> None:
    inner = forest(n_estimators=5000)
    spec = {"name": "BaggingClassifier", "params": {"n_estimators": 5000, "estimator": inner}}
    assert codes(spec) == ["limit_exceeded"]


@pytest.mark.parametrize("jobs", [1_000_000, -1, 1, None])
def test_the_number_of_jobs_is_the_servers(jobs: Any) -> None:
    assert codes(forest(n_jobs=jobs)) == ["not_allowed"]


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("MLPClassifier", {"hidden_layer_sizes": [1_000_000_000]}),
        ("MLPClassifier", {"hidden_layer_sizes": [100] * 11}),
        ("PolynomialFeatures", {"degree": 20}),
        ("RBFSampler", {"n_components": 10**9}),
    ],
)
def test_the_amount_of_work_is_capped(name: str, params: dict[str, Any]) -> None:
    spec: Any = {"name": name, "params": params}
    if "step" in CATALOG.get(name).roles:
        spec = {"steps": [spec, {"name": "Ridge"}]}
    assert codes(spec)[0] in {"limit_exceeded", "wrong_length"}


@pytest.mark.parametrize(
    ("name", "params", "code"),
    [
        ("LogisticRegression", {"max_iter": 10**15}, "limit_exceeded"),
        ("LogisticRegression", {"tol": 0}, "out_of_range"),
        ("LogisticRegression", {"verbose": 10**9}, "not_allowed"),
        ("LogisticRegression", {"warm_start": True}, "not_allowed"),
        ("SVC", {"cache_size": 10**9}, "unknown_parameter"),
    ],
)
def test_endless_and_greedy_parameters_are_refused(
    name: str, params: dict[str, Any], code: str
) -> None:
    assert codes({"name": name, "params": params}) == [code]


@pytest.mark.parametrize(
    "value",
    [True, "10", 10.0, float("nan"), float("inf"), 10**6000, -(10**6000), [10], {"a": 1}, None],
    ids=lambda value: type(value).__name__,
)
def test_an_integer_is_an_integer(value: Any) -> None:
    (error,) = refused(forest(n_estimators=value))
    assert error.code in {"type", "not_finite", "limit_exceeded", "out_of_range"}
    assert len(error.detail) < 200


@pytest.mark.parametrize(
    "value",
    [True, "0.1", float("nan"), float("inf"), 10**6000, [0.1]],
    ids=lambda value: type(value).__name__,
)
def test_a_number_is_finite_and_no_string(value: Any) -> None:
    spec = {"name": "LogisticRegression", "params": {"C": value}}
    assert codes(spec)[0] in {"type", "not_finite", "limit_exceeded"}


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"random_state": -1}, "not_allowed"),
        ({"random_state": 2**40}, "not_allowed"),
        ({"class_weight": {"__class__": 1}}, "not_an_option"),
        ({"a__b__c": 1}, "nested_key"),
        ({"__init__": 1}, "nested_key"),
    ],
)
def test_state_weights_and_nested_keys_are_not_taken(params: Any, code: str) -> None:
    assert codes(forest(**params)) == [code]


def test_open_intervals_are_open() -> None:
    assert codes({"name": "LogisticRegression", "params": {"C": 0}}) == ["out_of_range"]
    assert codes(forest(min_samples_leaf=1.0)) == ["out_of_range"]
    CATALOG.validate_spec(forest(min_samples_split=1.0, max_features=1.0))


def test_rules_across_parameters_count_defaults() -> None:
    assert codes({"name": "ExtraTreesClassifier", "params": {"max_samples": 0.5}}) == ["conflict"]
    CATALOG.validate_spec(forest(max_samples=0.5))
    assert codes({"name": "LogisticRegression", "params": {"l1_ratio": 0.5}}) == ["conflict"]
    saga = {"l1_ratio": 0.5, "solver": "saga"}
    CATALOG.validate_spec({"name": "LogisticRegression", "params": saga})


def test_depth_and_number_of_estimators_are_bounded() -> None:
    deep: Any = {"name": "LogisticRegression"}
    for _ in range(10):
        deep = {"name": "BaggingClassifier", "params": {"estimator": deep, "n_estimators": 1}}
    assert "too_deep" in codes(deep)
    for _ in range(2000):
        deep = {"name": "BaggingClassifier", "params": {"estimator": deep}}
    assert "too_deep" in codes(deep)
    wide = {"name": "VotingClassifier", "params": {"estimators": [forest(n_estimators=1)] * 9}}
    wider = {"name": "VotingClassifier", "params": {"estimators": [wide] * 9}}
    assert "too_many" in codes(wider)


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [{"name": "PCA"}],
        [{"name": "Ridge"}, {"name": "Ridge"}],
        [{"name": "PCA"}, {"name": "SimpleImputer"}, {"name": "Ridge"}],
        [{"name": "SimpleImputer"}, {"name": "KNNImputer"}, {"name": "Ridge"}],
        [{"name": "SelectKBest"}, {"name": "KMeans"}],
        [{"name": "RFE", "params": {"estimator": {"name": "Ridge"}}}, {"name": "SVC"}],
        [{"name": "RFE", "params": {"estimator": {"name": "KNeighborsClassifier"}}}] * 2,
        "PCA",
    ],
)
def test_steps_that_make_no_pipeline_are_refused(steps: Any) -> None:
    if steps == [{"name": "PCA"}]:
        assert CATALOG.validate_spec({"steps": steps}).tasks == ("decomposition",)
        return
    assert refused({"steps": steps})


def test_a_search_is_outermost_and_bounded() -> None:
    grid = {"C": [0.1, 1.0], "max_iter": [100, 10**9]}
    search = {
        "name": "GridSearchCV",
        "params": {"estimator": {"name": "LogisticRegression"}, "param_grid": grid},
    }
    (error,) = refused(search)
    assert error.pointer == "/estimator/params/param_grid/max_iter/1"
    grid["max_iter"] = list(range(100, 200))
    assert codes(search) == ["limit_exceeded"]
    grid["max_iter"] = [100]
    assert CATALOG.validate_spec(search).tasks == ("classification",)
    bagging = {"name": "BaggingClassifier", "params": {"estimator": search}}
    assert codes(bagging) == ["not_here"]


@pytest.mark.parametrize(
    "values", [{"low": 1}, {"low": 2, "high": 1}, {"low": 0, "high": 1, "log": True}, 3, [], [-1.0]]
)
def test_what_a_random_search_draws_from_is_checked(values: Any) -> None:
    params = {"estimator": {"name": "Ridge"}, "param_distributions": {"alpha": values}}
    assert refused({"name": "RandomizedSearchCV", "params": params})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
NAMES = st.sampled_from([entry.name for entry in CATALOG.list()])


@st.composite
def nearly_right(draw: st.DrawFn) -> Any:
    """Specifications with known names and parameters, and anything for their values."""
    entry = CATALOG.get(draw(NAMES))
    known = st.sampled_from([*entry.properties, "n_jobs", "a__b"])
    values = JSON | st.builds(lambda name: {"name": name}, NAMES)
    return {"name": entry.name, "params": draw(st.dictionaries(known, values, max_size=4))}


@settings(max_examples=150, deadline=None)
@given(JSON | nearly_right() | st.lists(nearly_right(), max_size=3).map(lambda s: {"steps": s}))
def test_whatever_is_sent_passes_or_is_invalid(spec: Any) -> None:
    try:
        checked = CATALOG.validate_spec(spec)
    except Invalid as refusal:
        told = json.dumps([error.as_dict() for error in refusal.errors])
    else:
        told = json.dumps(CATALOG.validate_spec(checked.document).document)
        assert told == json.dumps(checked.document)
    assert len(told) > 2


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_passes_here_passes_the_published_schema(data: st.DataObject) -> None:
    entry = CATALOG.get(data.draw(NAMES))
    values = st.integers(-5, 300) | st.floats(-1, 2) | st.booleans() | st.none() | st.just("auto")
    params = data.draw(st.dictionaries(st.sampled_from(list(entry.properties)), values, max_size=3))
    spec: Any = {"name": entry.name, "params": params}
    if "final" not in entry.roles:
        spec = {"steps": [spec, {"name": "LogisticRegression"}]}
    try:
        CATALOG.validate_spec(spec)
    except Invalid:
        return
    jsonschema.Draft202012Validator(entry.parameters).validate(params)
