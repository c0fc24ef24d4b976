"""HTTP control of simulated chargers: what an observer beside them sees, and what they are made to do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import uvicorn
from fastapi import Body, FastAPI, HTTPException

from bridge.lab.charger import Action, Behaviour, SimulatedCharger

STARTUP_TIMEOUT_S = 10.0
MAX_DEMAND_W = 1_000_000


@dataclass(frozen=True)
class Order:
    """What a charger is made to do; what is None stays as it is. `action` comes last."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    demand_w: int | None = None
    behaviour: Behaviour | None = None
    answer_delay_s: float | None = None
    charging: bool | None = None
    action: Action | None = None


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


class ControlApi:
    """Serves GET /chargers (a list of `charger.View`) and POST /chargers/{serial} (an `Order`, answers the view).

    An unknown serial is 404, an order that makes no sense 422. Port 0 takes a free one; `port` is the bound one.
    """

    def __init__(self, chargers: Sequence[SimulatedCharger], host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        self._chargers = {charger.serial: charger for charger in chargers}
        app = FastAPI(title="Simulated chargers", docs_url=None, redoc_url=None)
        app.get("/chargers")(self._list)
        app.post("/chargers/{serial}")(self._order)
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

    async def _list(self) -> list[dict[str, Any]]:
        return [charger.view() for charger in self._chargers.values()]

    async def _order(self, serial: str, order: Annotated[Order, Body()]) -> dict[str, Any]:
        charger = self._chargers.get(serial)
        if charger is None:
            raise HTTPException(404, f"no charger {serial} here; GET /chargers lists them")
        if order.demand_w is not None:
            if not 0 <= order.demand_w <= MAX_DEMAND_W:
                raise HTTPException(422, f"demand_w must be 0 to {MAX_DEMAND_W} W")
            charger.set_demand(order.demand_w)
        if order.behaviour is not None:
            charger.behave(order.behaviour, order.answer_delay_s)
        if order.charging is not None:
            if order.charging:
                charger.start_session()
            else:
                charger.stop_session()
        if order.action is not None:
            charger.act(order.action)
        return charger.view()
