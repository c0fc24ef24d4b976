"""The ASDUs this outstation speaks, to and from octets, exact to the last one; anything else is a ProtocolError.

Field sizes are those IEC 60870-5-104 §7.2 fixes: cause of transmission 2 octets (the second is the originator address),
common address 2, information object address 3. The header can be read without the body, so that an ASDU of a type
nobody knows can still be returned to its sender.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import IntEnum, unique
from functools import lru_cache
from typing import Final, NamedTuple, Self, TypeAlias, assert_never

from bridge.core.quantities import Millis
from bridge.iec104.apci import MAXIMUM_ASDU, ProtocolError

HEADER_SIZE: Final = 6
OBJECTS_SIZE: Final = MAXIMUM_ASDU - HEADER_SIZE
MAXIMUM_OBJECTS: Final = 127
BROADCAST: Final = 65535
LARGEST_IOA: Final = 0xFF_FFFF

_HEADER = struct.Struct("<BBBBH")
_SEQUENCE_BIT: Final = 0x80
_NEGATIVE_BIT: Final = 0x40
_TEST_BIT: Final = 0x80
_CAUSE_BITS: Final = 0x3F
_IOA_SIZE: Final = 3


@unique
class TypeId(IntEnum):
    """Type identifications with a body known here, IEC 60870-5-101 §7.2.1 and IEC 60870-5-104 §8."""

    M_SP_NA_1 = 1
    M_DP_NA_1 = 3
    M_ME_NA_1 = 9
    M_ME_NB_1 = 11
    M_ME_NC_1 = 13
    M_IT_NA_1 = 15
    M_SP_TB_1 = 30
    M_DP_TB_1 = 31
    M_ME_TD_1 = 34
    M_ME_TE_1 = 35
    M_ME_TF_1 = 36
    M_IT_TB_1 = 37
    C_SC_NA_1 = 45
    C_DC_NA_1 = 46
    C_SE_NA_1 = 48
    C_SE_NB_1 = 49
    C_SE_NC_1 = 50
    C_SC_TA_1 = 58
    C_DC_TA_1 = 59
    C_SE_TA_1 = 61
    C_SE_TB_1 = 62
    C_SE_TC_1 = 63
    M_EI_NA_1 = 70
    C_IC_NA_1 = 100
    C_CI_NA_1 = 101
    C_RD_NA_1 = 102
    C_CS_NA_1 = 103
    C_TS_TA_1 = 107


def type_name(type_id: int) -> str:
    """The name of a type as the standard writes it, its number where it has none here."""
    return TypeId(type_id).name if type_id in LAYOUTS else str(type_id)


class Header(NamedTuple):
    """Data unit identifier, IEC 60870-5-101 §7.2.1–7.2.4; `number` counts objects, or elements where SQ=1."""

    type_id: int
    number: int
    cause: int
    common_address: int
    originator: int = 0
    negative: bool = False
    test: bool = False
    sequence: bool = False

    def encode(self) -> bytes:
        """Six octets."""
        return _HEADER.pack(
            self.type_id,
            self.number | (_SEQUENCE_BIT if self.sequence else 0),
            self.cause | (_NEGATIVE_BIT if self.negative else 0) | (_TEST_BIT if self.test else 0),
            self.originator,
            self.common_address,
        )

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """The first six octets of an ASDU; ProtocolError if there are fewer."""
        if len(octets) < HEADER_SIZE:
            raise ProtocolError(f"an ASDU of {len(octets)} octets has no complete header")
        type_id, structure, cause, originator, common_address = _HEADER.unpack_from(octets)
        return cls(
            type_id,
            structure & ~_SEQUENCE_BIT,
            cause & _CAUSE_BITS,
            common_address,
            originator,
            bool(cause & _NEGATIVE_BIT),
            bool(cause & _TEST_BIT),
            bool(structure & _SEQUENCE_BIT),
        )


class SinglePoint(NamedTuple):
    """SIQ, IEC 60870-5-101 §7.2.6.1: `quality` is BL, SB, NT, IV."""

    on: bool
    quality: int = 0


class DoublePoint(NamedTuple):
    """DIQ, IEC 60870-5-101 §7.2.6.2: `state` 0 intermediate, 1 off, 2 on, 3 indeterminate."""

    state: int
    quality: int = 0


class NormalizedValue(NamedTuple):
    """NVA and QDS, IEC 60870-5-101 §7.2.6.6: `value` in −1 … 1 − 2⁻¹⁵, in steps of 2⁻¹⁵."""

    value: float
    quality: int = 0


class ScaledValue(NamedTuple):
    """SVA and QDS, IEC 60870-5-101 §7.2.6.7: −32768 … 32767."""

    value: int
    quality: int = 0


class ShortFloat(NamedTuple):
    """IEEE 754 short floating point and QDS, IEC 60870-5-101 §7.2.6.8."""

    value: float
    quality: int = 0


class CounterReading(NamedTuple):
    """BCR, IEC 60870-5-101 §7.2.6.9: a signed 32-bit reading, its sequence number 0–31, CY, CA and IV."""

    value: int
    sequence: int = 0
    carry: bool = False
    adjusted: bool = False
    invalid: bool = False


class SingleCommand(NamedTuple):
    """SCO, IEC 60870-5-101 §7.2.6.15: `qualifier` is QU 0–31, `select` is S/E."""

    on: bool
    qualifier: int = 0
    select: bool = False


class DoubleCommand(NamedTuple):
    """DCO, IEC 60870-5-101 §7.2.6.16: `state` 1 off, 2 on; 0 and 3 are not permitted."""

    state: int
    qualifier: int = 0
    select: bool = False


class NormalizedSetpoint(NamedTuple):
    """NVA and QOS, IEC 60870-5-101 §7.3.2.4: `qualifier` is QL 0–127, `select` is S/E."""

    value: float
    qualifier: int = 0
    select: bool = False


class ScaledSetpoint(NamedTuple):
    """SVA and QOS, IEC 60870-5-101 §7.3.2.5."""

    value: int
    qualifier: int = 0
    select: bool = False


class ShortFloatSetpoint(NamedTuple):
    """IEEE 754 short floating point and QOS, IEC 60870-5-101 §7.3.2.6; NaN and infinities pass."""

    value: float
    qualifier: int = 0
    select: bool = False


class Qualifier(NamedTuple):
    """One octet: QOI, QCC or COI, IEC 60870-5-101 §7.2.6.21–23."""

    code: int


class FixedTest(NamedTuple):
    """TSC, IEC 60870-5-104 §8.8: any 16-bit number, returned as it came."""

    counter: int


class Nothing(NamedTuple):
    """No element: a read command, or a time tag alone."""


Element: TypeAlias = (
    SinglePoint
    | DoublePoint
    | NormalizedValue
    | ScaledValue
    | ShortFloat
    | CounterReading
    | SingleCommand
    | DoubleCommand
    | NormalizedSetpoint
    | ScaledSetpoint
    | ShortFloatSetpoint
    | Qualifier
    | FixedTest
    | Nothing
)

_INTEGER_16 = struct.Struct("<hB")
_SHORT_FLOAT = struct.Struct("<fB")
_COUNTER = struct.Struct("<iB")
_POINT_QUALITY: Final = 0xF0
_VALUE_QUALITY: Final = 0xF1
_SELECT_BIT: Final = 0x80
_QUALIFIER_BITS: Final = 0x7F
_NORMALIZED_UNIT: Final = 32768


def encode_element(element: Element) -> bytes:  # noqa: C901, PLR0911  one branch for each element
    """The octets of one element, without address and time tag; struct.error for a value outside its range."""
    match element:
        case ShortFloat(value, quality):
            return _SHORT_FLOAT.pack(value, quality & _VALUE_QUALITY)
        case SinglePoint(state, quality) | DoublePoint(state, quality):
            return bytes((state | quality & _POINT_QUALITY,))
        case CounterReading(value, sequence, carry, adjusted, invalid):
            return _COUNTER.pack(value, sequence | carry << 5 | adjusted << 6 | invalid << 7)
        case NormalizedValue(value, quality):
            return _INTEGER_16.pack(round(value * _NORMALIZED_UNIT), quality & _VALUE_QUALITY)
        case ScaledValue(scaled, quality):
            return _INTEGER_16.pack(scaled, quality & _VALUE_QUALITY)
        case SingleCommand(state, qualifier, select) | DoubleCommand(state, qualifier, select):
            return bytes((state | qualifier << 2 | select << 7,))
        case ShortFloatSetpoint(value, qualifier, select):
            return _SHORT_FLOAT.pack(value, qualifier | select << 7)
        case NormalizedSetpoint(value, qualifier, select):
            return _INTEGER_16.pack(round(value * _NORMALIZED_UNIT), qualifier | select << 7)
        case ScaledSetpoint(scaled, qualifier, select):
            return _INTEGER_16.pack(scaled, qualifier | select << 7)
        case Qualifier(code):
            return bytes((code,))
        case FixedTest(counter):
            return counter.to_bytes(2, "little")
        case Nothing():
            return b""
    assert_never(element)


def _single_point(octets: bytes) -> Element:
    return SinglePoint(bool(octets[0] & 1), octets[0] & _POINT_QUALITY)


def _double_point(octets: bytes) -> Element:
    return DoublePoint(octets[0] & 3, octets[0] & _POINT_QUALITY)


def _normalized_value(octets: bytes) -> Element:
    value, quality = _INTEGER_16.unpack(octets)
    return NormalizedValue(value / _NORMALIZED_UNIT, quality & _VALUE_QUALITY)


def _scaled_value(octets: bytes) -> Element:
    value, quality = _INTEGER_16.unpack(octets)
    return ScaledValue(value, quality & _VALUE_QUALITY)


def _short_float(octets: bytes) -> Element:
    value, quality = _SHORT_FLOAT.unpack(octets)
    return ShortFloat(value, quality & _VALUE_QUALITY)


def _counter_reading(octets: bytes) -> Element:
    value, notation = _COUNTER.unpack(octets)
    return CounterReading(value, notation & 0x1F, bool(notation & 0x20), bool(notation & 0x40), bool(notation & 0x80))


def _single_command(octets: bytes) -> Element:
    if octets[0] & 2:
        raise ProtocolError(f"reserved bit set in the single command {octets[0]:#04x}")
    return SingleCommand(bool(octets[0] & 1), octets[0] >> 2 & 0x1F, bool(octets[0] & _SELECT_BIT))


def _double_command(octets: bytes) -> Element:
    if octets[0] & 3 in (0, 3):
        raise ProtocolError(f"state {octets[0] & 3} of a double command is not permitted")
    return DoubleCommand(octets[0] & 3, octets[0] >> 2 & 0x1F, bool(octets[0] & _SELECT_BIT))


def _normalized_setpoint(octets: bytes) -> Element:
    value, qualifier = _INTEGER_16.unpack(octets)
    return NormalizedSetpoint(value / _NORMALIZED_UNIT, qualifier & _QUALIFIER_BITS, bool(qualifier & _SELECT_BIT))


def _scaled_setpoint(octets: bytes) -> Element:
    value, qualifier = _INTEGER_16.unpack(octets)
    return ScaledSetpoint(value, qualifier & _QUALIFIER_BITS, bool(qualifier & _SELECT_BIT))


def _short_float_setpoint(octets: bytes) -> Element:
    value, qualifier = _SHORT_FLOAT.unpack(octets)
    return ShortFloatSetpoint(value, qualifier & _QUALIFIER_BITS, bool(qualifier & _SELECT_BIT))


def _qualifier(octets: bytes) -> Element:
    return Qualifier(octets[0])


def _fixed_test(octets: bytes) -> Element:
    return FixedTest(int.from_bytes(octets, "little"))


def _nothing(_octets: bytes) -> Element:
    return Nothing()


class TimeTag(NamedTuple):
    """CP56Time2a, IEC 60870-5-101 §7.2.6.18: milliseconds since 1970 of what the tag reads, IV and SU.

    An impossible date reads as `utc_ms` 0 and invalid.
    """

    utc_ms: Millis
    invalid: bool = False
    summer: bool = False


_MINUTE_MS: Final = 60_000
_FIRST_YEAR: Final = 2000
_LAST_YEAR: Final = 2099
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS = struct.Struct("<H")
_TIME = struct.Struct("<HBBBBB")
_TIME_SIZE: Final = 7


def encode_time(utc_ms: Millis, *, invalid: bool = False, summer: bool = False) -> bytes:
    """CP56Time2a in UTC, seven octets. A time outside 2000–2099 cannot be written and is sent as invalid."""
    minute, milliseconds = divmod(utc_ms, _MINUTE_MS)
    octets = _MILLISECONDS.pack(milliseconds) + _minute(minute)
    if invalid or summer:
        octets = octets[:2] + bytes((octets[2] | invalid << 7, octets[3] | summer << 7)) + octets[4:]
    return octets


def decode_time(octets: bytes) -> TimeTag:
    """Seven octets. The day of the week and reserved bits are not looked at."""
    milliseconds, minute, hour, day, month, year = _TIME.unpack(octets)
    invalid, summer = bool(minute & 0x80), bool(hour & 0x80)
    try:
        date = datetime(_FIRST_YEAR + (year & 0x7F), month & 0x0F, day & 0x1F, hour & 0x1F, minute & 0x3F, tzinfo=UTC)
    except ValueError:
        return TimeTag(0, invalid=True, summer=summer)
    if milliseconds >= _MINUTE_MS or date.year > _LAST_YEAR:
        return TimeTag(0, invalid=True, summer=summer)
    return TimeTag(round(date.timestamp()) * 1000 + milliseconds, invalid, summer)


@lru_cache(maxsize=1024)
def _minute(minutes: int) -> bytes:
    try:
        date = _EPOCH + timedelta(minutes=minutes)
    except OverflowError:
        date = _EPOCH
    if not _FIRST_YEAR <= date.year <= _LAST_YEAR:
        return bytes((0x80, 0, 1, 1, 0))
    return bytes((date.minute, date.hour, date.day, date.month, date.year - _FIRST_YEAR))


class Layout(NamedTuple):
    """What follows an information object address in one type.

    `size` octets of an element read by `decode`, then a time tag where `tagged`; `sequence` where SQ=1 is defined.
    """

    element: type[Element]
    size: int
    decode: Callable[[bytes], Element]
    tagged: bool = False
    sequence: bool = False


LAYOUTS: Final[dict[int, Layout]] = {
    TypeId.M_SP_NA_1: Layout(SinglePoint, 1, _single_point, sequence=True),
    TypeId.M_DP_NA_1: Layout(DoublePoint, 1, _double_point, sequence=True),
    TypeId.M_ME_NA_1: Layout(NormalizedValue, 3, _normalized_value, sequence=True),
    TypeId.M_ME_NB_1: Layout(ScaledValue, 3, _scaled_value, sequence=True),
    TypeId.M_ME_NC_1: Layout(ShortFloat, 5, _short_float, sequence=True),
    TypeId.M_IT_NA_1: Layout(CounterReading, 5, _counter_reading, sequence=True),
    TypeId.M_SP_TB_1: Layout(SinglePoint, 1, _single_point, tagged=True),
    TypeId.M_DP_TB_1: Layout(DoublePoint, 1, _double_point, tagged=True),
    TypeId.M_ME_TD_1: Layout(NormalizedValue, 3, _normalized_value, tagged=True),
    TypeId.M_ME_TE_1: Layout(ScaledValue, 3, _scaled_value, tagged=True),
    TypeId.M_ME_TF_1: Layout(ShortFloat, 5, _short_float, tagged=True),
    TypeId.M_IT_TB_1: Layout(CounterReading, 5, _counter_reading, tagged=True),
    TypeId.C_SC_NA_1: Layout(SingleCommand, 1, _single_command),
    TypeId.C_DC_NA_1: Layout(DoubleCommand, 1, _double_command),
    TypeId.C_SE_NA_1: Layout(NormalizedSetpoint, 3, _normalized_setpoint),
    TypeId.C_SE_NB_1: Layout(ScaledSetpoint, 3, _scaled_setpoint),
    TypeId.C_SE_NC_1: Layout(ShortFloatSetpoint, 5, _short_float_setpoint),
    TypeId.C_SC_TA_1: Layout(SingleCommand, 1, _single_command, tagged=True),
    TypeId.C_DC_TA_1: Layout(DoubleCommand, 1, _double_command, tagged=True),
    TypeId.C_SE_TA_1: Layout(NormalizedSetpoint, 3, _normalized_setpoint, tagged=True),
    TypeId.C_SE_TB_1: Layout(ScaledSetpoint, 3, _scaled_setpoint, tagged=True),
    TypeId.C_SE_TC_1: Layout(ShortFloatSetpoint, 5, _short_float_setpoint, tagged=True),
    TypeId.M_EI_NA_1: Layout(Qualifier, 1, _qualifier),
    TypeId.C_IC_NA_1: Layout(Qualifier, 1, _qualifier),
    TypeId.C_CI_NA_1: Layout(Qualifier, 1, _qualifier),
    TypeId.C_RD_NA_1: Layout(Nothing, 0, _nothing),
    TypeId.C_CS_NA_1: Layout(Nothing, 0, _nothing, tagged=True),
    TypeId.C_TS_TA_1: Layout(FixedTest, 2, _fixed_test, tagged=True),
}


class InformationObject(NamedTuple):
    """One information object: address 0–16777215, element, and the time tag where its type has one."""

    ioa: int
    element: Element
    time: TimeTag | None = None

    def encode(self) -> bytes:
        """Address, element, time tag."""
        octets = self.ioa.to_bytes(_IOA_SIZE, "little") + encode_element(self.element)
        return octets + encode_time(self.time[0], invalid=self.time[1], summer=self.time[2]) if self.time else octets


def encode(header: Header, objects: tuple[InformationObject, ...]) -> bytes:
    """One ASDU; `header.number` is taken from the objects. ProtocolError where they are not what the header says.

    SQ=1 needs consecutive addresses; no ASDU takes more than 127 objects or 249 octets.
    """
    layout = LAYOUTS[header.type_id]
    if any(type(item.element) is not layout.element or (item.time is None) is layout.tagged for item in objects):
        raise ProtocolError(f"objects that are no {type_name(header.type_id)}")
    if not 1 <= len(objects) <= MAXIMUM_OBJECTS:
        raise ProtocolError(f"{len(objects)} objects in one ASDU")
    octets = header._replace(number=len(objects)).encode()
    if header.sequence:
        if any(item.ioa != objects[0].ioa + offset for offset, item in enumerate(objects)):
            raise ProtocolError("SQ=1 with addresses that are not consecutive")
        octets += objects[0].encode() + b"".join(item.encode()[_IOA_SIZE:] for item in objects[1:])
    else:
        octets += b"".join(item.encode() for item in objects)
    if len(octets) > MAXIMUM_ASDU:
        raise ProtocolError(f"an ASDU of {len(octets)} octets")
    return octets


def decode(octets: bytes) -> tuple[Header, tuple[InformationObject, ...]]:
    """One ASDU of a known type, complete to the last octet, else ProtocolError."""
    header = Header.decode(octets)
    return header, decode_objects(header, octets)


def decode_objects(header: Header, octets: bytes) -> tuple[InformationObject, ...]:
    """The objects behind `header`; ProtocolError for an unknown type, a wrong length, a reserved value in a command."""
    layout = LAYOUTS.get(header.type_id)
    if layout is None:
        raise ProtocolError(f"type {header.type_id} is unknown")
    name = TypeId(header.type_id).name
    if not header.number:
        raise ProtocolError(f"{name} with no object")
    if header.sequence and not layout.sequence:
        raise ProtocolError(f"{name} with SQ=1")
    size = layout.size + (_TIME_SIZE if layout.tagged else 0)
    step = size if header.sequence else size + _IOA_SIZE
    expected = HEADER_SIZE + step * header.number + (_IOA_SIZE if header.sequence else 0)
    if len(octets) != expected:
        raise ProtocolError(f"{name} with {header.number} objects takes {expected} octets, not {len(octets)}")
    first = int.from_bytes(octets[HEADER_SIZE : HEADER_SIZE + _IOA_SIZE], "little")
    if header.sequence and first + header.number - 1 > LARGEST_IOA:
        raise ProtocolError(f"{name} with addresses beyond {LARGEST_IOA}")
    objects = []
    for index in range(header.number):
        start = HEADER_SIZE + step * index + _IOA_SIZE
        ioa = first + index if header.sequence else int.from_bytes(octets[start - _IOA_SIZE : start], "little")
        element = layout.decode(octets[start : start + layout.size])
        time = decode_time(octets[start + layout.size : start + size]) if layout.tagged else None
        objects.append(InformationObject(ioa, element, time))
    return tuple(objects)


def mirror(octets: bytes, cause: int, *, negative: bool = False, common_address: int | None = None) -> bytes:
    """The ASDU `octets` returned to its sender: its objects, originator address and T bit, another cause and P/N.

    `common_address` replaces the broadcast address, which never stands in an answer (IEC 60870-5-101 §7.2.4).
    """
    flags = cause | (_NEGATIVE_BIT if negative else 0) | octets[2] & _TEST_BIT
    address = octets[4:HEADER_SIZE] if common_address is None else common_address.to_bytes(2, "little")
    return octets[:2] + bytes((flags, octets[3])) + address + octets[HEADER_SIZE:]
