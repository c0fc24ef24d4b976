"""Decoders that are not ours read every frame we send as we do: scapy, icspacket, and tshark where it is installed."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.core.messages import Confirm, Event, PointChanged, Reason, SetpointReceived, SwitchReceived
from bridge.core.points import Encoding, Point, PointAddress, PointKind, PointTable, Quality, Signal
from bridge.core.quantities import Now
from bridge.iec104 import asdu as codec
from bridge.iec104.asdu import LAYOUTS, InformationObject, TimeTag, TypeId, encode_time
from bridge.iec104.outstation import Outstation, OutstationPlan
from tests.iec104.fake_site import UTC_MS, FakeSite, running
from tests.iec104.judges import (
    TSHARK,
    WITHOUT_TSHARK,
    Dissected,
    Judged,
    by_icspacket,
    by_scapy,
    by_tshark,
)
from tests.iec104.quiet_master import Master
from tests.iec104.raw_master import (
    STARTDT_CON,
    STOPDT_CON,
    TESTFR,
    TESTFR_CON,
    RawMaster,
    asdu,
    interrogation,
    ioa,
    setpoint,
)


async def everything_we_send() -> list[bytes]:
    """A session in which the outstation says every kind of thing it can say, as frames."""
    async with running(FakeSite(t1_s=15, t2_s=0.05, t3_s=0.3)) as site:
        master = await RawMaster.connect(site.listener.port)
        await master.asdu()
        for octets in (
            setpoint(20000.0, originator=9),
            setpoint(0.0),
            asdu(63, 6, ioa(100) + struct.pack("<fB", 7000.0, 0) + encode_time(UTC_MS)),
            asdu(50, 6, ioa(101) + bytes(5)),
            asdu(50, 6, ioa(100) + bytes(5), common_address=9),
            asdu(50, 5, ioa(100) + bytes(5)),
            asdu(103, 6, ioa(0) + encode_time(UTC_MS)),
            asdu(107, 6, ioa(0) + b"\xaa\x55" + encode_time(UTC_MS)),
            asdu(102, 5, ioa(200)),
        ):
            await master.answer(octets)
        site.publish(200, 7200.0, Quality.NOT_TOPICAL)
        site.publish(202, 7300.0, Quality.OVERFLOW)
        site.publish(300, 1.0, Quality.BLOCKED)
        site.publish(1004, 123456.0)
        site.listener.outstation.flush()
        await master.interrogate()
        await master.interrogate(asdu(101, 6, ioa(0) + b"\x05"))
        await master.answer(interrogation(qualifier=21))
        for _ in range(8):
            master.send(asdu(36, 0x6C, bytes(15)))
        master.writer.write(TESTFR)
        await master.stop()
        return master.octets


def _point(address: int, kind: PointKind, signal: Signal, encoding: Encoding, **more: Any) -> Point:
    return Point(PointAddress(1, address), kind, signal, encoding=encoding, **more)


MEASURED = (Encoding.SHORT_FLOAT, Encoding.SCALED, Encoding.NORMALIZED)
POINTS = PointTable(
    (
        *(
            _point(100 + n, PointKind.SETPOINT, Signal.LIMIT_SETPOINT, each, per_unit=100.0)
            for n, each in enumerate(MEASURED)
        ),
        _point(110, PointKind.COMMAND, Signal.LIMIT_ENABLE, Encoding.SINGLE, select_before_operate=True),
        _point(111, PointKind.COMMAND, Signal.EMERGENCY_STOP, Encoding.DOUBLE, select_before_operate=True),
        *(
            _point(
                200 + 10 * m + n, PointKind.MEASURED, Signal.CHARGER_POWER_W, each, charger=3 * m + n, per_unit=100.0
            )
            for n, each in enumerate(MEASURED)
            for m in range(2)
        ),
        *(
            _point(300 + n, PointKind.SINGLE, Signal.CHARGER_CONNECTED, Encoding.SINGLE, charger=n, background_ms=1000)
            for n in range(5)
        ),
        *(
            _point(310 + n, PointKind.SINGLE, Signal.CHARGER_CONNECTED, Encoding.DOUBLE, charger=10 + n, cyclic_ms=1000)
            for n in range(2)
        ),
        *(_point(400 + n, PointKind.TOTAL, Signal.CHARGER_ENERGY_WH, Encoding.COUNTER, charger=n) for n in range(3)),
    )
)
SUMMER_MS, WINTER_MS = UTC_MS, UTC_MS + 100 * 86_400_000
TAG = encode_time(UTC_MS + 7_200_000, summer=True)


def every_form(**plan: Any) -> list[bytes]:
    """Every type in both directions, with every quality, as I-frames numbered in order."""

    def answer(event: Event) -> None:
        if isinstance(event, SetpointReceived | SwitchReceived):
            outstation.confirm(Confirm(event.command, None if event.command % 2 else Reason.BELOW_MINIMUM))

    outstation = Outstation(OutstationPlan("", 0, POINTS, **plan), answer)
    master = Master(outstation)
    values = (0.0, 1.0, -1.0, 50.0, 12_345.0, 4e6, -4e6, 1e38, 3e12)
    qualities = (Quality.GOOD, *Quality, Quality.INVALID | Quality.NOT_TOPICAL)
    for turn, (value, utc_ms) in enumerate((value, at) for value in values for at in (SUMMER_MS, WINTER_MS)):
        for place, point in enumerate(each for each in POINTS.points if not each.kind.is_command):
            quality = qualities[(turn + place) % len(qualities)]
            outstation.publish(PointChanged(point, value, quality, utc_ms, report=True), Now(0, utc_ms))
        outstation.flush()
        master.all()
    for qualifier in (0, 0x80):
        for tag, shift in ((b"", 0), (TAG, 13)):
            for address, type_id, element in (
                (100, 50, struct.pack("<f", -273.5)),
                (101, 49, struct.pack("<h", -12)),
                (102, 48, struct.pack("<h", -16384)),
            ):
                master.send(asdu(type_id + shift, 6, ioa(address) + element + bytes((qualifier,)) + tag, originator=77))
            master.send(asdu(45 + shift, 6, ioa(110) + bytes((qualifier | 1,)) + tag))
            master.send(asdu(45 + shift, 8, ioa(110) + bytes((qualifier | 1,)) + tag))
            master.send(asdu(46 + shift, 6, ioa(111) + bytes((qualifier | 2,)) + tag))
            master.send(asdu(46 + shift, 8, ioa(111) + bytes((qualifier | 2,)) + tag))
    for request in (
        interrogation(),
        interrogation(qualifier=25),
        asdu(101, 6, ioa(0) + b"\x45"),
        asdu(101, 6, ioa(0) + b"\x05"),
    ):
        master.send(request)
        master.all()
    for now_ms in (1, 2_000):
        outstation.wake(Now(now_ms, UTC_MS))
        master.all(now_ms)
    return [
        struct.pack("<BBHH", 0x68, len(octets) + 4, number << 1, 0) + octets
        for number, octets in enumerate(master.asdus)
    ]


FORMS: dict[str, dict[str, Any]] = {
    "utc": {},
    "local time, packed": {"time_zone": "Europe/Berlin", "sequence_of_objects": True},
    "untagged events, tagged interrogation": {"spontaneous_tagged": False, "interrogation_tagged": True},
}


def by_us(frame: bytes) -> tuple[Judged, tuple[InformationObject, ...]]:
    """The same by our own decoder."""
    sent, received = struct.unpack_from("<HH", frame, 2)
    header, objects = codec.decode(frame[6:])
    return Judged(
        sent >> 1, received >> 1, header.type_id, header.cause, header.negative, header.test, header.originator,
        header.common_address, [each.ioa for each in objects],
    ), objects  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("judge", [by_scapy, by_icspacket], ids=["scapy", "icspacket"])
def test_every_type_in_every_form_reads_the_same_to(judge: Callable[[bytes], Judged | None], form: str) -> None:
    frames = every_form(**FORMS[form])
    for frame in frames:
        assert judge(frame) == by_us(frame)[0], frame.hex()


async def test_scapy_and_icspacket_read_every_frame_of_a_session_alike() -> None:
    frames = await everything_we_send()
    read = [by_scapy(frame) for frame in frames]
    assert read == [by_icspacket(frame) for frame in frames]
    told = [each for each in read if each is not None]
    assert [each.sent for each in told] == list(range(len(told)))
    assert {each.type_id for each in told} == {1, 13, 15, 30, 36, 37, 50, 63, 70, 100, 101, 103, 107}
    assert [(each.cause, each.negative) for each in told if each.type_id == 50] == [
        (7, False), (10, False), (7, True), (47, True), (46, True), (45, True),
    ]  # fmt: skip


NAMES: dict[type[codec.Element], tuple[str, ...]] = {
    codec.SinglePoint: ("siq.spi",),
    codec.DoublePoint: ("diq.dpi",),
    codec.ShortFloat: ("float",),
    codec.ScaledValue: ("scalval",),
    codec.NormalizedValue: ("normval",),
    codec.CounterReading: ("bcr.count", "bcr.sq", "bcr.cy", "bcr.ca", "bcr.iv"),
    codec.SingleCommand: ("sco.on", "sco.qu", "sco.se"),
    codec.DoubleCommand: ("dco.on", "dco.qu", "dco.se"),
    codec.ShortFloatSetpoint: ("float", "qos.ql", "qos.se"),
    codec.ScaledSetpoint: ("scalval", "qos.ql", "qos.se"),
    codec.NormalizedSetpoint: ("normval", "qos.ql", "qos.se"),
}
"""How tshark calls the parts of an element, in the order in which it has them."""
QUALITIES: dict[type[codec.Element], str] = {
    codec.SinglePoint: "siq",
    codec.DoublePoint: "diq",
    codec.ShortFloat: "qds",
    codec.ScaledValue: "qds",
    codec.NormalizedValue: "qds",
}
BITS = {"ov": 0x01, "bl": 0x10, "sb": 0x20, "nt": 0x40, "iv": 0x80}


def element_fields(element: codec.Element) -> dict[str, float]:
    """What tshark must show of an element, by its names."""
    names = NAMES.get(type(element), ())
    fields: dict[str, float] = dict(zip(names, map(float, element), strict=False))
    quality = QUALITIES.get(type(element))
    if quality is not None:
        fields |= {
            f"{quality}.{name}": float(bool(element[1] & bit))  # type: ignore[misc]
            for name, bit in BITS.items()
            if quality == "qds" or name != "ov"
        }
    return fields


def time_fields(tag: TimeTag) -> dict[str, float]:
    """What tshark must show of a time tag."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=tag.utc_ms)
    return {
        "cp56time.ms": at.second * 1000 + at.microsecond // 1000,
        "cp56time.min": at.minute,
        "cp56time.hour": at.hour,
        "cp56time.day": at.day,
        "cp56time.month": at.month,
        "cp56time.year": at.year - 2000,
        "cp56time.su": float(tag.summer),
        "cp56time.iv": float(tag.invalid),
    }


