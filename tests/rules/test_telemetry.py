"""Nothing that the app imports reports to anybody or leaves a trace in the home.

onnxruntime's wheels do both as soon as they are imported, unless ORT_DISABLE_TELEMETRY is set. One
module imports it (a contract of .importlinter says so), and must set that before.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_importing_onnxruntime_leaves_the_home_empty(tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")}
    subprocess.run(
        [sys.executable, "-c", "import app.scoring.trees"],
        cwd=ROOT,
        env=kept | {"HOME": str(tmp_path)},
        check=True,
        timeout=60,
    )
    assert list(tmp_path.rglob("*")) == []
