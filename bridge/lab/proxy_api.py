"""HTTP control of a fault proxy that runs alone: what breaks the connections it carries, and what heals them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Body, FastAPI

from bridge.lab.fault_proxy import Fault, FaultProxy
from bridge.lab.http_server import HttpServer


class ProxyApi(HttpServer):
    """Serves GET and POST /fault of one proxy: `{"fault": "none"}`, `cut` or `silent`."""

    def __init__(self, proxy: FaultProxy, host: str = "127.0.0.1", port: int = 0) -> None:
        self._proxy = proxy
        app = FastAPI(title="Fault proxy", docs_url=None, redoc_url=None)
        app.get("/fault")(self._state)
        app.post("/fault")(self._bring)
        super().__init__(app, host, port)

    async def _state(self) -> dict[str, str | int]:
        return {"fault": self._proxy.fault.value, "connections": self._proxy.connections}

    async def _bring(self, fault: Annotated[Fault, Body(embed=True)]) -> dict[str, str | int]:
        self._proxy.bring(fault)
        return await self._state()
