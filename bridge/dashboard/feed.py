"""The one stream of live values that feeds every browser, and what the dashboard knows from it.

However many people look, the service has one listener: this. What they do goes back over the same API, with the token
of whoever does it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import structlog

from bridge.web.people import HOST_TOKEN_FILE

log = structlog.get_logger()

RETRY_S: Final = 1.0
SILENT_S: Final = 10.0  # a stream that says nothing for so long is dead
ANSWER_S: Final = 10.0
HOUR_SAMPLES: Final = 720
HOUR_EVERY_MS: Final = 5_000
DAY_SAMPLES: Final = 1_440
DAY_EVERY_MS: Final = 60_000
EVENTS_KEPT: Final = 100
MAX_LINE_BYTES: Final = 64 * 1024 * 1024

Sample = tuple[int, int | None, int, int]  # UTC ms, power W, limit W, worst case W


@dataclass(slots=True)
class Known:
    """What is known of the site; `status` is empty before the first message, `heard_s` is when the last one came."""

    status: dict[str, Any] = field(default_factory=dict)
    chargers: dict[str, dict[str, Any]] = field(default_factory=dict)
    commands: list[dict[str, Any]] = field(default_factory=list)
    events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))
    hour: deque[Sample] = field(default_factory=lambda: deque(maxlen=HOUR_SAMPLES))
    day: deque[Sample] = field(default_factory=lambda: deque(maxlen=DAY_SAMPLES))
    heard_s: float = 0.0

    def take(self, told: dict[str, Any], *, whole: bool) -> list[str]:
        """Take over a message of the stream; the serials of the chargers that are otherwise now."""
        if whole:
            self.chargers, self.commands = {}, []
            self.events.clear()
        self.status = told["status"]
        for charger in told["chargers"]:
            self.chargers[charger["serial"]] = charger
        self.commands = told.get("commands", self.commands)
        self.events.extend(told["events"])
        self.heard_s = time.monotonic()
        return [charger["serial"] for charger in told["chargers"]]

    def sampled(self) -> tuple[bool, bool]:
        """Go on with the chart from the newest status; whether the hour and the day got a new point."""
        status = self.status
        point = (status["utc_ms"], status["power_w"], status["limit"]["power_w"], status["worst_case_w"])
        hour = not self.hour or point[0] - self.hour[-1][0] >= HOUR_EVERY_MS
        day = not self.day or point[0] - self.day[-1][0] >= DAY_EVERY_MS
        if hour:
            self.hour.append(point)
        if day:
            self.day.append(point)
        return hour, day


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an act: `ok`, and what the service said about it, for a person."""

    ok: bool
    said: str


Changed = Callable[[list[str], bool], Awaitable[None]]  # serials, and whether everything is new


class Feed:
    """Reads the stream as long as it runs, and acts for people. `host_token` is read anew for every connection."""

    def __init__(self, address: str, data_dir: Path) -> None:
        self.known = Known()
        self._address = address
        self._token_file = data_dir / HOST_TOKEN_FILE
        limits = httpx.Limits(max_connections=8)
        self._client = httpx.AsyncClient(base_url=address, timeout=ANSWER_S, limits=limits, trust_env=False)

    @property
    def silent_s(self) -> float:
        """How long nothing was heard of the service."""
        return time.monotonic() - self.known.heard_s

    async def run(self, changed: Changed) -> None:
        """Follow the stream for ever; `changed` is awaited after every message."""
        told = ""
        while True:
            try:
                await self._follow(changed)
                told = ""
            except (httpx.HTTPError, OSError, TimeoutError, ValueError, KeyError) as error:
                if told != (told := f"{type(error).__name__}: {error}"):
                    log.warning("no live values", address=self._address, why=told)
            await asyncio.sleep(RETRY_S)

    async def _follow(self, changed: Changed) -> None:
        headers = self._host_headers()
        timeout = httpx.Timeout(ANSWER_S, read=SILENT_S)
        async with self._client.stream("GET", "/api/v1/stream", headers=headers, timeout=timeout) as answer:
            answer.raise_for_status()
            event = ""
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    whole = event == "state"
                    if whole:
                        await self._read_history(headers)
                    await changed(self.known.take(json.loads(line.removeprefix("data: ")), whole=whole), whole)

    async def _read_history(self, headers: dict[str, str]) -> None:
        for span, samples in (("hour", self.known.hour), ("day", self.known.day)):
            answer = await self._client.get("/api/v1/history", params={"span": span}, headers=headers)
            answer.raise_for_status()
            told = answer.json()
            samples.clear()
            columns = (told[name] for name in ("utc_ms", "power_w", "limit_w", "worst_case_w"))
            samples.extend(zip(*columns, strict=True))

    def _host_headers(self) -> dict[str, str]:
        try:
            return _bearing(self._token_file.read_text(encoding="ascii"))
        except OSError:
            return {}  # whoever may not read it may look where everybody may

    async def act(self, token: str, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        """Do something in the name of whoever bears the token."""
        try:
            answer = await self._client.request(method, f"/api/v1/{path}", json=body, headers=_bearing(token))
            said = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            return Answer(ok=False, said=f"the service does not answer: {type(error).__name__}")
        if answer.is_success:
            return Answer(ok=True, said=str(next(iter(said.values()), "")))
        detail = said.get("detail", answer.status_code)
        return Answer(ok=False, said=detail if isinstance(detail, str) else _problems(detail))


def _problems(detail: Any) -> str:
    """What a validation of the API found wrong, in one line."""
    found = [f"{each['loc'][-1]}: {each['msg']}" for each in detail] if isinstance(detail, list) else [str(detail)]
    return "; ".join(found)


def _bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
