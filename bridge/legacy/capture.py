"""A recorded conversation of an unknown unit held against a charger profile: what is understood of it and what is not.

A recording is JSON lines. A line is a frame as it was sent (`[2,"1","Heartbeat",{}]`), or an object
`{"from": "unit", "text": "…"}` with what the unit (or `csms`) said, the hello before the handshake included.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from bridge.legacy import device_model, up
from bridge.legacy.dialects import OCPP15, Dialect, Unreadable, read
from bridge.legacy.hello import Hello, hello_pattern, read_opening
from bridge.legacy.ocpp16 import OCPP16
from bridge.legacy.readings import meter_readings
from bridge.ocpp201.rpc import CALL, CALLERROR, CALLRESULT, CallError, parse
from bridge.settings import ChargerProfile

MAX_LINES: Final = 100_000
MAX_SHOWN: Final = 8
UNIT: Final = "unit"
DIALECTS: Final = {OCPP15.subprotocol: OCPP15, OCPP16.subprotocol: OCPP16}
_MAY_LIMIT: Final = re.compile(r"max|limit|current|power|amp", re.IGNORECASE)


@dataclass(slots=True)
class Report:
    """What was found, as sentences: `understood` and `not_understood`, each in the order it was found."""

    understood: list[str] = field(default_factory=list)
    not_understood: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Seen:
    """What a recording holds, counted."""

    hello: str | None = None
    boot: dict[str, Any] = field(default_factory=dict)
    messages: Counter[str] = field(default_factory=Counter)
    repaired: dict[str, Counter[str]] = field(default_factory=dict)
    unreadable: dict[str, Counter[str]] = field(default_factory=dict)
    unknown: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    measurands: Counter[str] = field(default_factory=Counter)
    settings: dict[str, device_model.Setting] = field(default_factory=dict)
    broken: int = 0


def check_capture(lines: Iterable[str], profile: ChargerProfile) -> Report:
    """Read a recording with the eyes of a charger profile. Raises ValueError for one of OCPP 2.0.1."""
    dialect = DIALECTS.get(profile.protocol)
    if dialect is None:
        raise ValueError(
            f"a recording is read as {' or '.join(DIALECTS)}: this charger profile is of {profile.protocol}"
        )
    seen, calls, report = _Seen(), dict[str, str](), Report()
    for number, line in enumerate(lines):
        if number >= MAX_LINES:
            break
        if line.strip():
            _read_line(line, dialect, seen, calls)
    _judge_hello(seen, profile, report)
    _judge_messages(seen, dialect, report)
    _judge_samples(seen, profile, report)
    _judge_keys(seen, profile, report)
    return report


def _read_line(line: str, dialect: Dialect, seen: _Seen, calls: dict[str, str]) -> None:
    try:
        said: Any = json.loads(line)
    except ValueError:
        said = {"from": UNIT, "text": line.rstrip("\n")}
    if isinstance(said, dict):
        said, speaker = said.get("text", said.get("hello")), str(said.get("from", UNIT))
        if isinstance(said, str) and not said.lstrip().startswith("["):
            if speaker == UNIT:
                seen.hello = said
            return
    frame = said if isinstance(said, list) else parse(str(said).encode())
    if isinstance(frame, CallError) or len(frame) < 3 or not isinstance(frame[1], str):  # noqa: PLR2004
        seen.broken += 1
    elif frame[0] == CALL and isinstance(frame[2], str):
        calls[frame[1]] = frame[2]
        _read_call(frame[2], frame[3] if len(frame) > 3 else {}, dialect, seen)  # noqa: PLR2004
    elif frame[0] == CALLRESULT and calls.get(frame[1]) == "GetConfiguration" and isinstance(frame[2], dict):
        _read_configuration(frame[2], seen)
    elif frame[0] == CALLERROR and calls.get(frame[1]) in dialect.to_unit:
        seen.errors[f"{calls[frame[1]]} with {frame[2]}"] += 1


def _read_call(action: str, payload: object, dialect: Dialect, seen: _Seen) -> None:
    message = dialect.from_unit.get(action)
    if message is None or not isinstance(payload, dict):
        if action not in dialect.to_unit:
            seen.unknown[action] += 1
        return
    seen.messages[action] += 1
    reading = read(message.request, payload)
    if isinstance(reading, Unreadable):
        seen.unreadable.setdefault(action, Counter())[reading.why] += 1
        return
    seen.repaired.setdefault(action, Counter()).update(reading.notes)
    values = reading.message.get("values" if action == "MeterValues" else "transactionData")
    if values is not None and action in ("MeterValues", "StopTransaction"):
        readings = meter_readings(values)
        seen.measurands.update(each.measurand for found in readings.sets for each in found.readings)
        if readings.unreadable:
            seen.unreadable.setdefault(action, Counter()).update(readings.unreadable)
    if action == "BootNotification":
        seen.boot = reading.message


def _read_configuration(answer: dict[str, Any], seen: _Seen) -> None:
    for setting in device_model.settings_of(answer):
        seen.settings[setting.key.casefold()] = setting


def _judge_messages(seen: _Seen, dialect: Dialect, report: Report) -> None:
    for action, count in sorted(seen.messages.items()):
        wrong, notes = seen.unreadable.get(action, Counter()), seen.repaired.get(action, Counter())
        if wrong:
            report.not_understood.append(f"{action}: {_most(wrong)}")
        if notes:
            report.understood.append(f"{action} {count} times, repaired: {_most(notes)}")
        elif not wrong:
            report.understood.append(f"{action} {count} times")
    for action, count in seen.unknown.items():
        report.not_understood.append(f"{action} {count} times: no action of {dialect.subprotocol}")
    for error, count in seen.errors.items():
        report.not_understood.append(f"the unit refused {error}, {count} times")
    if seen.broken:
        report.not_understood.append(f"{seen.broken} lines are no OCPP-J frames")


def _judge_hello(seen: _Seen, profile: ChargerProfile, report: Report) -> None:
    if seen.hello is None:
        if profile.hello is not None:
            report.not_understood.append(f"no hello was recorded: this charger profile expects {profile.hello!r}")
        return
    if profile.hello is None:
        report.not_understood.append(f"a hello {seen.hello!r:.80}: this charger profile has none")
        return
    pattern = hello_pattern(profile.hello)
    ending = "" if seen.hello.endswith(pattern.ends.decode()) else pattern.ends.decode()
    verdict = read_opening((seen.hello + ending).encode(), [pattern], 512)
    if isinstance(verdict, Hello):
        report.understood.append(f"hello: serial {verdict.serial}, version {verdict.version or 'not said'}")
        call = up.boot_notification(seen.boot, verdict.serial, profile)
        if isinstance(call, up.Untranslatable):
            report.not_understood.append(f"BootNotification would be refused: {call.why}")
    else:
        report.not_understood.append(f"hello {seen.hello!r:.80}: this charger profile expects {profile.hello!r}")


def _judge_samples(seen: _Seen, profile: ChargerProfile, report: Report) -> None:
    if seen.measurands:
        report.understood.append(f"measurands: {', '.join(sorted(seen.measurands))}")
    missing = [name for name in profile.sampling.measurands if name not in seen.measurands]
    if missing:
        report.not_understood.append(f"no sample of {', '.join(missing)}")


def _judge_keys(seen: _Seen, profile: ChargerProfile, report: Report) -> None:
    """Say which configuration keys are variables of OCPP 2.0.1, and whether the limit and the sampling can be set."""
    if not seen.settings:
        report.not_understood.append("no answer to GetConfiguration was recorded: ask the unit for all its keys")
        return
    component = device_model.vendor_component(profile)
    standard, vendor = list[str](), list[str]()
    for setting in seen.settings.values():
        place = device_model.variable_of(profile, setting).place
        named = f"{setting.key} = {place.component}.{place.variable}"
        (vendor if place.component == component else standard).append(named)
    for title, names in (("standard keys", standard), ("keys of the vendor", vendor)):
        if names:
            report.understood.append(f"{title}: {', '.join(sorted(names))}")
    sampling = profile.sampling
    for key, what in (
        (profile.limit.key, "the limit"),
        (sampling.interval_key, "the sampling interval"),
        (sampling.measurands_key, "the measurands"),
    ):
        held = seen.settings.get((key or "").casefold())
        if key is None:
            continue
        if held is None:
            candidates = [each.key for each in seen.settings.values() if _MAY_LIMIT.search(each.key)]
            hint = f"; these may set one: {', '.join(candidates)}" if what == "the limit" and candidates else ""
            report.not_understood.append(f"the unit has no key {key} for {what}{hint}")
        elif held.readonly:
            report.not_understood.append(f"{key} for {what} is read-only")
        else:
            report.understood.append(f"{key} for {what} holds {held.value}")


def _most(counted: Counter[str]) -> str:
    shown = "; ".join(f"{why} ({count})" for why, count in counted.most_common(MAX_SHOWN))
    return shown if len(counted) <= MAX_SHOWN else f"{shown}; and {len(counted) - MAX_SHOWN} more"
