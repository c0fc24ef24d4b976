"""A recorded conversation is held against a charger profile: what is understood, what is not, and what to look for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.legacy.capture import Report, check_capture
from bridge.settings import charger_profile

NOW = "2026-09-01T10:00:00Z"
HELLO = {"from": "unit", "text": "S4HELLO SN=S4-0001 FW=2016.1\r\n"}
BOOT = {"chargePointVendor": "Voltex", "chargePointModel": "S4-ULTRA", "chargeBoxSerialNumber": "S4-0001"}
KEYS = ("MaxChargingPowerW", "MeterValueSampleInterval", "MeterValuesSampledData", "LightIntensity")
ROWS = [{"key": key, "readonly": False, "value": "1"} for key in KEYS]
SAMPLES = [
    {"value": "1", "measurand": name}
    for name in ("Energy.Active.Import.Register", "Power.Active.Import", "Voltage", "Current.Import")
]
GOOD: list[Any] = [
    HELLO,
    [2, "1", "BootNotification", BOOT],
    {"from": "csms", "text": json.dumps([2, "c1", "GetConfiguration", {}])},
    {"from": "unit", "text": json.dumps([3, "c1", {"configurationKey": ROWS, "unknownKey": []}])},
    [2, "2", "MeterValues", {"connectorId": 1, "values": [{"timestamp": NOW, "values": SAMPLES}]}],
]


def checked(said: list[Any], name: str = "series4-ultra") -> Report:
    return check_capture((line if isinstance(line, str) else json.dumps(line) for line in said), charger_profile(name))


def test_a_conversation_of_the_make_is_understood_whole() -> None:
    report = checked(GOOD)
    assert report.not_understood == []
    for sentence in (
        "hello: serial S4-0001, version 2016.1",
        "BootNotification 1 times",
        "keys of the vendor: LightIntensity = VoltexCtrlr.LightIntensity, MaxChargingPowerW",
        "MaxChargingPowerW for the limit holds 1",
        "MeterValueSampleInterval = SampledDataCtrlr.TxUpdatedInterval",
    ):
        assert any(sentence in line for line in report.understood), sentence


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([{"from": "unit", "text": "HELO 123\r\n"}], "this charger profile expects"),
        ([[2, "1", "Heartbeat", {}]], "no hello was recorded"),
        (
            [HELLO, [2, "1", "BootNotification", {"chargeBoxSerialNumber": "OTHER"}]],
            "BootNotification would be refused",
        ),
        ([[2, "1", "Teleport", {}]], "Teleport 1 times: no action of ocpp1.5"),
        ([[2, "1", "StatusNotification", {"status": "Dancing"}]], "StatusNotification: status missing or unreadable"),
        ([[2, "1", "MeterValues", {"values": [{"value": "?"}]}]], "MeterValues: value ? is no number"),
        ([[2, "c", "Reset", {"type": "Hard"}], [4, "c", "NotSupported", "", {}]], "refused Reset with NotSupported"),
        (["[2,", "[1]"], "2 lines are no OCPP-J frames"),
        ([], "no answer to GetConfiguration"),
        ([], "no sample of Energy.Active.Import.Register"),
    ],
)
def test_what_is_not_understood_is_said_with_its_reason(said: list[Any], why: str) -> None:
    assert any(why in line for line in checked(said).not_understood), checked(said).not_understood


def test_a_missing_limit_key_is_said_with_those_that_may_be_it() -> None:
    rows = [{"key": "Novac.MaxAmps", "value": "16"}, {"key": "Volume", "value": "3"}]
    report = checked([[2, "c1", "GetConfiguration", {}], [3, "c1", {"configurationKey": rows}]])
    (sentence,) = [line for line in report.not_understood if "for the limit" in line]
    assert "MaxChargingPowerW" in sentence
    assert "Novac.MaxAmps" in sentence
    assert "Volume" not in sentence


def test_a_read_only_key_cannot_be_the_limit() -> None:
    rows = [{"key": "maxchargingpowerw", "value": "1", "readonly": "true"}]
    report = checked([[2, "c1", "GetConfiguration", {}], [3, "c1", {"configurationKey": rows}]])
    assert "MaxChargingPowerW for the limit is read-only" in report.not_understood


def test_what_was_repaired_is_said_with_the_message() -> None:
    report = checked([[2, "1", "StatusNotification", {"status": "available", "colour": "red"}]])
    assert any("colour unknown" in line and "connectorId taken as 1" in line for line in report.understood)


def test_a_recording_is_not_held_against_a_make_that_speaks_2_0_1() -> None:
    with pytest.raises(ValueError, match=r"ocpp1\.5 or ocpp1\.6"):
        checked([], "native-201")
