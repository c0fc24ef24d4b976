"""From the site and OCPP 2.0.1 to the words of a unit."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.legacy import down
from bridge.legacy.dialects import OCPP15, DialectSchemas, problem
from bridge.legacy.ocpp16 import OCPP16
from bridge.ocpp201.rpc import Written
from bridge.settings import LimitCommand

WATTS = LimitCommand(method="change_configuration", key="MaxChargingPowerW", unit="W", read_back=True)
KILOWATTS = LimitCommand(method="change_configuration", key="MaxPowerKW", unit="kW", read_back=True)
AMPERES = LimitCommand(method="change_configuration", key="MaxCurrent", unit="A", read_back=True)
SCHEMAS = DialectSchemas(OCPP15)
SCHEMAS_16 = DialectSchemas(OCPP16)
NOW = "2026-09-01T10:00:00.000Z"


def schema_16(action: str) -> Any:
    """The official JSON schema of a request of OCPP 1.6."""
    return json.loads(files("ocpp").joinpath("v16", "schemas", f"{action}.json").read_text("utf-8-sig"))


@pytest.mark.parametrize(
    ("command", "phases", "limit_w", "value", "really_w"),
    [
        (WATTS, 3, 20_000, "20000", 20_000),
        (WATTS, 3, 0, "0", 0),
        (WATTS.model_copy(update={"step": 100}), 3, 20_099, "20000", 20_000),
        (KILOWATTS, 3, 20_999, "20", 20_000),
        (AMPERES, 3, 4_200, "6", 4_140),
        (AMPERES, 3, 4_139, "0", 0),
        (AMPERES, 1, 4_200, "18", 4_140),
        (AMPERES, 3, 11_000, "15", 10_350),
        (AMPERES, 3, 22_000, "31", 21_390),
        (AMPERES, 1, 1_379, "0", 0),
    ],
)
def test_a_limit_is_written_in_the_unit_of_the_make_and_rounded_down(
    command: LimitCommand, phases: int, limit_w: int, value: str, really_w: int
) -> None:
    order = down.limit_order(command, phases, limit_w)
    assert order.write == ("ChangeConfiguration", {"key": command.key, "value": value})
    assert order.limit_w == really_w


@pytest.mark.parametrize("command", [WATTS, KILOWATTS, AMPERES])
def test_all_units_of_a_make_are_told_and_asked_in_the_same_words(command: LimitCommand) -> None:
    words = down.limit_words(command, 3)
    assert words is down.limit_words(command.model_copy(), 3)
    order = words.order(11_000)
    assert order == down.limit_order(command, 3, 11_000)
    assert words.order(11_000) is order
    assert isinstance(order.write.payload, Written)
    value = {command.key: order.write.payload["value"]}
    answer = {"configurationKey": [{"key": key, "readonly": False, "value": said} for key, said in value.items()]}
    assert words.read_back(answer) == words.read_back(Written(answer)) == order.limit_w


@given(
    limit_w=st.integers(0, 1_000_000),
    phases=st.integers(1, 3),
    unit=st.sampled_from(["W", "kW", "A"]),
    step=st.integers(1, 5_000),
)
def test_a_written_limit_is_never_above_the_order_and_reads_back_as_itself(
    limit_w: int, phases: int, unit: Any, step: int
) -> None:
    command = LimitCommand(method="change_configuration", key="Limit", unit=unit, step=step, read_back=True)
    order = down.limit_order(command, phases, limit_w)
    unit_w = {"W": 1, "kW": 1000, "A": 230 * phases}[unit]
    assert 0 <= order.limit_w <= limit_w
    assert int(order.write.payload["value"]) * unit_w == order.limit_w
    assert int(order.write.payload["value"]) % step == 0
    assert order.limit_w > limit_w - step * unit_w or (unit == "A" and order.limit_w == 0)
    answer = {"configurationKey": [{"key": "limit", "readonly": False, "value": order.write.payload["value"]}]}
    assert down.limit_read_back(command, phases, answer) == order.limit_w
    assert SCHEMAS.problem_in_request(*order.write) is None
    assert order.read_back is not None
    assert SCHEMAS.problem_in_request(*order.read_back) is None


@pytest.mark.parametrize(
    ("answer", "held_w"),
    [
        ({"configurationKey": [{"key": "MaxChargingPowerW", "readonly": False, "value": "20000"}]}, 20_000),
        ({"configurationKey": {"key": "maxchargingpowerw", "value": 20000.0}}, 20_000),
        ({"configurationKey": [{"key": "MaxChargingPowerW", "value": "19999,2"}]}, 20_000),
        ({"configurationKey": [{"key": "MaxChargingPowerW"}]}, None),
        ({"configurationKey": [{"key": "MaxChargingPowerW", "value": "much"}]}, None),
        ({"configurationKey": [], "unknownKey": ["MaxChargingPowerW"]}, None),
        ({"configurationKey": "broken"}, None),
        ({}, None),
    ],
)
def test_a_limit_is_read_back_tolerantly_and_never_understated(answer: dict[str, Any], held_w: int | None) -> None:
    assert down.limit_read_back(WATTS, 3, answer) == held_w


def test_a_limit_by_data_transfer_fills_the_template_of_the_make_and_reads_a_field_back() -> None:
    said = {"vendor_id": "Novac", "message_id": "SetMax", "data": '{"amps":<value>}', "unit": "A", "step": 2}
    command = LimitCommand.model_validate(
        {"method": "data_transfer", **said, "read_back": True, "read_message_id": "GetMax", "read_field": "amps"}
    )
    order = down.limit_order(command, 1, 4_000)
    assert order.write == (
        "DataTransfer",
        {"vendorId": "Novac", "messageId": "SetMax", "data": '{"amps":16}'},
    )
    assert order.read_back == ("DataTransfer", {"vendorId": "Novac", "messageId": "GetMax"})
    assert order.limit_w == 16 * 230
    for data, held_w in (('{"amps": 16}', 3_680), ({"amps": "16,0"}, 3_680), ("{", None), ("[16]", None), (None, None)):
        assert down.limit_read_back(command, 1, {"status": "Accepted", "data": data}) == held_w


@pytest.mark.parametrize(
    ("unit", "limit_w", "limit", "really_w"), [("A", 11_000, 15, 10_350), ("W", 11_000, 11_000, 11_000)]
)
def test_a_limit_of_1_6_is_one_charging_profile_replaced_in_place(
    unit: Any, limit_w: int, limit: int, really_w: int
) -> None:
    command = LimitCommand(method="charging_profile", unit=unit, read_back=True)
    order = down.limit_order(command, 3, limit_w)
    charging_profile = order.write.payload["csChargingProfiles"]
    assert charging_profile["chargingSchedule"]["chargingSchedulePeriod"][0]["limit"] == limit
    assert order.limit_w == really_w
    assert SCHEMAS_16.problem_in_request(*order.write) is None
    jsonschema_rs.Draft4Validator(schema_16("SetChargingProfile")).validate(order.write.payload)
    assert order.read_back is not None
    jsonschema_rs.Draft4Validator(schema_16("GetCompositeSchedule")).validate(order.read_back.payload)
    periods = [{"startPeriod": 0, "limit": limit}]
    schedule = {"status": "Accepted", "chargingSchedule": {"chargingSchedulePeriod": periods}}
    assert down.limit_read_back(command, 3, schedule) == really_w
    for nothing in ({"status": "Rejected"}, {"status": "Accepted"}, {**schedule, "status": "Rejected"}):
        assert down.limit_read_back(command, 3, nothing) is None
    periods[0]["limit"] = -1
    assert down.limit_read_back(command, 3, schedule) is None


def test_differences_in_order_spacing_and_number_form_are_none() -> None:
    wanted = {"Interval": "60", "Measurands": "Voltage,Current.Import"}
    rows = [{"key": "interval", "value": "60.0"}, {"key": "Measurands", "value": "Current.Import, voltage"}]
    assert down.differences(wanted, down.configuration({"configurationKey": rows})) == {}
    rows = [{"key": "interval", "value": "900"}]
    assert down.differences(wanted, down.configuration({"configurationKey": rows})) == {
        "Interval": "900",
        "Measurands": None,
    }


@pytest.mark.parametrize(
    ("status", "interval_s", "expected"),
    [("Accepted", 300, ("Accepted", 300)), ("Pending", 20, ("Rejected", 20)), ("Rejected", 0, ("Rejected", 300))],
)
def test_boot_status_pending_becomes_rejected_with_the_interval(
    status: str, interval_s: int, expected: tuple[str, int]
) -> None:
    answer = down.boot_answer(OCPP15, {"status": status, "interval": interval_s, "currentTime": NOW})
    assert (answer["status"], answer["heartbeatInterval"]) == expected
    assert problem(OCPP15.from_unit["BootNotification"].response, answer) is None


@pytest.mark.parametrize(
    ("status", "word"),
    [("Accepted", "Accepted"), ("Unknown", "Invalid"), ("NoCredit", "Blocked"), ("ConcurrentTx", "ConcurrentTx")],
)
def test_id_token_info_becomes_id_tag_info(status: str, word: str) -> None:
    response = {
        "idTokenInfo": {
            "status": status,
            "cacheExpiryDateTime": NOW,
            "groupIdToken": {"idToken": "FLEET-7", "type": "Central"},
        }
    }
    answer = down.authorize_answer(OCPP15, response)
    assert answer == {"idTagInfo": {"status": word, "expiryDate": NOW, "parentIdTag": "FLEET-7"}}
    assert problem(OCPP15.from_unit["Authorize"].response, answer) is None


def test_a_group_that_is_too_long_for_1_5_is_left_out() -> None:
    response = {"idTokenInfo": {"status": "Accepted", "groupIdToken": {"idToken": "G" * 21, "type": "Central"}}}
    assert down.authorize_answer(OCPP15, response) == {"idTagInfo": {"status": "Accepted"}}


@pytest.mark.parametrize("action", OCPP15.from_unit)
def test_every_unreadable_request_has_an_answer_that_the_dialect_allows_and_that_is_no_yes(action: str) -> None:
    answer = down.unreadable_answer(OCPP15, action, NOW)
    assert problem(OCPP15.from_unit[action].response, answer) is None
    assert "Accepted" not in str(answer)
