"""The outbox over HTTP: what waits for the CSMS, what it does not take, and sending that once more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, Field


class Resend(BaseModel):
    """Which dead letters to send again, by number; None means all of them."""

    numbers: Annotated[list[int], Field(max_length=10_000)] | None = None


def outbox_routes(
    listed: Callable[..., list[dict[str, Any]]], resend: Callable[[Sequence[int] | None], int]
) -> APIRouter:
    """The routes: `listed(only_dead, serial)` gives rows, `resend(numbers)` says how many letters wait again."""
    routes = APIRouter(prefix="/outbox")

    @routes.get("")
    async def rows(
        dead: bool = False, serial: Annotated[str | None, Query(max_length=48)] = None
    ) -> list[dict[str, Any]]:
        """The oldest thousand letters, dead ones first: number, serial, action, time, attempts and why it is dead."""
        return listed(only_dead=dead, serial=serial)

    @routes.post("/resend")
    async def again(wanted: Annotated[Resend, Body()]) -> dict[str, int]:
        """Let dead letters wait again, in their old places."""
        return {"resent": resend(wanted.numbers)}

    return routes
