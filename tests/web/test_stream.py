"""Claims about the live values: one preparation for all listeners, and no listener that can hold on to anything."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from bridge.core.messages import MeterSampled, SetpointReceived
from bridge.web import server as web
from bridge.web import stream as live
from tests.web.site_at_hand import UTC_MS, SiteAtHand

PATIENCE_S = 20


def read(message: bytes | None) -> tuple[str, dict[str, Any]]:
    assert message is not None
    event, data, *_ = message.decode().split("\n")
    return event.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def soon(queue: live.Queue) -> bytes | None:
    return await asyncio.wait_for(queue.get(), PATIENCE_S)


@pytest.fixture(autouse=True)
def _at_a_quick_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EVERY_S", 0.02)


async def test_a_listener_gets_everything_once_and_then_what_changed(at_hand: SiteAtHand) -> None:
    queue = at_hand.stream.listen()
    assert queue is not None
    event, told = read(await soon(queue))
    assert event == "state"
    assert [charger["serial"] for charger in told["chargers"]] == ["S4-0000", "S4-0001", "S4-0002"]
    assert told["commands"] == []
    event, told = read(await soon(queue))
    assert (event, told["chargers"], "commands" in told) == ("change", [], False)
    at_hand.recent.received(SetpointReceived(1, "192.0.2.7", float("nan"), None))
    at_hand.submit(MeterSampled("S4-0000", UTC_MS + 1_000, power_w=9_000))
    at_hand.recent.note("a_test")
    async with asyncio.timeout(PATIENCE_S):
        while not (told := read(await soon(queue))[1])["chargers"]:
            pass
    assert [charger["power_w"]["value"] for charger in told["chargers"]] == [9_000]
    assert told["status"]["power_w"] == 9_000
    assert told["commands"][0]["value"] is None
    assert told["events"][-1]["kind"] == "a_test"


async def test_all_listeners_are_told_the_same_bytes(at_hand: SiteAtHand) -> None:
    queues = [at_hand.stream.listen() for _ in range(5)]
    messages = [[await soon(queue) for _ in range(2)] for queue in queues if queue is not None]
    assert len(messages) == 5
    for told in messages:
        assert told[0] is messages[0][0]
        assert told[1] is messages[0][1]


async def test_nothing_is_prepared_while_nobody_listens(at_hand: SiteAtHand) -> None:
    queue = at_hand.stream.listen()
    assert queue is not None
    await soon(queue)
    at_hand.stream.leave(queue)
    async with asyncio.timeout(PATIENCE_S):
        while at_hand.stream._task is not None:  # noqa: ASYNC110  it announces its end in no other way
            await asyncio.sleep(0.01)
    again = at_hand.stream.listen()
    assert again is not None
    assert read(await soon(again))[0] == "state"


async def test_a_listener_who_does_not_keep_up_is_dropped_and_the_others_are_told_on(at_hand: SiteAtHand) -> None:
    slow, quick = at_hand.stream.listen(), at_hand.stream.listen()
    assert slow is not None
    assert quick is not None
    for _ in range(live.QUEUED_AT_MOST + 2):
        assert await soon(quick) is not None
    assert await soon(slow) is None
    assert await soon(quick) is not None


async def test_listeners_beyond_the_limit_are_told_to_come_later(
    at_hand: SiteAtHand, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_LISTENERS", 1)
    assert at_hand.stream.listen() is not None
    answer = await api.get(live.STREAM_PATH)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")


async def test_live_values_flow_longer_than_any_other_connection_and_yet_not_for_ever(
    at_hand: SiteAtHand, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asyncio.timeout(PATIENCE_S), api.stream("GET", live.STREAM_PATH) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = answer.aiter_lines()
        assert await anext(told) == "retry: 2000"
        connection: Any = next(iter(at_hand.web._server.server_state.connections))
        connection._is_old()
        while await anext(told) != "event: change":
            pass
        monkeypatch.setattr(web, "STREAM_AGE_S", 0.0)
        monkeypatch.setattr(web, "GRACE_S", 0.0)
        connection._is_old()
        ended = False
        while not ended:  # in the middle of the answer: whoever listens connects again
            try:
                await anext(told)
            except httpx.RemoteProtocolError:
                ended = True
    assert (await api.get("/health")).status_code == 200


async def test_a_stop_ends_every_stream(at_hand: SiteAtHand) -> None:
    queue = at_hand.stream.listen()
    assert queue is not None
    await soon(queue)
    await at_hand.stream.close()
    async with asyncio.timeout(PATIENCE_S):
        while await queue.get() is not None:
            pass
