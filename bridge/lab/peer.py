"""One end of an OCPP-J connection for the simulated peers, written apart from the service's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ocpp.messages import MessageType, get_validator  # type: ignore[import-untyped]
from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed

log = logging.getLogger(__name__)

MAX_ANSWERS_UNDER_WAY = 64
CALL_PARTS = 4
RESULT_PARTS = 3

Payload: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CallError:
    """A CALLERROR, OCPP 2.0.1 Part 4 §4.2.3: an error code of the standard, and free text."""

    code: str
    description: str = ""
    details: Payload = field(default_factory=dict)


# None stands for no answer at all.
Answer: TypeAlias = Payload | CallError | None

# What a schema's failing keyword is called in OCPP 2.0.1 Part 4 §4.3.
CODE_OF_KEYWORD = {
    "type": "TypeConstraintViolation",
    "required": "OccurrenceConstraintViolation",
    "minItems": "OccurrenceConstraintViolation",
    "maxItems": "OccurrenceConstraintViolation",
    "enum": "PropertyConstraintViolation",
    "maxLength": "PropertyConstraintViolation",
    "minimum": "PropertyConstraintViolation",
    "maximum": "PropertyConstraintViolation",
}


def schema_problem(message_type: int, action: str, payload: Any) -> CallError | None:
    """Check a payload of OCPP 2.0.1 against its JSON schema; `message_type` is 2 (request) or 3 (response)."""
    if not action.isalnum():
        return CallError("NotImplemented", "no such action")
    try:
        validator = get_validator(message_type, action, "2.0.1")
    except OSError:
        return CallError("NotImplemented", f"{action} is no action of OCPP 2.0.1")
    for problem in validator.iter_errors(payload):
        where = "/".join(str(step) for step in problem.absolute_path) or "payload"
        code = CODE_OF_KEYWORD.get(str(problem.validator), "FormatViolation")
        return CallError(code, f"{where}: {problem.message}"[:255])
    return None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


class Peer:
    """Frames of one connection: calls out one at a time, calls in answered each in its own time.

    `answer(action, payload)` is awaited for every CALL; None leaves it unanswered. With `checked`, requests and
    responses of both directions must satisfy the schemas of OCPP 2.0.1: what comes in wrong is answered with a
    CALLERROR, what would go out wrong is a ValueError, a mistake of the simulation itself.
    """

    def __init__(
        self,
        websocket: Connection,
        answer: Callable[[str, Payload], Awaitable[Answer]],
        *,
        name: str,
        checked: bool,
        call_timeout_s: float = 30.0,
    ) -> None:
        self.websocket = websocket
        self.name = name
        self._answer = answer
        self._checked = checked
        self._call_timeout_s = call_timeout_s
        self._one_call = asyncio.Lock()
        self._waiting: dict[str, asyncio.Future[Payload | CallError]] = {}
        self._answers: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Receive until the connection ends; whatever the other end sends, this returns and does not raise for it."""
        try:
            with contextlib.suppress(ConnectionClosed):
                async for frame in self.websocket:
                    await self._receive(frame)
        finally:
            for task in self._answers:
                task.cancel()
            for waiting in self._waiting.values():
                waiting.cancel()

    async def call(self, action: str, payload: Payload) -> Answer:
        """Send a CALL and return its answer; None when there was none in time or the connection ended."""
        if self._checked and (problem := schema_problem(MessageType.Call, action, payload)) is not None:
            raise ValueError(f"{action}: {problem.description}")
        async with self._one_call:
            message_id = str(uuid.uuid4())
            waiting = asyncio.get_running_loop().create_future()
            self._waiting[message_id] = waiting
            try:
                await self.websocket.send(json.dumps([MessageType.Call, message_id, action, payload]))
                await asyncio.wait({waiting}, timeout=self._call_timeout_s)
            except ConnectionClosed:
                return None
            finally:
                del self._waiting[message_id]
        if waiting.cancelled() or not waiting.done():
            return None
        answer: Payload | CallError = waiting.result()
        if self._checked and isinstance(answer, dict):
            return schema_problem(MessageType.CallResult, action, answer) or answer
        return answer

    async def close(self) -> None:
        """Close the connection as a good citizen does."""
        await self.websocket.close()

    def drop(self) -> None:
        """End the TCP connection without a closing handshake."""
        self.websocket.transport.abort()

    async def _receive(self, frame: str | bytes) -> None:
        try:
            parts = json.loads(frame, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            parts = None
        match parts:
            case [MessageType.Call, str(message_id), str(action), dict(payload)] if len(parts) == CALL_PARTS:
                await self._receive_call(message_id, action, payload)
            case [MessageType.CallResult, str(message_id), dict(payload)] if len(parts) == RESULT_PARTS:
                self._settle(message_id, payload)
            case [MessageType.CallError, str(message_id), str(code), description, dict(details)]:
                self._settle(message_id, CallError(code, str(description), details))
            case _:
                log.warning("%s: received what is no OCPP frame: %.200r", self.name, frame)
                await self._send([MessageType.CallError, "-1", "RpcFrameworkError", "no OCPP frame", {}])

    async def _receive_call(self, message_id: str, action: str, payload: Payload) -> None:
        problem = schema_problem(MessageType.Call, action, payload) if self._checked else None
        if problem is None and len(self._answers) >= MAX_ANSWERS_UNDER_WAY:
            problem = CallError("GenericError", "too many requests are under way")
        if problem is not None:
            log.warning("%s: %s refused: %s", self.name, action, problem.description)
            await self._send_answer(message_id, problem)
            return
        task = asyncio.create_task(self._give_answer(message_id, action, payload))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _give_answer(self, message_id: str, action: str, payload: Payload) -> None:
        try:
            answer = await self._answer(action, payload)
        except Exception:
            log.exception("%s: no answer to %s for a mistake of the simulation", self.name, action)
            answer = CallError("InternalError", "a mistake of the simulation")
        if self._checked and isinstance(answer, dict):
            problem = schema_problem(MessageType.CallResult, action, answer)
            if problem is not None:
                log.error("%s: own answer to %s is wrong: %s", self.name, action, problem.description)
                answer = CallError("InternalError", problem.description)
        if answer is not None:
            await self._send_answer(message_id, answer)

    async def _send_answer(self, message_id: str, answer: Payload | CallError) -> None:
        if isinstance(answer, CallError):
            await self._send([MessageType.CallError, message_id, answer.code, answer.description, answer.details])
        else:
            await self._send([MessageType.CallResult, message_id, answer])

    async def _send(self, parts: list[Any]) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self.websocket.send(json.dumps(parts))

    def _settle(self, message_id: str, answer: Payload | CallError) -> None:
        waiting = self._waiting.get(message_id)
        if waiting is None or waiting.done():
            log.warning("%s: an answer nobody waits for: %s", self.name, message_id)
        else:
            waiting.set_result(answer)
