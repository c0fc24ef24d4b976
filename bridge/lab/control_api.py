"""HTTP control of simulated chargers: what an observer beside them sees, and what they are made to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from fastapi import Body, FastAPI, HTTPException

from bridge.lab.charger import Action, Behaviour, SimulatedCharger
from bridge.lab.http_server import HttpServer

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


class ControlApi(HttpServer):
    """Serves GET /chargers (a list of `charger.View`) and POST /chargers/{serial} (an `Order`, answers the view).

    An unknown serial is 404, an order that makes no sense 422. Port 0 takes a free one; `port` is the bound one.
    """

    def __init__(self, chargers: Sequence[SimulatedCharger], host: str = "127.0.0.1", port: int = 0) -> None:
        self._chargers = {charger.serial: charger for charger in chargers}
        app = FastAPI(title="Simulated chargers", docs_url=None, redoc_url=None)
        app.get("/chargers")(self._list)
        app.post("/chargers/{serial}")(self._order)
        super().__init__(app, host, port)

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
