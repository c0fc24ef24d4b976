"""The list of OCPP attacks and faults O1 to O45: none is without a test that bears its number."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
NUMBERED = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)
NUMBER = re.compile(r"(?<![a-z0-9])o(\d+)_")

ATTACKS = {
    1: "a known identity with wrong credentials, or none",
    2: "the certificate of one unit at the path of another",
    3: "a second connection of a live identity",
    4: "an identity that flaps",
    5: "a flood of sockets that never finish",
    6: "a wrong, absent or lower subprotocol",
    7: "a frame beyond the limit",
    8: "fragments without end",
    9: "a compression bomb",
    10: "binary, broken UTF-8, lone surrogates, NUL, a byte order mark",
    11: "no JSON, or JSON that is no message",
    12: "nesting without end",
    13: "an action that is no text",
    14: "an integer of 5,000 digits",
    15: "NaN, infinities and 1e400",
    16: "a message type of another type",
    17: "a message id that is none",
    18: "a message id used again for another call",
    19: "answers nobody asked for",
    20: "an answer after its deadline",
    21: "two answers to one call",
    22: "a unit that accepts and draws more",
    23: "a unit that never answers",
    24: "a flood of calls from one unit",
    25: "a flood of meter values",
    26: "measurements that cannot be",
    27: "clocks that cannot be",
    28: "EVSEs and connectors that cannot be",
    29: "the transaction of another unit",
    30: "a queue played again",
    31: "a storm of boots",
    32: "an empty boot",
    33: "the limit of somebody else on the site",
    34: "a report of charging profiles without end",
    35: "a limit that is rejected",
    36: "a unit that reboots and forgets its limits",
    37: "a transaction that begins or ends while its limit is told",
    38: "hostile text in vendor fields",
    39: "tricks in the path",
    40: "all units reconnect at once",
    41: "a unit that is stopped, half open or out of reach",
    42: "certificates and TLS that do not count",
    43: "what is not of the dialect",
    44: "a unit that ignores its orders",
    45: "a unit that comes and goes within a round",
}


def numbered() -> dict[int, list[str]]:
    """The tests by the numbers in their names."""
    found: dict[int, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        if path.is_relative_to(TESTS / "iec104"):
            continue
        for name in NUMBERED.findall(path.read_text(encoding="utf-8")):
            for number in NUMBER.findall(name):
                found[int(number)].append(f"{path.relative_to(TESTS)}::{name}")
    return found


@pytest.mark.parametrize("number", ATTACKS, ids=lambda number: f"O{number}")
def test_every_attack_of_the_list_has_a_test_under_its_number(number: int) -> None:
    assert numbered()[number], f"O{number}, {ATTACKS[number]}: no test has o{number} in its name"


def test_no_test_claims_a_number_that_is_not_in_the_list() -> None:
    assert set(numbered()) <= set(ATTACKS)
