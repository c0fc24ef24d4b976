"""OCPP-J remote procedure calls over one WebSocket, in both directions and for every dialect: OCPP 2.0.1 Part 4 §4."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, unique
from functools import lru_cache, partial
from typing import Any, Final, Protocol, TypeAlias

import msgspec
import structlog
from websockets.asyncio.connection import Connection, broadcast
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from bridge.ocpp201.deadlines import Deadlines
from bridge.ocpp201.direct import DirectConnection

Payload: TypeAlias = dict[str, Any]
WebSocket: TypeAlias = Connection

CALL: Final = 2
CALLRESULT: Final = 3
CALLERROR: Final = 4

MAX_FRAME_BYTES: Final = 65_536
MAX_DEPTH: Final = 16
MAX_MESSAGE_ID: Final = 36
MAX_DESCRIPTION: Final = 255
UNREADABLE_ID: Final = "-1"
KNOWN_AT_MOST: Final = 4_096
MAX_KNOWN_BYTES: Final = 512

_CLOSE_UNSUPPORTED_DATA: Final = 1003
_CLOSE_POLICY_VIOLATION: Final = 1008
_CALL_LENGTH: Final = 4
_INT64: Final = 1 << 63
_MINUTE_S: Final = 60.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CallError:
    """A CALLERROR: `code` of OCPP 2.0.1 Part 4 §4.3, a description of at most 255 characters, and details."""

    code: str
    description: str = ""
    details: Payload = field(default_factory=dict)


class BadAnswer(CallError):  # noqa: N818  no exception
    """What a call is settled with whose answer came but cannot be used: the peer has the request."""


@unique
class NoAnswer(Enum):
    """Why a call has no answer: it left and its deadline passed or the connection ended, or it never left."""

    UNANSWERED = "unanswered"
    NOT_SENT = "not sent"


UNANSWERED: Final = NoAnswer.UNANSWERED
NOT_SENT: Final = NoAnswer.NOT_SENT

Outcome: TypeAlias = Payload | CallError | NoAnswer


class Verbatim(dict[str, Any]):
    """A payload with the JSON text it came as, passed on in that text: no number or string of it is written anew."""

    __slots__ = ("text",)

    def __init__(self, payload: Payload, text: bytes) -> None:
        super().__init__(payload)
        self.text = text


class Written(Verbatim):
    """A payload and its JSON text as we write it, for many: neither encoded nor checked again when it is sent."""

    __slots__ = ()

    def __init__(self, payload: Payload) -> None:
        super().__init__(payload, _encode(payload))


class Deferred:
    """The answer to a request that is not known yet; without `settle` within `within_s` it is CALLERROR InternalError.

    The first `settle` counts, whatever comes after it is dropped; nothing waits for it meanwhile.
    """

    __slots__ = ("_outcome", "_reply", "within_s")

    def __init__(self, within_s: float = 30.0) -> None:
        self.within_s = within_s
        self._outcome: Payload | CallError | None = None
        self._reply: Callable[[Payload | CallError], None] | None = None

    @property
    def settled(self) -> bool:
        """Whether the answer has been given."""
        return self._outcome is not None

    def settle(self, outcome: Payload | CallError) -> None:
        """Give the answer."""
        if self._outcome is None:
            self._outcome = outcome
            if self._reply is not None:
                self._reply(outcome)

    def then(self, reply: Callable[[Payload | CallError], None]) -> None:
        """Have the answer handed to `reply`, now or later, once."""
        self._reply = reply
        if self._outcome is not None:
            reply(self._outcome)


class Schemas(Protocol):
    """What a dialect allows: None for a payload that is right, else the CALLERROR that says what is wrong with it.

    An action outside the dialect is NotImplemented in `problem_in_request` (OCPP 2.0.1 Part 4 §4.3). What is right is
    so always: a text that comes again is not checked again by the same object.
    """

    def __hash__(self) -> int:
        """Checks of the same text are known by it."""
        ...

    def problem_in_request(self, action: str, payload: Payload) -> CallError | None:
        """Check what a CALL carries."""
        ...

    def problem_in_response(self, action: str, payload: Payload) -> CallError | None:
        """Check what a CALLRESULT to `action` carries."""
        ...


_decode = msgspec.json.Decoder().decode
_decode_texts = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_NO_SHAPE: Final = bytes(set(range(256)) - set(b'{}[]"'))
_DIGITS: Final = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER: Final = b"0" * 19


def deeper_than(frame: bytes, depth: int) -> bool:
    """Say whether the JSON text nests deeper than `depth`, without parsing it (O12).

    Works on whole bytes objects: strings are cut out, then one layer of brackets falls with every pass.
    """
    if frame.count(b"[") + frame.count(b"{") <= depth:
        return False
    if b"\\" in frame:
        frame = frame.replace(b"\\\\", b"").replace(b'\\"', b"")
    shape = b"".join(frame.translate(_BRACKETS, _NO_SHAPE).split(b'"')[::2])
    for _ in range(depth):
        shape = shape.replace(b"[]", b"")
        if not shape:
            return False
    return shape != b""


def _forbidden(value: object) -> bool:
    """Say whether a decoded value holds a NUL character or an integer beyond 64 bits."""
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any("\x00" in key or _forbidden(item) for key, item in value.items())
    if isinstance(value, list):
        return any(map(_forbidden, value))
    return isinstance(value, int) and not -_INT64 <= value < _INT64


def parse(frame: bytes) -> list[Any] | CallError:
    """Read one frame of UTF-8 text as a JSON array, or say why it is none.

    Refused are: what is not JSON (NaN and Infinity are not), depth beyond 16, numbers outside the range of a double,
    integers of thousands of digits, and anything but an array.
    """
    if deeper_than(frame, MAX_DEPTH):
        return CallError("RpcFrameworkError", f"nested deeper than {MAX_DEPTH}")
    try:
        message = _decode(frame)
    except (ValueError, RecursionError) as problem:
        return CallError("RpcFrameworkError", str(problem)[:MAX_DESCRIPTION])
    if not isinstance(message, list):
        return CallError("RpcFrameworkError", "not an array")
    return message


def unstorable(frame: bytes, message: list[Any]) -> CallError | None:
    """Say what of a parsed frame must not go further: NUL characters and integers beyond 64 bits (O10, O14)."""
    suspicious = b"\\u0000" in frame or _LONG_NUMBER in frame.translate(_DIGITS)
    if suspicious and _forbidden(message):
        return CallError("FormatViolation", "NUL character or integer beyond 64 bits")
    return None


def readable_id(message: list[Any]) -> str | None:
    """Return the message id where it is one: a string of 1 to 36 characters."""
    if len(message) > 1 and isinstance(message[1], str) and 0 < len(message[1]) <= MAX_MESSAGE_ID:
        return message[1]
    return None


@lru_cache(maxsize=KNOWN_AT_MOST)
def _problem_in_written(schemas: Schemas, action: str, text: bytes) -> CallError | None:
    """Check what a CALL carries that many are sent, once."""
    return schemas.problem_in_request(action, _decode(text))


@lru_cache(maxsize=KNOWN_AT_MOST)
def _known_response(schemas: Schemas, action: str, text: bytes) -> Verbatim | None:
    """The payload of a CALLRESULT that many give in these very octets, read and checked once; None if it is wrong."""
    message = parse(b"[" + text)
    if isinstance(message, CallError) or len(message) != 1 or not isinstance(message[0], dict):
        return None
    if unstorable(text, message) is not None or schemas.problem_in_response(action, message[0]) is not None:
        return None
    written, said = Written(message[0]), text[:-1]
    return written if written.text == said else Verbatim(message[0], said)


class Call:
    """A call on its way: waiting, in flight or settled."""

    __slots__ = ("action", "answer_begins", "message_id", "on_answer", "payload", "timeout_s")

    def __init__(self, action: str, payload: Payload, on_answer: Callable[[Outcome], None], timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.action = action
        self.payload = payload
        self.on_answer = on_answer
        self.message_id = ""
        self.answer_begins = b""


@dataclass(slots=True)
class Counts:
    """What a connection has seen: frames received, refused, answers nobody asked for, answers after their deadline."""

    received: int = 0
    refused: int = 0
    unsolicited: int = 0
    late: int = 0


class _PerMinute:
    """Counts what happens within a minute that begins with the first of it."""

    __slots__ = ("_loop", "_since", "seen")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._since = 0.0
        self.seen = 0

    def count(self) -> int:
        """Count one more and return how many there were in this minute."""
        now = self._loop.time()
        if not self.seen or now - self._since > _MINUTE_S:
            self._since, self.seen = now, 0
        self.seen += 1
        return self.seen


class Rpc:
    """One peer: receives its calls and answers them, sends ours one at a time and matches the answers by id.

    `answer(action, payload)` is called for every call that passed the schema check; it is synchronous and quick. What
    it cannot say at once it returns as `Deferred`, `max_deferred` of which may be open. With `verbatim`, payloads
    received are `Verbatim`. Limits: `call_timeout_s` from the moment a call leaves; `max_waiting` calls behind it;
    `rate_per_s` frames with a `burst`, beyond which reading pauses; the last `remembered_calls` answers, given again to
    a repeated call; at most `max_unsolicited` unsolicited answers a minute, then the connection is closed; at most
    `max_refused` frames a minute are complained about. `codes` spells the codes of CALLERRORs otherwise, for dialects
    that do. `on_refused` is shown every frame that was refused, whole; `observe` is told of every message: its way
    (Rx or Tx), whether it is a call, its id, action and content, of a refused frame the error.
    """

    def __init__(
        self,
        websocket: WebSocket,
        answer: Callable[[str, Payload], Payload | CallError | Deferred],
        schemas: Schemas,
        *,
        name: str,
        call_timeout_s: float = 10.0,
        max_waiting: int = 16,
        max_deferred: int = 16,
        verbatim: bool = False,
        rate_per_s: float = 50.0,
        burst: float = 200.0,
        remembered_calls: int = 32,
        max_unsolicited: int = 20,
        max_refused: int = 20,
        codes: dict[str, str] | None = None,
        on_refused: Callable[[bytes, CallError], None] | None = None,
        observe: Callable[[str, bool, str, str, Payload | CallError], None] | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self.name = name
        self._observe = observe
        self.counts = Counts()
        self._websocket = websocket
        self._answer = answer
        self._schemas = schemas
        self._call_timeout_s = call_timeout_s
        self._max_waiting = max_waiting
        self._max_deferred = max_deferred
        self._verbatim = verbatim
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._tokens = burst
        self._remembered_calls = remembered_calls
        self._max_unsolicited = max_unsolicited
        self._max_refused = max_refused
        self._codes = codes or {}
        self._on_refused = on_refused
        self._loop = asyncio.get_running_loop()
        self._filled_at = self._loop.time()
        self._refused = _PerMinute(self._loop)
        self._unsolicited = _PerMinute(self._loop)
        self._answered: dict[str, tuple[int, bytes | None]] = {}
        self._deferred: dict[Deferred, asyncio.TimerHandle] = {}
        self._waiting: deque[Call] = deque()
        self._in_flight: Call | None = None
        self._deadlines = deadlines or Deadlines(self._loop)
        self.deadline_s = 0.0
        self._timed_out: deque[str] = deque(maxlen=8)
        self._id_prefix = secrets.token_hex(8)
        self._sent = 0
        self._ended = False
        self._idle: asyncio.Event | None = None
        self._busy = True
        if isinstance(websocket, DirectConnection):
            self._write: Callable[[bytes], None] = websocket.write_text
        else:
            self._write = partial(broadcast, [websocket], text=True)

    async def run(self) -> None:
        """Receive until the connection ends, then settle what is still open. Never raises for what the peer sent.

        Of a `DirectConnection` most messages are received in the turn in which they come; here only those that must
        wait: the peer sends too much, does not read, or is to be disconnected.
        """
        websocket = self._websocket
        if isinstance(websocket, DirectConnection):
            websocket.take = partial(self._take, websocket)
        try:
            while True:
                self._busy = False
                frame = await websocket.recv()
                self._busy = True
                if isinstance(frame, bytes):
                    self._refuse(frame, CallError("RpcFrameworkError", "binary frame"))
                    await websocket.close(_CLOSE_UNSUPPORTED_DATA, "OCPP-J speaks text")
                    break
                pause_s = self._take_token()
                if pause_s > 0:
                    await asyncio.sleep(pause_s)
                reply = self._receive(frame.encode())
                if reply is not None:
                    await websocket.send(reply, text=True)
                if self._unsolicited.seen > self._max_unsolicited:
                    log.warning("unsolicited answers: connection closed", peer=self.name, seen=self.counts.unsolicited)
                    await websocket.close(_CLOSE_POLICY_VIOLATION, "answers nobody asked for")
                    break
        except ConnectionClosed:
            pass
        finally:
            self._busy = True
            if isinstance(websocket, DirectConnection):
                websocket.take = None
            self._end()

    def _take(self, websocket: DirectConnection, frame: bytes) -> bool:
        """Receive a message at once, unless it has to wait."""
        if self._busy or websocket.is_choked or self._unsolicited.seen >= self._max_unsolicited:
            return False
        if self._take_token() > 0:
            self._tokens += 1.0
            return False
        reply = self._receive(frame)
        if reply is not None:
            self._write(reply)
        return True

    async def call(self, action: str, payload: Payload) -> Outcome:
        """Send a call and wait for what becomes of it: the checked response, a CALLERROR, or no answer at all."""
        settled: asyncio.Future[Outcome] = self._loop.create_future()

        def settle(outcome: Outcome) -> None:
            if not settled.done():
                settled.set_result(outcome)

        call = self.post(action, payload, settle)
        try:
            return await settled
        finally:
            self.withdraw(call)

    def post(
        self,
        action: str,
        payload: Payload,
        on_answer: Callable[[Outcome], None],
        *,
        urgent: bool = False,
        timeout_s: float | None = None,
    ) -> Call:
        """Send a call without waiting; `on_answer` is called exactly once, possibly before this returns.

        While another is in flight it waits, `urgent` ones first. A payload that breaks the schema is never sent.
        """
        call = Call(action, payload, on_answer, timeout_s or self._call_timeout_s)
        if isinstance(payload, Written):
            problem = _problem_in_written(self._schemas, action, payload.text)
        else:
            problem = self._schemas.problem_in_request(action, payload)
        if problem is not None:
            log.error("own request breaks the schema: not sent", peer=self.name, action=action, why=problem.description)
            on_answer(NOT_SENT)
        elif self._ended or len(self._waiting) >= self._max_waiting:
            on_answer(NOT_SENT)
        elif urgent:
            self._waiting.appendleft(call)
        else:
            self._waiting.append(call)
        self._send_next()
        return call

    def withdraw(self, call: Call) -> bool:
        """Take back a call that still waits: it is answered NOT_SENT. False if it has left or is settled."""
        try:
            self._waiting.remove(call)
        except ValueError:
            return False
        call.on_answer(NOT_SENT)
        return True

    async def is_alive(self, within_s: float) -> bool:
        """Ping the peer and say whether it answered in time; a connection that is closing is not alive."""
        if self._websocket.state is not State.OPEN:
            return False
        try:
            async with asyncio.timeout(within_s):
                await (await self._websocket.ping())
        except (TimeoutError, ConnectionClosed):
            return False
        return True

    @property
    def ended(self) -> bool:
        """Whether the connection has ended or is being closed."""
        return self._ended or self._websocket.state is not State.OPEN

    def abort(self) -> None:
        """End the connection at once, without asking the peer."""
        self._websocket.transport.abort()

    async def close(self, code: int, reason: str, drain_s: float = 1.0) -> None:
        """Send nothing new, give the call in flight `drain_s` to be answered, then close the connection."""
        self._ended = True
        self._drop_waiting()
        if self._in_flight is not None:
            self._idle = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(drain_s):
                    await self._idle.wait()
        await self._websocket.close(code, reason)

    def _take_token(self) -> float:
        """Account for one frame and return how long reading must pause, in seconds."""
        now = self._loop.time()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate_per_s) - 1.0
        self._filled_at = now
        return -self._tokens / self._rate_per_s if self._tokens < 0 else 0.0

    def _receive(self, frame: bytes) -> bytes | None:
        """Act on one frame and return the frame that answers it, if any."""
        self.counts.received += 1
        call = self._in_flight
        if call is not None and len(frame) <= MAX_KNOWN_BYTES and frame.startswith(call.answer_begins):
            known = _known_response(self._schemas, call.action, frame[len(call.answer_begins) :])
            if known is not None:
                self._settle(call, known)
                return None
        message = parse(frame)
        if isinstance(message, CallError):
            return self._refuse(frame, message)
        kind = message[0] if message else None
        if type(kind) is not int:
            return self._refuse(frame, CallError("RpcFrameworkError", "no message type number"))
        if kind == CALL:
            return self._receive_call(frame, message)
        if kind in (CALLRESULT, CALLERROR):
            self._receive_answer(frame, message)
            return None
        error = CallError("MessageTypeNotSupported", f"message type {kind}"[:MAX_DESCRIPTION])
        return self._refuse(frame, error, readable_id(message))

    def _receive_call(self, frame: bytes, message: list[Any]) -> bytes | None:
        message_id = readable_id(message)
        if message_id is None:
            return self._refuse(frame, CallError("RpcFrameworkError", "message id is no string of 1 to 36 characters"))
        if message_id in self._answered:
            digest, reply = self._answered[message_id]
            if digest == hash(frame):
                return reply  # None while it is deferred: the answer is on its way
            return self._refuse(frame, CallError("RpcFrameworkError", "message id already used"), message_id)
        if len(message) != _CALL_LENGTH or not isinstance(message[2], str) or not isinstance(message[3], dict):
            error = CallError("FormatViolation", "a CALL is [2, message id, action, payload object]")
            return self._refuse(frame, error, message_id)
        action, payload = message[2], message[3]
        problem = unstorable(frame, message) or self._schemas.problem_in_request(action, payload)
        if problem is not None:
            return self._refuse(frame, problem, message_id)
        if self._observe is not None:
            self._observe("Rx", True, message_id, action, payload)
        if self._verbatim:
            payload = Verbatim(payload, bytes(_decode_texts(frame)[3]))
        answer = self._answer_or_fail(action, payload)
        outcome = self._settled(message_id, action, answer) if isinstance(answer, Deferred) else answer
        reply = None if outcome is None else self._reply(message_id, action, outcome)
        if self._remembered_calls:
            if len(self._answered) >= self._remembered_calls:
                del self._answered[next(iter(self._answered))]
            self._answered[message_id] = (hash(frame), reply)
        return reply

    def _settled(self, message_id: str, action: str, deferred: Deferred) -> Payload | CallError | None:
        """Return a deferred answer that is there already; else keep it open, bounded in number and time."""
        at_once: list[Payload | CallError] = []
        if deferred.settled:
            deferred.then(at_once.append)
            return at_once[0]
        if len(self._deferred) >= self._max_deferred:
            return CallError("InternalError", "too many requests are still to be answered")

        def reply(outcome: Payload | CallError) -> None:
            handle = self._deferred.pop(deferred, None)
            if handle is None:
                return
            handle.cancel()
            frame = self._reply(message_id, action, outcome)
            if message_id in self._answered:
                self._answered[message_id] = (self._answered[message_id][0], frame)
            self._write(frame)

        late = CallError("InternalError", "no answer in time")
        self._deferred[deferred] = self._loop.call_later(deferred.within_s, deferred.settle, late)
        deferred.then(reply)
        return None

    def _answer_or_fail(self, action: str, payload: Payload) -> Payload | CallError | Deferred:
        try:
            return self._answer(action, payload)
        except Exception:
            log.exception("answer failed", peer=self.name, action=action)
            return CallError("InternalError", "the request could not be processed")

    def _reply(self, message_id: str, action: str, outcome: Payload | CallError) -> bytes:
        if not isinstance(outcome, CallError):
            problem = self._schemas.problem_in_response(action, outcome)
            if problem is None:
                self._tell("Tx", message_id, action, outcome)
                return _encode([CALLRESULT, message_id, _as_sent(outcome)])
            log.error("own response breaks the schema", peer=self.name, action=action, why=problem.description)
            outcome = CallError("InternalError", "the response could not be formed")
        self._tell("Tx", message_id, action, outcome)
        return self._error_frame(message_id, outcome)

    def _tell(self, way: str, message_id: str, action: str, outcome: Payload | CallError) -> None:
        if self._observe is not None:
            self._observe(way, False, message_id, action, outcome)

    def _error_frame(self, message_id: str, error: CallError) -> bytes:
        code = self._codes.get(error.code, error.code)
        return _encode([CALLERROR, message_id, code, error.description[:MAX_DESCRIPTION], error.details])

    def _refuse(self, frame: bytes, error: CallError, message_id: str | None = None) -> bytes | None:
        """Count a frame that is refused, log it, and form the CALLERROR that says so.

        Beyond `max_refused` a minute it is counted only, and answered only where somebody waits for it: two peers
        that cannot read each other must not talk for ever.
        """
        self.counts.refused += 1
        self._tell("Rx", message_id or UNREADABLE_ID, f"frame of {len(frame)} bytes", error)
        if self._on_refused is not None:
            self._on_refused(frame, error)
        if self._refused.count() <= self._max_refused:
            log.warning("frame refused", peer=self.name, code=error.code, why=error.description, bytes=len(frame))
        elif message_id is None:
            return None
        return self._error_frame(message_id or UNREADABLE_ID, error)

    def _receive_answer(self, frame: bytes, message: list[Any]) -> None:
        call = self._in_flight
        message_id = readable_id(message)
        if call is None or message_id != call.message_id:
            if message_id in self._timed_out:
                self.counts.late += 1
                log.warning("answer after its deadline: dropped", peer=self.name, message_id=message_id)
            else:
                self._count_unsolicited()
            return
        problem = unstorable(frame, message)
        if problem is None and message[0] == CALLERROR:
            self._settle(call, _read_error(message))
            return
        if problem is None and (len(message) != _CALL_LENGTH - 1 or not isinstance(message[2], dict)):
            problem = CallError("FormatViolation", "a CALLRESULT is [3, message id, payload object]")
        if problem is None:
            problem = self._schemas.problem_in_response(call.action, message[2])
        if problem is not None:
            problem = BadAnswer(problem.code, problem.description, problem.details)
            self.counts.refused += 1
            log.warning("answer refused", peer=self.name, action=call.action, why=problem.description)
        elif self._verbatim:
            self._settle(call, Verbatim(message[2], bytes(_decode_texts(frame)[2])))
            return
        self._settle(call, problem or message[2])

    def _count_unsolicited(self) -> None:
        self.counts.unsolicited += 1
        if self._unsolicited.count() == 1:
            log.warning("answer nobody asked for: dropped", peer=self.name)

    def _send_next(self) -> None:
        while self._in_flight is None and self._waiting:
            call = self._waiting.popleft()
            if self._websocket.state is not State.OPEN:
                call.on_answer(NOT_SENT)
                continue
            self._sent += 1
            call.message_id = f"{self._id_prefix}-{self._sent}"
            call.answer_begins = b'[3,"%b",' % call.message_id.encode()
            self._in_flight = call
            self.deadline_s = self._loop.time() + call.timeout_s
            self._deadlines.start(self)
            # One call is in flight at most, so that writing without back-pressure stays bounded, and needs no task.
            text = call.payload.text if isinstance(call.payload, Verbatim) else _encode(call.payload)
            self._write(b'[2,"%b",%b,%b]' % (call.message_id.encode(), _encode(call.action), text))
            if self._observe is not None:
                self._observe("Tx", True, call.message_id, call.action, call.payload)

    def time_out(self) -> None:
        """Settle the call in flight: its deadline has passed."""
        call = self._in_flight
        if call is None:
            return
        self._timed_out.append(call.message_id)
        log.warning("no answer in time", peer=self.name, action=call.action, message_id=call.message_id)
        self._settle(call, UNANSWERED)

    def _settle(self, call: Call, outcome: Outcome) -> None:
        if not isinstance(outcome, NoAnswer):
            self._tell("Rx", call.message_id, call.action, outcome)
        self._deadlines.stop(self)
        self._in_flight = None
        call.on_answer(outcome)
        if self._idle is not None:
            self._idle.set()
        self._send_next()

    def _end(self) -> None:
        self._ended = True
        for handle in self._deferred.values():
            handle.cancel()
        self._deferred.clear()
        self._drop_waiting()
        if self._in_flight is not None:
            self._settle(self._in_flight, UNANSWERED)

    def _drop_waiting(self) -> None:
        waiting = list(self._waiting)
        self._waiting.clear()
        for call in waiting:
            call.on_answer(NOT_SENT)


def _as_sent(payload: Payload) -> Payload | msgspec.Raw:
    return msgspec.Raw(payload.text) if isinstance(payload, Verbatim) else payload


def _read_error(message: list[Any]) -> CallError:
    """Read a CALLERROR as tolerantly as they come: missing fields, long descriptions, details that are text."""
    code, description, details = (*message[2:5], None, None, None)[:3]
    return CallError(
        code if isinstance(code, str) and code else "GenericError",
        description[:MAX_DESCRIPTION] if isinstance(description, str) else "",
        details if isinstance(details, dict) else {"details": details} if details else {},
    )
