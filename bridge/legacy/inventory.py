"""The device model of a connected legacy unit: variables as configuration keys, and reports of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from bridge.legacy import device_model as model
from bridge.legacy import down
from bridge.legacy.device_model import Setting, Variable
from bridge.legacy.down import refusal
from bridge.legacy.record import UnitRecord
from bridge.ocpp201.above import Reply
from bridge.ocpp201.rpc import CallError, NoAnswer, Outcome, Payload
from bridge.ocpp201.timestamps import rfc3339

REPORTS_EACH: Final = 20  # entries of one NotifyReport
KEY_TEXT_MAX: Final = 500
SILENT: Final = "the unit does not answer"

Settings: TypeAlias = list[Setting]


def read_settings(unit: UnitRecord, keys: list[str] | None, then: Callable[[Settings | None], None]) -> None:
    """Ask the unit for configuration keys, all of them for None; hand on what it said, None where it said nothing.

    Makes that do not list their keys are asked for those of their charger profile, makes that take one key at a time
    for one after the other.
    """
    quirks = unit.profile.quirks
    if keys is None and quirks.configuration_keys:
        keys = list(quirks.configuration_keys)
    if keys is not None and not keys:
        then([])
        return
    batches: list[list[str]] = [[]] if keys is None else [keys]
    if quirks.one_key_at_a_time and keys is not None:
        batches = [[key] for key in keys[: model.MAX_KEYS]]
    _read_next(unit, batches, [], then)


def _read_next(
    unit: UnitRecord, batches: list[list[str]], found: Settings, then: Callable[[Settings | None], None]
) -> None:
    def answered(outcome: Outcome) -> None:
        if isinstance(outcome, NoAnswer):
            then(None)
            return
        said = [] if isinstance(outcome, CallError) else model.settings_of(outcome)
        if len(batches) > 1:
            _read_next(unit, batches[1:], [*found, *said], then)
        else:
            then([*found, *said])

    batch = batches[0]
    unit.ask(down.get_configuration(batch) if batch else down.Call("GetConfiguration", {}), answered)


def static_variables(unit: UnitRecord) -> list[Variable]:
    """What is known of the unit without asking it."""
    statuses = {number: unit.status_of(number) for number in unit.connector_numbers()}
    problems = {number for number, state in unit.connectors.items() if state.has_problem}
    profiles = unit.smart_charging.profiles
    return [
        *model.static_variables(unit.profile, statuses, problems, rfc3339(unit.clock().utc_ms)),
        *model.smart_charging_variables(profiles.abilities, len(profiles)),
        *model.link_variables(unit.csms),
        *model.meter_variables(unit.meter),
    ]


def get_variables(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """GetVariables (B06): one result for each item, in order; the unit is asked once for all its keys."""
    items = request["getVariableData"]
    if len(items) > model.ITEMS_PER_MESSAGE:
        reply(CallError("OccurrenceConstraintViolation", f"ItemsPerMessage is {model.ITEMS_PER_MESSAGE} (B06.FR.16)"))
        return
    static = static_variables(unit)
    keys: list[str] = []
    for item in items:
        place, evse, _ = model.place_asked(item)
        if model.find(static, item) is None and not evse:
            keys += [key for key in model.keys_of(unit.profile, place) if len(key) <= model.MAX_NAME]

    def read(settings: Settings | None) -> None:
        reply({"getVariableResult": [_variable_result(unit, static, settings, item) for item in items]})

    read_settings(unit, list(dict.fromkeys(keys)), read)


def _variable_result(unit: UnitRecord, static: list[Variable], settings: Settings | None, item: Payload) -> Payload:
    named: Payload = {name: item[name] for name in ("component", "variable")}
    named["attributeType"] = item.get("attributeType", "Actual")
    known = model.find(static, item)
    place, evse, _ = model.place_asked(item)
    keys = [key.casefold() for key in model.keys_of(unit.profile, place)] if not evse else []
    if known is None and keys and settings is None:
        return {**named, "attributeStatus": "Rejected", "attributeStatusInfo": _info("InternalError", SILENT)}
    if known is None:
        setting = next((each for each in settings or () if each.key.casefold() in keys), None)
        known = None if setting is None else model.variable_of(unit.profile, setting)
    if known is None:
        has_component = model.has_component(unit.profile, static, item)
        return {**named, "attributeStatus": "UnknownVariable" if has_component else "UnknownComponent"}
    if item.get("attributeType", "Actual") != "Actual":
        return {**named, "attributeStatus": "NotSupportedAttributeType"}
    return {**named, "attributeStatus": "Accepted", "attributeValue": known.value[: model.MAX_VALUE]}


def _info(reason_code: str, why: str) -> Payload:
    return {"reasonCode": reason_code, "additionalInfo": why}


def set_variables(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """SetVariables (B05): one after the other, one result for each item, in order."""
    items = request["setVariableData"]
    if len(items) > model.ITEMS_PER_MESSAGE:
        reply(CallError("OccurrenceConstraintViolation", f"ItemsPerMessage is {model.ITEMS_PER_MESSAGE} (B05.FR.11)"))
    else:
        _set_next(unit, static_variables(unit), items, [], reply)


def _set_next(
    unit: UnitRecord, static: list[Variable], items: list[Payload], results: list[Payload], reply: Reply
) -> None:
    if not items:
        reply({"setVariableResult": results})
        return
    item = items[0]
    named: Payload = {name: item[name] for name in ("component", "variable")}
    named["attributeType"] = item.get("attributeType", "Actual")

    def settled(status: str, reason_code: str = "", why: str = "") -> None:
        info = {"attributeStatusInfo": _info(reason_code, why)} if reason_code else {}
        result = {**named, "attributeStatus": status, **info}
        _set_next(unit, static, items[1:], [*results, result], reply)

    place, evse, _ = model.place_asked(item)
    keys = model.keys_of(unit.profile, place) if not evse else []
    if item.get("attributeType", "Actual") != "Actual":
        settled("NotSupportedAttributeType")
    elif model.find(static, item) is not None:
        settled("Rejected", "ReadOnly", "fixed by the make of the unit or by the bridge")
    elif not keys:
        has_component = model.has_component(unit.profile, static, item)
        settled("UnknownVariable" if has_component else "UnknownComponent")
    elif why := _forbidden(unit, keys, item["attributeValue"]):
        settled("Rejected", *why)
    else:
        _write(unit, keys, item["attributeValue"], settled)


def _forbidden(unit: UnitRecord, keys: list[str], value: str) -> tuple[str, str] | None:
    """Why a key may not be written: the limit, and the samples the grid operator counts on, are the bridge's."""
    sampling = unit.profile.sampling
    if any(model.is_limit_key(unit.profile, key) for key in keys):
        return "ReadOnly", "this key sets the limit of the unit: only the bridge may write it"
    if any(len(key) > model.MAX_NAME for key in keys) or len(value) > KEY_TEXT_MAX:
        return "TooLargeElement", f"keys have {model.MAX_NAME} characters, values {KEY_TEXT_MAX}"
    if keys == [sampling.interval_key] and not 0 < _as_int(value) <= unit.entry.sample_interval_s:
        return "ValueOutOfRange", f"between 1 and {unit.entry.sample_interval_s} s: telemetry is owed every so often"
    if keys == [sampling.measurands_key]:
        named = {name.strip().casefold() for name in value.split(",")}
        missing = [name for name in sampling.measurands if name.casefold() not in named]
        if missing:
            return "InvalidValue", f"telemetry needs {', '.join(missing)} too"
    return None


