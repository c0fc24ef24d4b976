"""The conversation of the chargers over HTTP: what was said since the last time somebody asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query


def trace_routes(lines: Callable[[int, str, str], tuple[int, list[str]]]) -> APIRouter:
    """The route: `lines(after, serial, action)` gives the number to go on from and the lines since."""
    routes = APIRouter(prefix="/trace")

    @routes.get("")
    async def said(
        after: Annotated[int, Query(ge=0)] = 0,
        serial: Annotated[str, Query(max_length=48)] = "",
        message: Annotated[str, Query(max_length=50)] = "",
    ) -> dict[str, Any]:
        """The messages after number `after`, oldest first, at most the last 5,000; ask again with `last`."""
        last, said = lines(after, serial, message)
        return {"last": last, "lines": said}

    return routes
