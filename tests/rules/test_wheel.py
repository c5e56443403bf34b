"""The wheel holds all that the server needs, and works where there is no checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def run(*command: object, folder: Path) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git tracks or would add."""
    copy = tmp_path_factory.mktemp("tree")
    listed = run("git", "ls-files", "-co", "--exclude-standard", folder=ROOT).splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without a network."""
    folder = tmp_path_factory.mktemp("dist")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ".", folder=tree)
    return next(folder.glob("modelyard-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands, in an environment that borrows this one's other packages."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", folder=folder)
    site = next((folder / "venv" / "lib").glob("python*/site-packages"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    python = folder / "venv" / "bin" / "python"
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, folder=folder)
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (site / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    return folder / "venv" / "bin"


def test_every_file_of_the_package_is_in_the_wheel(tree, wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    for folder, place in (
        ("app", "app"),
        ("migrations", "app/migrations"),
        ("examples", "app/examples"),
    ):
        files = [path for path in (tree / folder).rglob("*") if path.is_file()]
        assert files
        assert {f"{place}/{path.relative_to(tree / folder)}" for path in files} - held == set()
    assert not [name for name in held if "__pycache__" in name or name.startswith("tests")]


def test_the_installed_command_migrates_a_fresh_home(installed, tmp_path):
    out = run(installed / "modelyard", "migrate", "--home", tmp_path / "home", folder=tmp_path)
    assert "myk_" in out
    assert (tmp_path / "home" / "instance" / "modelyard.db").exists()
    again = run(installed / "modelyard", "migrate", "--home", tmp_path / "home", folder=tmp_path)
    assert "myk_" not in again


def test_the_installed_package_finds_its_files(installed, tmp_path):
    program = "import app, app.demo as d; print(app.__file__); print(len(d.penguins().read_text()))"
    where, size = run(installed / "python", "-c", program, folder=tmp_path).splitlines()
    assert not Path(where).is_relative_to(ROOT)
    assert size == "15241"


def test_the_installed_command_writes_the_same_specification(installed, tree, tmp_path):
    out = run(installed / "modelyard", "openapi", folder=tmp_path)
    assert out == (tree / "openapi.yaml").read_text()
