"""Asks a JSON API of the lab: the chargers' control API and the bridge's health and status."""

from __future__ import annotations

import asyncio
import http.client
import json
from typing import Any
from urllib.parse import urlsplit

MAX_BYTES = 4_000_000


class HttpError(Exception):
    """The API did not answer, or not with success; the text says which and what it answered."""


async def fetch(url: str, body: dict[str, Any] | None = None, timeout_s: float = 2.0) -> Any:
    """GET `url`, or POST `body` to it, and return the JSON it answers with 200. Raises HttpError."""
    return await asyncio.to_thread(_fetch, url, body, timeout_s)


def _fetch(url: str, body: dict[str, Any] | None, timeout_s: float) -> Any:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout_s)
    try:
        method, sent = ("GET", None) if body is None else ("POST", json.dumps(body))
        connection.request(method, parts.path or "/", sent, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read(MAX_BYTES).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise HttpError(f"{url} does not answer: {error}") from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise HttpError(f"{url} answered {answer.status}: {text[:200]}")
    try:
        return json.loads(text)
    except ValueError as error:
        raise HttpError(f"{url} answered no JSON: {text[:200]}") from error
