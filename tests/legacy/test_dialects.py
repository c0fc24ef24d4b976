"""The table of OCPP 1.5-JSON: read tolerantly, written strictly."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from bridge.legacy.dialects import (
    OCPP15,
    DialectSchemas,
    Instant,
    Reading,
    Unreadable,
    instant,
    parse_number,
    problem,
    read,
)

NOW_MS = 1_788_256_800_000
SCHEMAS = DialectSchemas(OCPP15)


def reading(action: str, payload: dict[str, Any]) -> Reading:
    result = read(OCPP15.from_unit[action].request, payload)
    assert isinstance(result, Reading)
    return result


def test_the_table_has_all_25_operations_of_1_5() -> None:
    assert len(OCPP15.from_unit) + len(OCPP15.to_unit) == 25


def test_unknown_fields_are_stripped_and_named() -> None:
    result = reading("Authorize", {"idTag": "04A1B2C3", "colour": "red"})
    assert result.message == {"idTag": "04A1B2C3"}
    assert result.notes == ("colour unknown",)


@pytest.mark.parametrize(
    ("said", "read_as"),
    [
        ({"connectorId": "2", "idTag": 12345678, "meterStart": "1200,7"}, (2, "12345678", 1200)),
        ({"idTag": " 04a1 ", "meterStart": 17.0}, (1, "04a1", 17)),
        ({"connectorId": 1, "idTag": "", "meterStart": "?"}, (1, "", None)),
    ],
)
def test_values_are_brought_to_their_kind_and_safe_defaults_stand_in(said: dict[str, Any], read_as: Any) -> None:
    message = reading("StartTransaction", said).message
    assert (message["connectorId"], message["idTag"], message.get("meterStart")) == read_as


@pytest.mark.parametrize(
    ("action", "payload"),
    [
        ("Authorize", {}),
        ("Authorize", {"idTag": "X" * 37}),
        ("StartTransaction", {"connectorId": 1}),
        ("StatusNotification", {"connectorId": 1, "status": "Dancing"}),
        ("StatusNotification", {"connectorId": 65, "status": "Available"}),
        ("MeterValues", {"connectorId": -1, "values": []}),
        ("MeterValues", {"connectorId": 1}),
    ],
)
def test_what_has_no_safe_repair_is_unreadable(action: str, payload: dict[str, Any]) -> None:
    assert isinstance(read(OCPP15.from_unit[action].request, payload), Unreadable)


@pytest.mark.parametrize(
    ("action", "payload", "right"),
    [
        ("ChangeConfiguration", {"key": "MaxChargingPowerW", "value": "20000"}, True),
        ("ChangeConfiguration", {"key": "MaxChargingPowerW", "value": 20000}, False),
        ("ChangeConfiguration", {"key": "K" * 51, "value": ""}, False),
        ("GetConfiguration", {"key": ["a"]}, True),
        ("GetConfiguration", {"key": "a"}, False),
        ("Reset", {"type": "Hard"}, True),
        ("Reset", {"type": "Immediate"}, False),
        ("Reset", {"type": "Hard", "evseId": 1}, False),
        ("RemoteStopTransaction", {"transactionId": 2**31}, False),
        ("UpdateFirmware", {"location": "ftp://x", "retrieveDate": "2026-09-01T10:00:00Z"}, True),
        ("UpdateFirmware", {"location": "ftp://x", "retrieveDate": "soon"}, False),
        ("SendLocalList", {"updateType": "Full", "listVersion": 1, "localAuthorisationList": [{"idTag": "A"}]}, True),
        ("SendLocalList", {"updateType": "Full", "listVersion": 1, "localAuthorisationList": [{}]}, False),
        ("SetChargingProfile", {}, False),
        ("TriggerMessage", {"requestedMessage": "Heartbeat"}, False),
    ],
)
def test_what_we_send_is_held_against_the_table(action: str, payload: dict[str, Any], right: bool) -> None:
    assert (SCHEMAS.problem_in_request(action, payload) is None) == right


def test_our_answers_are_held_against_the_table_and_the_unit_s_are_not() -> None:
    boot = {"status": "Accepted", "currentTime": "2026-09-01T10:00:00Z", "heartbeatInterval": 300}
    assert SCHEMAS.problem_in_response("BootNotification", boot) is None
    assert SCHEMAS.problem_in_response("BootNotification", {**boot, "interval": 300}) is not None
    assert SCHEMAS.problem_in_response("Authorize", {"idTagInfo": {"status": "Unknown"}}) is not None
    assert SCHEMAS.problem_in_response("ChangeConfiguration", {"status": "accepted", "more": 1}) is None


def test_every_status_has_a_word_in_2_0_1_and_every_answer_one_in_1_5() -> None:
    words = OCPP15.from_unit["StatusNotification"].request["status"].words
    assert set(words) == set(OCPP15.connector_status)
    for word in OCPP15.id_tag_status.values():
        assert problem(OCPP15.from_unit["Authorize"].response, {"idTagInfo": {"status": word}}) is None


@pytest.mark.parametrize(
    ("raw", "utc_ms"),
    [
        ("2026-09-01T10:00:00Z", NOW_MS),
        ("2026-09-01T12:00:00+02:00", NOW_MS),
        ("2026-09-01 10:00:00", NOW_MS),
        (" 2026-09-01T10:00:00.1234567Z", NOW_MS + 123),
        ("2026-08-31T10:00:00Z", NOW_MS - 86_400_000),
    ],
)
def test_times_are_read_in_every_form(raw: str, utc_ms: int) -> None:
    assert instant(raw, NOW_MS) == Instant(utc_ms)


@pytest.mark.parametrize(
    "raw", ["1970-01-01T00:00:12Z", "2000-01-01T00:00:00", "2031-01-01T00:00:00Z", "yesterday", 17]
)
def test_a_clock_that_was_never_set_gives_way_to_the_time_of_receipt(raw: object) -> None:
    assert instant(raw, NOW_MS) == Instant(NOW_MS, str(raw))


@pytest.mark.parametrize(
    ("raw", "number"),
    [("7,2", "7.2"), ("1.234,5", "1234.5"), ("1,234.5", "1234.5"), (7.25, "7.25"), (" 5 ", "5"), ("-0", "0")],
)
def test_numbers_are_read_with_point_and_comma(raw: object, number: str) -> None:
    assert parse_number(raw) == Decimal(number)


@pytest.mark.parametrize("raw", ["", "x", "NaN", "Infinity", "1e30", True, None, [], {}])
def test_what_is_no_number_is_none(raw: object) -> None:
    assert parse_number(raw) is None
