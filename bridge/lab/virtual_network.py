"""Virtual time and TCP in memory for asyncio: real servers and clients on one loop, with seeded trouble between."""

from __future__ import annotations

import asyncio
import contextlib
import random
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any

OWNER: ContextVar[str] = ContextVar("owner", default="world")
"""Who runs: what is killed is everything that began in the context of one owner."""

HOST = "127.0.0.1"
EPHEMERAL_PORT = 40_000
APART_S = 1e-6  # what is due at the same time happens in any order
PATCHED = ("monotonic", "time", "time_ns", "clock_gettime_ns")


@dataclass(slots=True)
class Clock:
    """Seconds that pass only while everybody waits, and the wall clock that goes with them."""

    now_s: float = 10_000.0
    utc_offset_s: float = 1_700_000_000.0

    def clock_ns(self, _kind: int = 0) -> int:
        """Any clock of the machine that never steps."""
        return round(self.now_s * 1e9)

    def utc_s(self) -> float:
        """The wall clock."""
        return self.now_s + self.utc_offset_s

    @contextlib.contextmanager
    def everywhere(self) -> Iterator[None]:
        """As long as the context lasts, this is what the module `time` tells the whole process."""
        kept = {name: getattr(time, name) for name in PATCHED}
        told = (lambda: self.now_s, self.utc_s, lambda: round(self.utc_s() * 1e9), self.clock_ns)
        try:
            for name, tell in zip(PATCHED, told, strict=True):
                setattr(time, name, tell)
            yield
        finally:
            for name, tell in kept.items():
                setattr(time, name, tell)


class _Leap(selectors.DefaultSelector):
    """Waits for nobody: where the loop would sleep, the clock leaps."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let the time pass that the loop has nothing to do."""
        if timeout is None:
            raise RuntimeError("nobody waits for anything any more")
        self._clock.now_s += max(0.0, timeout)
        return super().select(0)


class _Socket:
    """What is asked of a socket that is none."""

    family = socket.AF_INET

    def __init__(self, port: int) -> None:
        self._port = port

    def getsockname(self) -> tuple[str, int]:
        """Host and port."""
        return HOST, self._port

    def setsockopt(self, *_: object) -> None:
        """Take an option and do nothing."""


