"""The page docs/charger-profiles.md, made from the settings model: `python -m bridge.legacy.pages` prints it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from bridge.settings import ChargerProfile

_INTRODUCTION: Final = """# Charger profiles: a new make is a file

Each make of charger is one YAML file: in `profiles/` beside the configuration (`profiles/chargers/NAME.yaml`), or among
those shipped. The configuration names it: `charger_profile: NAME`. This page is made from the settings model
(`python -m bridge.legacy.pages > docs/charger-profiles.md`); a test compares the two.

To add a make:

1. Record a conversation with the unit: JSON lines of what was said on the wire.
2. Copy the file that comes nearest: `series4-ultra` (a key in watts), `brenta-wall` (a key in amperes, no samples),
   `novac-duo` (a message of the vendor, two sockets, a session meter), `ocpp16`, `native-201`.
3. `gridlimit check --capture FILE --charger-profile NAME` says what of the conversation the file understands and what
   it does not: the hello, each message, each configuration key, each meter value.
4. Prove with a meter that the unit obeys its limit, and only then say `offline: keeps_limit` or `stops`.

A key that is missing has its default; an unknown key is refused by `gridlimit check`.
"""


def page() -> str:
    """The page docs/charger-profiles.md."""
    parts = [_INTRODUCTION]
    for title, model in _sections(ChargerProfile, ""):
        parts += [f"## {title or 'The file'}", "", (model.__doc__ or "").strip().splitlines()[0], ""]
        parts += ["| Key | Value | Default | Meaning |", "|---|---|---|---|"]
        parts += [_line(name, field) for name, field in model.model_fields.items()]
        parts.append("")
    return "\n".join(parts)


def _sections(model: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, model
    for name, field in model.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            yield from _sections(field.annotation, f"{path}.{name}".lstrip("."))


def _line(name: str, field: Any) -> str:
    shown = "" if field.default is None else _value(field.default)
    default = "needed" if field.is_required() else f"`{shown}`" if shown else "none"
    return f"| `{name}` | {_kind(field.annotation)} | {default} | {field.description} |"


def _value(value: Any) -> str:
    if hasattr(type(value), "model_fields"):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value.value if isinstance(value, Enum) else value) if value != "" else ""


def _kind(annotation: Any) -> str:
    """The type of a key in words."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind(get_args(annotation)[0])
    if origin is Literal:
        return ", ".join(f"`{word}`" for word in get_args(annotation))
    if origin in (Union, UnionType):
        return " or ".join(_kind(part) for part in get_args(annotation) if part is not NoneType)
    if origin in (list, dict):
        return {list: "list", dict: "mapping"}[origin]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    names = {"int": "integer", "float": "number", "str": "text", "bool": "true or false"}
    return names.get(getattr(annotation, "__name__", ""), "section")


if __name__ == "__main__":
    sys.stdout.write(page())
