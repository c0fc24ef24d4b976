"""The pages of docs/ that are made from the code: `python -m bridge.reference` writes them all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from bridge import api_page, cli, licences
from bridge.core.points import Signal
from bridge.dso_profile import CHARGER_IOA_STRIDE, DsoProfile, kind_of, unit_of
from bridge.iec104 import signal_list
from bridge.lab import fallback_drawing, fallback_page
from bridge.legacy import operations
from bridge.settings import ChargerProfile, Settings, load

DOCS: Final = Path(__file__).parent.parent / "docs"
UNBOUNDED: Final = 1_000_000_000  # a bound from which on nobody needs to be told

_CHARGER_PROFILES: Final = """# Charger profiles

Each make of charger is one YAML file: in `profiles/` beside the configuration (`profiles/chargers/NAME.yaml`), or among
those shipped. The configuration names it: `charger_profile: NAME`. How to write one for a new make:
[new-make.md](new-make.md). This page is made from the settings.

A key that is missing has its default; an unknown key is refused by `gridlimit check`.
"""

_DSO_PROFILES: Final = """# DSO profiles

What was agreed with a grid operator is one YAML file: in `profiles/` beside the configuration
(`profiles/dso/NAME.yaml`), or among those shipped. The configuration names it: `iec104.dso_profile: NAME`. How to write
one: [new-dso-profile.md](new-dso-profile.md). This page is made from the settings.
"""

_CONFIGURATION: Final = """# Configuration

One YAML file, `gridlimit run --config site.yaml`. `gridlimit check --config site.yaml` says what is wrong with it, all
at once, each with file, line, key and what to do; or what will run, and what is worth a second look. This page is
made from the settings.

- Every key is also an environment variable, which comes before the file: `site.capacity_w` is
  `GRIDLIMIT_SITE__CAPACITY_W`, written as in YAML. A list is set as a whole: `GRIDLIMIT_CHARGERS`.
- Units end the name: `_w` watts, `_s` seconds. An unknown key is an error, never ignored.
- No secret stands in it. Passwords, keys and certificates are files, and the configuration says where.
- Relative paths count from the folder of the file. Port 0 is any free one.

The shortest one that runs:

```yaml
site:     {capacity_w: 100000, min_limit_w: 6000}
iec104:   {}
fallback: {limit_w: 10000}
chargers: [{serial: S4-0001, charger_profile: series4-ultra}]
```
"""

_POINTS: Final = """# Points

Common address 1, and the point table `profiles/dso/default.yaml`, from which this page is made. Your own table,
with your chargers, is `gridlimit signals --config site.yaml`; another grid operator's is another DSO profile
([new-dso-profile.md](new-dso-profile.md)).

Spontaneous values carry a time tag in UTC, those of an interrogation none. Values of charger n, its `index`, stand
{stride} n further.
"""

MEANINGS: Final[dict[Signal, str]] = {
    Signal.LIMIT_SETPOINT: "The limit. Refused, with P/N=1 and without any effect: below the minimum, negative, not a"
    " number, above ten times the capacity, a time tag outside its window.",
    Signal.LIMIT_ENABLE: "On: the last setpoint limits. Off: it does not, until it is on again.",
    Signal.EMERGENCY_STOP: "On: 0 W for every charger, whatever else is said.",
    Signal.LIMIT_STEP: "The limit as a step of the capacity: 100, 60, 30 or 0 %.",
    Signal.SITE_POWER_W: "Active power of all chargers. Not topical while one that counts has not been metered.",
    Signal.SETPOINT_MIRROR: "The last accepted setpoint, as received. Invalid before the first.",
    Signal.LIMIT_IN_FORCE_W: "The limit that holds, whosever it is.",
    Signal.WORST_CASE_W: "What all chargers may draw at worst, summed: at most the limit, once that is reached.",
    Signal.LIMIT_ENABLED: "The setpoint limits: `limit_enable` was not switched off.",
    Signal.EMERGENCY_STOP_ACTIVE: "The emergency stop was commanded and not taken back: 0 W.",
    Signal.LIMIT_STEP_ACTIVE: "This step holds, its `percent`; one point for each step.",
    Signal.LOCAL_LIMIT_ACTIVE: "A person at the site has set a limit, besides the grid operator's.",
    Signal.LIMIT_ACTIVE: "A limit below the capacity holds.",
    Signal.LIMIT_REACHED: "The worst case is within the limit in force.",
    Signal.FALLBACK_ACTIVE: "The fallback limit holds, because the link was lost.",
    Signal.COMMON_ALARM: "At least one alarm is open: [night.md](night.md).",
    Signal.PLAIN_TCP: "Control centres are let in without TLS.",
    Signal.CERTIFICATE_EXPIRES: "The certificate or the revocation list of the outstation ends soon.",
    Signal.EVENTS_DROPPED: "How many events did not fit the event store.",
    Signal.CHARGERS_AT_WORST: "How many chargers are counted at their worst, because nothing better is proven.",
    Signal.CHARGERS_CONNECTED: "How many chargers are connected.",
    Signal.CHARGERS_CHARGING: "How many of them are serving a vehicle.",
    Signal.TIME_TO_REACH_S: "From the acceptance of the last limit to its termination. Invalid before the first.",
    Signal.CHARGER_POWER_W: "Active power.",
    Signal.CHARGER_VOLTAGE_V: "Voltage.",
    Signal.CHARGER_CURRENT_A: "Current.",
    Signal.CHARGER_GRANT_W: "What it is granted.",
    Signal.CHARGER_ENERGY_WH: "Energy, in counter interrogation.",
    Signal.CHARGER_CONNECTED: "It is connected.",
}
"""What each signal says."""

_COMMANDS: Final = """# Command line

