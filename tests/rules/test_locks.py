"""The locks are what pyproject.toml resolves to, and hold all that the code imports."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"].values()
RUNTIME = [*PROJECT["project"]["dependencies"], *(line for extra in EXTRAS for line in extra)]
DEVELOPMENT = PROJECT["dependency-groups"]["dev"]


def locked(name: str) -> dict[str, set[str]]:
    """Package to its locked versions; some differ by Python version."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / name).read_text().splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)(?:\[.*\])?==([^ ;\\]+)", line):
            found.setdefault(canonicalize_name(match[1]), set()).add(match[2])
    return found


def unmet(lines: list[str], lock: dict[str, set[str]]) -> list[str]:
    requirements = [Requirement(line) for line in lines]
    return [
        str(requirement)
        for requirement in requirements
        if not any(
            map(requirement.specifier.contains, lock.get(canonicalize_name(requirement.name), ()))
        )
    ]


def imported() -> set[str]:
    """Top-level names of what the app imports, its own and Python's left out."""
    names = set()
    for path in (ROOT / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"app"}


def test_every_direct_dependency_is_locked_within_its_range():
    assert unmet(RUNTIME, locked("requirements.lock")) == []
    assert unmet(RUNTIME + DEVELOPMENT, locked("requirements-dev.lock")) == []
    assert unmet(["flask>=99"], locked("requirements.lock")) == ["flask>=99"]


def test_what_is_tested_has_the_versions_of_what_runs():
    development = locked("requirements-dev.lock")
    for package, versions in locked("requirements.lock").items():
        assert development[package] == versions


def test_every_locked_package_has_its_hashes():
    for name in ("requirements.lock", "requirements-dev.lock"):
        lines = (ROOT / name).read_text().splitlines()
        starts = [number for number, line in enumerate(lines) if re.match(r"[a-z0-9]", line)]
        assert len(starts) >= len(locked(name))
        assert [lines[n] for n in starts if "--hash=sha256:" not in lines[n + 1]] == []


def test_all_that_the_app_imports_is_locked():
    distributions = packages_distributions()
    lock = locked("requirements.lock")
    missing = {
        name
        for name in imported()
        if not any(canonicalize_name(d) in lock for d in distributions.get(name, ()))
    }
    assert missing == set()
