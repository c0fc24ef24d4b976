"""The event buffer: order, portions, and what goes first when it is full."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.iec104.asdu import TypeId
from bridge.iec104.event_buffer import Event, EventBuffer


def measured(sequence: int, common_address: int = 1) -> Event:
    return Event(sequence, TypeId.M_ME_TF_1, 3, common_address, bytes(15))


def single(sequence: int) -> Event:
    return Event(sequence, TypeId.M_SP_TB_1, 3, 1, bytes(11))


def drained(buffer: EventBuffer) -> list[list[Event]]:
    portions = []
    while buffer:
        portions.append(buffer.take())
    return portions


def test_events_leave_in_the_order_they_came_and_neighbours_of_one_type_share_an_asdu() -> None:
    events = [measured(0), measured(1), single(2), measured(3), measured(4, common_address=2)]
    buffer = EventBuffer(10)
    for event in events:
        buffer.record(event)
    assert drained(buffer) == [events[:2], events[2:3], events[3:4], events[4:]]


def test_an_asdu_takes_16_measured_values_and_22_single_points() -> None:
    buffer = EventBuffer(100)
    for sequence in range(40):
        buffer.record(measured(sequence))
    for sequence in range(40, 80):
        buffer.record(single(sequence))
    assert [len(portion) for portion in drained(buffer)] == [16, 16, 8, 22, 18]


def test_when_full_the_oldest_measured_values_go_first_and_are_counted() -> None:
    buffer = EventBuffer(4)
    lost = [buffer.record(event) for event in (single(0), measured(1), measured(2), single(3), single(4), measured(5))]
    assert lost == [0, 0, 0, 0, 1, 1]
    assert [event.sequence for event in buffer] == [0, 3, 4, 5]


def test_when_only_other_events_are_left_the_oldest_of_them_goes() -> None:
    buffer = EventBuffer(2)
    assert [buffer.record(single(sequence)) for sequence in range(3)] == [0, 0, 1]
    assert [event.sequence for event in buffer] == [1, 2]


def test_what_was_not_acknowledged_comes_back_in_front_and_in_order() -> None:
    buffer = EventBuffer(100)
    for sequence in range(20):
        buffer.record(measured(sequence) if sequence % 3 else single(sequence))
    taken = [event for _ in range(5) for event in buffer.take()]
    buffer.record(measured(20))
    assert buffer.give_back(taken) == 0
    assert [event.sequence for event in buffer] == list(range(21))
    assert [event.sequence for portion in drained(buffer) for event in portion] == list(range(21))


def test_giving_back_into_a_full_buffer_keeps_the_bound() -> None:
    buffer = EventBuffer(3)
    buffer.record(measured(0))
    taken = buffer.take()
    for sequence in (1, 2, 3):
        buffer.record(measured(sequence))
    assert buffer.give_back(taken) == 1
    assert [event.sequence for event in buffer] == [1, 2, 3]


@given(st.integers(1, 30), st.lists(st.sampled_from(["measured", "single", "take", "back"]), max_size=120))
def test_order_and_bound_hold_whatever_happens(capacity: int, steps: list[str]) -> None:
    buffer = EventBuffer(capacity)
    taken: list[Event] = []
    recorded = acknowledged = lost = 0
    for step in steps:
        if step == "take":
            acknowledged += len(taken)
            taken = buffer.take() if buffer else []
        elif step == "back":
            lost += buffer.give_back(taken)
            taken = []
        else:
            lost += buffer.record(measured(recorded) if step == "measured" else single(recorded))
            recorded += 1
        sequences = [event.sequence for event in buffer]
        assert sequences == sorted(sequences)
        assert len(buffer) <= capacity
        assert recorded == acknowledged + len(taken) + len(buffer) + lost
