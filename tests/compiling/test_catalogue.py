"""Everything that a client may name is compiled exactly, or has a reason why it is not."""

import warnings
from contextlib import suppress
from typing import Any

import pytest
from threadpoolctl import threadpool_limits

from app.compiling.compiler import compile_and_verify
from app.scoring.format import load
from app.scoring.frame import Recipe
from tests.compiling.cases import answered_otherwise_as_a_batch
from tests.scoring.fitted_catalogue import catalogue, fitted, frame, targets, task_of, variants

NUMBERS = ["a", "b", "c", "d"]
RECIPE = Recipe.from_list(
    [
        *({"name": name, "source": name, "kind": "number"} for name in NUMBERS),
        {"name": "place", "source": "place", "kind": "category"},
        {"name": "note", "source": "note", "kind": "text"},
    ]
)
INPUTS = [
    *({"name": name, "type": "number", "nullable": name == "d"} for name in NUMBERS),
    {"name": "place", "type": "string", "nullable": False},
    {"name": "note", "type": "string", "nullable": True},
]
SERVED_BY_SCIKIT_LEARN = {"LatentDirichletAllocation", "NMF"}


def sample() -> dict[str, list[Any]]:
    columns = {name: frame()[name].tolist() for name in RECIPE.names}
    return {
        name: [None if value != value else value for value in values]  # noqa: PLR0124 - NaN
        for name, values in columns.items()
    }


def odd_rows() -> dict[str, list[Any]]:
    """Rows of the table, then what it doesn't hold: gaps, strangers, huge numbers."""
    rows = {name: values[:4] for name, values in sample().items()}
    changes: list[dict[str, Any]] = [{"d": None}, {"place": "Ünseen", "note": ""}]
    changes += [{"place": None, "note": None}, {"a": 1e300, "b": -5.5}, {"a": 2**60, "b": True}]
    return {
        name: [*values, *(change.get(name, values[0]) for change in changes)]
        for name, values in rows.items()
    }


def output_of(model: Any, name: str) -> dict[str, Any]:
    entry, task = catalogue()[name], task_of(name)
    if entry.get("prepares") or not entry["tasks"] or task == "decomposition":
        return {"task": "decomposition", "components": model.transform(frame()).shape[1]}
    if task != "classification":
        return {"task": task}
    shares = hasattr(model, "predict_proba")
    return {"task": task, "classes": model.classes_.tolist(), "probabilities": shares}


def reasons(name: str) -> list[str | None]:
    """Why each way of using the estimator has no compiled form; None for one that has.

    One that has must answer a request of one row as it answers a batch.
    """
    found = []
    for estimator in variants(name):
        for number in range(len(targets(task_of(name)))):
            with suppress(ValueError, TypeError, NotImplementedError), threadpool_limits(1):
                model = fitted(estimator, name, number)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    output = output_of(model, name)
                signature = {"inputs": INPUTS, "output": output}
                result = compile_and_verify(model, RECIPE, signature, sample())
                found.append(result.reason)
                if result.compiled is not None:
                    assert answered_otherwise_as_a_batch(load(result.compiled), odd_rows()) == []
    return found


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", catalogue())
def test_every_way_of_using_an_estimator_is_compiled_exactly_or_has_no_compiled_form(name):
    told = reasons(name)
    assert told
    refused = {reason for reason in told if reason is not None}
    assert all("no compiled form" in reason for reason in refused)
    assert (None not in told) == (name in SERVED_BY_SCIKIT_LEARN)
