"""The codec: vectors written by hand, round trips, and lengths exact to the octet."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.iec104 import asdu
from bridge.iec104.apci import ProtocolError
from bridge.iec104.asdu import (
    LAYOUTS,
    CounterReading,
    DoubleCommand,
    DoublePoint,
    Element,
    FixedTest,
    Header,
    InformationObject,
    NormalizedSetpoint,
    NormalizedValue,
    Nothing,
    Qualifier,
    ScaledSetpoint,
    ScaledValue,
    ShortFloat,
    ShortFloatSetpoint,
    SingleCommand,
    SinglePoint,
    TimeTag,
    TypeId,
)

TAG = TimeTag(round(datetime(2026, 7, 4, 5, 6, 7, 890_000, tzinfo=UTC).timestamp() * 1000))
TAG_OCTETS = "d21e 06 05 04 07 1a"

VECTORS: list[tuple[str, Header, InformationObject]] = [
    (
        "32 01 47 09 2f00 010000 0000c642 00",
        Header(50, 1, 7, 47, 9, negative=True),
        InformationObject(1, ShortFloatSetpoint(99.0)),
    ),
    (
        "3f 01 06 00 0100 640000 00409c46 80" + TAG_OCTETS,
        Header(63, 1, 6, 1),
        InformationObject(100, ShortFloatSetpoint(20000.0, 0, select=True), TAG),
    ),
    (
        "24 01 03 00 0100 c80000 0000e145 c0" + TAG_OCTETS,
        Header(36, 1, 3, 1),
        InformationObject(200, ShortFloat(7200.0, 0xC0), TAG),
    ),
    (
        "1e 01 03 00 0100 2c0100 81" + TAG_OCTETS,
        Header(30, 1, 3, 1),
        InformationObject(300, SinglePoint(True, 0x80), TAG),
    ),
    (
        "25 01 03 00 0100 ec0300 ffffff7f 85" + TAG_OCTETS,
        Header(37, 1, 3, 1),
        InformationObject(1004, CounterReading(2**31 - 1, 5, invalid=True), TAG),
    ),
    (
        "03 01 14 00 0100 010000 02",
        Header(3, 1, 20, 1),
        InformationObject(1, DoublePoint(2)),
    ),
    (
        "09 01 14 00 0100 010000 00c0 00",
        Header(9, 1, 20, 1),
        InformationObject(1, NormalizedValue(-0.5)),
    ),
    (
        "0b 01 14 00 0100 010000 2efb 01",
        Header(11, 1, 20, 1),
        InformationObject(1, ScaledValue(-1234, 1)),
    ),
    (
        "30 01 06 00 0100 640000 ff7f 00",
        Header(48, 1, 6, 1),
        InformationObject(100, NormalizedSetpoint(32767 / 32768)),
    ),
    (
        "31 01 06 00 0100 640000 0080 05",
        Header(49, 1, 6, 1),
        InformationObject(100, ScaledSetpoint(-32768, 5)),
    ),
    (
        "2d 01 06 00 0100 640000 81",
        Header(45, 1, 6, 1),
        InformationObject(100, SingleCommand(True, 0, select=True)),
    ),
    (
        "2e 01 06 00 0100 640000 06",
        Header(46, 1, 6, 1),
        InformationObject(100, DoubleCommand(2, 1)),
    ),
    (
        "64 01 06 00 ffff 000000 14",
        Header(100, 1, 6, 65535),
        InformationObject(0, Qualifier(20)),
    ),
    (
        "66 01 05 00 0100 c80000",
        Header(102, 1, 5, 1),
        InformationObject(200, Nothing()),
    ),
    (
        "67 01 06 00 0100 000000" + TAG_OCTETS,
        Header(103, 1, 6, 1),
        InformationObject(0, Nothing(), TAG),
    ),
    (
        "6b 01 86 00 0100 000000 aa55" + TAG_OCTETS,
        Header(107, 1, 6, 1, test=True),
        InformationObject(0, FixedTest(0x55AA), TAG),
    ),
    (
        "46 01 04 00 0100 000000 00",
        Header(70, 1, 4, 1),
        InformationObject(0, Qualifier(0)),
    ),
]


@pytest.mark.parametrize(("octets", "header", "item"), VECTORS)
def test_a_vector_reads_and_writes_as_the_standard_says(octets: str, header: Header, item: InformationObject) -> None:
    wire = bytes.fromhex(octets.replace(" ", ""))
    assert asdu.decode(wire) == (header, (item,))
    assert asdu.encode(header, (item,)) == wire


@pytest.mark.parametrize("octets", [vector[0] for vector in VECTORS])
def test_one_octet_more_or_less_is_refused_and_the_header_still_reads(octets: str) -> None:
    wire = bytes.fromhex(octets.replace(" ", ""))
    header = Header.decode(wire)
    for wrong in (wire[:-1], wire + b"\x00", wire[:6]):
        assert Header.decode(wrong) == header
        with pytest.raises(ProtocolError):
            asdu.decode(wrong)


@pytest.mark.parametrize("octets", ["", "64", "6401060001"])
def test_fewer_than_six_octets_are_no_header(octets: str) -> None:
    with pytest.raises(ProtocolError, match="no complete header"):
        Header.decode(bytes.fromhex(octets))


def test_no_object_is_refused() -> None:
    with pytest.raises(ProtocolError, match="no object"):
        asdu.decode(bytes.fromhex("640006000100"))


def test_an_unknown_type_is_refused_but_its_header_reads() -> None:
    wire = bytes.fromhex("7f0106000100000000")
    assert Header.decode(wire).type_id == 127
    with pytest.raises(ProtocolError, match="type 127 is unknown"):
        asdu.decode(wire)


@pytest.mark.parametrize("type_id", [type_id for type_id, layout in LAYOUTS.items() if not layout.sequence])
def test_a_sequence_of_elements_is_refused_where_the_standard_defines_none(type_id: int) -> None:
    with pytest.raises(ProtocolError, match="SQ=1"):
        asdu.decode(bytes((type_id, 0x81, 6, 0, 1, 0)) + bytes(20))


def test_a_sequence_of_elements_counts_its_addresses() -> None:
    wire = bytes.fromhex("0d 82 14 00 0100 c80000 0000803f00 0000004080".replace(" ", ""))
    header, objects = asdu.decode(wire)
    assert objects == (InformationObject(200, ShortFloat(1.0)), InformationObject(201, ShortFloat(2.0, 0x80)))
    assert asdu.encode(header, objects) == wire


def test_a_sequence_of_elements_with_gaps_cannot_be_written() -> None:
    objects = (InformationObject(200, SinglePoint(True)), InformationObject(202, SinglePoint(True)))
    with pytest.raises(ProtocolError, match="consecutive"):
        asdu.encode(Header(1, 2, 20, 1, sequence=True), objects)


@pytest.mark.parametrize("number", [0, 31, 128])
def test_what_does_not_fit_one_asdu_cannot_be_written(number: int) -> None:
    objects = tuple(InformationObject(index, ShortFloat(0.0)) for index in range(number))
    with pytest.raises(ProtocolError):
        asdu.encode(Header(13, 0, 20, 1), objects)


def test_an_object_of_another_type_cannot_be_written() -> None:
    with pytest.raises(ProtocolError, match="no M_ME_NC_1"):
        asdu.encode(Header(13, 1, 20, 1), (InformationObject(1, SinglePoint(True)),))


@pytest.mark.parametrize(
    ("octets", "why"),
    [("2d0106000100640000 02", "reserved"), ("2e0106000100640000 00", "state 0"), ("2e0106000100640000 03", "state 3")],
)
def test_reserved_values_in_commands_are_refused(octets: str, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        asdu.decode(bytes.fromhex(octets.replace(" ", "")))


@pytest.mark.parametrize(
    "octets",
    [
        "60ea 00 00 01 01 1a",  # 60000 ms
        "0000 3c 00 01 01 1a",  # minute 60
        "0000 00 18 01 01 1a",  # hour 24
        "0000 00 00 00 01 1a",  # day 0
        "0000 00 00 1f 02 1a",  # 31 February
        "0000 00 00 1d 02 1a",  # 29 February 2026
        "0000 00 00 01 00 1a",  # month 0
        "0000 00 00 01 0d 1a",  # month 13
        "0000 00 00 01 01 64",  # year 100
        "0000 00 00 01 01 7f",
    ],
)
def test_i23_an_impossible_date_is_an_invalid_tag(octets: str) -> None:
    assert asdu.decode_time(bytes.fromhex(octets.replace(" ", ""))) == TimeTag(0, invalid=True)


def test_the_day_of_the_week_and_reserved_bits_of_a_tag_are_not_looked_at() -> None:
    assert asdu.decode_time(bytes.fromhex("d21e4665e4f79a")) == TAG


def test_the_end_of_a_leap_day_reads_as_written() -> None:
    utc_ms = round(datetime(2028, 2, 29, 23, 59, 59, 999_000, tzinfo=UTC).timestamp() * 1000)
    assert asdu.decode_time(asdu.encode_time(utc_ms)) == TimeTag(utc_ms)


@pytest.mark.parametrize("utc_ms", [0, 946_684_799_999, 4_102_444_800_000, 2**80, -(2**80)])
def test_a_time_the_wire_cannot_carry_goes_out_as_invalid(utc_ms: int) -> None:
    assert asdu.decode_time(asdu.encode_time(utc_ms)).invalid


def test_a_mirror_keeps_objects_originator_and_test_bit() -> None:
    wire = bytes.fromhex("320186092f00 010000 0000c642 00".replace(" ", ""))
    assert asdu.mirror(wire, 44, negative=True).hex() == "3201ec092f00" + "0100000000c64200"
    assert asdu.mirror(wire, 7, common_address=258).hex() == "320187090201" + "0100000000c64200"


def test_types_are_named_as_in_the_standard() -> None:
    assert asdu.type_name(50) == "C_SE_NC_1"
    assert asdu.type_name(127) == "127"


_SHORT = st.floats(width=32, allow_nan=False)
_NORMALIZED = st.integers(-32768, 32767).map(lambda number: number / 32768)
_INTEGER = st.integers(-32768, 32767)
_POINT_QUALITY = st.integers(0, 15).map(lambda bits: bits << 4)
_VALUE_QUALITY = st.builds(lambda bits, overflow: bits | overflow, _POINT_QUALITY, st.integers(0, 1))
_QL, _QU = st.integers(0, 127), st.integers(0, 31)
ELEMENTS: dict[type, st.SearchStrategy[Element]] = {
    SinglePoint: st.builds(SinglePoint, st.booleans(), _POINT_QUALITY),
    DoublePoint: st.builds(DoublePoint, st.integers(0, 3), _POINT_QUALITY),
    NormalizedValue: st.builds(NormalizedValue, _NORMALIZED, _VALUE_QUALITY),
    ScaledValue: st.builds(ScaledValue, _INTEGER, _VALUE_QUALITY),
    ShortFloat: st.builds(ShortFloat, _SHORT, _VALUE_QUALITY),
    CounterReading: st.builds(
        CounterReading,
        st.integers(-(2**31), 2**31 - 1),
        st.integers(0, 31),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    SingleCommand: st.builds(SingleCommand, st.booleans(), _QU, st.booleans()),
    DoubleCommand: st.builds(DoubleCommand, st.integers(1, 2), _QU, st.booleans()),
    NormalizedSetpoint: st.builds(NormalizedSetpoint, _NORMALIZED, _QL, st.booleans()),
    ScaledSetpoint: st.builds(ScaledSetpoint, _INTEGER, _QL, st.booleans()),
    ShortFloatSetpoint: st.builds(ShortFloatSetpoint, _SHORT, _QL, st.booleans()),
    Qualifier: st.builds(Qualifier, st.integers(0, 255)),
    FixedTest: st.builds(FixedTest, st.integers(0, 65535)),
    Nothing: st.builds(Nothing),
}
_TAGS = st.builds(TimeTag, st.integers(946_684_800_000, 4_102_444_799_999), st.booleans(), st.booleans())


@st.composite
def messages(draw: st.DrawFn) -> tuple[Header, tuple[InformationObject, ...]]:
    type_id = draw(st.sampled_from(sorted(LAYOUTS)))
    layout = LAYOUTS[type_id]
    sequence = layout.sequence and draw(st.booleans())
    size = layout.size + 7 * layout.tagged
    most = (240 // size if size else 80) if sequence else 243 // (size + 3)
    number = draw(st.integers(1, min(most, 127)))
    first = draw(st.integers(0, 0xFFFFFF - number))
    addresses = range(first, first + number) if sequence else [draw(st.integers(0, 0xFFFFFF)) for _ in range(number)]
    objects = tuple(
        InformationObject(ioa, draw(ELEMENTS[layout.element]), draw(_TAGS) if layout.tagged else None)
        for ioa in addresses
    )
    flags = draw(st.booleans()), draw(st.booleans())
    cause, address, originator = draw(st.integers(0, 63)), draw(st.integers(0, 65535)), draw(st.integers(0, 255))
    return Header(type_id, number, cause, address, originator, *flags, sequence), objects


@given(messages())
def test_every_message_reads_back_as_it_was_written(message: tuple[Header, tuple[InformationObject, ...]]) -> None:
    header, objects = message
    wire = asdu.encode(header, objects)
    assert len(wire) <= 249
    assert asdu.decode(wire) == (header, objects)
    assert asdu.encode(*asdu.decode(wire)) == wire


@given(st.binary(max_size=249))
def test_any_octets_read_or_are_refused(wire: bytes) -> None:
    try:
        header, objects = asdu.decode(wire)
    except ProtocolError:
        return
    assert len(objects) == header.number


@given(st.sampled_from(sorted(TypeId)), st.integers(0, 255), st.binary(max_size=243))
def test_any_body_behind_a_known_type_reads_or_is_refused(type_id: int, structure: int, body: bytes) -> None:
    try:
        asdu.decode(bytes((type_id, structure, 6, 0, 1, 0)) + body)
    except ProtocolError:
        return


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -0.0, 1e-45])
def test_i20_every_float_pattern_passes_the_codec(value: float) -> None:
    wire = bytes.fromhex("320106000100640000") + struct.pack("<fB", value, 0)
    element = asdu.decode(wire)[1][0].element
    assert isinstance(element, ShortFloatSetpoint)
    assert struct.pack("<f", element.value) == struct.pack("<f", value)
