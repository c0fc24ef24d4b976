"""The hello: the serial number some makes of unit say on the bare socket, before the WebSocket handshake."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, unique
from typing import ClassVar, Final, TypeAlias

import structlog
from websockets.asyncio.server import Server, ServerConnection
from websockets.server import ServerProtocol

HANDSHAKE: Final = b"GET "
SHOWN_BYTES: Final = 32
_TLS_HANDSHAKE: Final = b"\x16\x03"
_PLACEHOLDER: Final = re.compile(r"<(serial|version)>")
_PLACEHOLDER_PATTERNS: Final = {
    "serial": rb"(?P<serial>[A-Za-z0-9._-]{1,48})",
    "version": rb"(?P<version>[ -~]{0,50}?)",
}
_ESCAPES: Final = {r"\r": "\r", r"\n": "\n", r"\t": "\t", r"\0": "\0", r"\\": "\\"}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HelloPattern:
    """One make's hello: what it begins with, and what ends it once that has come more than `inner_ends` times."""

    begins: bytes
    ends: bytes
    inner_ends: int
    whole: re.Pattern[bytes]

    def may_become(self, received: bytes) -> bool:
        """Say whether more bytes can make a hello of this; `received` is not one yet."""
        begun = received.startswith(self.begins) or self.begins.startswith(received)
        return begun and received[len(self.begins) :].count(self.ends) <= self.inner_ends


@dataclass(frozen=True, slots=True)
class Hello:
    """A complete hello of `length` bytes; `version` is empty where the pattern has none."""

    serial: str
    version: str
    length: int


@dataclass(frozen=True, slots=True)
class Refused:
    """What began the connection is neither a hello nor a handshake."""

    why: str


@unique
class Opening(Enum):
    """What else the first bytes can be: the beginning of an ordinary handshake, or too few to tell."""

    HANDSHAKE = "handshake"
    INCOMPLETE = "incomplete"


Verdict: TypeAlias = Hello | Refused | Opening


def hello_pattern(template: str) -> HelloPattern:
    r"""Compile a charger profile's template, such as `S4HELLO SN=<serial> FW=<version>\r\n`.

    `<serial>` stands for 1 to 48 characters of `A-Za-z0-9._-`, `<version>` for up to 50 printable ASCII characters.
    Raises ValueError for a template without `<serial>`, or without bytes that end it.
    """
    plain = re.sub(r"\\[rnt0\\]", lambda escape: _ESCAPES[escape.group()], template)
    parts = _PLACEHOLDER.split(plain)
    literals, names = parts[::2], parts[1::2]
    if names.count("serial") != 1 or names.count("version") > 1:
        raise ValueError(f"hello {template!r}: <serial> must stand in it once, <version> at most once")
    if not literals[-1]:
        raise ValueError(f"hello {template!r}: it must end with something fixed, or its end cannot be found")
    if not all(part.isascii() for part in literals) or any(not part for part in literals[1:-1]):
        raise ValueError(f"hello {template!r}: ASCII only, and something fixed between <serial> and <version>")
    whole = re.escape(literals[0].encode())
    for name, literal in zip(names, literals[1:], strict=True):
        whole += _PLACEHOLDER_PATTERNS[name] + re.escape(literal.encode())
    inner_ends = sum(literal.count(literals[-1]) for literal in literals[1:-1])
    return HelloPattern(literals[0].encode(), literals[-1].encode(), inner_ends, re.compile(whole))


def read_opening(received: bytes, patterns: Sequence[HelloPattern], max_bytes: int) -> Verdict:
    """Say what the first bytes of a connection are: a whole hello, a handshake, more to come, or a refusal."""
    if received.startswith(HANDSHAKE):
        return Opening.HANDSHAKE
    for pattern in patterns:
        match = pattern.whole.match(received, 0, max_bytes)
        if match is not None:
            said = match.groupdict()
            return Hello(said["serial"].decode(), (said.get("version") or b"").decode(), match.end())
    if received.startswith(_TLS_HANDSHAKE):
        return Refused("TLS on a plain listener")
    if not (HANDSHAKE.startswith(received) or any(pattern.may_become(received) for pattern in patterns)):
        return Refused("neither a hello of a known make nor a WebSocket handshake")
    if len(received) >= max_bytes:
        return Refused(f"hello longer than {max_bytes} bytes")
    return Opening.INCOMPLETE