class Listening(asyncio.AbstractServer):
    """A listening port of this network."""

    def __init__(self, network: Network, port: int, make: Callable[[], Any]) -> None:
        self.make, self.context, self.owner = make, copy_context(), OWNER.get()
        self.sockets = [_Socket(port)]
        self._network, self._port = network, port

    def close(self) -> None:
        """Take no more connections."""
        if self._network.listening.get(self._port) is self:
            del self._network.listening[self._port]

    def is_serving(self) -> bool:
        """Whether connections are taken."""
        return self._network.listening.get(self._port) is self

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop it serves on."""
        return self._network.loop

    async def start_serving(self) -> None:
        """Nothing: it serves from the beginning."""

    async def serve_forever(self) -> None:
        """Nothing, as above."""

    async def wait_closed(self) -> None:
        """Nothing: whoever closes ends his connections himself."""


class End(asyncio.Transport):
    """One end of a connection. What is written arrives in order, in pieces, late or twice, as the network has it."""

    def __init__(self, network: Network, port: int) -> None:
        super().__init__({"peername": (HOST, port), "sockname": (HOST, port), "socket": _Socket(port)})
        self.network, self.context, self.owner = network, copy_context(), OWNER.get()
        self.other: End = self
        self.latency_s, self.arrives_s, self.stalled_until_s = 0.0, 0.0, 0.0
        self.lost = self.closing = self.dead = False
        self._protocol: Any = None
        self._held: list[bytes] = []
        self._reads = True

    # What protocols ask of a transport

    def get_protocol(self) -> Any:
        """Who reads here."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let another read here."""
        self._protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send; nothing blocks."""
        if data and not self.closing:
            self.network.carry(self, bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        """Send all of it."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """TCP closes each direction by itself."""
        return True

    def write_eof(self) -> None:
        """Send no more; what was sent arrives."""
        self.network.arrive(self, self.other.ended)

    def close(self) -> None:
        """End it in good order."""
        if not self.closing:
            self.closing = True
            self.network.arrive(self, self.other.ended)
            self.network.call(self, 0.0, self.lose, None)

    def abort(self) -> None:
        """End it at once."""
        self.closing = True
        self.network.call(self, 0.0, self.lose, None)
        self.network.arrive(self, self.other.lose, ConnectionResetError("reset by peer"))

    def is_closing(self) -> bool:
        """Whether it has been ended here."""
        return self.closing

    def is_reading(self) -> bool:
        """Whether what arrives is handed on."""
        return self._reads

    def pause_reading(self) -> None:
        """Hold what arrives."""
        self._reads = False

    def resume_reading(self) -> None:
        """Hand on what was held."""
        self._reads, held = True, self._held
        self._held = []
        for data in held:
            self.network.call(self, 0.0, self.receive, data)

    def get_write_buffer_size(self) -> int:
        """The network takes everything at once."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The network takes everything at once."""

    # What arrives

    def begin(self, protocol: Any) -> None:
        """Open it for this protocol."""
        self._protocol = protocol
        protocol.connection_made(self)
        if self.lost:
            protocol.connection_lost(None)

    def receive(self, data: bytes) -> None:
        """Hand on what the other end sent."""
        if self.lost:
            return
        if self._reads and self._protocol is not None:
            self._protocol.data_received(data)
        else:
            self._held.append(data)

    def ended(self) -> None:
        """The other end sends no more."""
        if not self.lost and (self._protocol is None or not self._protocol.eof_received()):
            self.close()

    def lose(self, why: Exception | None) -> None:
        """It is over."""
        if not self.lost:
            self.lost = self.closing = True
            self.network.ends.pop(self, None)
            if self._protocol is not None:
                self._protocol.connection_lost(why)