`gridlimit COMMAND --help` says the same. Everything of `simulate`, `scenario`, `lab` and `prove` is the simulated
world: it needs the extra `lab`. This page is made from the commands.
"""


def configuration_page() -> str:
    """The page of every key of the configuration file."""
    return _CONFIGURATION + "\n" + "\n".join(_tables(Settings, "", "##"))


def charger_profiles_page() -> str:
    """The page of every key of a charger profile."""
    return _CHARGER_PROFILES + "\n" + "\n".join(_tables(ChargerProfile, "The file", "##"))


def dso_profiles_page() -> str:
    """The page of every key of a DSO profile."""
    signals = [
        f"| `{each.value}` | {kind_of(each).value} | {unit_of(each) or '–'} | {MEANINGS[each]} |" for each in Signal
    ]
    table = ["## Signals", "", "| Signal | Kind | Unit | Meaning |", "|---|---|---|---|", *signals, ""]
    return _DSO_PROFILES + "\n" + "\n".join([*_tables(DsoProfile, "The file", "##"), *table])


def _tables(model: Any, title: str, heading: str) -> Iterator[str]:
    """A table of the keys of a model, then those of the sections in it."""
    if title:
        yield from (f"{heading} {title}", "")
    yield from (_line(model.__doc__), "") if title else ()
    inner = {found: name for name, field in reversed([*keys(model)]) if (found := section(field.annotation))}
    yield from ("| Key | Value | Default | Meaning |", "|---|---|---|---|")
    for name, field in keys(model):
        kind = _kind(field.annotation, field.metadata)
        yield f"| `{name}` | {kind} | {_default(field)} | {_line(field.description)} |"
    yield ""
    path = "" if title in ("", "The file") else f"{title}."
    for found, name in reversed(inner.items()):
        yield from _tables(found, f"{path}{name}", heading)


def _line(text: str | None) -> str:
    """A docstring on one line, as a cell of a table needs it."""
    return " ".join((text or "").split())


def keys(model: Any) -> Iterator[tuple[str, FieldInfo]]:
    """The keys a person may write, with what is known of each."""
    for name, field in model.model_fields.items():
        if name != "profile":  # what `load` reads for the name beside it
            yield name, field


def section(annotation: Any) -> Any:
    """The model somewhere in an annotation, None where there is none."""
    if hasattr(annotation, "model_fields"):
        return annotation
    return next((found for part in get_args(annotation) if (found := section(part)) is not None), None)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "see meaning" if "Default: " in str(field.description) else "needed"
    value = field.default
    if value is None:
        return "null"
    if hasattr(type(value), "model_fields") or value in ([], {}, ""):
        return "none"
    if isinstance(value, list):
        return "`[" + ", ".join(str(each.value if isinstance(each, Enum) else each) for each in value) + "]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value.value if isinstance(value, Enum) else value}`"


def _kind(annotation: Any, metadata: list[Any] | tuple[Any, ...] = ()) -> str:
    """The type of a key in words, with its range."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *rest = get_args(annotation)
        return _kind(inner, [each for part in (*rest, *metadata) for each in getattr(part, "metadata", [part])])
    if origin is Literal:
        return ", ".join(f"`{word}`" for word in get_args(annotation))
    if origin in (Union, UnionType):
        return " or ".join(_kind(part, metadata) for part in get_args(annotation) if part is not NoneType)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    if origin is list:
        return "list of sections" if section(annotation) else "list"
    names = {"int": "integer", "float": "number", "str": "text", "bool": "true or false", "Path": "path"}
    name = {dict: "mapping"}.get(origin) or names.get(getattr(annotation, "__name__", ""), "section")
    return name + (_range(metadata) if name in ("integer", "number") else "")


