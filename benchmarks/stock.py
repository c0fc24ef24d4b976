"""The stock way: `ocpp` of mobilityhouse as its documentation shows it, `ChargePoint.call` gathered over stations."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any

from ocpp.routing import on
from ocpp.v16 import ChargePoint as ChargePoint16
from ocpp.v16 import call as call16
from ocpp.v16 import call_result as result16
from ocpp.v201 import ChargePoint as ChargePoint201
from ocpp.v201 import call as call201
from ocpp.v201 import call_result as result201
from websockets.asyncio.server import ServerConnection, serve

from benchmarks.control import Reply, obey, run, say

logging.getLogger("ocpp").setLevel(logging.ERROR)  # it logs every message, which would be most of its cost
logging.getLogger("websockets").setLevel(logging.CRITICAL)  # connections end without a word here


def _now() -> str:
    return datetime.now(UTC).isoformat()


class Legacy(ChargePoint16):
    """A 1.6 charge point, the nearest to Series 4 that the library has."""

    @on("BootNotification")
    def boot(self, **_: Any) -> result16.BootNotification:
        return result16.BootNotification(current_time=_now(), interval=300, status="Accepted")

    @on("MeterValues")
    def meter(self, **_: Any) -> result16.MeterValues:
        return result16.MeterValues()

    async def limit(self, limit_w: int) -> None:
        """Write the limit and read it back."""
        await self.call(call16.ChangeConfiguration(key="MaxChargingPowerW", value=str(limit_w)))
        await self.call(call16.GetConfiguration(key=["MaxChargingPowerW"]))


class Native(ChargePoint201):
    """A 2.0.1 charging station."""

    @on("BootNotification")
    def boot(self, **_: Any) -> result201.BootNotification:
        return result201.BootNotification(current_time=_now(), interval=300, status="Accepted")

    @on("MeterValues")
    def meter(self, **_: Any) -> result201.MeterValues:
        return result201.MeterValues()

    async def limit(self, limit_w: int) -> None:
        """Set the charging profile."""
        schedule = {
            "id": 1,
            "start_schedule": _now(),
            "charging_rate_unit": "W",
            "charging_schedule_period": [{"start_period": 0, "limit": limit_w}],
        }
        profile = {
            "id": 104001,
            "stack_level": 1,
            "charging_profile_purpose": "ChargingStationMaxProfile",
            "charging_profile_kind": "Absolute",
            "charging_schedule": [schedule],
        }
        await self.call(call201.SetChargingProfile(evse_id=0, charging_profile=profile))


class Stock:
    """A central system as the examples of the library build one."""

    def __init__(self) -> None:
        self.charge_points: list[Legacy | Native] = []

    async def serve(self, connection: ServerConnection) -> None:
        """Run a charge point for a connection."""
        kind = Native if connection.subprotocol == "ocpp2.0.1" else Legacy
        path = "" if connection.request is None else connection.request.path
        charge_point = kind(path.strip("/"), connection)
        self.charge_points.append(charge_point)
        await charge_point.start()

    async def do(self, do: str, given: dict[str, Any]) -> Reply:
        """Tell all chargers `limit_w` and wait until all have answered."""
        assert do == "fan"
        began = time.monotonic()
        await asyncio.gather(*(charge_point.limit(given["limit_w"]) for charge_point in self.charge_points))
        return {"seconds": time.monotonic() - began}


async def _main() -> None:
    stock = Stock()
    protocols: Any = ["ocpp2.0.1", "ocpp1.6"]
    server = await serve(
        stock.serve, "127.0.0.1", 0, subprotocols=protocols, compression=None, ping_interval=None, backlog=4096
    )
    async with server:
        say({"port": next(iter(server.sockets)).getsockname()[1]})
        await obey(stock.do)


if __name__ == "__main__":
    run(_main, fast=False)
