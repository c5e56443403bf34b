"""Turns a client's skops file into a joblib file of ours, or says why not.

Runs in a sandboxed child (``run``), because a file that passes every check may still exhaust memory
or time, or hit a fault in native code. In order: the zip is measured; its schema is audited type by
type; skops builds the object from an archive written anew; its structure is checked; its columns,
task and output are read off; it answers a few rows; it is dumped by us, loaded by the loader that
will serve it, and must answer the same.
"""

import io
import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import joblib
import numpy as np
import sklearn
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder
from skops.io import load

from app.kernel.errors import Invalid, ServiceError
from app.models.skops_archive import (
    Archive,
    ArchiveLimits,
    read_archive,
    refused,
    write_archive,
)
from app.models.skops_audit import FOR_SKOPS, audit
from app.models.skops_checks import check_object, reachable
from app.models.skops_signature import Columns, read_columns, read_output, refined, task_of
from app.scoring.estimator import answer, data_frame
from app.scoring.frame import Recipe, prepare
from app.scoring.loader import load_sklearn, minor_version
from app.scoring.scores import Scores

MODEL: Final = "model.joblib"
COMPRESSED_FROM: Final = 10 << 20
TRIED_ALONE: Final = 64
LIBRARIES: Final = ("scikit-learn", "numpy", "scipy", "pandas", "joblib", "skops")

Report = dict[str, Any]


def run(arguments: Mapping[str, Any], report: Callable[[dict[str, Any]], None]) -> Report:
    """For the sandbox: import ``source`` into the current folder; ``inputs`` may refine it."""
    report({"fraction": 0.0, "step": "import", "message": "Reading the file"})
    return import_skops(Path(arguments["source"]), Path.cwd(), inputs=arguments.get("inputs"))


def import_skops(
    source: Path,
    work: Path,
    *,
    inputs: Sequence[Mapping[str, Any]] | None = None,
    limits: ArchiveLimits | None = None,
) -> Report:
    """Leave ``model.joblib`` in ``work`` and tell what it is, as JSON.

    ``inputs`` are the client's columns, ``[{name, type, nullable}]``. Raises Invalid, with pointer
    ``/file`` or below ``/inputs``, and TooLarge.
    """
    limits = limits or ArchiveLimits()
    with source.open("rb") as file:
        data = file.read(limits.file + 1)
    archive = read_archive(data, limits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = _built(archive, limits)
        told = _as_told(_mended(model), archive, inputs)
        model, signature = told.pop("model"), told["signature"]
        columns: Columns = told.pop("columns")
        dumped = _dumped(model)
        _check_dump(model, dumped, columns, Recipe.from_list(told["recipe"]), signature)
    (work / MODEL).write_bytes(dumped)
    return {
        **told,
        "model": MODEL,
        "bytes": len(dumped),
        "source": {
            "bytes": len(data),
            "expanded_bytes": archive.expanded_bytes,
            "skops_version": str(archive.schema.get("_skops_version", ""))[:20] or None,
        },
        "library_versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
        },
    }