def _range(metadata: list[Any] | tuple[Any, ...]) -> str:
    low, above, high = (
        next((bound for each in metadata if (bound := getattr(each, name, None)) is not None), None)
        for name in ("ge", "gt", "le")
    )
    start = f" above {above}" if above is not None else f" from {low}" if low is not None else ""
    return start if high is None or high >= UNBOUNDED else f"{start} to {high}"


def points_page() -> str:
    """The page of the points of the default DSO profile."""
    site = {"SITE__CAPACITY_W": "100000", "SITE__MIN_LIMIT_W": "6000", "FALLBACK__LIMIT_W": "10000"}
    site |= {"IEC104__DSO_PROFILE": "default", "CHARGERS": "[{serial: S4-0001, charger_profile: series4-ultra}]"}
    settings = load(None, {f"GRIDLIMIT_{name}": value for name, value in site.items()})
    titles = ("IOA", "Name", "Type", "Type with time tag", "Unit", "Deadband", "Meaning")
    columns = [signal_list.COLUMNS.index(title) for title in titles]
    parts = [_POINTS.format(stride=CHARGER_IOA_STRIDE)]
    parts += [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for row in signal_list.rows(settings):
        ioa, name, *wire, signal = (row[column] for column in columns)
        signal, _, of_charger = signal.partition(" of charger ")
        each = f" + {CHARGER_IOA_STRIDE} n" if of_charger else ""
        cells = [
            ioa + each,
            name.partition(" of charger ")[0],
            *(cell or "–" for cell in wire),
            MEANINGS[Signal(signal)],
        ]
        parts.append(f"| {' | '.join(cells)} |")
    return "\n".join(parts) + "\n"


def commands_page() -> str:
    """The page of every command with its arguments and options."""
    cli.mount_lab()
    return _COMMANDS + "\n" + "\n".join(_command("gridlimit", typer.main.get_command(cli.app)))


def _command(name: str, command: Any) -> Iterator[str]:
    text = _line(command.help)
    inner = getattr(command, "commands", {})
    if name != "gridlimit" and not inner:
        arguments = [each for each in command.params if each.param_type_name == "argument"]
        words = [name, *(f"[{each.name.upper()}]" if not each.required else each.name.upper() for each in arguments)]
        yield from (f"## {' '.join(words)}", "", text, "")
        options = [each for each in command.params if each.param_type_name == "option" and each.name != "help"]
        if options:
            yield from ("| Option | Default | Meaning |", "|---|---|---|")
            yield from (_option(each) for each in options)
            yield ""
    for word in sorted(inner):
        yield from _command(f"{name} {word}", inner[word])


def _option(option: Any) -> str:
    names = ", ".join(f"`{each}`" for each in [*option.opts, *option.secondary_opts])
    value = getattr(option.default, "value", option.default)
    nothing = value in (None, "", [], ()) or callable(value)
    default = "–" if nothing else f"`{str(value).lower() if isinstance(value, bool) else value}`"
    return f"| {names} | {default} | {option.help or ''} |"


PAGES: Final[dict[str, Callable[[], str]]] = {
    "api.md": api_page.page,
    "charger-profiles.md": charger_profiles_page,
    "commands.md": commands_page,
    "configuration.md": configuration_page,
    "dso-profiles.md": dso_profiles_page,
    "fallback.md": fallback_page.page,
    "licences.md": licences.page,
    "link-states.svg": fallback_drawing.drawing,
    "points.md": points_page,
    "translation.md": operations.page,
}
"""Each page of docs/ that is made, and what makes it."""


if __name__ == "__main__":
    for page, make in PAGES.items():
        (DOCS / page).write_text(make(), encoding="utf-8")
        sys.stdout.write(f"{page}\n")