def agrees(seen: Dissected, frame: bytes) -> None:
    """What tshark shows of a frame is what our decoder reads in it, object by object."""
    judged, objects = by_us(frame)
    if judged.type_id == TypeId.C_TS_TA_1:  # to tshark its body is octets
        return
    assert seen.judged() == judged, frame.hex()
    for item, shown in zip(objects, seen.objects, strict=True):
        expected = element_fields(item.element) | ({} if item.time is None else time_fields(item.time))
        assert {name: float(shown[name]) for name in expected} == pytest.approx(expected, rel=1e-5), frame.hex()


@pytest.mark.skipif(TSHARK is None, reason=WITHOUT_TSHARK)
@pytest.mark.parametrize("form", FORMS)
def test_tshark_shows_every_value_quality_and_time_as_we_meant_it(form: str) -> None:
    frames = every_form(**FORMS[form])
    for frame, seen in zip(frames, by_tshark(frames), strict=True):
        agrees(seen, frame)


@pytest.mark.skipif(TSHARK is None, reason=WITHOUT_TSHARK)
async def test_tshark_reads_every_frame_of_a_session_as_we_do() -> None:
    frames = await everything_we_send()
    unnumbered = {"0x00000002": STARTDT_CON, "0x00000008": STOPDT_CON, "0x00000010": TESTFR, "0x00000020": TESTFR_CON}
    for frame, seen in zip(frames, by_tshark(frames), strict=True):
        match seen.form:
            case "U":
                assert unnumbered[seen.fields["utype"]] == frame
            case "S":
                assert int(seen.fields["rx"]) == struct.unpack_from("<H", frame, 4)[0] >> 1
            case _:
                agrees(seen, frame)


def test_every_type_we_have_is_among_what_is_judged() -> None:
    """All but what only asks: a read, and what is answered in the session alone."""
    judged = {frame[6] for form in FORMS.values() for frame in every_form(**form)}
    assert set(LAYOUTS) - judged == {TypeId.C_RD_NA_1, TypeId.C_CS_NA_1, TypeId.C_TS_TA_1}
