"""The event buffer in memory: order, acknowledgement by several groups, and what goes first when it is full."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.iec104.asdu import TypeId
from bridge.iec104.event_buffer import Event, EventBuffer, Row


def measured(sequence: int) -> Event:
    return Event(sequence, TypeId.M_ME_TF_1, 3, 1, bytes(15))


def single(sequence: int) -> Event:
    return Event(sequence, TypeId.M_SP_TB_1, 3, 1, bytes(11))


def no_gap(_first: Row, _number: int) -> Row | None:
    return None


def buffer_of(*events: Event, capacity: int = 100, groups: tuple[str, ...] = ("",)) -> EventBuffer:
    buffer = EventBuffer(capacity)
    buffer.serve(groups)
    for event in events:
        buffer.append([event], no_gap)
    return buffer


def sequences(buffer: EventBuffer, after: int = 0, number: int = 1000) -> list[int]:
    return [row[0] for row in buffer.after(after, number)]


def test_events_are_read_in_the_order_they_came_from_any_place() -> None:
    buffer = buffer_of(*map(measured, range(1, 8)))
    assert sequences(buffer) == [1, 2, 3, 4, 5, 6, 7]
    assert sequences(buffer, after=3, number=2) == [4, 5]
    assert buffer.last_sequence == 7


def test_an_event_is_kept_until_every_group_has_acknowledged_it() -> None:
    buffer = buffer_of(*map(measured, range(1, 6)), groups=("a", "b"))
    buffer.acknowledge("a", 5)
    assert sequences(buffer) == [1, 2, 3, 4, 5]
    buffer.acknowledge("b", 3)
    assert sequences(buffer) == [4, 5]
    assert (buffer.acknowledged("a"), buffer.acknowledged("b")) == (5, 3)


def test_when_full_the_oldest_measured_values_go_first_and_are_counted() -> None:
    buffer = buffer_of(single(1), measured(2), measured(3), single(4), capacity=4)
    assert [buffer.append([event], no_gap) for event in (single(5), measured(6))] == [1, 1]
    assert sequences(buffer) == [1, 4, 5, 6]


def test_when_only_other_events_are_left_the_oldest_of_them_goes() -> None:
    buffer = buffer_of(single(1), single(2), capacity=2)
    assert buffer.append([single(3)], no_gap) == 1
    assert sequences(buffer) == [2, 3]


def test_a_gap_stands_where_the_first_event_that_was_dropped_stood() -> None:
    buffer = buffer_of(single(1), *map(measured, range(2, 11)), capacity=10)

    def gap(first: Row, number: int) -> Row:
        return Event(first[0], TypeId.M_IT_TB_1, 3, 1, bytes((number,)))

    assert buffer.append([measured(n) for n in range(11, 15)], gap) == 4
    assert buffer.after(0, 3) == [single(1), Event(2, TypeId.M_IT_TB_1, 3, 1, b"\x04"), measured(6)]


@given(st.integers(1, 60), st.lists(st.sampled_from(["measured", "single", "a", "b"]), max_size=120))
def test_order_and_bound_hold_whatever_happens(capacity: int, steps: list[str]) -> None:
    buffer = buffer_of(capacity=capacity, groups=("a", "b"))
    recorded = lost = 0
    for step in steps:
        if step in ("a", "b"):
            buffer.acknowledge(step, min(recorded, buffer.acknowledged(step) + 3))
        else:
            recorded += 1
            lost += buffer.append([measured(recorded) if step == "measured" else single(recorded)], no_gap)
        kept = sequences(buffer)
        assert kept == sorted(kept)
        assert len(buffer) <= capacity
        acknowledged = min(buffer.acknowledged("a"), buffer.acknowledged("b"))
        assert recorded <= acknowledged + len(buffer) + lost
