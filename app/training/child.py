"""What a run's child processes do, each in the run's work folder: fit, compile, export.

Importing this module imports all that they need, so that a warm process can do it beforehand.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from app.training.catalog.lookup import Catalog
from app.training.fit.run import train
from app.training.fit.serving import compile_saved, export_saved
from app.training.fit.spec import FitSpec

Report = Callable[[dict[str, Any]], None]


def fit(arguments: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Train; ``arguments`` are ``spec`` (the JSON form of a FitSpec) and ``parquet``."""

    def progress(fraction: float, step: str, message: str) -> None:
        report({"fraction": fraction, "step": step, "message": message})

    spec = FitSpec.from_dict(arguments["spec"], Catalog.load())
    trained = train(spec, Path(arguments["parquet"]), Path.cwd(), progress)
    return {"task": trained["task"], "seconds": trained["seconds"]}


def compile(_: Mapping[str, Any], report: Report) -> dict[str, Any]:  # noqa: A001
    """Make and verify the form that is served without scikit-learn."""
    report({"fraction": 0.9, "step": "compile", "message": "Compiling for serving"})
    return compile_saved(Path.cwd())


def export(_: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Make and verify the ONNX export."""
    report({"fraction": 0.95, "step": "export", "message": "Exporting"})
    return export_saved(Path.cwd())
