"""What fuzzing found interesting, replayed; and as much again by chance: new luck is for `make fuzz`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.iec104.fuzz import CORPUS, TARGETS
from tests.iec104.raw_master import asdu, interrogation, ioa, setpoint

MUTATIONS = 3_000
SEED = 20_261_123
SEEDS = [
    setpoint(20000.0),
    interrogation(),
    asdu(45, 6, ioa(110) + b"\x81"),
    asdu(45, 6, ioa(110) + b"\x01"),
    asdu(101, 6, ioa(0) + b"\x45"),
    asdu(3, 0, bytes.fromhex("ffffffffffffff0c01ff0a000400ff"), number=0x8B),
]


def kept(target: str) -> Iterator[bytes]:
    folder: Path = CORPUS / target
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        yield path.read_bytes()
    for seed in SEEDS:
        yield seed if target == "asdu" else bytes((len(seed) | 1, 1)) + seed


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_that_fuzzing_kept_breaks_anything(target: str) -> None:
    for octets in kept(target):
        TARGETS[target](octets)


@pytest.mark.parametrize("target", TARGETS)
def test_what_was_kept_breaks_nothing_when_it_is_mutated(target: str) -> None:
    chance, corpus = random.Random(SEED), list(kept(target))
    for _ in range(MUTATIONS):
        octets = bytearray(b"".join(chance.sample(corpus, chance.choice((1, 1, 2, 3)))))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(octets) + 1)
            octets[at : at + chance.choice((0, 1, 1, 2))] = chance.randbytes(chance.choice((0, 1, 1, 2, 8)))
        TARGETS[target](bytes(octets))
