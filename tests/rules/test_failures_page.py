"""The page on failures can't lie: each fault has tests, and each test of a fault is named."""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "failures.md").read_text()
ROW = re.compile(r"^\| (F\d+) \| (.+?) \| (.+?) \| (`tests/.+`) \|$", re.MULTILINE)
NAMED = {found[1]: set(re.findall(r"`([^`]+)`", found[4])) for found in ROW.finditer(PAGE)}
WANTED = [f"F{number}" for number in (*range(1, 21), *range(24, 33), *range(36, 39))]


@cache
def marked():
    """The files of tests by fault, as their marks tell."""
    files = defaultdict(set)
    for path in (ROOT / "tests").rglob("test_*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.fault":
                for argument in call.args:
                    files[argument.value].add(str(path.relative_to(ROOT)))
    return files


@pytest.mark.parametrize("fault", WANTED)
def test_each_fault_names_its_tests(fault):
    assert NAMED[fault] == marked()[fault]


def test_nothing_else_is_marked_or_named():
    faults = {fault for fault in marked() if fault.startswith("F")}
    assert faults == set(WANTED) == set(NAMED)
