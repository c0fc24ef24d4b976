"""The control centre against an outstation on c104's server in another process."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator

import pytest
from typer.testing import CliRunner

from bridge.lab.control_centre import ControlCentre, ControlCentreError, control_centre_app


@pytest.fixture
async def centre(outstation_port: int) -> AsyncIterator[ControlCentre]:
    centre = ControlCentre("127.0.0.1", outstation_port)
    await centre.connect()
    yield centre
    await centre.close()


async def test_an_accepted_setpoint_is_seen_as_a_positive_confirmation_and_its_mirror_arrives(
    centre: ControlCentre,
) -> None:
    answer = await centre.set_limit(20_000)
    assert answer.positive
    assert answer.after_s is not None
    mirror = await centre.seen(lambda t: t.ioa == 201, 2.0, since_s=answer.sent_s)
    assert mirror is not None
    assert (mirror.type_name, mirror.value, mirror.cause_name) == ("M_ME_TF_1", 20_000.0, "spontaneous")
    assert mirror.tag_utc_ms is not None
    assert abs(mirror.tag_utc_ms - time.time() * 1000) < 5_000


async def test_a_refused_setpoint_is_seen_as_a_negative_confirmation(centre: ControlCentre) -> None:
    answer = await centre.set_limit(0)
    assert not answer.positive
    assert answer.telegram is not None
    assert (answer.telegram.cause, answer.telegram.negative) == (7, True)
    assert "negative" in str(answer)


async def test_what_c104_calls_a_success_is_not_believed(centre: ControlCentre) -> None:
    """c104's transmit() returns True for a C_SE_TC_1 to a point of C_SE_NC_1; the wire says otherwise."""
    answer = await centre.set_limit(20_000, tagged=True)
    assert not answer.positive
    assert answer.telegram is not None
    assert answer.telegram.type_name == "C_SE_TC_1"
    assert answer.telegram.negative


async def test_an_unknown_address_is_reported_in_the_words_of_the_wire(centre: ControlCentre) -> None:
    answer = await centre.set_limit(20_000, ioa=999)
    assert answer.telegram is not None
    assert not answer.positive
    unknown = await centre.seen(lambda t: t.ioa == 999 and t.cause == 47, 1.0, since_s=answer.sent_s)
    assert unknown is not None


async def test_an_answer_that_does_not_come_is_no_answer(centre: ControlCentre) -> None:
    answer = await centre.set_limit(20_000, cause=3, within_s=0.3)
    assert answer.telegram is None
    assert str(answer) == "no answer"
    assert await centre.terminated(answer, 0.1) is None


async def test_interrogations_give_every_point_and_end(centre: ControlCentre) -> None:
    assert [(t.ioa, t.quality) for t in await centre.interrogate()] == [(201, 0x80), (1000, 0x80)]
    assert [(t.ioa, t.value) for t in await centre.interrogate_counters()] == [(1004, 0)]


async def test_not_a_number_reaches_the_wire(centre: ControlCentre) -> None:
    answer = await centre.set_limit(math.nan)
    assert answer.telegram is not None
    assert isinstance(answer.telegram.value, float)
    assert math.isnan(answer.telegram.value)


async def test_nobody_listening_is_said_with_host_and_port() -> None:
    centre = ControlCentre("127.0.0.1", 9)
    with pytest.raises(ControlCentreError, match=r"127\.0\.0\.1:9"):
        await centre.connect(within_s=0.7)


async def test_a_client_process_that_ends_is_a_lost_link_that_comes_back(centre: ControlCentre) -> None:
    assert centre._process is not None
    centre._process.kill()
    while centre.link_up:  # noqa: ASYNC110  what is tested says when by itself
        await asyncio.sleep(0.01)
    with pytest.raises(ControlCentreError, match="ended with -9"):
        await centre.set_limit(20_000)
    await centre.wait_for_link(5.0)
    assert (await centre.set_limit(20_000)).positive
    assert [is_up for _, is_up in centre.link_changes] == [True, False, True]


async def test_a_peer_that_hangs_up_at_once_does_not_end_the_control_centre() -> None:
    """c104's client ends its process there (SIGSEGV); the control centre dials on."""
    dialled = 0

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dialled
        dialled += 1
        writer.close()

    peer = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    centre = ControlCentre("127.0.0.1", peer.sockets[0].getsockname()[1])
    connecting = asyncio.create_task(centre.connect(within_s=120))
    async with asyncio.timeout(60):
        while dialled <= 2:  # noqa: ASYNC110  it says nothing when it dials
            await asyncio.sleep(0.05)
    assert not connecting.done()
    connecting.cancel()
    await centre.close()
    peer.close()


def test_the_one_shot_commands_exit_by_the_answer(outstation_port: int) -> None:
    runner = CliRunner()
    where = ["--port", str(outstation_port)]
    accepted = runner.invoke(control_centre_app, [*where, "setpoint", "20000"])
    assert (accepted.exit_code, "positive" in accepted.stdout) == (0, True)
    refused = runner.invoke(control_centre_app, [*where, "setpoint", "0"])
    assert (refused.exit_code, "negative" in refused.stdout) == (1, True)
    asked = runner.invoke(control_centre_app, [*where, "interrogate"])
    assert "M_ME_TF_1 201 = 20000.0 (interrogated by station" in asked.stdout


def test_the_prompt_obeys_and_explains_what_it_does_not_know(outstation_port: int) -> None:
    typed = "set 20000\nset 0\nset much\ngi\nstatus\nwatch 0.1\nwhat\nquit\n"
    result = CliRunner().invoke(control_centre_app, ["--port", str(outstation_port)], input=typed)
    assert result.exit_code == 0
    for expected in ("positive", "negative", "could not convert", "link up", "setpoint mirror W", "set WATTS"):
        assert expected in result.stdout
