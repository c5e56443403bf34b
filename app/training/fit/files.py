"""The files of a run's work folder, and how they are written: whole or not at all."""

from pathlib import Path
from typing import Any, Final

import joblib

MODEL: Final = "model.joblib"
COMPILED: Final = "compiled.myc"
EXPORT: Final = "model.onnx"
REPORT: Final = "report.json"
SAMPLE: Final = "sample.json"
COMPRESSED_FROM: Final = 16 << 20


def clear(work: Path) -> None:
    """Remove what an earlier run left, lest it be taken for this one's."""
    for name in (MODEL, COMPILED, EXPORT, REPORT, SAMPLE):
        (work / name).unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file beside, then put it into its place."""
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def save_model(model: Any, path: Path) -> None:
    """Write a fitted model by joblib, compressed by zlib if it is large."""
    unfinished = path.with_name(f"{path.name}.part")
    joblib.dump(model, unfinished)
    if unfinished.stat().st_size >= COMPRESSED_FROM:
        joblib.dump(model, unfinished, compress=("zlib", 3))
    unfinished.replace(path)
