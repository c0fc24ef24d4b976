"""Uvicorn inside our own loop: no signal handlers, no thread, and a limit to everything a caller can hold on to."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from bridge.web.stream import STREAM_PATH

MAX_CONNECTIONS = 64
MAX_HEADER_BYTES = 16 * 1024
BACKLOG = 128
IDLE_S = 5
CONNECTION_AGE_S = 30.0
STREAM_AGE_S = 600.0
GRACE_S = 2


class _BoundedProtocol(H11Protocol):
    """HTTP/1.1 on one connection, which is closed at a certain age: even one that never says or reads anything.

    One over which live values flow may grow older, for there is no end to them; its listener connects again.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._made_s = self.loop.time()
        self._deadline = self.loop.call_later(CONNECTION_AGE_S, self._is_old)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        super().connection_lost(exc)

    def _is_old(self) -> None:
        cycle = self.cycle
        streams = cycle is not None and not cycle.response_complete and cycle.scope["path"] == STREAM_PATH
        left_s = self._made_s + STREAM_AGE_S - self.loop.time()
        if streams and left_s > 0:
            self._deadline = self.loop.call_later(min(left_s, CONNECTION_AGE_S), self._is_old)
        else:
            self.shutdown()
            self._deadline = self.loop.call_later(GRACE_S, self.transport.abort)


class WebServer:
    """Serves an ASGI application at host and port (0: any free one, `port` says which once it is open)."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._sockets: list[socket.socket] = []
        settings: dict[str, Any] = {"lifespan": "off", "ws": "none", "log_config": None, "access_log": False}
        self._config = uvicorn.Config(
            app,
            http=_BoundedProtocol,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=GRACE_S,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            backlog=BACKLOG,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            **settings,
        )
        self._server = uvicorn.Server(self._config)

    async def open(self) -> None:
        """Listen; raises OSError if host and port cannot be had.

        Starts the server by its parts: `serve()` would take the signals and wake up ten times a second.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
        self.port = listener.getsockname()[1]
        self._sockets = [listener]
        self._config.load()
        self._server.lifespan = self._config.lifespan_class(self._config)
        await self._server.startup(sockets=self._sockets)

    async def close(self) -> None:
        """Stop listening, let answers under way end within their grace, close every connection."""
        if self._sockets:
            sockets, self._sockets = self._sockets, []
            await self._server.shutdown(sockets=sockets)
            for connection in list(self._server.server_state.connections):
                connection.transport.abort()
