"""The status API: is the service ready, and what is it doing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from bridge import __version__
from bridge.web.guard import Guard
from bridge.web.shapes import Problem


def create_app(
    status: Callable[[], dict[str, Any]], ready: Callable[[], bool], guard: Guard, dashboard_port: int | None = None
) -> FastAPI:
    """An ASGI application that asks `status` (plain JSON data) and `ready` anew for every request, in the loop.

    `guard` lets in who may look at the status. The door at `/` leads to the dashboard, a process of its own.
    """
    app = FastAPI(title="Grid-limit bridge", version=__version__, docs_url=None, redoc_url=None)

    @app.get("/health", responses={503: {"description": "Not every listener is open, or the service is stopping"}})
    async def health() -> JSONResponse:
        """200 once every listener is open, 503 before and while stopping."""
        is_ready = ready()
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    @app.get("/status", dependencies=[Depends(guard)], responses={401: {"model": Problem}})
    async def current() -> JSONResponse:
        """Everything at once, for commands on the host: prefer /api/v1, whose lists come in pages."""
        return JSONResponse(status())

    @app.get("/", include_in_schema=False)
    async def door(request: Request) -> Response:
        if dashboard_port is None:
            return PlainTextResponse("No dashboard here: set http.dashboard_port. The API: /openapi.json\n")
        host = request.url.hostname or "127.0.0.1"
        return RedirectResponse(f"http://{f'[{host}]' if ':' in host else host}:{dashboard_port}/")

    return app
