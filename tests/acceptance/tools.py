"""Programs that acceptance tests need besides Python, and how they are run."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest


def program(*names: str) -> str:
    """The path of a program, by the first of its names that is installed.

    Without it the test is skipped; where ``CI`` is set it fails.
    """
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        missing = f"{' or '.join(names)} is not installed"
        if "CI" in os.environ:
            pytest.fail(missing)
        pytest.skip(missing)
    return found


def printed(
    command: list[str], folder: Path, *, seconds: float = 240, more: Mapping[str, str] | None = None
) -> str:
    """What a program prints in a folder; AssertionError with it when the program fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(more or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{Path(command[0]).name}: {done.stdout[-6000:]}"
    return done.stdout
