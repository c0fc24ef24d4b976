"""A fault proxy that runs alone is broken and healed over HTTP."""

from __future__ import annotations

from bridge.lab.fault_proxy import Fault, FaultProxy
from bridge.lab.http_client import fetch
from bridge.lab.player import Player, Target
from bridge.lab.proxy_api import ProxyApi


async def test_a_player_breaks_and_heals_the_line_where_the_proxy_stands() -> None:
    proxy = FaultProxy("127.0.0.1", 9)
    await proxy.open()
    api = ProxyApi(proxy)
    await api.open()
    url = f"http://127.0.0.1:{api.port}"
    try:
        player = Player(Target("127.0.0.1", 9, proxy_url=url), lambda _line: None)
        assert (await fetch(f"{url}/fault"))["fault"] == "none"
        for fault in (Fault.CUT, Fault.SILENT, Fault.NONE):
            await player._bring(fault)
            assert proxy.fault is fault
    finally:
        await api.close()
        await proxy.close()
