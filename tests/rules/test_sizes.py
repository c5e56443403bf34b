"""Files, functions and classes stay small enough to be read in one go."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

APP = Path(__file__).parents[2] / "app"
MOST_LINES, MOST_LINES_OF_A_FUNCTION, MOST_METHODS = 400, 40, 12
FILES = sorted(APP.rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef


def oversized(source: str) -> Iterator[str]:
    """What reaches a limit, with its size."""
    lines = source.count("\n")
    if lines >= MOST_LINES:
        yield f"{lines} lines"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function) and lines_of(node) >= MOST_LINES_OF_A_FUNCTION:
            yield f"{node.name}: {lines_of(node)} lines"
        if isinstance(node, ast.ClassDef) and methods_of(node) >= MOST_METHODS:
            yield f"{node.name}: {methods_of(node)} methods"


def lines_of(function: Function) -> int:
    """Its own lines: the docstring and what is defined inside stand for themselves."""
    inner = [node for node in function.body if isinstance(node, Function | ast.ClassDef)]
    if ast.get_docstring(function) is not None:
        inner.append(function.body[0])
    return span(function) - sum(map(span, inner))


def methods_of(class_: ast.ClassDef) -> int:
    """What a caller may call: private methods and properties are not counted."""
    return sum(
        isinstance(node, Function)
        and not node.name.startswith("_")
        and not any("property" in ast.unparse(mark) for mark in node.decorator_list)
        for node in class_.body
    )


def span(node: ast.stmt) -> int:
    return node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(APP)))
def test_nothing_is_oversized(path):
    assert list(oversized(path.read_text())) == []


def test_what_is_oversized_is_noticed():
    long_function = 'def long():\n    """Say so."""\n' + "    x = 1\n" * 39
    wide_class = "class Wide:\n" + "".join(f"    def m{i}(self): ...\n" for i in range(12))
    assert list(oversized(long_function)) == ["long: 40 lines"]
    assert list(oversized(wide_class)) == ["Wide: 12 methods"]
    assert list(oversized("x = 1\n" * 400)) == ["400 lines"]


def test_what_is_not_its_own_does_not_count():
    outer = "def outer():\n    def inner():\n" + "        x = 1\n" * 38 + "    return inner\n"
    assert list(oversized(outer)) == []
