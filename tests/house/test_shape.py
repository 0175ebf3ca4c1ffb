"""The sizes we promised ourselves: short functions, short modules, shallow nesting."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("dsv4_tp", "examples")
MODULES = sorted(
    path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if path.parent.name != "v1"
)
FUNCTION_LINES = 40
MODULE_LINES = 300
NESTING = 3

Function = ast.FunctionDef | ast.AsyncFunctionDef
NESTS = (
    ast.For, ast.AsyncFor, ast.While, ast.If, ast.With, ast.AsyncWith, ast.Try, ast.Match,
)  # fmt: skip


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def depth(node: ast.AST) -> int:
    """How many blocks lie inside each other; an `elif` is not inside its `if`."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        chained = isinstance(node, ast.If) and node.orelse == [child] and isinstance(child, ast.If)
        own = isinstance(child, NESTS) and not chained
        deepest = max(deepest, depth(child) + own)
    return deepest


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_is_small(path: Path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MODULE_LINES
    all_functions = list(functions(ast.parse(text)))
    assert [f.name for f in all_functions if length(f) > FUNCTION_LINES] == []
    assert [f.name for f in all_functions if depth(f) > NESTING] == []


def test_the_measures_measure():
    source = (
        "def f():\n    if a:\n        pass\n    elif b:\n        for c in d:\n            pass\n"
    )
    (function,) = functions(ast.parse(source))
    assert (length(function), depth(function)) == (6, 2)
