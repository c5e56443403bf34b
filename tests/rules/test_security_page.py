"""The page on attacks can't lie: what it names is there, and what defends is named on it."""

import ast
import re
from pathlib import Path

import pytest

from app.settings_table import SERVICES, SETTINGS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "security.md").read_text()
ROW = re.compile(
    r"^\| (?P<attack>.+?) \| (?P<answer>.+?) \| `(?P<test>tests/[^`]+)` \|$", re.MULTILINE
)
ROWS = [found.groupdict() for found in ROW.finditer(PAGE)]


def names_of_tests(path):
    """The names of a file's tests, those of classes too."""
    tree = ast.parse((ROOT / path).read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return {node.name for node in functions if node.name.startswith("test_")}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["attack"][:40])
def test_each_attack_names_a_test_that_there_is(row):
    path, _, name = row["test"].partition("::")
    assert (ROOT / path).is_file()
    assert not name or name in names_of_tests(path)


def test_every_row_of_a_table_of_attacks_was_read():
    _, _, tables = PAGE.partition("## Attacks, answers, tests")
    lines = [line for line in tables.splitlines() if line.startswith("| ")]
    headings = [line for line in lines if line == "| attack | answer | test |"]
    assert len(lines) - len(headings) == len(ROWS)
    assert len(ROWS) > 100


def test_no_attack_stands_twice():
    told = [(row["attack"], row["test"]) for row in ROWS if not row["attack"].startswith("...")]
    assert len(told) == len(set(told))


def test_every_file_of_attacks_is_on_the_page():
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_hostile_*.py")}
    told = {row["test"].partition("::")[0] for row in ROWS}
    assert files - told == set()
    assert len(files) >= 8


def test_every_piece_of_code_that_is_named_is_there():
    named = re.findall(r"`(app/[a-z_/]+\.py)`", PAGE)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_every_setting_that_is_named_is_one():
    known = {setting.env for setting in SETTINGS}
    known |= {f"MODELYARD_{service.upper()}_URL" for service in SERVICES} | {
        "MODELYARD_<SERVICE>_URL"
    }
    named = set(re.findall(r"`(MODELYARD_[A-Z_<>]+)`", PAGE))
    assert named
    assert named - known == set()