@dataclass
class Network:
    """All connections of a world. The probabilities say how often something happens to what is written."""

    loop: VirtualLoop
    chance: random.Random
    longest_latency_s: float = 0.3
    splits: float = 0.0
    repeats: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    listening: dict[int, Listening] = field(default_factory=dict)
    ends: dict[End, None] = field(default_factory=dict)
    _port: int = EPHEMERAL_PORT

    def connect(self, port: int, protocol: Any) -> tuple[End, Any]:
        """Open a connection to whoever listens there. ConnectionRefusedError if nobody does."""
        client = self.dial(port)
        client.begin(protocol)
        return client, protocol

    def dial(self, port: int) -> End:
        """The client's end of a new connection, not begun yet."""
        listening = self.listening.get(port)
        if listening is None:
            raise ConnectionRefusedError(f"nobody listens at {port}")
        self._port += 1
        client, server = End(self, self._port), listening.context.run(End, self, self._port)
        client.other, server.other = server, client
        for end in (client, server):
            end.latency_s = self.chance.uniform(0.001, self.longest_latency_s)
            self.ends[end] = None
        self.call(server, client.latency_s, lambda: server.begin(listening.make()))
        client.arrives_s = self.loop.time() + client.latency_s
        return client

    def carry(self, end: End, data: bytes) -> None:
        """Take what was written: it arrives, in pieces, and sometimes twice."""
        pieces = [data]
        if self.repeats and self.chance.random() < self.repeats:
            self.faults["twice"] += 1
            pieces.append(data)
        if self.splits and len(data) > 1 and self.chance.random() < self.splits:
            self.faults["split"] += 1
            place = self.chance.randrange(1, len(data))
            pieces = [data[:place], data[place:], *pieces[1:]]
        for piece in pieces:
            self.arrive(end, end.other.receive, piece)

    def arrive(self, end: End, happen: Callable[..., None], *arguments: Any) -> None:
        """Let something come to the other end, after all that was sent before."""
        if end.dead:
            return
        now_s = self.loop.time()
        due_s = max(end.stalled_until_s, now_s + end.latency_s * self.chance.random(), end.arrives_s + APART_S)
        end.arrives_s = due_s
        self.call(end.other, due_s - now_s, happen, *arguments)

    def call(self, end: End, delay_s: float, happen: Callable[..., None], *arguments: Any) -> None:
        """Have something done at this end, as its owner, unless it is dead by then."""
        self.loop.call_later(delay_s, lambda: None if end.dead else happen(*arguments), context=end.context)

    # Trouble

    def cut(self, end: End) -> None:
        """Reset the connection from between."""
        self.faults["cut"] += 1
        for each in (end, end.other):
            each.closing = True
            self.call(each, 0.0, each.lose, ConnectionResetError("cut"))

    def stall(self, end: End, seconds: float) -> None:
        """Let nothing through in this direction for so long; nothing is lost."""
        self.faults["stall"] += 1
        end.stalled_until_s = self.loop.time() + seconds

    def kill(self, owner: str) -> None:
        """End everything of this owner as a dying process does: it hears nothing more, its peers hear a reset."""
        for port, listening in list(self.listening.items()):
            if listening.owner == owner:
                del self.listening[port]
        for end in [end for end in self.ends if end.owner == owner]:
            end.dead = end.lost = end.closing = True
            del self.ends[end]
            self.call(end.other, end.latency_s, end.other.lose, ConnectionResetError("killed"))


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio on a clock that leaps, with connections to 127.0.0.1 in memory. Sockets that are handed in stay real."""

    def __init__(self, clock: Clock, chance: random.Random) -> None:
        super().__init__(_Leap(clock))
        self.network = Network(self, chance)
        self.tasks: dict[asyncio.Task[Any], str] = {}
        self._dialled: dict[socket.socket, End] = {}
        self.set_task_factory(self._new_task)

    def _new_task(self, _loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=self, **options)
        context = options.get("context")
        self.tasks[task] = OWNER.get() if context is None else context.get(OWNER, OWNER.get())
        task.add_done_callback(lambda done: self.tasks.pop(done, None))
        return task

    async def kill(self, owner: str) -> None:
        """End all connections, timers and tasks of this owner; what those still do when they end reaches nobody."""
        self.network.kill(owner)
        for handle in list(self._scheduled):  # type: ignore[attr-defined]  # asyncio offers no list of its timers
            if handle._context.get(OWNER) == owner:  # noqa: SLF001  nor whose they are
                handle.cancel()
        doomed = [task for task, whose in self.tasks.items() if whose == owner and not task.done()]
        for task in doomed:
            task.cancel()
        if doomed:
            await asyncio.wait(doomed, timeout=60.0)

    # What asyncio is asked for, in memory

    async def create_server(  # type: ignore[override]  # its overloads
        self, protocol_factory: Any, _host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        """Listen."""
        if options.get("sock") is not None:
            return await super().create_server(protocol_factory, **options)
        if port in self.network.listening:
            raise OSError(f"{port} is taken")
        self.network.listening[port] = listening = Listening(self.network, port, protocol_factory)
        return listening

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        """Connect to a port; the host is always this one."""
        del host
        if (link := options.get("sock")) is not None:
            end, protocol = self._dialled.pop(link), protocol_factory()
            link.close()
            end.begin(protocol)
            return end, protocol
        await asyncio.sleep(0.001)
        return self.network.connect(port, protocol_factory())

    async def getaddrinfo(self, host: Any, port: Any, **_options: Any) -> Any:
        """The address is the name."""
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port))]

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect a socket that only stands for the connection."""
        self._dialled[sock] = self.network.dial(address[1])

    async def sock_sendall(self, sock: socket.socket, data: Any) -> None:
        """Send what comes before the protocol begins."""
        self._dialled[sock].write(data)
