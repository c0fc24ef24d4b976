"""The connection state machine, fed with octets and time by hand."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.iec104.apci import (
    Acknowledged,
    AsduReceived,
    Closed,
    Connection,
    Event,
    Parameters,
    Started,
    State,
    Stopped,
)

STARTDT, STARTDT_CON = bytes.fromhex("680407000000"), bytes.fromhex("68040b000000")
STOPDT, STOPDT_CON = bytes.fromhex("680413000000"), bytes.fromhex("680423000000")
TESTFR, TESTFR_CON = bytes.fromhex("680443000000"), bytes.fromhex("680483000000")
ASDU = bytes.fromhex("640106000100000000 14".replace(" ", ""))


def information(send: int, receive: int, octets: bytes = ASDU) -> bytes:
    return struct.pack("<BBHH", 0x68, len(octets) + 4, send % 32768 << 1, receive % 32768 << 1) + octets


def supervision(receive: int) -> bytes:
    return struct.pack("<BBHH", 0x68, 4, 1, receive % 32768 << 1)


def started(parameters: Parameters | None = None) -> Connection:
    connection = Connection(parameters or Parameters(), 0)
    assert connection.receive(STARTDT, 0) == [Started()]
    assert connection.data_to_send() == STARTDT_CON
    return connection


def closes(connection: Connection, data: bytes) -> bool:
    events = connection.receive(data, 0)
    return [type(event) for event in events] == [Closed] and connection.state is State.CLOSED


def test_startdt_is_confirmed_and_opens_the_window() -> None:
    connection = Connection(Parameters(k=5), 0)
    assert connection.window == 0
    connection.receive(STARTDT, 0)
    assert connection.window == 5


def test_a_repeated_startdt_is_confirmed_and_is_no_second_start() -> None:
    connection = started()
    assert connection.receive(STARTDT, 1) == []
    assert connection.data_to_send() == STARTDT_CON


def test_an_i_frame_is_sent_with_both_sequence_numbers() -> None:
    connection = started()
    connection.receive(information(0, 0) + information(1, 0), 0)
    connection.send(b"abcdef", 0)
    assert connection.data_to_send() == bytes.fromhex("680a 0000 0400".replace(" ", "")) + b"abcdef"


def test_octets_may_come_one_at_a_time() -> None:
    connection = started()
    stream = information(0, 0) + TESTFR + supervision(0) + information(1, 0)
    events: list[Event] = []
    for octet in stream:
        events += connection.receive(bytes((octet,)), 0)
    assert events == [AsduReceived(ASDU), AsduReceived(ASDU)]
    assert connection.data_to_send() == TESTFR_CON


@pytest.mark.parametrize("octet", [0x00, 0x67, 0x69, 0x86, 0xFF])
def test_i5_another_start_octet_closes_at_once(octet: int) -> None:
    assert closes(started(), bytes((octet,)))


@pytest.mark.parametrize("length", [0, 1, 2, 3, 254, 255])
def test_i6_a_length_outside_4_to_253_closes_before_the_rest_arrives(length: int) -> None:
    assert closes(started(), bytes((0x68, length)))


@pytest.mark.parametrize(
    "code", [code for code in range(3, 256, 4) if code not in (0x07, 0x0B, 0x13, 0x23, 0x43, 0x83)]
)
def test_i7_a_u_frame_that_is_none_of_the_six_closes(code: int) -> None:
    assert closes(started(), bytes((0x68, 4, code, 0, 0, 0)))


@pytest.mark.parametrize("frame", ["680443010000", "680443000100", "680443000001", "68054300000000", "680407000080"])
def test_i7_a_u_frame_with_reserved_bits_or_another_length_closes(frame: str) -> None:
    assert closes(started(), bytes.fromhex(frame))


@pytest.mark.parametrize("frame", ["680405000000", "680401010000", "680401000100", "68050100000000"])
def test_a_malformed_s_frame_closes(frame: str) -> None:
    assert closes(started(), bytes.fromhex(frame))


@pytest.mark.parametrize("frame", [information(0, 0), supervision(0)])
def test_i8_an_i_or_s_frame_before_startdt_closes(frame: bytes) -> None:
    assert closes(Connection(Parameters(), 0), frame)


@pytest.mark.parametrize("frame", [information(1, 0), information(32767, 0)])
def test_i9_a_wrong_send_number_closes(frame: bytes) -> None:
    assert closes(started(), frame)


def test_i9_a_send_number_seen_before_closes_and_is_not_executed_again() -> None:
    connection = started()
    assert connection.receive(information(0, 0), 0) == [AsduReceived(ASDU)]
    assert closes(connection, information(0, 0))


@pytest.mark.parametrize("number", [3, 100, 32767])
def test_i9_a_confirmation_of_what_was_never_sent_closes(number: int) -> None:
    connection = started()
    connection.send(b"one", 0)
    connection.send(b"two", 0)
    assert closes(connection, supervision(number))


def test_i9_a_confirmation_that_goes_backwards_closes() -> None:
    connection = started()
    connection.send(b"one", 0)
    connection.send(b"two", 0)
    assert connection.receive(supervision(2), 0) == [Acknowledged(2)]
    assert closes(connection, supervision(1))


def test_an_i_frame_with_a_wrong_confirmation_is_not_executed() -> None:
    assert closes(started(), information(0, 1))


def test_what_came_before_a_violation_in_the_same_segment_still_counts() -> None:
    connection = started()
    events = connection.receive(information(0, 0) + b"\x00", 0)
    assert [type(event) for event in events] == [AsduReceived, Closed]


def test_after_the_end_nothing_is_taken_and_nothing_sent() -> None:
    connection = started(Parameters(w=1))
    connection.receive(information(0, 0) + b"\x00", 0)
    assert connection.receive(TESTFR, 0) == []
    assert connection.wake(10**9) == []
    assert connection.data_to_send() == b""
    assert connection.next_deadline() is None
    assert connection.window == 0


def test_i10_three_wraps_in_both_directions_lose_nothing() -> None:
    connection = started()
    sent = received = acknowledged = 0
    while received < 3 * 32768 + 10:
        while connection.window:
            connection.send(sent.to_bytes(4, "big"), received)
            sent += 1
        frames = connection.data_to_send()
        assert struct.unpack_from("<HH", frames, len(frames) - 8) == ((sent - 1) % 32768 << 1, received % 32768 << 1)
        for event in connection.receive(information(received, sent), received):
            if isinstance(event, Acknowledged):
                acknowledged += event.number
            else:
                received += isinstance(event, AsduReceived)
    assert acknowledged == sent > 3 * 32768


def test_i11_the_window_is_never_exceeded_and_a_master_that_never_confirms_is_left_after_t1() -> None:
    connection = started(Parameters(k=3))
    for _ in range(3):
        connection.send(ASDU, 100)
    assert connection.window == 0
    with pytest.raises(AssertionError):
        connection.send(ASDU, 100)
    assert connection.next_deadline() == 15_100
    assert connection.wake(15_099) == []
    assert connection.wake(15_100) == [Closed("an I-frame was not confirmed within t1")]


def test_a_partial_confirmation_moves_t1_to_the_next_frame() -> None:
    connection = started()
    connection.send(ASDU, 100)
    connection.send(ASDU, 200)
    assert connection.receive(supervision(1), 300) == [Acknowledged(1)]
    assert connection.next_deadline() == 15_200


def test_i12_received_frames_are_confirmed_after_w_of_them() -> None:
    connection = started(Parameters(w=3))
    connection.receive(information(0, 0) + information(1, 0), 0)
    assert connection.data_to_send() == b""
    connection.receive(information(2, 0), 0)
    assert connection.data_to_send() == supervision(3)


def test_received_frames_are_confirmed_after_t2_of_the_first() -> None:
    connection = started()
    connection.receive(information(0, 0), 1000)
    connection.receive(information(1, 0), 5000)
    assert connection.next_deadline() == 11_000
    connection.wake(11_000)
    assert connection.data_to_send() == supervision(2)


def test_an_i_frame_confirms_so_that_no_s_frame_is_needed() -> None:
    connection = started(Parameters(w=1))
    connection.receive(information(0, 0), 0)
    connection.send(ASDU, 0)
    assert connection.data_to_send() == information(0, 1)


def test_i13_silence_is_tested_after_t3_and_ends_after_t1() -> None:
    connection = started()
    assert connection.next_deadline() == 20_000
    connection.wake(20_000)
    assert connection.data_to_send() == TESTFR
    assert connection.next_deadline() == 35_000
    assert connection.wake(34_999) == []
    assert connection.wake(35_000) == [Closed("TESTFR was not confirmed within t1")]


def test_a_stopped_connection_that_answers_testfr_stays() -> None:
    connection = Connection(Parameters(), 0)
    for turn in range(1, 10):
        connection.wake(turn * 20_000)
        assert connection.data_to_send() == TESTFR
        assert connection.receive(TESTFR_CON, turn * 20_000) == []
    assert connection.state is State.STOPPED


def test_any_frame_postpones_the_test() -> None:
    connection = started()
    connection.receive(TESTFR, 15_000)
    assert connection.data_to_send() == TESTFR_CON
    assert connection.next_deadline() == 35_000


@pytest.mark.parametrize("frame", [STARTDT_CON, STOPDT_CON, TESTFR_CON])
def test_i14_a_confirmation_nobody_asked_for_is_ignored(frame: bytes) -> None:
    connection = started()
    assert connection.receive(frame, 0) == []
    assert connection.data_to_send() == b""
    assert connection.state is State.STARTED


def test_i14_a_testfr_flood_closes_at_the_cap_and_a_minute_later_counts_anew() -> None:
    connection = started(Parameters(test_per_minute=5))
    assert connection.receive(TESTFR * 5, 0) == []
    assert connection.receive(TESTFR * 5, 60_000) == []
    assert [type(event) for event in connection.receive(TESTFR, 119_999)] == [Closed]


def test_i16_start_and_stop_in_turns_are_capped() -> None:
    connection = Connection(Parameters(start_stop_per_minute=10), 0)
    events = connection.receive((STARTDT + STOPDT) * 6, 0)
    assert len(events) == 11
    assert isinstance(events[-1], Closed)


def test_i4_an_apdu_must_be_complete_within_t1_of_its_first_octet() -> None:
    connection = started()
    frame = information(0, 0)
    for second in range(15):
        assert connection.receive(frame[second : second + 1], 1000 + second * 1000) == []
    connection = started()
    connection.receive(frame[:3], 1000)
    connection.receive(frame[3:5], 9000)
    assert connection.next_deadline() == 16_000
    assert connection.wake(16_000) == [Closed("an APDU was not complete within t1")]


def test_i4_the_time_of_a_partial_apdu_begins_with_its_own_first_octet() -> None:
    connection = started()
    connection.receive(TESTFR[:3], 1000)
    connection.receive(TESTFR[3:] + TESTFR[:2], 9000)
    assert connection.wake(16_000) == []
    assert connection.next_deadline() == 24_000


def test_stopdt_confirms_what_was_received_first() -> None:
    connection = started()
    connection.receive(information(0, 0), 0)
    assert connection.receive(STOPDT, 0) == [Stopped()]
    assert connection.data_to_send() == supervision(1) + STOPDT_CON
    assert connection.window == 0


def test_i16_stopdt_waits_for_the_confirmation_of_what_was_sent() -> None:
    connection = started()
    connection.send(ASDU, 0)
    connection.send(ASDU, 0)
    connection.data_to_send()
    assert connection.receive(STOPDT, 10) == []
    assert connection.data_to_send() == b""
    assert connection.window == 0
    assert connection.receive(supervision(1), 20) == [Acknowledged(1)]
    assert connection.receive(supervision(2), 30) == [Acknowledged(1), Stopped()]
    assert connection.data_to_send() == STOPDT_CON
    assert connection.receive(STARTDT, 40) == [Started()]


def test_i16_a_stop_that_is_never_confirmed_ends_after_t1() -> None:
    connection = started()
    connection.send(ASDU, 0)
    connection.receive(STOPDT, 10)
    assert [type(event) for event in connection.wake(15_000)] == [Closed]


@pytest.mark.parametrize("frame", [information(0, 1), STARTDT])
def test_while_a_stop_is_pending_neither_data_nor_a_start_is_taken(frame: bytes) -> None:
    connection = started()
    connection.send(ASDU, 0)
    connection.receive(STOPDT, 10)
    assert closes(connection, frame)


def test_stopdt_while_stopped_is_confirmed() -> None:
    connection = Connection(Parameters(), 0)
    assert connection.receive(STOPDT, 0) == []
    assert connection.data_to_send() == STOPDT_CON


@pytest.mark.parametrize("wrong", [{"k": 0}, {"w": 0}, {"k": 32768}, {"t2_ms": 15_000}, {"t3_ms": 0}, {"t2_ms": 0}])
def test_impossible_parameters_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="="):
        Parameters(**wrong)


@given(st.lists(st.binary(max_size=300), max_size=20), st.booleans())
def test_no_octets_raise_and_the_end_comes_once(chunks: list[bytes], start: bool) -> None:
    connection = started() if start else Connection(Parameters(), 0)
    events = [event for chunk in chunks for event in connection.receive(chunk, 0)]
    assert sum(isinstance(event, Closed) for event in events) <= 1


_FRAMES = st.lists(
    st.sampled_from(
        [STARTDT, STOPDT, TESTFR, TESTFR_CON, information(0, 0), information(1, 0), supervision(0), b"\x68"]
    ),
    max_size=12,
)


@given(_FRAMES, st.lists(st.integers(1, 7), min_size=1))
def test_how_tcp_cuts_the_stream_changes_nothing(frames: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(frames)
    whole, cut = started(), started()
    expected = whole.receive(stream, 0)
    events: list[Event] = []
    position, turn = 0, 0
    while position < len(stream):
        step = cuts[turn % len(cuts)]
        events += cut.receive(stream[position : position + step], 0)
        position, turn = position + step, turn + 1
    assert events == expected
    assert cut.state is whole.state


@settings(max_examples=200)
@given(
    st.integers(1, 5),
    st.lists(st.one_of(st.tuples(st.just("send"), st.just(0)), st.tuples(st.just("confirm"), st.integers(0, 5)))),
)
def test_acknowledged_frames_are_the_oldest_and_each_is_reported_once(k: int, steps: list[tuple[str, int]]) -> None:
    connection = started(Parameters(k=k))
    sent = acknowledged = 0
    for step, number in steps:
        if step == "send" and connection.window:
            connection.send(ASDU, 0)
            sent += 1
        elif step == "confirm" and acknowledged + number <= sent:
            events = connection.receive(supervision(acknowledged + number), 0)
            assert events == ([Acknowledged(number)] if number else [])
            acknowledged += number
        assert connection.window == k - (sent - acknowledged)
