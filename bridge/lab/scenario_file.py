"""Reads a scenario: what is set up, what is done when, and what must then be seen on the wire and at the units."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, unique
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import yaml

from bridge.lab.telegrams import TypeId

MAX_FILE_BYTES = 100_000
_POWER = re.compile(r"(-?\d+(?:\.\d+)?) ?(k?W)")
_RANGE = re.compile(r"(.+) to (.+)")
_TIME = re.compile(r"(\d+(?:\.\d+)?) (s|min)")
_POINT = re.compile(r"point (\d+)")
_CHARGER = re.compile(r"power of charger (\d+)")
_PROFILES = "profiles"
Keys: TypeAlias = Mapping[str, Any]
EnumT = TypeVar("EnumT", bound=Enum)


class ScenarioError(Exception):
    """A scenario file makes no sense; the text says which file, where in it, and what is possible there."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast scenarios are played: a minute of theirs lasts `minute_s`; a silent line is noticed in `silence_s`."""

    minute_s: float = 60.0
    silence_s: float = 35.0
    drop_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Duration:
    """A time of a scenario: real seconds, minutes that may be shortened, and the time a broken link is noticed in."""

    seconds: float = 0.0
    minutes: float = 0.0
    noticed: int = 0

    def at(self, pace: Pace, run: Run) -> float:
        """The seconds it lasts in this run at this pace."""
        noticed_s = pace.silence_s if run is Run.SILENCE else pace.drop_s
        return self.seconds + self.minutes * pace.minute_s + self.noticed * noticed_s


@unique
class Run(Enum):
    """How the link is broken in this run of a scenario; ONLY where a scenario does not break it."""

    ONLY = ""
    DROP = "the TCP connection drops"
    SILENCE = "the line goes silent"


@unique
class Action(Enum):
    """What a step does."""

    SET_LIMIT = "set limit"
    INTERROGATE = "interrogate"
    BREAK_LINK = "break link"
    RESTORE_LINK = "restore link"
    SET_LIMITS_IN_TURN = "set limits in turn"
    CHARGER_WANTS = "charger wants"
    CHARGER_VANISHES = "charger vanishes"
    CHARGER_RETURNS = "charger returns"
    CHARGER_REBOOTS = "charger reboots"
    CHARGER_FORGETS = "charger forgets its limit"
    CHARGER_IGNORES = "charger ignores its limit"
    CHARGER_REFUSES = "charger refuses limits"
    CHARGER_OBEYS = "charger obeys"
    KILL_BRIDGE = "kill the bridge"
    START_BRIDGE = "start the bridge"
    WATCH = "watch"


CHARGER_ORDERS: dict[Action, dict[str, str]] = {
    Action.CHARGER_VANISHES: {"action": "vanish"},
    Action.CHARGER_RETURNS: {"action": "return"},
    Action.CHARGER_REBOOTS: {"action": "reboot"},
    Action.CHARGER_FORGETS: {"action": "forget"},
    Action.CHARGER_IGNORES: {"behaviour": "ignores"},
    Action.CHARGER_REFUSES: {"behaviour": "refuses"},
    Action.CHARGER_OBEYS: {"behaviour": "obeys"},
}
"""What the control API of simulated chargers is told; nobody can bring it about at a real one."""


@unique
class Subject(Enum):
    """What an expectation is about; the first four are seen on the wire, the last three at the units."""

    ANSWER = "answer to the command"
    TERMINATION = "termination of the command"
    LINK = "link"
    POINT = "point"
    POWER_OF_ALL = "power of all"
    POWER_OF_CHARGER = "power of charger"
    CHARGING_UNITS = "units that charge"

    @property
    def at_the_units(self) -> bool:
        """Whether it is the power that units really draw, or how many of them draw any."""
        return self in {Subject.POWER_OF_ALL, Subject.POWER_OF_CHARGER, Subject.CHARGING_UNITS}


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must be seen from the moment of its step on.

    The condition must become true `within` that time and then hold for `hold`; without `within` it must be true from
    the first moment on. `number` is an information object address or the index of a charger. `low` and `high` bound
    the value, in W where it is a power; `sign` is what an answer or the link must be. `figure` puts what was measured
    into the table.
    """

    subject: Subject
    text: str
    number: int = 0
    low: float = float("-inf")
    high: float = float("inf")
    sign: str = ""
    type_name: str = ""
    time_tag: bool = False
    within: Duration | None = None
    hold: Duration = Duration()
    figure: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done `at` a time of the scenario, or `after` the step before it has been done.

    `limits_w` are set in turn, one `every` so often, `lasting` so long.
    """

    action: Action
    at: Duration | None
    after: Duration
    then: tuple[Expectation, ...]
    power_w: float = 0.0
    charger: int = 0
    limits_w: tuple[float, ...] = ()
    every: Duration = Duration()
    lasting: Duration = Duration()


