"""The import rules hold, and each of them notices what it forbids."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = "from importlinter.cli import lint_imports_command as lint; lint()"

PLANTED = [
    ("house", "datasets/service.py", "import app.training.service"),
    ("house", "kernel/sql.py", "import app.scoring.frame"),
    ("house", "scoring/frame.py", "import app.access.tables"),
    ("house", "leftovers.py", ""),
    ("services", "access/service.py", "import app.access.schemas"),
    ("services", "datasets/tables.py", "import app.datasets.service"),
    ("services", "training/catalog/lookup.py", "import app.training.fit.run"),
    ("services", "predictions/engine.py", "import app.predictions.service"),
    ("services", "models/service.py", "import app.models.resources"),
    ("scoring", "scoring/model.py", "import app.scoring.loader"),
    ("no-web", "access/tables.py", "import flask"),
    ("no-web", "datasets/service.py", "import app.kernel.http.api"),
    ("no-sql", "datasets/ingest/csv_source.py", "import app.kernel.sql"),
    ("no-sql", "predictions/engine.py", "import sqlalchemy"),
    ("scoring-pure", "scoring/frame.py", "import sqlalchemy"),
    ("scoring-fitted", "scoring/encoder.py", "import sklearn.tree"),
    ("api-light", "wiring.py", "import pandas"),
    ("api-light", "access/service.py", "import sklearn"),
    ("api-light", "access/resources.py", "import app.access.workers"),
    ("telemetry", "training/export/onnx.py", "import onnxruntime"),
    ("circles", "config.py", "import app.wiring"),
]
NEEDED = ["access/workers.py"]


def lint(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LINT, "--no-logo", "--no-cache", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def copied_tree(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=ignored)
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path


def test_the_tree_keeps_every_rule():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(("contract", "file", "planted"), PLANTED)
def test_a_forbidden_import_breaks_its_rule(copied_tree, contract, file, planted):
    for name in [*NEEDED, file]:
        (copied_tree / "app" / name).touch()
    with (copied_tree / "app" / file).open("a") as source:
        source.write(f"\n{planted}\n")
    done = lint(copied_tree, "--contract", contract)
    assert done.returncode == 1
    assert "1 broken" in done.stdout
    assert f".{Path(file).stem}" in done.stdout
