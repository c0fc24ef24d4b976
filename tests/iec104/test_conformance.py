"""The conformance suite against both of our stacks; every frame they send is read by decoders that are not ours."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from tests.iec104.conformance import CASES, KNOWN_FAILURES, STACKS, Station, station
from tests.iec104.judges import TSHARK, by_icspacket, by_scapy, by_tshark

TABLE = Path(__file__).parent.parent.parent / "docs" / "iec104-conformance.md"

FILE_TRANSFER = 119  # from here on nobody looks into what goes back to its sender
TEST_COMMAND = 107  # tshark does not look into it


def judged(under_test: Station) -> None:
    """Every frame of the station means the same to all who read it, to the last octet."""
    frames = [frame for master in under_test.masters for frame in master.octets]
    told = [frame for frame in frames if frame[2] & 1 or frame[6] <= FILE_TRANSFER]
    read = [by_scapy(frame) for frame in told]
    assert read == [by_icspacket(frame) for frame in told]
    if TSHARK is not None and told:
        for each, seen in zip(read, by_tshark(told), strict=True):
            assert each is None or each.type_id == TEST_COMMAND or each == seen.judged()


async def run(stack: str, name: str) -> None:
    async with station(stack, name) as under_test, asyncio.timeout(60):
        await CASES[name](under_test)
        if "20000" not in name:
            judged(under_test)


@pytest.mark.parametrize("name", CASES)
async def test_our_own_stack_conforms_without_exception(name: str) -> None:
    await run("native", name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(CASES) - set(KNOWN_FAILURES["c104"])))
async def test_the_stack_on_c104_conforms_where_it_is_not_known_to_fail(name: str) -> None:
    await run("c104", name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(KNOWN_FAILURES["c104"]))
async def test_the_stack_on_c104_still_fails_what_it_is_known_to_fail(name: str) -> None:
    with pytest.raises((AssertionError, OSError, EOFError, TimeoutError, IndexError)):
        await run("c104", name)


def test_the_published_table_has_every_case_and_what_each_stack_does() -> None:
    rows = re.findall(r"^\| ([a-z0-9].*?) \| (.*?) \| (.*?) \|$", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    published = {name.replace(" ", "_"): cells for name, *cells in rows if name != "case"}
    assert list(published) == list(CASES)
    for name, cells in published.items():
        for stack, cell in zip(STACKS, cells, strict=True):
            assert cell.startswith("**no**") is (name in KNOWN_FAILURES[stack]), f"{stack} {name}"
