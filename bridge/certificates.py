"""What certificates and revocation lists say, read from PEM files: RFC 5280, as far as TLS here needs it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bridge.core.quantities import Millis

_INTEGER, _SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x02, 0x30, 0x17, 0x18, 0xA0
_LONG_LENGTH: Final = 0x80


def ends_utc_ms(certificate: Path) -> Millis:
    """When the first certificate of a PEM file ends; OSError if there is none, ValueError if it is damaged."""
    return _not_after(_blocks(certificate, "CERTIFICATE")[0])


def revocations(path: Path) -> tuple[list[Millis], frozenset[int]]:
    """When the next lists are due, as far as the ones of a PEM file say so, and the serial numbers in them.

    OSError if it holds none, ValueError if one is damaged.
    """
    due, revoked = list[Millis](), set[int]()
    for der in _blocks(path, "X509 CRL"):
        next_update_ms, serials = _revocations(der)
        revoked |= serials
        if next_update_ms is not None:
            due.append(next_update_ms)
    return due, frozenset(revoked)


def _blocks(path: Path, label: str) -> list[bytes]:
    """The DER of every block of that label in a PEM file; OSError if there is none."""
    text = path.read_text(encoding="ascii", errors="replace")
    found = re.findall(f"-----BEGIN {label}-----(.+?)-----END {label}-----", text, re.DOTALL)
    if not found:
        raise OSError(f"{path}: no {label} in it: is it PEM?")
    return [base64.b64decode(block) for block in found]


def _elements(der: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Tag, start and end of the content of each DER element between two places; ValueError where they do not fit."""
    while start < end:
        tag, length, start = der[start], der[start + 1], start + 2
        if length >= _LONG_LENGTH:
            size = length - _LONG_LENGTH
            length, start = int.from_bytes(der[start : start + size], "big"), start + size
        if start + length > end:
            raise ValueError("an element is longer than what holds it: the file is damaged")
        yield tag, start, start + length
        start += length


def _to_be_signed(der: bytes) -> list[tuple[int, int, int]]:
    (_, start, end), *_ = _elements(der, 0, len(der))
    (_, start, end), *_ = _elements(der, start, end)
    return list(_elements(der, start, end))


def _not_after(der: bytes) -> Millis:
    """The end of a certificate, RFC 5280 §4.1."""
    parts = [part for part in _to_be_signed(der) if part[0] != _VERSION]
    _, start, end = parts[3]  # serial number, signature, issuer, validity
    _, after = _elements(der, start, end)
    return _time(der, after)


def _revocations(der: bytes) -> tuple[Millis | None, set[int]]:
    """When the next CRL is due, if it says so, and the serial numbers of this one, RFC 5280 §5.1."""
    parts = [part for part in _to_be_signed(der) if part[0] != _INTEGER]
    times = [part for part in parts if part[0] in (_UTC_TIME, _GENERALIZED_TIME)]
    after_times = parts[2 + len(times) :]  # signature, issuer, this update, next update
    revoked = set()
    if after_times and after_times[0][0] == _SEQUENCE:
        for _, start, end in _elements(der, *after_times[0][1:]):
            _, first, last = next(_elements(der, start, end))
            revoked.add(int.from_bytes(der[first:last], "big"))
    return (_time(der, times[1]) if len(times) > 1 else None), revoked


def _time(der: bytes, element: tuple[int, int, int]) -> Millis:
    tag, start, end = element
    text = der[start:end].decode("ascii")
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return round(datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()) * 1000