def _as_int(value: str) -> int:
    return int(value) if value.isascii() and value.isdigit() else 0


def _write(unit: UnitRecord, keys: list[str], value: str, settled: Callable[..., None]) -> None:
    """Write a key by the first of its spellings that the unit knows."""

    def answered(outcome: Outcome) -> None:
        if isinstance(outcome, NoAnswer):
            settled("Rejected", "InternalError", SILENT)
            return
        said = "" if isinstance(outcome, CallError) else str(outcome.get("status", "")).strip().casefold()
        if said == "notsupported" and len(keys) > 1:
            _write(unit, keys[1:], value, settled)
        elif said == "notsupported":
            settled("UnknownVariable")
        elif said == "rebootrequired" or (said == "accepted" and keys[0] in unit.profile.quirks.reboot_keys):
            settled("RebootRequired")
        elif said == "accepted":
            settled("Accepted")
        else:
            settled("Rejected", "InvalidValue", f"the unit answers {outcome}"[: down.MAX_INFO])

    unit.ask(down.change_configuration(keys[0], value), answered)


def get_base_report(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """GetBaseReport (B07): accepted once the unit has answered, then NotifyReport; no summary (B07.FR.02, FR.13)."""
    if request["reportBase"] == "SummaryInventory":
        reply(refusal("NotSupported", "UnsupportedParam", "ask for FullInventory or ConfigurationInventory"))
        return

    def read(settings: Settings | None) -> None:
        if settings is None:
            reply(refusal("Rejected", "InternalError", SILENT))
            return
        reply({"status": "Accepted"})
        variables = _all_variables(unit, settings)
        if request["reportBase"] == "ConfigurationInventory":
            variables = [each for each in variables if each.mutable]
        _send_report(unit, request["requestId"], variables)

    read_settings(unit, None, read)


def get_report(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """GetReport (B08): the unit is asked first, since an empty result is an answer of its own (B08.FR.15, FR.16)."""
    if len(request.get("componentVariable", ())) > model.ITEMS_PER_MESSAGE:
        reply(CallError("OccurrenceConstraintViolation", f"ItemsPerMessage is {model.ITEMS_PER_MESSAGE} (B08.FR.17)"))
        return

    def read(settings: Settings | None) -> None:
        if settings is None:
            reply(refusal("Rejected", "InternalError", SILENT))
            return
        variables = model.selected(_all_variables(unit, settings), request)
        if not variables:
            reply(refusal("EmptyResultSet", "NotFound", "no variable fits"))
            return
        reply({"status": "Accepted"})
        _send_report(unit, request["requestId"], variables)

    read_settings(unit, None, read)


def _all_variables(unit: UnitRecord, settings: Settings) -> list[Variable]:
    """The static part and the keys of the unit, each place once."""
    found = static_variables(unit)
    taken = {(each.place.folded(), each.evse, each.connector) for each in found}
    for setting in settings:
        variable = model.variable_of(unit.profile, setting)
        here = (variable.place.folded(), 0, 0)
        if here not in taken:
            taken.add(here)
            found.append(variable)
    return found


def _send_report(unit: UnitRecord, request_id: int, variables: list[Variable]) -> None:
    """Send NotifyReport in parts, the last one without `tbc` (B07.FR.08, B08)."""
    parts = [variables[start : start + REPORTS_EACH] for start in range(0, len(variables), REPORTS_EACH)] or [[]]
    generated_at = rfc3339(unit.clock().utc_ms)
    for number, part in enumerate(parts):
        payload: dict[str, Any] = {
            "requestId": request_id,
            "generatedAt": generated_at,
            "seqNo": number,
            "tbc": number < len(parts) - 1,
        }
        unit.send_up("NotifyReport", payload | ({"reportData": [each.report() for each in part]} if part else {}))
