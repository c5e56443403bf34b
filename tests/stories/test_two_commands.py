"""A person clones the repository on a fresh account and types ``make demo``, twice."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(600)]


def run(*command: str, folder: Path, home: Path) -> subprocess.CompletedProcess[str]:
    ours = ("MODELYARD_", "VENV", "VIRTUAL_ENV", "PYTHON", "PYTEST", "MAKE", "ORT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    # pip asks rustc for its version, and rustup writes settings where it finds none.
    kept["RUSTUP_HOME"] = os.environ.get("RUSTUP_HOME", str(Path.home() / ".rustup"))
    return subprocess.run(
        command,
        cwd=folder,
        env=kept | {"HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def clone(tmp_path: Path, home: Path) -> Iterator[Path]:
    """What git tracks or would add, in a repository of its own."""
    listed = run("git", "ls-files", "-co", "--exclude-standard", folder=ROOT, home=home)
    folder = tmp_path / "clone"
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
            (folder / name).chmod((ROOT / name).stat().st_mode)
    for command in (["init", "-q"], ["add", "-A"]):
        run("git", *command, folder=folder, home=home)
    yield folder
    shutil.rmtree(folder / ".venv", ignore_errors=True)


def test_make_demo_works_from_nothing_and_again(clone, home):
    for most_seconds in (180, 20):
        started = time.monotonic()
        done = run("make", "demo", folder=clone, home=home)
        took = time.monotonic() - started
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("  curl ") >= 5
        assert took < most_seconds
    assert '"version": 2' in done.stdout
    made = run("git", "status", "--porcelain", folder=clone, home=home).stdout
    assert "??" not in made
    assert {path.relative_to(home).parts[:2] for path in home.rglob("*") if path.is_file()} <= {
        (".cache", "pip")
    }
