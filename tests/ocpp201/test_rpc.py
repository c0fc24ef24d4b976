"""Framing, order and limits of OCPP-J over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bridge.ocpp201 import rpc as rpc_module
from bridge.ocpp201.direct import DirectConnection
from bridge.ocpp201.rpc import (
    MAX_DEPTH,
    NOT_SENT,
    UNANSWERED,
    CallError,
    Deferred,
    Outcome,
    Payload,
    Rpc,
    Verbatim,
    deeper_than,
    parse,
)

Answer = Callable[[str, Payload], Payload | CallError | Deferred]


class AnySchema:
    """Knows `Echo`, whose payload must not be marked as wrong."""

    def problem_in_request(self, action: str, payload: Payload) -> CallError | None:
        if action not in ("Echo", "Quiet"):
            return CallError("NotImplemented", action)
        return CallError("FormatViolation", "wrong") if "wrong" in payload else None

    def problem_in_response(self, action: str, payload: Payload) -> CallError | None:
        return CallError("FormatViolation", action) if "wrong" in payload else None


class Peers:
    """Our end as an `Rpc`, the other end as a bare WebSocket, and what our end was asked."""

    def __init__(self, rpc: Rpc, far: ClientConnection, asked: list[tuple[str, Payload]]) -> None:
        self.rpc = rpc
        self.far = far
        self.asked = asked

    async def receive(self) -> Any:
        async with asyncio.timeout(20):
            return json.loads(await self.far.recv())

    async def exchange(self, frame: str) -> Any:
        await self.far.send(frame)
        return await self.receive()

    async def still_serves(self) -> bool:
        return bool(await self.exchange('[2,"alive","Echo",{"n":1}]') == [3, "alive", {"n": 1}])

    async def ended(self) -> int | None:
        async with asyncio.timeout(20):
            with suppress(ConnectionClosed):
                while True:
                    await self.far.recv()
        return self.far.close_code


@asynccontextmanager
async def peers(answer: Answer | None = None, **options: Any) -> AsyncIterator[Peers]:
    made: asyncio.Future[Rpc] = asyncio.get_running_loop().create_future()
    asked: list[tuple[str, Payload]] = []

    def note_and_answer(action: str, payload: Payload) -> Payload | CallError | Deferred:
        asked.append((action, payload))
        return answer(action, payload) if answer else payload

    async def serve_one(websocket: ServerConnection) -> None:
        rpc = Rpc(websocket, note_and_answer, AnySchema(), name="far", **options)
        made.set_result(rpc)
        await rpc.run()

    async with serve(
        serve_one, "127.0.0.1", 0, compression=None, close_timeout=1, create_connection=DirectConnection
    ) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", compression=None, close_timeout=1) as far:
            yield Peers(await made, far, asked)


async def test_o10_a_binary_frame_closes_with_1003() -> None:
    async with peers() as both:
        await both.far.send(b'[2,"1","Echo",{}]')
        assert await both.ended() == 1003
        assert both.asked == []


async def test_o10_invalid_utf8_closes_with_1007() -> None:
    async with peers() as both:
        await both.far.send(b'[2,"1","Echo",{"x":"\xff\xfe"}]', text=True)
        assert await both.ended() == 1007
        assert both.asked == []


@pytest.mark.parametrize("text", [r"\ud800", "\x00", r"\u0000"])
async def test_o10_a_lone_surrogate_or_nul_is_a_callerror_and_never_reaches_the_handler(text: str) -> None:
    async with peers() as both:
        answer = await both.exchange('[2,"1","Echo",{"x":"' + text + '"}]')
        assert answer[0] == 4
        assert answer[2] in ("FormatViolation", "RpcFrameworkError")
        assert both.asked == []
        assert await both.still_serves()


async def test_o10_a_byte_order_mark_is_no_json() -> None:
    async with peers() as both:
        assert (await both.exchange('\ufeff[2,"1","Echo",{}]'))[:3] == [4, "-1", "RpcFrameworkError"]
        assert await both.still_serves()


@pytest.mark.parametrize(
    "frame",
    ["", "hello", "null", "{}", "[]", "[2]", '"text"', "[null,null]", "[2,3", "[2," + "0," * 20_000 + "0]"],
)
async def test_o11_what_is_no_message_is_refused_and_the_session_survives(frame: str) -> None:
    async with peers() as both:
        assert (await both.exchange(frame))[:3] == [4, "-1", "RpcFrameworkError"]
        assert both.rpc.counts.refused == 1
        assert await both.still_serves()


async def test_o11_two_peers_that_cannot_read_each_other_do_not_talk_for_ever() -> None:
    async with peers(max_refused=3) as both:
        for _ in range(6):
            await both.far.send("junk")
        await both.far.send('[2,"1","Bogus",{}]')
        answers = [await both.receive() for _ in range(4)]
        assert [answer[1] for answer in answers] == ["-1", "-1", "-1", "1"]
        assert both.rpc.counts.refused == 7
        assert await both.still_serves()


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 2_000, 30_000])
async def test_o12_nesting_beyond_sixteen_is_refused_before_it_is_parsed(
    depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[Any] = []
    decode = rpc_module._decode

    def note_and_decode(frame: bytes) -> Any:
        parsed.append(frame)
        return decode(frame)

    monkeypatch.setattr(rpc_module, "_decode", note_and_decode)
    async with peers() as both:
        answer = await both.exchange('[2,"1","Echo",' + '{"a":' * (depth - 2) + "[]" + "}" * (depth - 2) + "]")
        assert answer[:3] == [4, "-1", "RpcFrameworkError"]
        assert parsed == []
        assert await both.still_serves()


async def test_o12_sixteen_levels_are_read() -> None:
    async with peers() as both:
        deep = '{"a":' * (MAX_DEPTH - 2) + "[]" + "}" * (MAX_DEPTH - 2)
        assert (await both.exchange(f'[2,"1","Echo",{deep}]'))[0] == 3


def depth_of(value: object) -> int:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (1 if isinstance(value, dict | list) else 0) + max(map(depth_of, children), default=0)


awkward_text = st.text(st.sampled_from('[]{}"\\n'), max_size=6)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | awkward_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(awkward_text, inner, max_size=4),
    max_leaves=40,
)


@given(any_json, st.integers(0, 6))
def test_the_depth_of_any_json_is_known_without_parsing_it(value: object, limit: int) -> None:
    assert deeper_than(json.dumps(value).encode(), limit) == (depth_of(value) > limit)


@pytest.mark.parametrize("action", ['["Echo"]', '{"a":1}', "null", "7"])
async def test_o13_an_action_that_is_no_text_is_a_format_violation(action: str) -> None:
    async with peers() as both:
        assert (await both.exchange(f'[2,"1",{action},{{}}]'))[:3] == [4, "1", "FormatViolation"]
        assert await both.still_serves()


@pytest.mark.parametrize("number", ["9" * 5_000, "9" * 300, str(2**63), str(-(2**63) - 1)])
async def test_o14_integers_beyond_64_bits_are_refused(number: str) -> None:
    async with peers() as both:
        assert (await both.exchange(f'[2,"1","Echo",{{"n":{number}}}]'))[0] == 4
        assert both.asked == []
        assert await both.still_serves()


def test_o14_long_runs_of_digits_inside_text_are_no_integers() -> None:
    frame = json.dumps([2, "1", "Echo", {"iccid": "9" * 20, "n": 2**63 - 1}]).encode()
    message = parse(frame)
    assert isinstance(message, list)
    assert rpc_module.unstorable(frame, message) is None


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"])
async def test_o15_numbers_that_are_none_never_reach_the_handler(number: str) -> None:
    async with peers() as both:
        assert (await both.exchange(f'[2,"1","Echo",{{"n":{number}}}]'))[:3] == [4, "-1", "RpcFrameworkError"]
        assert both.asked == []
        assert await both.still_serves()


@pytest.mark.parametrize("kind", ["true", "2.0", '"2"', "null", "[2]"])
async def test_o16_a_message_type_of_another_type_is_refused(kind: str) -> None:
    async with peers() as both:
        assert (await both.exchange(f'[{kind},"1","Echo",{{}}]'))[:3] == [4, "-1", "RpcFrameworkError"]
        assert both.asked == []


@pytest.mark.parametrize("kind", [5, -2, 0, 6])
async def test_o16_an_unknown_message_type_is_not_supported(kind: int) -> None:
    async with peers() as both:
        assert (await both.exchange(f'[{kind},"1","Echo",{{}}]'))[:3] == [4, "1", "MessageTypeNotSupported"]
        assert both.asked == []


@pytest.mark.parametrize("message_id", ["null", '{"a":1}', "7", '""', f'"{"x" * 37}"', f'"{"x" * 60_000}"'])
async def test_o17_a_message_id_is_text_of_1_to_36_characters(message_id: str) -> None:
    async with peers() as both:
        assert (await both.exchange(f'[2,{message_id},"Echo",{{}}]'))[:3] == [4, "-1", "RpcFrameworkError"]
        assert both.asked == []
        assert (await both.exchange(f'[2,"{"x" * 36}","Echo",{{}}]'))[0] == 3


async def test_o18_a_repeated_call_is_answered_from_memory_and_executed_once() -> None:
    async with peers() as both:
        first = await both.exchange('[2,"1","Echo",{"n":1}]')
        assert await both.exchange('[2,"1","Echo",{"n":1}]') == first
        assert len(both.asked) == 1


async def test_o18_a_reused_message_id_with_another_payload_is_a_callerror() -> None:
    async with peers() as both:
        await both.exchange('[2,"1","Echo",{"n":1}]')
        assert (await both.exchange('[2,"1","Echo",{"n":2}]'))[:3] == [4, "1", "RpcFrameworkError"]
        assert len(both.asked) == 1


async def test_o18_only_the_newest_answers_are_remembered() -> None:
    async with peers(remembered_calls=2) as both:
        for number in range(4):
            await both.exchange(f'[2,"{number}","Echo",{{}}]')
        assert len(both.rpc._answered) == 2


@pytest.mark.parametrize("frame", ['[3,"foreign",{}]', '[4,"foreign","GenericError","",{}]', '[4,"-1","X"]', "[3]"])
async def test_o19_unsolicited_answers_are_dropped_and_counted(frame: str) -> None:
    async with peers() as both:
        await both.far.send(frame)
        assert await both.still_serves()
        assert both.rpc.counts.unsolicited == 1


async def test_o19_more_unsolicited_answers_than_allowed_close_the_connection() -> None:
    async with peers(max_unsolicited=20) as both:
        for number in range(21):
            await both.far.send(f'[3,"foreign-{number}",{{}}]')
        assert await both.ended() == 1008
        assert both.rpc.counts.unsolicited == 21


async def test_o20_a_late_answer_is_never_mistaken_for_that_of_the_next_call() -> None:
    async with peers() as both:
        first: list[Outcome] = []
        both.rpc.post("Echo", {"n": 1}, first.append, timeout_s=0.05)
        late = await both.receive()
        async with asyncio.timeout(20):
            while not first:  # noqa: ASYNC110  nothing to wait on
                await asyncio.sleep(0.005)
        assert first == [UNANSWERED]
        second = asyncio.create_task(both.rpc.call("Echo", {"n": 2}))
        current = await both.receive()
        await both.far.send(json.dumps([3, late[1], {"whose": "first"}]))
        await both.far.send(json.dumps([3, current[1], {"whose": "second"}]))
        assert await second == {"whose": "second"}
        assert (both.rpc.counts.late, both.rpc.counts.unsolicited) == (1, 0)


async def test_o21_the_first_of_two_answers_counts() -> None:
    async with peers() as both:
        outcome = asyncio.create_task(both.rpc.call("Echo", {}))
        message_id = (await both.receive())[1]
        await both.far.send(json.dumps([3, message_id, {"status": "Rejected"}]))
        await both.far.send(json.dumps([3, message_id, {"status": "Accepted"}]))
        assert await outcome == {"status": "Rejected"}
        assert await both.still_serves()
        assert both.rpc.counts.unsolicited == 1


async def test_o23_a_peer_that_never_answers_holds_up_only_its_own_call() -> None:
    async with peers(call_timeout_s=0.05) as both:
        outcomes = await asyncio.gather(both.rpc.call("Echo", {"n": 1}), both.rpc.call("Echo", {"n": 2}))
        assert list(outcomes) == [UNANSWERED, UNANSWERED]
        assert [(await both.receive())[3]["n"] for _ in range(2)] == [1, 2]
        assert await both.still_serves()


async def test_o24_a_flood_is_read_slower_and_nothing_of_it_is_dropped() -> None:
    async with peers(rate_per_s=1_000, burst=20) as both:
        for number in range(200):
            await both.far.send(f'[2,"{number}","Echo",{{}}]')
        assert [(await both.receive())[1] for _ in range(200)] == [str(number) for number in range(200)]


async def test_o24_reading_pauses_once_the_burst_is_used_up() -> None:
    async with peers(rate_per_s=50, burst=200) as both:
        pauses = [both.rpc._take_token() for _ in range(250)]
        assert max(pauses[:200]) == 0.0
        assert pauses[-1] > 0.0


async def test_one_call_is_in_flight_and_the_others_follow_in_order_urgent_ones_first() -> None:
    async with peers() as both:
        outcomes: list[Outcome] = []
        for number in range(3):
            both.rpc.post("Echo", {"n": number}, outcomes.append)
        both.rpc.post("Echo", {"n": "urgent"}, outcomes.append, urgent=True)
        seen = []
        for _ in range(4):
            call = await both.receive()
            seen.append(call[3]["n"])
            assert len(outcomes) == len(seen) - 1
            await both.far.send(json.dumps([3, call[1], call[3]]))
        assert await both.still_serves()
        assert seen == [0, "urgent", 1, 2]
        assert outcomes == [{"n": number} for number in seen]


async def test_a_call_beyond_the_queue_is_not_sent() -> None:
    async with peers(max_waiting=1) as both:
        outcomes: list[Outcome] = []
        for _ in range(3):
            both.rpc.post("Echo", {}, outcomes.append)
        assert outcomes == [NOT_SENT]


async def test_a_waiting_call_can_be_withdrawn_and_one_that_left_cannot() -> None:
    async with peers() as both:
        outcomes: list[Outcome] = []
        left = both.rpc.post("Echo", {}, outcomes.append)
        waits = both.rpc.post("Echo", {}, outcomes.append)
        assert not both.rpc.withdraw(left)
        assert both.rpc.withdraw(waits)
        assert not both.rpc.withdraw(waits)
        assert outcomes == [NOT_SENT]


async def test_a_cancelled_caller_leaves_nothing_behind() -> None:
    async with peers() as both:
        both.rpc.post("Echo", {}, lambda _: None)
        waiting = asyncio.create_task(both.rpc.call("Echo", {}))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not both.rpc._waiting


async def test_when_the_connection_ends_the_call_in_flight_is_unanswered_and_the_rest_not_sent() -> None:
    async with peers() as both:
        calls = [asyncio.create_task(both.rpc.call("Echo", {})) for _ in range(3)]
        await both.receive()
        await both.far.close()
        assert await asyncio.gather(*calls) == [UNANSWERED, NOT_SENT, NOT_SENT]
        assert await both.rpc.call("Echo", {}) is NOT_SENT


async def test_closing_gives_the_call_in_flight_a_moment_and_drops_what_waits() -> None:
    async with peers() as both:
        calls = [asyncio.create_task(both.rpc.call("Echo", {"n": number})) for number in range(2)]
        call = await both.receive()
        closing = asyncio.create_task(both.rpc.close(1008, "replaced"))
        await asyncio.sleep(0)
        await both.far.send(json.dumps([3, call[1], {"n": 0}]))
        assert await both.ended() == 1008
        assert await asyncio.gather(*calls) == [{"n": 0}, NOT_SENT]
        await closing


async def test_a_callerror_is_returned_as_such_however_it_is_written() -> None:
    async with peers() as both:
        spellings: list[tuple[list[Any], CallError]] = [
            (["NotSupported", "no", {"a": 1}], CallError("NotSupported", "no", {"a": 1})),
            (["InternalError"], CallError("InternalError")),
            (["InternalError", "x" * 300, "as text"], CallError("InternalError", "x" * 255, {"details": "as text"})),
            ([None, None, None], CallError("GenericError")),
            ([], CallError("GenericError")),
        ]
        for written, read in spellings:
            outcome = asyncio.create_task(both.rpc.call("Echo", {}))
            await both.far.send(json.dumps([4, (await both.receive())[1], *written]))
            assert await outcome == read


@pytest.mark.parametrize("answer", ['{"wrong":1}', "null", "[]", '{"n":99999999999999999999}', "{},{}"])
async def test_an_answer_that_breaks_the_schema_is_returned_as_a_callerror(answer: str) -> None:
    async with peers() as both:
        outcome = asyncio.create_task(both.rpc.call("Echo", {}))
        await both.far.send(f'[3,"{(await both.receive())[1]}",{answer}]')
        result = await outcome
        assert isinstance(result, CallError)
        assert result.code == "FormatViolation"
        assert await both.still_serves()


async def test_an_unknown_action_is_not_implemented_and_one_the_handler_cannot_do_not_supported() -> None:
    def answer(action: str, payload: Payload) -> Payload | CallError:
        return CallError("NotSupported", "not here") if action == "Quiet" else payload

    async with peers(answer) as both:
        assert (await both.exchange('[2,"1","Bogus",{}]'))[:3] == [4, "1", "NotImplemented"]
        assert (await both.exchange('[2,"2","Quiet",{}]'))[:4] == [4, "2", "NotSupported", "not here"]


async def test_a_handler_that_fails_costs_one_answer_and_not_the_connection() -> None:
    def answer(_action: str, payload: Payload) -> Payload:
        if "n" not in payload:
            raise KeyError("n")
        return payload

    async with peers(answer) as both:
        assert (await both.exchange('[2,"1","Echo",{}]'))[:3] == [4, "1", "InternalError"]
        assert await both.still_serves()


async def test_a_request_of_our_own_that_breaks_the_schema_never_leaves() -> None:
    async with peers() as both:
        assert await both.rpc.call("Echo", {"wrong": 1}) is NOT_SENT
        assert await both.rpc.call("Bogus", {}) is NOT_SENT
        assert await both.still_serves()


async def test_a_response_of_our_own_that_breaks_the_schema_becomes_an_internal_error() -> None:
    async with peers(lambda _action, _payload: {"wrong": 1}) as both:
        assert (await both.exchange('[2,"1","Echo",{}]'))[:3] == [4, "1", "InternalError"]


async def test_a_dialect_spells_the_codes_its_own_way_and_sees_every_refused_frame_whole() -> None:
    refused: list[bytes] = []

    def keep(frame: bytes, _why: CallError) -> None:
        refused.append(frame)

    async with peers(codes={"FormatViolation": "FormationViolation"}, on_refused=keep) as both:
        assert (await both.exchange('[2,"1",7,{}]'))[2] == "FormationViolation"
        assert refused == [b'[2,"1",7,{}]']


async def test_a_peer_that_answers_pings_is_alive_and_one_that_left_is_not() -> None:
    async with peers() as both:
        assert await both.rpc.is_alive(5)
        await both.far.close()
        assert not await both.rpc.is_alive(5)


async def test_a_deferred_answer_leaves_when_it_is_settled_and_blocks_nothing_meanwhile() -> None:
    deferred = Deferred()
    async with peers(lambda _action, payload: payload if "n" in payload else deferred) as both:
        await both.far.send('[2,"slow","Echo",{}]')
        assert await both.still_serves()
        await both.far.send('[2,"slow","Echo",{}]')
        assert await both.exchange('[2,"2","Echo",{"n":2}]') == [3, "2", {"n": 2}]
        deferred.settle({"n": 3})
        deferred.settle({"n": 4})
        assert await both.receive() == [3, "slow", {"n": 3}]
        assert await both.exchange('[2,"slow","Echo",{}]') == [3, "slow", {"n": 3}]
        assert both.asked.count(("Echo", {})) == 1


async def test_a_deferred_answer_that_is_there_already_leaves_at_once() -> None:
    deferred = Deferred()
    deferred.settle(CallError("NotSupported"))
    async with peers(lambda _action, _payload: deferred) as both:
        assert (await both.exchange('[2,"1","Echo",{}]'))[:3] == [4, "1", "NotSupported"]


async def test_a_deferred_answer_that_never_comes_is_an_internal_error() -> None:
    async with peers(lambda _action, _payload: Deferred(within_s=0.02)) as both:
        assert (await both.exchange('[2,"1","Echo",{}]'))[:3] == [4, "1", "InternalError"]


async def test_deferred_answers_are_bounded_and_forgotten_with_the_connection() -> None:
    deferred = [Deferred(), Deferred(), Deferred()]
    waiting = iter(deferred)
    async with peers(lambda _action, _payload: next(waiting), max_deferred=2) as both:
        await both.far.send('[2,"1","Echo",{}]')
        await both.far.send('[2,"2","Echo",{}]')
        assert (await both.exchange('[2,"3","Echo",{}]'))[:3] == [4, "3", "InternalError"]
        await both.far.close()
        await both.rpc.is_alive(1)
    for each in deferred:
        each.settle({})


async def test_a_payload_passed_on_verbatim_keeps_every_octet_of_its_numbers_and_strings() -> None:
    payload = '{"a":  12.10, "b":1e2,"c":0.12345678901234567890123, "d":"\\u00e9\\/"}'
    async with peers(verbatim=True) as both:
        await both.far.send('[2, "1", "Echo", ' + payload + " ]")
        assert await both.far.recv() == '[3,"1",' + payload + "]"
        asked = both.asked[0][1]
        assert isinstance(asked, Verbatim)
        assert asked["b"] == 100
        both.rpc.post("Echo", asked, lambda _: None)
        assert str(await both.far.recv()).endswith(',"Echo",' + payload + "]")
