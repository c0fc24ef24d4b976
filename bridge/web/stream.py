"""Live values as server-sent events: prepared once a second as bytes, the same object for every listener.

What a listener costs is one reference in its queue and one write to its socket. What the site costs is the difference
to a second ago, made in slices between which the control loop goes on with its work. Without listeners nothing is done.
A listener that does not keep up is dropped; it reconnects and gets the whole state again.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Depends, HTTPException
from fastapi.responses import StreamingResponse

from bridge.web import shapes
from bridge.web.guard import Guard
from bridge.web.people import Person
from bridge.web.v1 import Sources, status_of

log = structlog.get_logger()

STREAM_PATH: Final = "/api/v1/stream"
EVERY_S: Final = 1.0
SLICE: Final = 25  # chargers looked at before the loop may turn to something else: well below a millisecond
MAX_LISTENERS: Final = 32
QUEUED_AT_MOST: Final = 8
COMMANDS_SHOWN: Final = 20

Queue = asyncio.Queue[bytes | None]


class Stream:
    """The listeners, and what they are told: `state` once, with everything, and then `change`, every second.

    Both carry `status`, the `chargers` that changed, `events` since, and the last `commands` where one changed.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._listeners: set[Queue] = set()
        self._new: set[Queue] = set()
        self._task: asyncio.Task[None] | None = None
        self._rows: dict[str, tuple[dict[str, Any], str]] = {}
        self._events_told = 0
        self._commands_told = -1

    def listen(self) -> Queue | None:
        """A queue that gets everything from the next second on, None where too many listen. It ends with None."""
        if len(self._listeners) + len(self._new) >= MAX_LISTENERS:
            return None
        queue: Queue = asyncio.Queue(QUEUED_AT_MOST)
        self._new.add(queue)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._tell())
        return queue

    def leave(self, queue: Queue) -> None:
        """No longer listen."""
        self._listeners.discard(queue)
        self._new.discard(queue)

    async def close(self) -> None:
        """End every listener's stream."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        for queue in [*self._listeners, *self._new]:
            self._drop(queue)

    async def _tell(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        try:
            while self._listeners or self._new:
                change, state = await self._prepared()
                for queue in list(self._listeners):
                    self._put(queue, change)
                while self._new:
                    queue = self._new.pop()
                    self._listeners.add(queue)
                    self._put(queue, state)
                due_s = max(due_s + EVERY_S, loop.time() + EVERY_S / 2)
                await asyncio.sleep(due_s - loop.time())
        except Exception as error:
            log.exception("the live values have ended; whoever listens connects again", why=repr(error))
            for queue in [*self._listeners, *self._new]:
                self._drop(queue)
        if self._task is asyncio.current_task():
            self._task = None

    def _put(self, queue: Queue, message: bytes) -> None:
        try:
            queue.put_nowait(message)
        except asyncio.QueueFull:
            self._drop(queue)

    def _drop(self, queue: Queue) -> None:
        self.leave(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)

    async def _prepared(self) -> tuple[bytes, bytes]:
        """The bytes for those who listened a second ago, and for those who are new."""
        changed = await self._changed_rows()
        recent = self._sources.recent
        about: dict[str, Any] = {"status": status_of(self._sources)}
        new_events = [event for event in recent.events if event["number"] > self._events_told]
        commands = [command.described() for command in list(recent.commands)[: -COMMANDS_SHOWN - 1 : -1]]
        if self._commands_told == recent.version:
            change = about | {"events": new_events}
        else:
            change = about | {"events": new_events, "commands": commands}
        self._events_told = new_events[-1]["number"] if new_events else self._events_told
        self._commands_told = recent.version
        told = _message("change", change, changed)
        if not self._new:
            return told, b""
        whole = about | {"events": list(recent.events)[-100:], "commands": commands}
        return told, _message("state", whole, [text for _, text in self._rows.values()])

    async def _changed_rows(self) -> list[str]:
        """The chargers that are otherwise than a second ago, as JSON; the loop turns between slices."""
        serials = [plan.serial for plan in self._sources.site().plan.chargers]
        if self._rows.keys() - set(serials):
            self._rows = {}
        changed = []
        for place, serial in enumerate(serials, 1):
            row = self._sources.charger(serial)
            if row is not None and (serial not in self._rows or self._rows[serial][0] != row):
                text = json.dumps(row, separators=(",", ":"))
                self._rows[serial] = (row, text)
                changed.append(text)
            if place % SLICE == 0:
                await asyncio.sleep(0)
        return changed


def _message(event: str, about: dict[str, Any], rows: list[str]) -> bytes:
    text = json.dumps(about, separators=(",", ":"))
    return f'event: {event}\ndata: {text[:-1]},"chargers":[{",".join(rows)}]}}\n\n'.encode()


async def _told(stream: Stream, queue: Queue) -> AsyncIterator[bytes]:
    try:
        yield b"retry: 2000\n\n"
        while (message := await queue.get()) is not None:
            yield message
    finally:
        stream.leave(queue)


def stream_routes(stream: Stream, guard: Guard) -> APIRouter:
    """The route of the live values."""
    full = {"model": shapes.Problem, "description": "Too many listen already"}
    routes = APIRouter(tags=["view"], responses={401: {"model": shapes.Problem}})

    @routes.get(STREAM_PATH, response_class=StreamingResponse, responses={200: _SHAPE, 503: full})
    async def live(_person: Annotated[Person | None, Depends(guard)]) -> StreamingResponse:
        """Server-sent events: `state` with everything, then a `change` every second.

        Data is JSON: `status` as /status gives it, `chargers` that changed, new `events`, `commands` where one changed.
        The stream ends after some minutes or where a listener does not keep up: connect again.
        """
        queue = stream.listen()
        if queue is None:
            raise HTTPException(503, f"{MAX_LISTENERS} listen already", {"Retry-After": "10"})
        return StreamingResponse(_told(stream, queue), 200, {"Cache-Control": "no-store"}, "text/event-stream")

    return routes


_SHAPE: Final[dict[str, Any]] = {
    "description": "The live values",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}
