"""What the control centre reads of an IEC 104 frame: a decoder of its own, so that no mistake agrees with itself."""

from __future__ import annotations

import calendar
import struct
import time
from dataclasses import dataclass
from enum import IntEnum, unique
from typing import TypeAlias

Value: TypeAlias = float | int | bool | None


@unique
class TypeId(IntEnum):
    """Type identifications the control centre meets, IEC 60870-5-101 §7.2.1."""

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


# Octets of an information object without address and time tag, IEC 60870-5-101 §7.3.
_ELEMENT = {1: 1, 3: 1, 9: 3, 11: 3, 13: 5, 15: 5, 45: 1, 46: 1, 48: 3, 49: 3, 50: 5, 70: 1, 100: 1, 101: 1, 102: 0}
_UNTAGGED = {30: 1, 31: 3, 34: 9, 35: 11, 36: 13, 37: 15, 58: 45, 59: 46, 61: 48, 62: 49, 63: 50}
_TAGGED = {*_UNTAGGED, TypeId.C_CS_NA_1, TypeId.C_TS_TA_1}
_OCTETS = _ELEMENT | {tagged: _ELEMENT[same] + 7 for tagged, same in _UNTAGGED.items()} | {103: 7, 107: 9}

ACTIVATION = 6
ACTIVATION_CON = 7
DEACTIVATION_CON = 9
ACTIVATION_TERMINATION = 10
CAUSES = {
    1: "periodic",
    2: "background",
    3: "spontaneous",
    4: "initialized",
    5: "request",
    6: "activation",
    7: "activation confirmation",
    8: "deactivation",
    9: "deactivation confirmation",
    10: "activation termination",
    20: "interrogated by station",
    37: "counter interrogation",
    44: "unknown type",
    45: "unknown cause",
    46: "unknown common address",
    47: "unknown information object address",
}


@dataclass(frozen=True, slots=True)
class Telegram:
    """One information object as it stood on the wire.

    `at_s` is the time it passed on the monotonic clock, `quality` the descriptor as octet (0 is good, 0x80 invalid),
    `tag_utc_ms` its CP56Time2a in UTC, None on untagged types or where the date is impossible, `tag_valid` its IV bit
    turned round. A type the control centre does not know has the value None.
    """

    at_s: float
    sent: bool
    type_id: int
    cause: int
    negative: bool
    test: bool
    originator: int
    common_address: int
    ioa: int
    value: Value
    quality: int = 0
    tag_utc_ms: int | None = None
    tag_valid: bool = True

    @property
    def type_name(self) -> str:
        """Name of the type, its number where it is unknown."""
        return TypeId(self.type_id).name if self.type_id in _OCTETS else f"type {self.type_id}"

    @property
    def cause_name(self) -> str:
        """Name of the cause of transmission, its number where it is unknown."""
        return CAUSES.get(self.cause, f"cause {self.cause}")

    def __str__(self) -> str:
        """One line for a person."""
        marks = [self.cause_name + (", negative" if self.negative else "")]
        if self.test:
            marks.append("test")
        if self.quality:
            marks.append(f"quality 0x{self.quality:02x}")
        if self.tag_utc_ms is not None:
            marks.append(f"tag {_clock(self.tag_utc_ms)}{'' if self.tag_valid else ' invalid'}")
        return f"{self.type_name} {self.ioa} = {self.value} ({'; '.join(marks)})"


