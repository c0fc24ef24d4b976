"""The outbox over HTTP: what waits for the CSMS, and what it does not take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query


def outbox_routes(listed: Callable[..., list[dict[str, Any]]]) -> APIRouter:
    """The route: `listed(only_dead, serial)` gives rows."""
    routes = APIRouter(prefix="/outbox")

    @routes.get("")
    async def rows(
        dead: bool = False, serial: Annotated[str | None, Query(max_length=48)] = None
    ) -> list[dict[str, Any]]:
        """The oldest thousand letters, dead ones first: number, serial, action, time, attempts and why it is dead."""
        return listed(only_dead=dead, serial=serial)

    return routes
