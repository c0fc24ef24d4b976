"""The status API: is the service ready, and what is it doing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from bridge import __version__


def create_app(status: Callable[[], dict[str, Any]], ready: Callable[[], bool]) -> FastAPI:
    """An ASGI application that asks `status` (plain JSON data) and `ready` anew for every request, in the loop."""
    app = FastAPI(title="Grid-limit bridge", version=__version__, docs_url=None, redoc_url=None)

    @app.get("/health", responses={503: {"description": "Not every listener is open, or the service is stopping"}})
    async def health() -> JSONResponse:
        """200 once every listener is open, 503 before and while stopping."""
        is_ready = ready()
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    @app.get("/status")
    async def current() -> JSONResponse:
        """Link, limit in force and its source, worst case, chargers."""
        return JSONResponse(status())

    return app
