"""WebSocket server connections read and written in the very turn in which something comes or goes, by no task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from websockets.asyncio.server import ServerConnection
from websockets.frames import DATA_OPCODES, Frame, Opcode
from websockets.protocol import Event, State

_TEXT: Final = 0x81  # FIN and the opcode of text: RFC 6455 §5.2
_SHORT, _MIDDLE, _LONG = 126, 0x1_0000, 127


def text_frame(text: bytes) -> bytes:
    """A text message as one frame of a server, which does not mask: RFC 6455 §5.2."""
    length = len(text)
    if length < _SHORT:
        return bytes((_TEXT, length)) + text
    if length < _MIDDLE:
        return bytes((_TEXT, _SHORT)) + length.to_bytes(2, "big") + text
    return bytes((_TEXT, _LONG)) + length.to_bytes(8, "big") + text


class DirectConnection(ServerConnection):
    """Hands a whole text message to `take` at once; what that does not want (False), and all behind it, to `recv`.

    Whoever sets `take` calls `recv` in a loop and has `take` refuse while it acts on what `recv` gave, so that the
    order of messages stays. `heard_s` is the loop's time at which anything last came.
    """

    take: Callable[[bytes], bool] | None = None
    heard_s = 0.0
    _is_behind = False  # something waits for `recv`

    def data_received(self, data: bytes) -> None:
        """Note when it came."""
        self.heard_s = self.loop.time()
        super().data_received(data)

    def process_event(self, event: Event) -> None:
        """Hand a message over, if none before it waits."""
        if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
            if self.take is not None and not self._is_behind and event.opcode is Opcode.TEXT and event.fin:
                text = bytes(event.data)
                # Whether octets beyond ASCII are UTF-8 is found out by `recv`.
                if text.isascii() and self.take(text):
                    return
            self._is_behind = True
        super().process_event(event)

    async def recv(self, *arguments: Any, **options: Any) -> Any:
        """Receive one message of those that `take` did not want."""
        message = await super().recv(*arguments, **options)
        self._is_behind = len(self.recv_messages.frames) > 0
        return message

    @property
    def is_choked(self) -> bool:
        """Whether the peer reads slower than it is written to."""
        return self.paused

    def write_text(self, text: bytes) -> None:
        """Send a text message without waiting; nothing if the connection is not open."""
        if self.protocol.state is State.OPEN:
            self.transport.write(text_frame(text))
