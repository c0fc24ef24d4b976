"""The control centre's decoder against frames that were recorded from c104's server, and against anything at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.lab.telegrams import decode


def test_a_negative_confirmation_is_read_as_negative() -> None:
    (telegram,) = decode(bytes.fromhex("6812040004003201470001006400000000000000"), 1.0, sent=False)
    assert (telegram.type_name, telegram.cause, telegram.negative, telegram.ioa, telegram.value) == (
        "C_SE_NC_1",
        7,
        True,
        100,
        0.0,
    )


def test_a_measured_value_carries_its_time_tag_in_utc() -> None:
    frame = bytes.fromhex("681902000200240103000100c9000000409c46000e431c01170b1a")
    (telegram,) = decode(frame, 1.0, sent=False)
    assert (telegram.type_name, telegram.value, telegram.quality) == ("M_ME_TF_1", 20000.0, 0)
    assert telegram.tag_utc_ms == 1_795_397_297_166
    assert telegram.tag_valid
    assert "01:28:17.166Z" in str(telegram)


def test_a_sequence_of_objects_counts_its_addresses_up() -> None:
    frame = bytes.fromhex("6811000000000183140001002c01000100" + "81")
    assert [(t.ioa, t.value, t.quality) for t in decode(frame, 1.0, sent=False)] == [
        (300, True, 0),
        (301, False, 0),
        (302, True, 0x80),
    ]


def test_a_total_keeps_its_sign_and_its_invalid_bit() -> None:
    (telegram,) = decode(bytes.fromhex("681900000000250103000100ec03002a00000083173d1c01170b1a"), 1.0, sent=False)
    assert (telegram.ioa, telegram.value, telegram.quality) == (1004, 42, 0x80)


@pytest.mark.parametrize("tag", ["00000000000000", "0000003f0f0c1a", "00003f1f0c0c1a"])
def test_an_impossible_date_is_no_time_tag(tag: str) -> None:
    (telegram,) = decode(bytes.fromhex("681902000200240103000100c9000000409c4600" + tag), 1.0, sent=False)
    assert telegram.tag_utc_ms is None
    assert not telegram.tag_valid


@given(st.binary(max_size=260))
def test_no_frame_whatever_ends_the_decoder(octets: bytes) -> None:
    decode(octets, 0.0, sent=False)
    decode(b"\x68" + octets, 0.0, sent=False)