@dataclass(frozen=True, slots=True)
class SetUp:
    """What is brought about before the clock of a scenario starts, in W."""

    limit_w: float
    demand_w: float
    low_w: float
    high_w: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario file.

    `configuration` is what the bridge must be configured with besides what the lab's has; its `chargers` are a mapping
    by serial. Profiles that it names may lie in the folder `profiles`.
    """

    test: str
    title: str
    description: str
    expected: str
    set_up: SetUp
    steps: tuple[Step, ...]
    runs: tuple[Run, ...]
    configuration: Keys = field(default_factory=dict)
    profiles: Path | None = None


def load(path: Path) -> Scenario:
    """Read one scenario file; `ScenarioError` says what is wrong with it."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ScenarioError(f"{path}: is larger than {MAX_FILE_BYTES} bytes: is this the right file?")
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}") from error
    try:
        return replace(_scenario(data), profiles=path.parent / _PROFILES)
    except ScenarioError as error:
        raise ScenarioError(f"{path}: {error}") from error


def load_all(path: Path, only: frozenset[str] = frozenset()) -> list[Scenario]:
    """Read a scenario file, or every *.yaml of a folder, t2 before t10; `only` picks tests by name."""
    files = sorted(path.glob("*.yaml"), key=_counting) if path.is_dir() else [path]
    wanted = {name.lower() for name in only}
    scenarios = [scenario for file in files if (scenario := load(file)) and _picked(scenario, wanted)]
    if not scenarios:
        asked = f" called {', '.join(sorted(only))}" if only else ""
        raise ScenarioError(f"{path}: no scenario{asked} is there: name a scenario file or a folder of them")
    return scenarios


