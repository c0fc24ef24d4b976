"""The player finds every charger, wherever its control API runs."""

from __future__ import annotations

from contextlib import AsyncExitStack

from bridge.lab.control_api import ControlApi
from bridge.lab.player import Player, Target
from bridge.lab.series4 import Series4Unit
from bridge.lab.station201 import Station201


async def test_chargers_of_several_control_apis_are_counted_on_in_the_order_named() -> None:
    units = [Series4Unit("ws://127.0.0.1:9/", serial) for serial in ("S4-0001", "S4-0002")]
    station = Station201("ws://127.0.0.1:9/", "CS-0001")
    async with AsyncExitStack() as opened:
        urls = []
        for chargers in (units, [station]):
            api = ControlApi(chargers)
            await api.open()
            opened.push_async_callback(api.close)
            urls.append(f"http://127.0.0.1:{api.port}")
        player = Player(Target("127.0.0.1", 9, tuple(urls)), lambda _line: None)
        await player._one_wants(2, 7_200)
        assert [unit.view()["demand_w"] for unit in units] == [22_000, 22_000]
        assert station.view()["demand_w"] == 7_200
        await player._everyone_wants(9_000)
        assert [charger.view()["demand_w"] for charger in (*units, station)] == [9_000] * 3
