"""What every simulated charger has in common: its life between connections, its sessions and what it does on order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum, unique
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidHandshake

from bridge.lab.peer import Answer, Payload, Peer
from bridge.lab.power_path import PowerPath

log = logging.getLogger(__name__)

DIAL_TIMEOUT_S = 10.0
MAX_UNREPORTED_SESSIONS = 100
MAX_NOTICES = 100


@unique
class Behaviour(StrEnum):
    """How a charger treats what its central system tells it.

    IGNORES accepts a limit, says it holds it, and keeps drawing. REFUSES refuses limits. LATE does and answers
    everything `answer_delay_s` later. NEVER neither does nor answers anything.
    """

    OBEYS = "obeys"
    IGNORES = "ignores"
    REFUSES = "refuses"
    LATE = "late"
    NEVER = "never"


@unique
class Action(StrEnum):
    """What can be done to a charger.

    REBOOT: power gone for `reboot_s`, then everything in flash is there again. FORGET: a reboot that loses the limits.
    VANISH: the connection goes dead without a FIN, and no other comes. LEAVE: the connection is closed properly, and no
    other comes. RETURN: connects again after either.
    """

    REBOOT = "reboot"
    FORGET = "forget"
    VANISH = "vanish"
    LEAVE = "leave"
    RETURN = "return"


@dataclass(slots=True)
class Session:
    """One charging session as the charger remembers it until it has been reported; registers in whole Wh."""

    id_tag: str
    begun: datetime
    begin_wh: int
    reason: str = ""
    transaction: int | str | None = None
    reported: bool = False
    sequence: int = 0
    remote_start_id: int | None = None
    ended: datetime | None = None
    end_wh: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """A charger as an observer beside it sees it: true power in W, energy register in Wh, the limit it claims in W."""

    serial: str
    kind: str
    power_w: float
    demand_w: int
    limit_w: int
    connected: bool
    charging: bool
    energy_wh: int
    behaviour: str


def utc_now() -> datetime:
    """Return the wall clock, UTC."""
    return datetime.fromtimestamp(time.time(), UTC)


def stamp(moment: datetime) -> str:
    """Write a moment as RFC 3339 with `Z` and milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class SimulatedCharger:
    """A charger with one connector that dials its central system, charges a vehicle and does as it is told, or not.

    A make of charger says how it dials (`dial`), what it does while connected (`live`), how it answers (`answer`),
    which limit it holds (`limit_w`) and what it forgets (`forget`). `run()` is its whole life and ends when cancelled.
    """

    kind = "charger"

    def __init__(
        self, serial: str, power: PowerPath, *, reboot_s: float = 2.0, back_off_s: float = 1.0, checked: bool
    ) -> None:
        self.serial = serial
        self.power = power
        self.behaviour = Behaviour.OBEYS
        self.answer_delay_s = 15.0
        self.booted = False
        self.sessions: deque[Session] = deque()
        self.session_changed = asyncio.Event()
        self.notices: asyncio.Queue[tuple[str, Payload]] = asyncio.Queue(MAX_NOTICES)
        self._checked = checked
        self._reboot_s = reboot_s
        self._back_off_s = back_off_s
        self._chance = random.Random(serial)
        self._away = False
        self._powered = True
        self._may_dial = asyncio.Event()
        self._may_dial.set()
        self._websocket: ClientConnection | None = None
        self._dead: ClientConnection | None = None
        self._left = asyncio.Event()

    # What a make of charger has to say.

    async def dial(self) -> ClientConnection:
        """Open a connection to the central system, handshake done; OSError, InvalidHandshake or TimeoutError."""
        raise NotImplementedError

    async def live(self, peer: Peer) -> None:
        """Do what this make does while connected: boot, then report, until cancelled."""
        raise NotImplementedError

    async def answer(self, action: str, payload: Payload) -> Answer:
        """Answer a request of the central system; None stays silent."""
        raise NotImplementedError

    def limit_w(self) -> int:
        """Return the limit in W the charger says it holds."""
        raise NotImplementedError

    def forget(self) -> None:
        """Lose every limit kept in flash."""
        raise NotImplementedError

    def status_changed(self) -> None:
        """Tell the central system about a change of the connector, in the manner of the make."""
        raise NotImplementedError

    # The time of this charger.

    @staticmethod
    def now_s() -> float:
        """Return the monotonic clock the power path runs on."""
        return time.monotonic()

    # What an observer sees and orders.

    @property
    def charging(self) -> bool:
        """Whether a session is open, drawing or paused."""
        return self.open_session is not None

    @property
    def open_session(self) -> Session | None:
        """The session that has not ended."""
        return self.sessions[-1] if self.sessions and self.sessions[-1].ended is None else None

    @property
    def connected(self) -> bool:
        """Whether the central system is connected and has accepted the boot."""
        return self._websocket is not None and self.booted

    def view(self) -> dict[str, Any]:
        """Return what an observer sees, as JSON (the fields of View)."""
        now_s = self.now_s()
        return asdict(
            View(
                serial=self.serial,
                kind=self.kind,
                power_w=round(self.power.power_w(now_s), 1),
                demand_w=self.power.demand_w,
                limit_w=self.limit_w(),
                connected=self.connected,
                charging=self.charging,
                energy_wh=int(self.power.energy_wh(now_s)),
                behaviour=self.behaviour,
            )
        )

    def set_demand(self, demand_w: int) -> None:
        """Let the vehicle ask for another power in W."""
        self.power.set_demand(demand_w, self.now_s())

    def behave(self, behaviour: Behaviour, answer_delay_s: float | None = None) -> None:
        """Change how it treats orders; one that stops ignoring obeys the limit it holds."""
        ignored = self.behaviour is Behaviour.IGNORES and behaviour is not Behaviour.IGNORES
        self.behaviour = behaviour
        if answer_delay_s is not None:
            self.answer_delay_s = answer_delay_s
        if ignored:
            self.obey_limit()

    def act(self, action: Action) -> None:
        """Do something to the charger."""
        log.info("%s: %s", self.serial, action)
        match action:
            case Action.REBOOT:
                self.reboot()
            case Action.FORGET:
                self.reboot(forget=True)
            case Action.VANISH:
                self._go_away(dead=True)
            case Action.LEAVE:
                self._go_away(dead=False)
            case Action.RETURN:
                self._come_back()

    def start_session(self, id_tag: str = "04A1B2C3", reason: str = "", remote_start_id: int | None = None) -> bool:
        """Plug a vehicle in and present a card; False when one is charging already or its memory is full.

        Connected, it draws once the central system knows; otherwise at once.
        """
        if self.charging or not self._powered or len(self.sessions) >= MAX_UNREPORTED_SESSIONS:
            return False
        begin_wh = int(self.power.energy_wh(self.now_s()))
        self.sessions.append(Session(id_tag, utc_now(), begin_wh, reason, remote_start_id=remote_start_id))
        if not self.connected:
            self.power.close(self.now_s())
        self.session_changed.set()
        return True

    def stop_session(self, reason: str = "Local") -> bool:
        """End the session; False when there is none. Power is gone at once."""
        session = self.open_session
        if session is None:
            return False
        now_s = self.now_s()
        self.power.open(now_s)
        session.ended, session.end_wh, session.reason = utc_now(), int(self.power.energy_wh(now_s)), reason
        self.session_changed.set()
        return True

    def reboot(self, *, forget: bool = False) -> None:
        """Lose power for `reboot_s`; a vehicle that was charging charges again afterwards, without being asked."""
        if forget:
            self.forget()
        if not self._powered:
            return
        session = self.open_session
        self.stop_session("Reboot")
        self._powered = False
        self._settle_presence()
        self._hang_up()
        asyncio.get_running_loop().call_later(self._reboot_s, self._power_up, session.id_tag if session else None)

    def obey_limit(self) -> None:
        """Hand the limit it holds to the power path, unless it ignores limits."""
        if self.behaviour is not Behaviour.IGNORES:
            self.power.set_limit(self.limit_w(), self.now_s())

    def notify(self, action: str, payload: Payload) -> None:
        """Queue a message for the central system; the oldest gives way when too many wait."""
        if self.notices.full():
            self.notices.get_nowait()
        self.notices.put_nowait((action, payload))

    # Its life.

    async def run(self) -> None:
        """Dial, live, lose the connection, back off, and again, until cancelled."""
        failures = 0
        try:
            while True:
                await self._may_dial.wait()
                self.booted = False
                try:
                    async with asyncio.timeout(DIAL_TIMEOUT_S):
                        websocket = await self.dial()
                except (OSError, InvalidHandshake, TimeoutError) as problem:
                    log.info("%s: cannot connect: %s", self.serial, problem)
                else:
                    await self._serve(websocket)
                if not self._may_dial.is_set():
                    continue
                failures = 0 if self.booted else failures + 1
                wait_s = min(self._back_off_s * 2 ** min(failures, 5), 30.0) * self._chance.uniform(0.75, 1.25)
                await asyncio.sleep(wait_s)
        finally:
            if self._dead is not None:
                self._dead.transport.abort()

    async def _serve(self, websocket: ClientConnection) -> None:
        if not self._may_dial.is_set():
            websocket.transport.abort()
            return
        self._websocket = websocket
        self._left.clear()
        peer = Peer(websocket, self._answer, name=self.serial, checked=self._checked)
        log.info("%s: connected", self.serial)
        tasks = {
            asyncio.create_task(peer.run()),
            asyncio.create_task(self.live(peer)),
            asyncio.create_task(self._left.wait()),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._websocket = None
            if websocket is not self._dead:
                await websocket.close()
            log.info("%s: disconnected", self.serial)

    async def _answer(self, action: str, payload: Payload) -> Answer:
        if self.behaviour is Behaviour.NEVER:
            return None
        if self.behaviour is Behaviour.LATE:
            await asyncio.sleep(self.answer_delay_s)
        return await self.answer(action, payload)

    async def send_notices(self, peer: Peer) -> None:
        """Send what `notify` queued, in order."""
        while True:
            action, payload = await self.notices.get()
            await peer.call(action, payload)

    async def heartbeats(self, peer: Peer, interval_s: float) -> None:
        """Send Heartbeat every `interval_s`."""
        while True:
            await asyncio.sleep(max(interval_s, 1.0))
            await peer.call("Heartbeat", {})

    async def wait_for_session(self, within_s: float) -> None:
        """Wait until a session starts or ends, at most `within_s`: what was not acknowledged is then said again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self.session_changed.wait()
        self.session_changed.clear()

    def _go_away(self, *, dead: bool) -> None:
        self._away = True
        self._settle_presence()
        if dead and self._websocket is not None and self._dead is None:
            self._dead = self._websocket
            self._dead.transport.pause_reading()
        self._left.set()

    def _come_back(self) -> None:
        if self._dead is not None:
            self._dead.transport.abort()
            self._dead = None
        self._away = False
        self._settle_presence()

    def _hang_up(self) -> None:
        if self._websocket is not None:
            self._websocket.transport.abort()

    def _power_up(self, id_tag: str | None) -> None:
        self._powered = True
        self.power.set_limit(self.limit_w(), self.now_s(), at_once=True)
        if id_tag is not None:
            self.start_session(id_tag)
        self._settle_presence()

    def _settle_presence(self) -> None:
        if self._powered and not self._away:
            self._may_dial.set()
        else:
            self._may_dial.clear()