def _counting(file: Path) -> list[tuple[int, str]]:
    """A key that sorts names as people count."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", file.name)]


def _picked(scenario: Scenario, wanted: set[str]) -> bool:
    return not wanted or scenario.test.lower() in wanted


def _scenario(data: Any) -> Scenario:
    needed = ("test", "title", "description", "expected", "set up", "steps")
    keys = _keys(data, "the file", needed, optional=("runs", "bridge configuration"))
    wanted = ("limit", "every charger wants", "wait until power of all")
    set_up = _keys(keys["set up"], "set up", wanted)
    between = _RANGE.fullmatch(str(set_up["wait until power of all"]))
    if between is None:
        raise ScenarioError("set up: wait until power of all: say a range such as 15 kW to 20 kW")
    steps = tuple(_step(step, f"step {number}") for number, step in enumerate(_list(keys["steps"], "steps"), start=1))
    low, high = (_power(bound, "set up: wait until power of all") for bound in between.groups())
    return Scenario(
        test=str(keys["test"]),
        title=str(keys["title"]),
        description=str(keys["description"]),
        expected=str(keys["expected"]),
        set_up=SetUp(
            _power(set_up["limit"], "set up: limit"),
            _power(set_up["every charger wants"], "set up: every charger wants"),
            low,
            high,
        ),
        steps=steps,
        runs=tuple(_one_of(Run, run, "runs") for run in _list(keys.get("runs", [""]), "runs")),
        configuration=_configuration(keys.get("bridge configuration", {})),
    )


def _configuration(data: Any) -> Keys:
    place = "bridge configuration"
    if not isinstance(data, dict) or not all(isinstance(section, dict) for section in data.values()):
        raise ScenarioError(f"{place}: must be sections of the bridge's configuration, chargers by their serials")
    return data


_WANTED: dict[Action, tuple[str, ...]] = {
    Action.SET_LIMIT: ("to",),
    Action.SET_LIMITS_IN_TURN: ("to", "every", "for"),
    Action.CHARGER_WANTS: ("charger", "power"),
    **dict.fromkeys(CHARGER_ORDERS, ("charger",)),
}
"""What a step must say besides what it does."""


def _step(data: Any, place: str) -> Step:
    action = _one_of(Action, data.get("do") if isinstance(data, dict) else None, f"{place}: do")
    keys = _keys(data, place, ("do", *_WANTED.get(action, ())), optional=("at", "after", "then"))
    if ("at" in keys) == ("after" in keys):
        raise ScenarioError(f"{place}: say either at or after")
    power = keys.get("to", keys.get("power"))
    in_turn = action is Action.SET_LIMITS_IN_TURN
    limits = _list(power, f"{place}: to") if in_turn else ()
    every = _duration(keys.get("every", "0 s"), f"{place}: every")
    if in_turn and (not limits or every == Duration()):
        raise ScenarioError(f"{place}: to must list limits, and every be longer than 0 s")
    return Step(
        action,
        _duration(keys["at"], f"{place}: at") if "at" in keys else None,
        _duration(keys.get("after", "0 s"), f"{place}: after"),
        tuple(_expectation(item, f"{place}: then") for item in _list(keys.get("then", []), f"{place}: then")),
        power_w=0.0 if power is None or in_turn else _power(power, place),
        charger=int(keys.get("charger", 0)),
        limits_w=tuple(_power(limit, f"{place}: to") for limit in limits),
        every=every,
        lasting=_duration(keys.get("for", "0 s"), f"{place}: for"),
    )


_EXPECTED = ("at least", "at most", "value", "tolerance", "is", "type", "time tag", "within", "hold for", "figure")


def _expectation(data: Any, place: str) -> Expectation:
    keys = _keys(data, place, (), optional=("on the wire", "at the units", *_EXPECTED))
    where = next((name for name in ("on the wire", "at the units") if name in keys), None)
    if where is None or ("on the wire" in keys and "at the units" in keys):
        raise ScenarioError(f"{place}: say either on the wire or at the units")
    subject, number = _subject(str(keys[where]), f"{place}: {where}")
    place = f"{place}: {keys[where]}"
    if subject.at_the_units != (where == "at the units"):
        raise ScenarioError(f"{place}: is not seen {where}")
    if "within" not in keys and "hold for" not in keys:
        raise ScenarioError(f"{place}: say within, hold for or both")
    sign = {Subject.ANSWER: ("positive", "negative"), Subject.LINK: ("up", "down")}.get(subject)
    if sign is not None and keys.get("is") not in sign:
        raise ScenarioError(f"{place}: is: must be {' or '.join(sign)}")
    if (type_name := str(keys.get("type", ""))) and type_name not in TypeId.__members__:
        raise ScenarioError(f"{place}: type: {type_name} is unknown")
    low, high = _bounds(keys, place, counted=subject in {Subject.POINT, Subject.CHARGING_UNITS})
    return Expectation(
        subject,
        _text(where, keys),
        number,
        low,
        high,
        sign=str(keys.get("is", "")),
        type_name=type_name,
        time_tag=bool(keys.get("time tag", False)),
        within=_duration(keys["within"], f"{place}: within") if "within" in keys else None,
        hold=_duration(keys.get("hold for", "0 s"), f"{place}: hold for"),
        figure=bool(keys.get("figure", False)),
    )


def _subject(text: str, place: str) -> tuple[Subject, int]:
    for pattern, subject in ((_POINT, Subject.POINT), (_CHARGER, Subject.POWER_OF_CHARGER)):
        if found := pattern.fullmatch(text):
            return subject, int(found[1])
    plain = {subject.value: subject for subject in Subject} | {"point": None, "power of charger": None}
    if (named := plain.get(text)) is None:
        raise ScenarioError(
            f"{place}: {text} is unknown: {', '.join(plain)} are possible, point and charger with a number"
        )
    return named, 0


def _bounds(keys: Keys, place: str, *, counted: bool) -> tuple[float, float]:
    """The bounds of a power, on or off, or a plain number where something is `counted`."""

    def bound(name: str, otherwise: float) -> float:
        value = keys.get(name, otherwise)
        plain = name not in keys or isinstance(value, bool) or (counted and isinstance(value, int | float))
        return float(value) if plain else _power(value, f"{place}: {name}")

    low, high = bound("at least", float("-inf")), bound("at most", float("inf"))
    if "value" in keys:
        low = high = bound("value", 0.0)
    tolerance = _power(keys.get("tolerance", "0 W"), f"{place}: tolerance")
    return low - tolerance, high + tolerance


def _text(where: str, keys: Keys) -> str:
    """The expectation as one line for a person."""
    words = [f"{where}: {keys[where]}"]
    for name in _EXPECTED:
        value = keys.get(name)
        if isinstance(value, bool):
            value = "on" if value else "off"
        if name == "tolerance" and value is not None:
            words.append(f"± {value}")
        elif name == "time tag" and value is not None:
            words.append("with time tag")
        elif name != "figure" and value is not None:
            words.append(str(value) if name in {"value", "type"} else f"{name} {value}")
    return " ".join(words)


def _duration(data: Any, place: str) -> Duration:
    seconds = minutes = 0.0
    noticed = 0
    for part in str(data).split(" + "):
        if part == "noticed":
            noticed += 1
        elif (found := _TIME.fullmatch(part)) is None:
            raise ScenarioError(f"{place}: {data} is no time: write 5 s, 10 min or 5 min + noticed + 5 s")
        elif found[2] == "s":
            seconds += float(found[1])
        else:
            minutes += float(found[1])
    return Duration(seconds, minutes, noticed)


def _power(data: Any, place: str) -> float:
    found = _POWER.fullmatch(str(data))
    if found is None:
        raise ScenarioError(f"{place}: {data} is no power: write 20 kW or 7200 W")
    return float(found[1]) * (1000 if found[2] == "kW" else 1)


def _keys(data: Any, place: str, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> Keys:
    if not isinstance(data, dict):
        raise ScenarioError(f"{place}: must say {', '.join(needed or optional)}")
    if missing := [name for name in needed if name not in data]:
        raise ScenarioError(f"{place}: does not say {', '.join(missing)}")
    if unknown := [str(name) for name in data if name not in (*needed, *optional)]:
        raise ScenarioError(f"{place}: {', '.join(unknown)} is unknown: {', '.join((*needed, *optional))} are possible")
    return data


def _list(data: Any, place: str) -> list[Any]:
    if not isinstance(data, list) or (not data and place == "steps"):
        raise ScenarioError(f"{place}: must be a list")
    return data


def _one_of(kind: type[EnumT], data: Any, place: str) -> EnumT:
    try:
        return kind(data)
    except ValueError:
        possible = ", ".join(str(member.value) for member in kind if member.value)
        raise ScenarioError(f"{place}: {data} is unknown: {possible} are possible") from None
