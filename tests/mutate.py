"""Mutation testing of the core: change one thing at a time in the running code, and see whether a test notices.

`python -m tests.mutate FILE… [-- TEST…]` changes each file in every way of `alternatives`, one change per forked
process, and runs the tests that reach the changed line, the quickest first. Every verdict goes to mutants.jsonl.
"""

from __future__ import annotations

import ast
import gc
import json
import os
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import Phase, settings

TABLE = """Lt:LtE,GtE LtE:Lt,Gt Gt:GtE,LtE GtE:Gt,Lt Eq:NotEq NotEq:Eq Is:IsNot IsNot:Is In:NotIn NotIn:In
    And:Or Or:And Add:Sub Sub:Add Mult:FloorDiv FloorDiv:Mult Div:Mult Mod:FloorDiv LShift:RShift BitOr:BitAnd
    BitAnd:BitOr"""
SWAPS = {kind: others.split(",") for kind, others in (swap.split(":") for swap in TABLE.split())}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
NEVER = ("annotation", "returns", "decorator_list", "targets", "msg")  # nothing is decided there
OUTCOMES = {0: "survived", 1: "killed"}


def alternatives(node: ast.AST, parent: ast.AST) -> Iterator[ast.AST]:
    """What could stand there by mistake: another operator, number, condition or function, or nothing."""
    match node:
        case ast.operator() | ast.cmpop() | ast.boolop():
            yield from (getattr(ast, kind)() for kind in SWAPS.get(type(node).__name__, ()))
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
        case ast.Name(id=name) if name in NAMES and isinstance(parent, ast.Call):
            yield ast.Name(NAMES[name], ast.Load())
        case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)):
            for left in range(len(targets)):
                names, kept = targets[:left] + targets[left + 1 :], values[:left] + values[left + 1 :]
                yield ast.Assign([ast.Tuple(names, ast.Store())], ast.Tuple(kept, ast.Load()))
        case ast.Assign() | ast.AugAssign() | ast.Return() | ast.Continue() | ast.Break() | ast.Expr(value=ast.Call()):
            yield ast.Pass()
    if isinstance(parent, ast.BoolOp) and isinstance(node, ast.expr) and not isinstance(node, ast.Constant):
        yield ast.Constant(isinstance(parent.op, ast.And))  # as if this condition were not there
    elif getattr(parent, "test", None) is node and isinstance(node, ast.Name | ast.Attribute | ast.Call | ast.BoolOp):
        yield ast.UnaryOp(ast.Not(), node)


def changes(parent: ast.AST) -> Iterator[tuple[int, str]]:
    """Make every single change below a node, each until the next is asked for: its line and what it does."""
    for name, value in ast.iter_fields(parent):
        for place, node in enumerate(value if isinstance(value, list) else [value]):
            if name in NEVER or not isinstance(node, ast.AST) or isinstance(node, ast.Assert):
                continue
            around = parent if isinstance(node, ast.operator | ast.cmpop | ast.boolop) else node
            before = (ast.unparse(around).splitlines() or [""])[0]
            for other in alternatives(node, parent):
                _put(parent, name, place, ast.fix_missing_locations(ast.copy_location(other, around)))
                after = ast.unparse(parent if around is parent else other).splitlines()[0]
                yield getattr(around, "lineno", 0), f"{before} → {after}"
            _put(parent, name, place, node)
            yield from changes(node)


def _put(parent: ast.AST, name: str, place: int, node: ast.AST) -> None:
    value = getattr(parent, name)
    if isinstance(value, list):
        value[place] = node
    else:
        setattr(parent, name, node)


def definitions(tree: ast.Module | ast.ClassDef, within: str = "") -> Iterator[tuple[str, ast.stmt]]:
    """Functions, methods, constants and defaults of fields, but nothing of enumerations."""
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name):
                yield within + name, node
            case ast.ClassDef(name=name) if not {"Enum", "IntEnum", "IntFlag"} & set(map(ast.unparse, node.bases)):
                yield from definitions(node, name + ".")
            case ast.AnnAssign(value=ast.Constant()) if within:
                yield within[:-1], node
            case ast.Assign(targets=[target]) | ast.AnnAssign(target=target, value=ast.expr()) if not within:
                yield ast.unparse(target), node


