"""The backup over HTTP: only the running service can copy its databases, which it holds alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter, HTTPException


def backup_routes(begin: Callable[[], Path | None]) -> APIRouter:
    """The route: `begin` starts a copy and says in which folder it will be; None while another is being made."""
    routes = APIRouter()

    @routes.post("/backup", include_in_schema=False)
    async def backup() -> dict[str, str]:
        """Begin a copy of the databases; a file `done` or `failed` appears in its folder at the end."""
        folder = begin()
        if folder is None:
            raise HTTPException(409, "another backup is being made")
        return {"folder": str(folder.resolve())}

    return routes
