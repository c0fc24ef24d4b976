"""What a control centre may ask of the outstation, and how each request is answered: one function for each kind.

Every handler is given a request whose type, cause, common address and length have been judged already.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import structlog

from bridge.core.messages import SetpointReceived, Switch, SwitchReceived
from bridge.core.points import Cause, Encoding, Point, PointAddress, Signal
from bridge.core.quantities import Millis
from bridge.iec104 import asdu, mapping
from bridge.iec104.admission import Act
from bridge.iec104.asdu import Header, InformationObject, TypeId

if TYPE_CHECKING:
    from bridge.iec104.outstation import Session

log = structlog.get_logger(__name__)

STATION_INTERROGATION: Final = 20
GROUPS: Final = range(1, 17)
GENERAL_COUNTERS: Final = 5
COUNTER_GROUPS: Final = range(1, 5)
READ: Final = 0
FREEZE: Final = 1
NO_ADDITIONAL_DEFINITION: Final = 0
PERSISTENT_OUTPUT: Final = 3
_DOUBLE_ON: Final = 2
_REQUEST_BITS: Final = 0x3F

_COMMANDS = itertools.count(1)
_SWITCHES: Final = {
    Signal.LIMIT_ENABLE: Switch.LIMIT_ENABLED,
    Signal.EMERGENCY_STOP: Switch.EMERGENCY_STOP,
    Signal.LIMIT_STEP: Switch.STEP,
}

_Ordered: TypeAlias = (
    asdu.SingleCommand | asdu.DoubleCommand | asdu.NormalizedSetpoint | asdu.ScaledSetpoint | asdu.ShortFloatSetpoint
)


@dataclass(slots=True)
class Command:
    """A command in progress: who asked, what, and whether it was confirmed."""

    session: Session
    octets: bytes
    address: PointAddress
    event: SetpointReceived | SwitchReceived
    confirmed: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """A point that one connection has selected, until when, and what exactly may be executed."""

    session: Session
    type_id: int
    element: _Ordered
    until_ms: Millis


def _command(session: Session, header: Header, item: InformationObject, octets: bytes) -> None:
    """A command to a point, IEC 60870-5-101 §6.8, direct or select before operate as the point is."""
    outstation = session.outstation
    image = outstation.image.get(PointAddress(header.common_address, item.ioa))
    if image is None:
        session.refuse(octets, Cause.UNKNOWN_IOA, "unknown information object address")
        return
    point, order = image.point, item.element
    types = mapping.COMMANDS.get((point.kind, point.wire_encoding), ())
    if header.type_id not in types or not isinstance(order, _Ordered):
        session.refuse(octets, Cause.UNKNOWN_TYPE, f"{asdu.type_name(header.type_id)} on {point.signal.value}")
    elif item.time is None and outstation.plan.requires_time_tag:
        session.refuse(octets, Cause.UNKNOWN_TYPE, "commands without a time tag are not agreed")
    elif header.cause == Cause.DEACTIVATION:
        _deactivate(session, point, octets)
    elif why := session.too_many(Act.COMMAND) or _not_executable(session, point, header.type_id, order):
        session.refuse(octets, Cause.ACTIVATION_CON, why)
    elif order.select:
        session.answer(asdu.mirror(octets, Cause.ACTIVATION_CON))
    elif session.undecided >= outstation.plan.command_capacity:
        session.refuse(octets, Cause.ACTIVATION_CON, f"{session.undecided} commands are undecided")
    else:
        _submit(session, point, order, item.time, octets)


def _not_executable(session: Session, point: Point, type_id: int, order: _Ordered) -> str | None:
    """Why a command may be neither selected nor executed, None if it may; a selection is made or used up.

    A selection belongs to one connection, which has one at a time. It ends with its execution, with an order that is
    not the one selected, with its cancellation, after `select_timeout_s`, and with its connection.
    """
    setpoint = isinstance(order, asdu.NormalizedSetpoint | asdu.ScaledSetpoint | asdu.ShortFloatSetpoint)
    if order.qualifier and (setpoint or order.qualifier != PERSISTENT_OUTPUT):
        return f"{'QL' if setpoint else 'QU'}={order.qualifier} is not supported"
    if not point.select_before_operate:
        return "select on a point that is commanded directly" if order.select else None
    selections, now_ms = session.outstation.selections, session.now.monotonic_ms
    for address in [address for address, selection in selections.items() if selection.until_ms <= now_ms]:
        del selections[address]
    selection = selections.get(point.address)
    if selection is not None and selection.session is not session:
        return f"selected by {selection.session.master}"
    if order.select:
        return _not_selectable(session, point, type_id, order)
    if selection is None:
        return "not selected, or too long ago"
    del selections[point.address]
    selected = (selection.type_id, selection.element) == (type_id, order._replace(select=True))
    return None if selected else "not what was selected"


def _not_selectable(session: Session, point: Point, type_id: int, order: _Ordered) -> str | None:
    """Why this point cannot be selected, None if it is from now on; selecting it again begins its time anew."""
    outstation, selections = session.outstation, session.outstation.selections
    if any(other.session is session and address != point.address for address, other in selections.items()):
        return "this connection has selected another point"
    if isinstance(order, asdu.ShortFloatSetpoint) and not math.isfinite(order.value):
        return "not a finite number"
    until_ms = session.now.monotonic_ms + round(outstation.plan.select_timeout_s * 1000)
    selections[point.address] = Selection(session, type_id, order, until_ms)
    return None


def _deactivate(session: Session, point: Point, octets: bytes) -> None:
    """COT 8 cancels a selection, IEC 60870-5-101 §6.8; what is in execution cannot be called back."""
    selection = session.outstation.selections.get(point.address)
    if selection is None or selection.session is not session or selection.until_ms <= session.now.monotonic_ms:
        session.refuse(octets, Cause.DEACTIVATION_CON, "nothing is selected that could be deactivated")
        return
    del session.outstation.selections[point.address]
    session.answer(asdu.mirror(octets, Cause.DEACTIVATION_CON))


def _submit(session: Session, point: Point, order: _Ordered, tag: asdu.TimeTag | None, octets: bytes) -> None:
    """Hand a command to the core, which answers later."""
    outstation, number = session.outstation, next(_COMMANDS)
    tag_utc_ms, tag_valid = outstation.time.command_time(tag)
    master, group = session.master, session.group.name
    event: SetpointReceived | SwitchReceived
    if isinstance(order, asdu.SingleCommand | asdu.DoubleCommand):
        on = order.on if isinstance(order, asdu.SingleCommand) else order.state == _DOUBLE_ON
        percent = 100 if point.percent is None else point.percent
        switch = _SWITCHES[point.signal]
        event = SwitchReceived(number, master, switch, on, percent, tag_utc_ms, tag_valid, group)
    else:
        limit_w = mapping.limit_w(order.value, point.per_unit)
        value = mapping.mirrored(order.value, point, outstation.mirror)
        event = SetpointReceived(number, master, value, limit_w, tag_utc_ms, tag_valid, group)
    outstation.commands[number] = Command(session, octets, point.address, event)
    session.undecided += 1
    outstation.submit(event)


def _interrogation(session: Session, header: Header, _item: InformationObject, octets: bytes) -> None:
    """C_IC_NA_1, IEC 60870-5-101 §7.4.5, of the station or a group; C_CI_NA_1, §7.4.8, read or freeze."""
    counters = header.type_id == TypeId.C_CI_NA_1
    key = header.type_id, header.common_address
    if header.cause == Cause.DEACTIVATION:
        if session.interrogations.pop(key, None) is None:
            session.refuse(octets, Cause.DEACTIVATION_CON, "no such interrogation is running")
        else:
            session.answer(asdu.mirror(octets, Cause.DEACTIVATION_CON))
        return
    code = octets[-1]
    group = _asked_group(code, counters=counters)
    freeze = code >> 6 if counters else READ
    if group is None or freeze not in (READ, FREEZE):
        session.refuse(octets, Cause.ACTIVATION_CON, f"qualifier {code} is not supported")
    elif group and not any(session.outstation.images(header.common_address, group, counters=counters)):
        session.refuse(octets, Cause.ACTIVATION_CON, f"no point is in group {group}")
    elif key in session.interrogations:
        session.refuse(octets, Cause.ACTIVATION_CON, "the interrogation before it is still running")
    else:
        session.answer(asdu.mirror(octets, Cause.ACTIVATION_CON))
        if freeze == FREEZE:
            session.freeze(header.common_address, group)
            session.answer(asdu.mirror(octets, Cause.ACTIVATION_TERMINATION))
        else:
            session.interrogations[key] = _interrogated(session, header, octets, group, counters=counters)


def _asked_group(code: int, *, counters: bool) -> int | None:
    """The group that a QOI or QCC asks for, 0 for the whole station, None where there is none such."""
    if counters:
        request = code & _REQUEST_BITS
        return 0 if request == GENERAL_COUNTERS else request if request in COUNTER_GROUPS else None
    group = code - STATION_INTERROGATION
    return group if not group or group in GROUPS else None


def _interrogated(session: Session, header: Header, octets: bytes, group: int, *, counters: bool) -> Iterator[bytes]:
    cause = (Cause.COUNTER_INTERROGATION if counters else Cause.INTERROGATED_BY_STATION) + group
    tagged = session.outstation.plan.interrogation_tagged
    images = session.outstation.images(header.common_address, group, counters=counters)
    answer = Header(0, 0, cause, header.common_address, header.originator)
    yield from session.outstation.packed(images, answer, tagged=tagged, frozen=session.frozen)
    yield asdu.mirror(octets, Cause.ACTIVATION_TERMINATION)


def _read(session: Session, header: Header, item: InformationObject, octets: bytes) -> None:
    """C_RD_NA_1, IEC 60870-5-101 §7.4.2: the value, untagged; a setpoint or a counter cannot be read."""
    image = session.outstation.image.get(PointAddress(header.common_address, item.ioa))
    if image is None or image.point.kind.is_command or image.encoding is Encoding.COUNTER:
        session.refuse(octets, Cause.UNKNOWN_IOA, "nothing to read at this information object address")
    else:
        type_id = mapping.UNTAGGED[image.encoding]
        answer = Header(type_id, 1, Cause.REQUEST, header.common_address, header.originator)
        session.answer(answer.encode() + image.octets)


def _clock(session: Session, _header: Header, item: InformationObject, octets: bytes) -> None:
    """C_CS_NA_1, IEC 60870-5-101 §7.4.6: never the clock of this machine; our time tags go by it where agreed."""
    plan, time = session.outstation.plan, session.outstation.time
    if item.time is None or item.time.invalid:
        session.refuse(octets, Cause.ACTIVATION_CON, "time tag invalid")
    elif plan.clock_by_control_centre:
        before_ms, largest_ms = time.offset_ms, round(plan.clock_offset_limit_s * 1000)
        if time.set_by(item.time, session.now.utc_ms, largest_ms):
            log.info("clock offset", master=session.master, before_ms=before_ms, offset_ms=time.offset_ms)
            session.answer(asdu.mirror(octets, Cause.ACTIVATION_CON))
        else:
            session.refuse(octets, Cause.ACTIVATION_CON, f"more than {plan.clock_offset_limit_s:g} s from our clock")
    else:
        session.answer(asdu.mirror(octets, Cause.ACTIVATION_CON))


def _test(session: Session, _header: Header, _item: InformationObject, octets: bytes) -> None:
    """C_TS_TA_1, IEC 60870-5-104 §8.8: returned as it came."""
    session.answer(asdu.mirror(octets, Cause.ACTIVATION_CON))


_Handler: TypeAlias = Callable[["Session", Header, InformationObject, bytes], None]


class Request(NamedTuple):
    """What may be asked with one type: its causes, whether to everybody, whether to the station instead of a point."""

    handle: _Handler
    causes: frozenset[int]
    broadcast: bool = False
    to_station: bool = False


_ACTIVATION: Final = frozenset((Cause.ACTIVATION,))
_ACTIVATION_OR_NOT: Final = frozenset((Cause.ACTIVATION, Cause.DEACTIVATION))

REQUESTS: Final[dict[int, Request]] = {
    **{type_id: Request(_command, _ACTIVATION_OR_NOT) for types in mapping.COMMANDS.values() for type_id in types},
    TypeId.C_IC_NA_1: Request(_interrogation, _ACTIVATION_OR_NOT, broadcast=True, to_station=True),
    TypeId.C_CI_NA_1: Request(_interrogation, _ACTIVATION_OR_NOT, broadcast=True, to_station=True),
    TypeId.C_RD_NA_1: Request(_read, frozenset((Cause.REQUEST,))),
    TypeId.C_CS_NA_1: Request(_clock, _ACTIVATION, broadcast=True, to_station=True),
    TypeId.C_TS_TA_1: Request(_test, _ACTIVATION, to_station=True),
}