def become(module_name: str, where: str, tree: ast.Module) -> None:
    """Let the running module do there what the changed one does."""
    module = import_module(module_name)
    fresh: dict[str, Any] = {"__name__": module_name}
    exec(compile(tree, module.__file__ or "", "exec"), fresh)  # noqa: S102  our own source, one thing changed
    head, _, method = where.partition(".")
    old, new = getattr(module, head), fresh[head]
    if method:
        old, new = vars(old)[method], vars(new)[method]
    old, new = getattr(old, "fget", old), getattr(new, "fget", new)
    if isinstance(old, type):
        made = "__new__" if issubclass(old, tuple) else "__init__"
        getattr(old, made).__defaults__ = getattr(new, made).__defaults__
    elif hasattr(old, "__code__"):
        old.__code__ = new.__code__
    else:
        for other in list(sys.modules.values()):
            if getattr(other, "__dict__", {}).get(head) is old:
                setattr(other, head, new)


class Mutate:
    """Takes the place of pytest's loop over the tests: first all unchanged, then for each change those it concerns."""

    def __init__(self, paths: list[str]) -> None:
        self.paths, self.kills = paths, Counter[str]()
        self.took_s: dict[pytest.Item, float] = {}
        self.reached: dict[pytest.Item, set[tuple[str, int]]] = {}

    def pytest_collection(self) -> None:
        phases = (Phase.explicit, Phase.generate)  # what fails need not be made small
        settings.register_profile("mutate", settings.get_profile("fixed"), phases=phases)
        settings.load_profile("mutate")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        for item in session.items:
            self.try_unchanged(item)
        gc.freeze()  # what is there now costs the forked processes nothing
        for path in self.paths:
            tree, module_name = ast.parse(Path(path).read_text()), path.removesuffix(".py").replace("/", ".")
            tally: Counter[str] = Counter()
            for where, definition in definitions(tree):
                for line, change in changes(definition):
                    outcome, test = self.judge(module_name, where, tree, self.reaching(module_name, definition, line))
                    tally[outcome] += 1
                    self.kills[test] += 1
                    mutant = {"path": path, "where": where, "line": line, "change": change}
                    with Path("mutants.jsonl").open("a") as file:
                        file.write(json.dumps(mutant | {"outcome": outcome, "by": test}, ensure_ascii=False) + "\n")
                    if outcome == "survived":
                        sys.stderr.write(f"{path}:{line} {where}: {change}\n")
            sys.stderr.write(f"{path}: {dict(tally)}\n")
        return True

    def try_unchanged(self, item: pytest.Item) -> None:
        lines = self.reached[item] = set()

        def trace(frame: FrameType, _event: str, _argument: object) -> Any:
            if "/bridge/core/" not in frame.f_code.co_filename:
                return None
            lines.add((frame.f_globals["__name__"], frame.f_lineno))
            return trace

        began_s = time.process_time()
        sys.settrace(trace)
        reports = runtestprotocol(item, log=False)
        sys.settrace(None)
        self.took_s[item] = time.process_time() - began_s
        assert all(report.passed for report in reports), f"{item.nodeid} fails as it is"

    def reaching(self, module_name: str, definition: ast.stmt, line: int) -> list[pytest.Item]:
        """The tests that run the line, else any of its function, the quickest first; all for defaults."""
        by_time = sorted(self.took_s, key=lambda item: self.took_s[item] / (1 + self.kills[item.nodeid]))
        if not isinstance(definition, ast.FunctionDef):
            return by_time
        found = [item for item in by_time if (module_name, line) in self.reached[item]]
        body = {(module_name, inner) for inner in range(definition.body[0].lineno, (definition.end_lineno or 0) + 1)}
        return found or [item for item in by_time if body & self.reached[item]]

    def judge(self, module_name: str, where: str, tree: ast.Module, items: list[pytest.Item]) -> tuple[str, str]:
        """Whether one of these tests fails with the tree as it now is, and which."""
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))
            os._exit(self.fails(module_name, where, tree, items, write))
        os.close(write)
        status = os.waitpid(child, 0)[1]
        test = os.read(read, 1000).decode()
        os.close(read)
        return OUTCOMES.get(os.waitstatus_to_exitcode(status), "killed by its limits"), test

    def fails(self, module_name: str, where: str, tree: ast.Module, items: list[pytest.Item], write: int) -> bool:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        try:
            become(module_name, where, tree)
        except Exception:  # noqa: BLE001  a module that does not even load is noticed by all
            return True
        for item in items:
            signal.setitimer(signal.ITIMER_PROF, 0.5 + self.took_s[item])  # what runs for ever is ended
            if any(report.failed for report in runtestprotocol(item, log=False)):
                os.write(write, item.nodeid.encode()[:1000])
                return True
        return False


if __name__ == "__main__":
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options = ["-q", "-p", "no:xdist", "-p", "no:randomly", "-p", "no:cacheprovider"]
    sys.exit(pytest.main([*options, *(sys.argv[split + 1 :] or ["tests/core"])], [Mutate(sys.argv[1:split])]))
