"""From a fitted pipeline to its compiled form, verified against the pipeline itself.

1. Walk through the pipeline and turn each part into steps (``flow`` and its builders).
2. Store the steps and load them again, as the server will.
3. Compare the loaded model with scikit-learn on rows made to tell them apart (``verify``).
4. Add golden rows, with scikit-learn's answers, which every later load must reproduce.

A model that cannot be compiled, or whose compiled form isn't exact, is served by scikit-learn; the
reason is kept.
"""

import logging
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Final

from app.compiling import (
    categories,
    encoders,
    ensembles,
    expansions,
    geometry,
    linear,
    neighbors,
    structure,
    trees,
)
from app.compiling.flow import (
    NotCompilable,
    Plan,
    as_matrix,
    build_model,
    build_transformer,
    chained,
)
from app.compiling.verify import Verification
from app.scoring.format import check_golden, load, save
from app.scoring.frame import Column, Recipe
from app.scoring.model import CompiledModel

NODE_LIMIT: Final = 3_000_000
"""Compiling takes about 300 bytes and 2 microseconds a node."""

# Each of them registers its builders when it is imported.
BUILDERS: Final = (
    categories,
    encoders,
    ensembles,
    expansions,
    geometry,
    linear,
    neighbors,
    structure,
    trees,
)
_LIBRARIES: Final = ("numpy", "onnx", "onnxruntime", "scikit-learn")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompileResult:
    """Either the compiled model and how it was verified, or the reason why there is none.

    ``verified`` has ``rows`` (how many were compared), ``max_abs_diff`` (over rows of usual size)
    and ``label_flips`` (always 0).
    """

    compiled: bytes | None
    verified: dict[str, Any] | None
    reason: str | None

    def serving(self) -> dict[str, Any]:
        """Which engine is to serve the model, and why."""
        engine = "sklearn" if self.compiled is None else "compiled"
        return {"engine": engine, "reason": self.reason, "verified": self.verified}


def compile_pipeline(
    pipeline: Any, recipe: Recipe, output: Mapping[str, Any], *, node_limit: int = NODE_LIMIT
) -> CompiledModel:
    """The compiled form of a pipeline that was fitted on the recipe's columns; not yet verified.

    ``output`` is that of the model's signature. Raises ``NotCompilable``.
    """
    return _planned(pipeline, recipe, output, node_limit)[0]


def compile_and_verify(
    pipeline: Any,
    recipe: Recipe,
    signature: Mapping[str, Any],
    sample_columns: Mapping[str, Column],
    *,
    node_limit: int = NODE_LIMIT,
    seed: int = 0,
) -> CompileResult:
    """The compiled form as a file, if there is one that says what the pipeline says.

    ``sample_columns`` are raw columns of the training data, by name, of a thousand rows or more if
    there are so many. Trees of more than ``node_limit`` nodes are not compiled.
    """
    try:
        model, plan = _planned(pipeline, recipe, signature["output"], node_limit)
        loaded = load(save(model, compressed=False))
        verification = Verification(loaded, pipeline, seed)
        golden = verification.run(signature["inputs"], sample_columns, plan)
        verified = replace(loaded, golden=golden)
        check_golden(verified)
        return CompileResult(save(verified), verification.as_dict(), None)
    except NotCompilable as error:
        return CompileResult(None, None, str(error))
    except Exception as error:  # noqa: BLE001
        # The model itself is sound: a defect here must not cost the client the training run.
        _log.exception("compiling failed")
        return CompileResult(None, None, f"compiling failed: {type(error).__name__}: {error}")


def _planned(
    pipeline: Any, recipe: Recipe, output: Mapping[str, Any], node_limit: int
) -> tuple[CompiledModel, Plan]:
    plan = Plan(recipe, node_limit)
    start = plan.start(list(getattr(pipeline, "feature_names_in_", recipe.names)))
    if output["task"] == "decomposition":
        steps, flow = build_transformer(pipeline, start, plan)
        more, flow = as_matrix(flow, plan)
        steps = [*steps, *more]
        if not flow.width:
            raise NotCompilable("a decomposition into nothing has no compiled form")
        if flow.width != output["components"]:
            raise NotCompilable(f"{flow.width} components, not {output['components']}")
    else:
        if output["task"] == "classification":
            _check_classes(pipeline, output)
        steps = build_model(pipeline, start, plan)
    versions = {name: version(name) for name in _LIBRARIES}
    versions["python"] = platform.python_version()
    return CompiledModel(recipe, output, chained(steps), plan.widest, versions), plan


def _check_classes(pipeline: Any, output: Mapping[str, Any]) -> None:
    if list(output["classes"]) != pipeline.classes_.tolist():
        raise NotCompilable("the classes of the signature are not those of the pipeline, in order")
