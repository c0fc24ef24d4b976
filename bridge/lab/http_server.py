"""Serves a small HTTP API of the lab inside a loop that is not its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator

import uvicorn
from fastapi import FastAPI

STARTUP_TIMEOUT_S = 10.0


class _Server(uvicorn.Server):
    """Uvicorn inside a loop that is not its own: signals stay with whoever runs the loop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class HttpServer:
    """Serves `app` at host and port; port 0 takes a free one, `port` is the bound one."""

    def __init__(self, app: FastAPI, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        self._server = _Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
        self._serving: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Listen; OSError if the port is taken."""
        listening = socket.create_server((self.host, self.port), backlog=64)
        listening.setblocking(False)
        self.port = listening.getsockname()[1]
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]))
        async with asyncio.timeout(STARTUP_TIMEOUT_S):
            await self._server.listening.wait()

    async def close(self) -> None:
        """Stop listening and end what is open."""
        if self._serving is not None:
            self._server.should_exit = True
            self._server.force_exit = True
            await self._serving
            self._serving = None
