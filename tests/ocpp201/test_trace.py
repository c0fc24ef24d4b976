"""The conversation as an engineer reads it: what caused what, filtered, bounded, without secrets."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from bridge.core.quantities import Now
from bridge.ocpp201.letters import Delivery
from bridge.ocpp201.rpc import CallError, Verbatim
from bridge.ocpp201.trace import CSMS, UNIT, Said, Trace, masked, shown_text

T0 = 1_788_256_800_000


class Clock:
    def __init__(self) -> None:
        self.ms = T0

    def __call__(self) -> Now:
        return Now(self.ms, self.ms)


def session(clock: Clock) -> Trace:
    """A start of unit A, told to the CSMS and answered; and a heartbeat of unit B meanwhile."""
    trace = Trace(clock)
    unit, csms = trace.observer("A", UNIT), trace.observer("A", CSMS)
    unit("Rx", True, "u1", "StartTransaction", {"idTag": "04A1B2C3"})
    csms("Tx", True, "c1", "TransactionEvent", {"seqNo": 0})
    trace.observer("B", UNIT)("Rx", True, "u1", "Heartbeat", {})
    csms("Rx", False, "c1", "TransactionEvent", {"idTokenInfo": {"status": "Accepted"}})
    unit("Tx", False, "u1", "StartTransaction", {"transactionId": 1})
    return trace


def test_both_sides_stand_beside_each_other_with_what_caused_what() -> None:
    lines = session(Clock()).lines(serial="A")[1]
    assert [line.split(" ", 2)[2] for line in lines] == [
        '#1 Rx unit StartTransaction {"idTag":"04***"}',
        '#1 Rx unit StartTransaction → Tx CSMS TransactionEvent {"seqNo":0}',
        '#1 Rx CSMS = TransactionEvent {"idTokenInfo":{"status":"Accepted"}}',
        '#1 Tx unit = StartTransaction {"transactionId":1}',
    ]
    assert lines[0].startswith("2026-09-01T10:00:00.000Z A")


def test_the_conversation_is_filtered_by_serial_and_by_message_or_its_cause() -> None:
    trace = session(Clock())
    assert [said.action for said in trace.since(serial="B")] == ["Heartbeat"]
    assert [said.way for said in trace.since(action="starttrans")] == ["Rx", "Tx", "Tx"]
    assert len(list(trace.since(3))) == 2
    assert trace.lines(after=5) == (5, [])


def test_a_service_that_started_anew_is_read_from_its_beginning() -> None:
    assert len(session(Clock()).lines(after=4_711)[1]) == 5


def test_what_came_long_ago_caused_nothing() -> None:
    clock = Clock()
    trace = session(clock)
    clock.ms += 2_001
    trace.observer("A", CSMS)("Tx", True, "c2", "Heartbeat", {})
    assert list(trace.since())[-1].cause == ""


def test_a_letter_that_leaves_late_still_names_what_it_is_told_for() -> None:
    clock = Clock()
    trace = Trace(clock)
    unit, csms = trace.observer("A", UNIT), trace.observer("A", CSMS)
    unit("Rx", True, "u1", "StartTransaction", {"idTag": "04A1B2C3"})
    cause = trace.cause("A", CSMS)
    clock.ms += 7_200_000
    unit("Rx", True, "u2", "Heartbeat", {})
    csms("Tx", True, "c1", "TransactionEvent", Delivery({"seqNo": 0}, b'{"seqNo":0}', cause))
    assert trace.lines()[1][-1].endswith('#1 Rx unit StartTransaction → Tx CSMS TransactionEvent {"seqNo":0}')


def test_a_refusal_is_marked_as_one() -> None:
    trace = Trace(Clock())
    trace.observer("A", CSMS)("Rx", True, "c1", "CostUpdated", {"totalCost": 1})
    trace.observer("A", CSMS)("Tx", False, "c1", "CostUpdated", CallError("NotSupported", "no"))
    assert list(trace.since())[-1].line().endswith('Tx CSMS ! CostUpdated {"code":"NotSupported","description":"no"}')


def test_a_frame_that_was_refused_is_shown_as_one() -> None:
    trace = Trace(Clock())
    trace.observer("A", UNIT)("Rx", False, "-1", "frame of 7 bytes", CallError("RpcFrameworkError", "not an array"))
    assert "Rx unit ! frame of 7 bytes" in trace.lines()[1][0]


def test_memory_is_bounded_whatever_is_said() -> None:
    trace = Trace(Clock(), kept=10)
    observe = trace.observer("A", UNIT)
    for number in range(3_000):
        observe("Rx", True, f"m{number}", "MeterValues", {"values": "x" * 5_000})
    assert len(list(trace.since())) == 10
    assert all(len(said.text) < 2_100 for said in trace.since())
    assert len(trace._calls) <= 2_000


def test_what_is_worked_up_later_is_there_for_whoever_reads_and_in_its_order() -> None:
    kept: list[Said] = []
    soon: list[Callable[[], None]] = []
    trace = Trace(Clock(), keep=kept.append, later=lambda _, work: soon.append(work))
    unit, csms = trace.observer("A", UNIT), trace.observer("A", CSMS)
    for number in range(150):
        unit("Rx", True, f"u{number}", "Heartbeat", {})
        unit("Tx", False, f"u{number}", "Heartbeat", {"currentTime": "now"})
    assert len(soon) == 1
    assert not kept
    soon.pop()()
    assert [said.number for said in kept] == list(range(1, 101))
    csms("Tx", True, "c1", "Heartbeat", {})
    assert [said.number for said in trace.since()] == list(range(1, 302))
    assert kept[-1].cause == "Rx unit Heartbeat"
    assert len(kept) == 301


def test_what_is_noted_but_not_worked_up_is_bounded_too() -> None:
    kept: list[Said] = []
    trace = Trace(Clock(), keep=kept.append, later=lambda _seconds, _work: None)
    observe = trace.observer("A", UNIT)
    for number in range(20_010):
        observe("Rx", True, f"m{number}", "Heartbeat", {})
    assert len(kept) == 10


def test_a_name_written_otherwise_hides_no_secret() -> None:
    trace = Trace(Clock())
    trace.observer("A", UNIT)("Rx", True, "u1", "Authorize", Verbatim({"idTag": "04A1"}, b'{"\\u0069dTag":"04A1"}'))
    assert "04A1" not in trace.lines()[1][0]


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        ({"idTag": "04A1B2C3", "parentIdTag": ""}, {"idTag": "04***", "parentIdTag": ""}),
        (
            {"idToken": {"idToken": "04A1B2C3", "type": "ISO14443"}},
            {"idToken": {"idToken": "04***", "type": "ISO14443"}},
        ),
        ({"location": "ftp://user:secret@host/x"}, {"location": "ftp://***@host/x"}),
        ({"key": "AuthorizationKey", "value": "s"}, {"key": "AuthorizationKey", "value": "***"}),
        ({"key": "LightIntensity", "value": "80"}, {"key": "LightIntensity", "value": "80"}),
        ({"certificateChain": "PEM", "csr": "PEM"}, {"certificateChain": "***", "csr": "***"}),
        (
            {"setVariableData": [{"variable": {"name": "BasicAuthPassword"}, "attributeValue": "s"}]},
            {"setVariableData": [{"variable": {"name": "BasicAuthPassword"}, "attributeValue": "***"}]},
        ),
        (
            {"reportData": [{"variable": {"name": "BasicAuthPassword"}, "variableAttribute": [{"value": "s"}]}]},
            {"reportData": [{"variable": {"name": "BasicAuthPassword"}, "variableAttribute": [{"value": "***"}]}]},
        ),
    ],
)
def test_no_secret_is_shown(payload: dict[str, Any], shown: dict[str, Any]) -> None:
    assert masked(payload) == shown
    assert "secret" not in shown_text(json.dumps(payload).encode())
