"""The rules of the house that a linter does not know."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "bridge").rglob("*.py"))
CORE = sorted((ROOT / "bridge" / "core").glob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
PURE = {"__future__", "bridge", "collections", "dataclasses", "enum", "heapq", "itertools", "json", "math"}
PURE |= {"types", "typing"}
LONGEST_FUNCTION = 70
NEEDS_A_UNIT = {"current", "deadline", "delay", "duration", "energy", "interval", "limit", "power", "timeout"}
NEEDS_A_UNIT |= {"voltage"}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def named(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT)))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@named(CORE)
def test_the_core_imports_only_itself_and_the_pure_parts_of_the_standard_library(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= PURE
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert (node.module or "").split(".")[0] in PURE
            assert not (node.module or "").startswith("bridge") or (node.module or "").startswith("bridge.core")


@named(MODULES)
def test_every_module_opens_with_one_sentence_that_says_what_it_is(path: Path) -> None:
    first, *_ = (ast.get_docstring(tree(path)) or "").split("\n")
    assert first.endswith((".", "`.")), f"{path} opens with {first!r}"
    assert len(first.split()) > 3


@named(MODULES)
def test_no_function_is_longer_than_seventy_lines(path: Path) -> None:
    long = {
        function.name: (function.end_lineno or 0) - function.lineno + 1
        for function in functions(path)
        if (function.end_lineno or 0) - function.lineno + 1 > LONGEST_FUNCTION
    }
    assert not long


@named(MODULES)
def test_a_number_that_is_a_quantity_names_its_unit_last(path: Path) -> None:
    bare = [
        argument.arg
        for function in functions(path)
        for argument in [*function.args.args, *function.args.kwonlyargs]
        if argument.arg.split("_")[-1] in NEEDS_A_UNIT
        and isinstance(argument.annotation, ast.Name)
        and argument.annotation.id in {"int", "float"}
    ]
    bare += [
        node.target.id
        for node in ast.walk(tree(path))
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.target.id.split("_")[-1] in NEEDS_A_UNIT
        and isinstance(node.annotation, ast.Name)
        and node.annotation.id in {"int", "float"}
    ]
    assert not bare


@named(MODULES)
def test_no_class_is_called_profile_alone_where_three_standards_have_one(path: Path) -> None:
    assert "Profile" not in {node.name for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)}


@named(TESTS)
def test_tests_are_named_as_claims(path: Path) -> None:
    short = [
        function.name
        for function in functions(path)
        if function.name.startswith("test_") and len(function.name.split("_")) < 5
    ]
    assert not short