class HelloConnection(ServerConnection):
    """A WebSocket server connection that swallows a hello before the handshake and answers nothing to it.

    `hello_serial` and `hello_version` are None where the connection began with the handshake itself. The serial is a
    claim: whoever uses it must hold it against the list of known chargers. What is neither is closed with one log line,
    and `refused` says so.
    Made for given patterns by `hello_connection`.
    """

    patterns: ClassVar[tuple[HelloPattern, ...]] = ()
    max_bytes: ClassVar[int] = 512
    deadline_s: ClassVar[float] = 5.0

    def __init__(
        self,
        protocol: ServerProtocol,
        server: Server,
        *,
        ping_interval: float | None = 20,
        ping_timeout: float | None = 20,
        close_timeout: float | None = 10,
        max_queue: int | tuple[int | None, int | None] | None = 16,
        write_limit: int | tuple[int, int | None] = 32_768,
    ) -> None:
        super().__init__(
            protocol,
            server,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            close_timeout=close_timeout,
            max_queue=max_queue,
            write_limit=write_limit,
        )
        self.hello_serial: str | None = None
        self.hello_version: str | None = None
        self._opening: bytes | None = b""
        self.refused = False
        self._overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the deadline of the hello."""
        super().connection_made(transport)
        self._overdue = self.loop.call_later(self.deadline_s, self._hello_overdue)

    def data_received(self, data: bytes) -> None:
        """Collect what comes until it is a hello or a handshake; pass on everything but the hello."""
        if self._opening is None:
            super().data_received(data)
            return
        if self.transport.is_closing():
            return
        self._opening += data
        patterns = self.patterns if self.hello_serial is None else ()
        verdict = read_opening(self._opening, patterns, self.max_bytes)
        if isinstance(verdict, Hello):
            self.hello_serial, self.hello_version = verdict.serial, verdict.version
            self._stop_deadline()
            rest, self._opening = self._opening[verdict.length :], b""
            if rest:
                self.data_received(rest)
        elif isinstance(verdict, Refused):
            self._refuse(verdict.why)
        elif verdict is Opening.HANDSHAKE:
            self._stop_deadline()
            rest, self._opening = self._opening, None
            super().data_received(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        """Say so where it ends too early; a connection that said nothing at all is nobody's fault."""
        self._stop_deadline()
        if not self.refused and (self._opening or (self._opening is not None and self.hello_serial is not None)):
            self._refuse("ended before the hello and the beginning of a handshake were complete")
        super().connection_lost(exc)

    def _hello_overdue(self) -> None:
        self._refuse(f"no complete hello within {self.deadline_s:g} s")

    def _refuse(self, why: str) -> None:
        self.refused = True
        self._stop_deadline()
        opening = self._opening or b""
        log.warning(
            "hello refused: connection closed",
            peer=self.transport.get_extra_info("peername"),
            charger=self.hello_serial,
            why=why,
            received=ascii(opening[:SHOWN_BYTES]),
            bytes=len(opening),
        )
        self.transport.abort()

    def _stop_deadline(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None


def hello_connection(templates: Iterable[str], max_bytes: int = 512, deadline_s: float = 5.0) -> type[HelloConnection]:
    """Make the connection class for these hello templates, for `websockets.asyncio.server.serve(create_connection=)`.

    Raises ValueError for a template that cannot be one.
    """
    compiled = tuple(hello_pattern(template) for template in dict.fromkeys(templates))
    return type(
        "HelloConnection",
        (HelloConnection,),
        {"patterns": compiled, "max_bytes": max_bytes, "deadline_s": deadline_s},
    )
