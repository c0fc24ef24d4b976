"""Connections that a server counts from the first byte of TCP on, with TLS begun on them where the listener has it."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import Any, ClassVar, Final, Protocol, cast

import structlog
from websockets.asyncio.server import ServerConnection

from bridge.ocpp201.credentials import ServerTls
from bridge.ocpp201.direct import DirectConnection

OPEN_TIMEOUT_S: Final = 5.0

log = structlog.get_logger(__name__)


class Counts(Protocol):
    """Who counts connections."""

    def entered(self, connection: CountedConnection) -> bool:
        """Count a new one; False if it is one too many."""
        ...

    def opened(self, connection: CountedConnection) -> None:
        """Note that its handshakes are decided."""
        ...

    def left(self, connection: CountedConnection) -> None:
        """Forget it."""
        ...


class CountedConnection(DirectConnection):
    """A connection that is told to `counts` before any handshake, so that half-open ones are bounded too.

    For TLS its socket goes over to a transport of its own: uvloop would read the first bytes before `start_tls` can.
    `held` is a frame that `recv` gives once more.
    """

    counts: ClassVar[Counts]
    tls: ClassVar[ServerTls | None]
    held: str | bytes | None = None
    refused = False
    _peer: Any = None
    _counts_as_opening = True
    _begun = False
    _shed = False
    _handshake: asyncio.Task[None] | None = None

    @property
    def remote_address(self) -> Any:
        """The address at the other end, known also when the connection has ended."""
        return self._peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it; then begin, after the TLS handshake if the listener has TLS."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's have another base class
        if self._handshake is not None:
            self._begin()
            return
        self._peer = transport.get_extra_info("peername")
        if not self.counts.entered(self):
            self.refused = True
            self.transport.abort()
        elif self.tls is None:
            self._begin()
        else:
            self._hand_over(self.tls.context())

    def _hand_over(self, context: ssl.SSLContext) -> None:
        try:
            link = socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno()))
        except OSError as error:  # no descriptor is left
            log.warning("connection refused", address=address_of(self), why=str(error))
            self.refused = True
            self.transport.abort()
            return
        self._shed = True
        self.transport.abort()
        self._handshake = self.loop.create_task(self._shake_hands(link, context))

    def _begin(self) -> None:
        self._begun = True
        super().connection_made(self.transport)

    async def _shake_hands(self, link: socket.socket, context: ssl.SSLContext) -> None:
        link.setblocking(False)
        try:
            await self.loop.connect_accepted_socket(
                lambda: self, link, ssl=context, ssl_handshake_timeout=OPEN_TIMEOUT_S
            )
        except OSError as error:  # ssl.SSLError and TimeoutError are
            log.warning("TLS handshake failed", address=address_of(self), why=str(error)[:200])
        finally:
            if not self._begun:
                link.close()
                self._ended()

    def abort(self) -> None:
        """End it at once, in whatever handshake it is."""
        if self._handshake is not None and not self._handshake.done():
            self._handshake.cancel()
        self.transport.abort()

    async def recv(self, *arguments: Any, **options: Any) -> Any:
        """Receive one message, the one held first."""
        held, self.held = self.held, None
        return await super().recv(*arguments, **options) if held is None else held

    async def handshake(self, *arguments: Any, **options: Any) -> None:
        """Perform the opening handshake; a log line where it does not come to its end."""
        try:
            await super().handshake(*arguments, **options)
        finally:
            self._opened()
            if not self.refused and (self.request is None or self.protocol.handshake_exc is not None):
                why = str(self.protocol.handshake_exc or "no whole request in time")
                log.warning("no handshake", address=address_of(self), why=why[:200])

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it, unless it only lost the transport that it began with."""
        if self._shed:
            self._shed = False
            return
        self._ended()
        if self._begun:
            super().connection_lost(exc)

    def _ended(self) -> None:
        self._opened()
        self.counts.left(self)

    def _opened(self) -> None:
        if self._counts_as_opening:
            self._counts_as_opening = False
            self.counts.opened(self)


def counted(
    connection_class: type[ServerConnection], counts: Counts, tls: ServerTls | None = None
) -> type[ServerConnection]:
    """Make the class of counted connections that read their beginning as `connection_class` does, within `tls`."""
    return type("Counted", (CountedConnection, connection_class), {"counts": counts, "tls": tls})


def host_of(connection: ServerConnection) -> str:
    """The address at the other end, without its port."""
    peer = connection.remote_address
    return str(peer[0]) if peer else "unknown"


def address_of(connection: ServerConnection) -> str:
    """The address and port at the other end, for the log."""
    peer = connection.remote_address
    return f"{peer[0]}:{peer[1]}" if peer else "unknown"
