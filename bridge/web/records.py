"""The head of the records over HTTP: what `gridlimit audit verify` holds the end of the files against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from fastapi import APIRouter


class Signed(Protocol):
    """The newest checkpoint: its number and its hash in hex."""

    @property
    def number(self) -> int:
        """From 1; 0 before the first."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256."""
        ...


def records_routes(signed: Callable[[], Signed]) -> APIRouter:
    """The route: `signed` gives the newest checkpoint."""
    routes = APIRouter(prefix="/records")

    @routes.get("/head")
    async def head() -> dict[str, Any]:
        """Number and hash of the newest signed record."""
        newest = signed()
        return {"number": newest.number, "digest": newest.digest}

    return routes
