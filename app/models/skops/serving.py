"""The compiled form of an imported model, verified on rows made up for it.

The rows that an imported model was fitted on are not known here. So it is compared with
scikit-learn on rows that its columns allow: numbers of many sizes, the strings that its encoders
know and one that they don't, missing values where they may be; besides, as always, on the
thresholds of its trees and on values where implementations differ.

Runs in a sandboxed child of its own (``run``), whose failure costs the model nothing.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from app.compiling.compiler import compile_and_verify
from app.models.skops.signature import UNSEEN, Column
from app.scoring.frame import Recipe
from app.scoring.loader import load_sklearn, minor_version

COMPILED: Final = "compiled.myc"
SAMPLE: Final = "sample.json"
MADE_UP_ROWS: Final = 1000
_SEED: Final = 0
_WORDS: Final = ("some", "words", "others", "and", "THE", "x1", "café", "漢字", "-", "2024")


def run(arguments: Mapping[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """For the sandbox: compile ``model``, a joblib file of the current folder, as ``recipe`` and
    ``signature`` tell. Leaves ``compiled.myc`` if it verified; which engine is to serve it.
    """
    report({"fraction": 0.5, "step": "compile", "message": "Compiling for serving"})
    result = compile_and_verify(
        load_sklearn(Path(arguments["model"]).read_bytes(), expected_sklearn_minor=minor_version()),
        Recipe.from_list(arguments["recipe"]),
        arguments["signature"],
        json.loads(Path(SAMPLE).read_text(encoding="utf-8")),
        seed=_SEED,
    )
    if result.compiled is not None:
        Path(COMPILED).write_bytes(result.compiled)
    return result.serving()


def made_up_rows(columns: Sequence[Column], inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Raw rows as columns by name: ``inputs`` are the signature's, in the order of ``columns``."""
    draw = random.Random(_SEED)  # noqa: S311 - no secret
    return {
        told["name"]: [
            None if told["nullable"] and draw.random() < 0.1 else _value(draw, column, told["type"])
            for _ in range(MADE_UP_ROWS)
        ]
        for column, told in zip(columns, inputs, strict=True)
    }


def _value(draw: random.Random, column: Column, kind: str) -> Any:
    if column.kind == "text":
        return " ".join(draw.choices(_WORDS, k=draw.randrange(8)))
    if kind == "string":
        return draw.choice((*column.known, *column.samples, UNSEEN))
    if kind == "boolean":
        return draw.random() < 0.5
    number = draw.choice((1, 1, -1)) * 10 ** draw.uniform(-2, 3)
    return round(number) if kind == "integer" or draw.random() < 0.2 else number
