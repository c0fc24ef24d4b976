"""The hash chain of the records: how a line is made, and what proves that none was changed, added or taken away.

A segment is a file of lines, each a SHA-256 in hex, a space and JSON. The hash is over the hash of the line before, a
space and the bytes of the JSON as they stand there; the very first line follows 64 zeros. A checkpoint is a line whose
JSON carries an Ed25519 signature over its own number and the hash before it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

GENESIS: Final = "0" * 64
CHECKPOINT: Final = "checkpoint"
DROPPED: Final = "segment_dropped"
SEGMENT_NAME: Final = re.compile(r"\d{4}-\d{2}\.jsonl")

_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True)
_HASH_CHARS = 64


@dataclass(frozen=True, slots=True)
class Head:
    """The place of a record in the chain: its number, from 1, and its hash."""

    number: int = 0
    digest: str = GENESIS

    def __str__(self) -> str:
        return f"{self.number}:{self.digest}"


@dataclass(slots=True)
class Verdict:
    """What was found: `problem` is None if every line is as it was written; lines after a problem are not looked at.

    `signed` is the number of the newest checkpoint whose signature is right: all up to it is proven by the key, what
    comes after it by the hashes alone.
    """

    first: int = 0
    head: Head = field(default_factory=Head)
    signed: int = 0
    checkpoints: int = 0
    problem: str | None = None


def encoded(head: Head, utc_ms: int, kind: str, fields: dict[str, Any]) -> tuple[Head, bytes]:
    """The line that follows `head`, and the head it makes. Fields are JSON data."""
    text = _ENCODER.encode({"number": head.number + 1, "utc_ms": utc_ms, "kind": kind, **fields}).encode()
    digest = _digest(head.digest, text)
    return Head(head.number + 1, digest), digest.encode() + b" " + text + b"\n"


def signature(key: Ed25519PrivateKey, head: Head) -> str:
    """The signature, in hex, of a checkpoint that follows `head`."""
    return key.sign(_signed_bytes(head)).hex()


def segments(folder: Path) -> list[Path]:
    """The files of the chain in their order."""
    return sorted(path for path in folder.glob("*.jsonl") if SEGMENT_NAME.fullmatch(path.name))


def lines(paths: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """Every line with its place, `file:line`."""
    for path in paths:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield f"{path.name}:{number}", line


def record_of(line: bytes) -> dict[str, Any]:
    """The record in a line. ValueError if there is none."""
    record = json.loads(line[_HASH_CHARS + 1 :])
    if not isinstance(record, dict):
        raise ValueError("no record")  # noqa: TRY004  a line, not an argument
    return record


def verify(numbered: Iterable[tuple[str, bytes]], key: Ed25519PublicKey, anchors: Iterable[Head] = ()) -> Verdict:
    """Check every line against the one before, every checkpoint against `key`, and that every anchor is in the chain.

    Where the oldest segments were dropped, what is left begins with one whose predecessor a later record names. An
    anchor is a head that is known from elsewhere: it finds what no chain can know of itself, that its end was cut off.
    """
    verdict, wanted = Verdict(), {anchor.number: anchor.digest for anchor in anchors if anchor.number}
    begins, dropped = Head(), {0: GENESIS}
    for place, line in numbered:
        try:
            record = _record_on_its_own(line)
            if not verdict.first:
                begins = verdict.head = Head(record["number"] - 1, record["previous"])
                verdict.first = record["number"]
            _check(line, record, verdict.head, key)
            if record["kind"] == DROPPED:
                dropped[record["last"]] = record["digest"]
        except (ValueError, KeyError, TypeError) as problem:
            verdict.problem = f"{place}: {problem}"
            return verdict
        verdict.head = Head(record["number"], line[:_HASH_CHARS].decode())
        if record["kind"] == CHECKPOINT:
            verdict.signed, verdict.checkpoints = verdict.head.number, verdict.checkpoints + 1
        if wanted.pop(verdict.head.number, verdict.head.digest) != verdict.head.digest:
            verdict.problem = f"{place}: is another record {verdict.head.number} than the one known from elsewhere"
            return verdict
    if verdict.first and dropped.get(begins.number) != begins.digest:
        verdict.problem = f"the records before number {verdict.first} are missing, and none says that they were dropped"
    elif missing := [number for number in wanted if number >= verdict.first]:
        verdict.problem = f"the end is missing: record {max(missing)} is known from elsewhere"
    return verdict


def _record_on_its_own(line: bytes) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise ValueError("the line does not end: it was cut off")
    try:
        return record_of(line)
    except ValueError:
        raise ValueError("is no record: it was changed") from None


def _check(line: bytes, record: dict[str, Any], before: Head, key: Ed25519PublicKey) -> None:
    if record["number"] != before.number + 1:
        raise ValueError(f"record {before.number + 1} is missing: here stands number {record['number']!r}")
    text = line[_HASH_CHARS + 1 : -1]
    if line != _digest(before.digest, text).encode() + b" " + text + b"\n":
        raise ValueError(f"record {record['number']} was changed, or the one before it")
    if record["kind"] == CHECKPOINT:
        try:
            key.verify(bytes.fromhex(record["signature"]), _signed_bytes(before))
        except InvalidSignature:
            raise ValueError(f"the signature of checkpoint {record['number']} is not by this key") from None


def _digest(previous: str, text: bytes) -> str:
    return hashlib.sha256(previous.encode() + b" " + text).hexdigest()


def _signed_bytes(before: Head) -> bytes:
    return f"gridlimit records, checkpoint {before.number + 1} after {before.digest}".encode()