def decode(frame: bytes, at_s: float, *, sent: bool) -> list[Telegram]:
    """Every information object of an APDU in format I; empty for S and U frames and for what is cut short."""
    if len(frame) < 15 or frame[0] != 0x68 or frame[2] & 1:
        return []
    asdu = frame[6:]
    type_id, structure, cause, originator, common_address = struct.unpack_from("<BBBBH", asdu)
    count, sequence = structure & 0x7F, bool(structure & 0x80)
    size = _OCTETS.get(type_id)
    telegrams: list[Telegram] = []
    first = int.from_bytes(asdu[6:9], "little")
    at = 9 if sequence else 6
    for number in range(count):
        ioa = first + number if sequence else int.from_bytes(asdu[at : at + 3], "little")
        at += 0 if sequence else 3
        if size is not None and len(asdu) < at + size:
            break
        octets = asdu[at : at + size] if size is not None else b""
        at += size or 0
        value, quality, tag, valid = _object(type_id, octets) if size is not None else (None, 0, None, True)
        telegrams.append(
            Telegram(
                at_s=at_s,
                sent=sent,
                type_id=type_id,
                cause=cause & 0x3F,
                negative=bool(cause & 0x40),
                test=bool(cause & 0x80),
                originator=originator,
                common_address=common_address,
                ioa=ioa,
                value=value,
                quality=quality,
                tag_utc_ms=tag,
                tag_valid=valid,
            )
        )
        if size is None:
            break
    return telegrams


def _object(  # noqa: PLR0911  one branch for each element
    type_id: int, octets: bytes
) -> tuple[Value, int, int | None, bool]:
    tag, valid = _time_tag(octets[-7:]) if type_id in _TAGGED else (None, True)
    match _UNTAGGED.get(type_id, type_id):
        case TypeId.M_ME_NC_1:
            return struct.unpack_from("<f", octets)[0], octets[4], tag, valid
        case TypeId.C_SE_NC_1:
            return struct.unpack_from("<f", octets)[0], 0, tag, valid
        case TypeId.M_ME_NA_1:
            return struct.unpack_from("<h", octets)[0] / 32768, octets[2], tag, valid
        case TypeId.M_ME_NB_1:
            return struct.unpack_from("<h", octets)[0], octets[2], tag, valid
        case TypeId.C_SE_NA_1:
            return struct.unpack_from("<h", octets)[0] / 32768, 0, tag, valid
        case TypeId.C_SE_NB_1:
            return struct.unpack_from("<h", octets)[0], 0, tag, valid
        case TypeId.M_SP_NA_1:
            return bool(octets[0] & 1), octets[0] & 0xF0, tag, valid
        case TypeId.M_DP_NA_1:
            return octets[0] & 3, octets[0] & 0xF0, tag, valid
        case TypeId.C_SC_NA_1:
            return bool(octets[0] & 1), 0, tag, valid
        case TypeId.C_DC_NA_1:
            return octets[0] & 3, 0, tag, valid
        case TypeId.M_IT_NA_1:
            return int.from_bytes(octets[:4], "little", signed=True), octets[4] & 0x80, tag, valid
    return (octets[0] if octets else None), 0, tag, valid


def _time_tag(octets: bytes) -> tuple[int | None, bool]:
    """CP56Time2a, IEC 60870-5-101 §7.2.6.18, as UTC in milliseconds and whether it says it is valid."""
    millis, minute, hour, day, month, year = struct.unpack("<HBBBBB", octets)
    date = (2000 + (year & 0x7F), month & 0x0F, day & 0x1F, hour & 0x1F, minute & 0x3F, 0)
    if not (1 <= date[1] <= 12 and 1 <= date[2] <= calendar.monthrange(date[0], date[1])[1] and date[3] < 24):
        return None, False
    return calendar.timegm(date) * 1000 + millis, not minute & 0x80


def encode_time(utc_ms: int) -> bytes:
    """CP56Time2a in UTC."""
    seconds, millis = divmod(utc_ms, 1000)
    read = time.gmtime(seconds)
    minute = (read.tm_sec * 1000 + millis, read.tm_min, read.tm_hour, read.tm_mday, read.tm_mon, read.tm_year - 2000)
    return struct.pack("<HBBBBB", *minute)


def _clock(utc_ms: int) -> str:
    seconds, millis = divmod(utc_ms, 1000)
    return f"{seconds // 3600 % 24:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{millis:03d}Z"
