"""`gridlimit prove --compiled`: core and seeded world as machine code, made by mypyc of the very same sources."""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridge.lab.virtual import World
from bridge.lab.virtual_prove import MADE_OF, commit, quiet

HERE = Path(__file__).parents[2]
SOURCES = (
    *(f"bridge/core/{name}.py" for name in ("allocation", "charger", "codec", "fallback", "ledger", "limit")),
    *(f"bridge/core/{name}.py" for name in ("messages", "plan", "points", "quantities", "setpoint", "site")),
    "bridge/core/telemetry.py",
    "bridge/engine.py",
    *(f"bridge/lab/virtual{part}.py" for part in ("", "_reference", "_unit")),
)
COMPARED = range(10)  # seeds that are played both ways before anything is proven
COMPARED_HOURS = 1.0


class Uncompiled(Exception):  # noqa: N818  it says what is wrong with the copy
    """The compiled copy cannot be made, or plays otherwise than what it was made of."""


def prove(arguments: Sequence[str]) -> int:
    """Run `gridlimit prove` with these arguments on a compiled copy, and give its exit code. Raises Uncompiled."""
    with tempfile.TemporaryDirectory(prefix="gridlimit-prove-") as directory:
        tree = Path(directory)
        prepare(tree)
        _compile(tree)
        if digest_of(tree) != digest():
            raise Uncompiled("the compiled copy plays these worlds otherwise than the sources it was made of")
        return _run(tree, "-m", "bridge", "prove", *arguments).returncode


def prepare(tree: Path) -> None:
    """Copy the service there, with the sources to compile as mypyc wants them."""
    shutil.copytree(HERE / "bridge", tree / "bridge", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "pyproject.toml", tree)
    (tree / MADE_OF).write_text(f"{commit()}, compiled")
    for name in SOURCES:
        path = tree / name
        path.write_text(plain(path.read_text()))


def plain(source: str) -> str:
    """The same module for mypyc: its classes have slots and are typed anyway, and lose what annotations say.

    Nothing assigns to a frozen dataclass, or mypy would say so; the compiled one is not frozen, for speed alone.
    """
    source = source.replace("@dataclass(frozen=True, slots=True)", "@dataclass(unsafe_hash=True)")
    source = source.replace("@dataclass(slots=True)", "@dataclass")
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(each) for each in node.decorator_list):
            fields = [each for each in node.body if isinstance(each, ast.AnnAssign)]
            said = {ast.unparse(each.target): ast.unparse(each.annotation) for each in fields}
            source += f'setattr({node.name}, "__annotations__", {said!r})\n'
    return source


def digest_of(tree: Path) -> str:
    """What `digest` is there."""
    script = "from bridge.lab.virtual_compiled import digest; print(digest())"
    played = _run(tree, "-c", script, stdout=subprocess.PIPE, text=True)
    return str(played.stdout).strip()


def digest() -> str:
    """Everything that is recorded in the first few worlds, byte for byte, and what was counted, as one short text."""
    quiet()
    taken = hashlib.sha256()
    for seed in COMPARED:
        world = World(seed, COMPARED_HOURS)
        taken.update(f"{world.run()}{world.journal.records}".encode())
    return taken.hexdigest()


def _compile(tree: Path) -> None:
    made = subprocess.run(  # noqa: S603  our own program
        [sys.executable, "-m", "mypyc", *SOURCES], cwd=tree, capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise Uncompiled(f"mypyc (make install) and a C compiler are needed: {made.stdout[-4000:]}{made.stderr}")


def _run(tree: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Python on the copy in `tree`; -P, so that no other `bridge` comes first."""
    environment = os.environ | {"PYTHONPATH": str(tree)}
    return subprocess.run([sys.executable, "-P", *arguments], env=environment, check=False, **options)  # noqa: S603  ours
