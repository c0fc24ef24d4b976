"""The process of the dashboard: NiceGUI on a port of its own, fed by one stream, ended with the service that began it.

It is a process of its own so that no browser can slow the loop that carries the limit: the service has one listener
more, whatever is looked at here, and this process runs at a lower priority.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

import structlog
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from nicegui import app, ui

from bridge.dashboard.acting import Acting
from bridge.dashboard.charts import POWER
from bridge.dashboard.feed import Feed
from bridge.dashboard.login import login_routes, words_for
from bridge.dashboard.page import Page
from bridge.dashboard.sessions import COOKIE, Sessions
from bridge.settings import Settings
from bridge.web.people import Tokens

log = structlog.get_logger()

ASSETS: Final = Path(__file__).parent
NICENESS: Final = 5
MAX_PAGES: Final = 100
QUIET_LOOK_S: Final = 1.0
EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  where a service that listens there is asked

_HEAD: Final = """<link rel="stylesheet" href="/assets/dashboard.css"><script src="/assets/dashboard.js"></script>"""


class Dashboard:
    """The pages that are open, and the one feed they show."""

    def __init__(self, settings: Settings) -> None:
        http = settings.http
        host = EVERYWHERE.get(http.host, http.host)
        address = f"http://{f'[{host}]' if ':' in host else host}:{http.port}"
        self.feed = Feed(address, settings.data_dir)
        self.sessions = Sessions(
            Tokens(http.tokens_file or settings.data_dir / "tokens", anyone_may_view=http.anyone_may_view)
        )
        self._pages: dict[str, Page] = {}
        self._may_look: dict[str, Callable[[], bool]] = {}
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Follow the feed in the running loop, for ever."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        await asyncio.gather(self.feed.run(self._changed), self._watch())

    async def show(self, request: Request) -> Response | None:
        """Build the page for a browser, or lead it to the login."""
        if not self.sessions.may_look(request):
            return RedirectResponse("/login")
        client, words = ui.context.client, words_for(request)
        acting = Acting(client, self.feed, self.sessions, request.cookies.get(COOKIE, ""), words)
        ui.colors(primary=POWER)
        ui.add_head_html(f'{_HEAD}<script>document.documentElement.lang = "{words.language}"</script>')
        page = Page(client, self.feed, words, acting)
        while len(self._pages) >= MAX_PAGES:
            oldest = next(iter(self._pages))
            self._pages[oldest].client.delete()
            self._forget(oldest)
        self._pages[client.id] = page
        self._may_look[client.id] = partial(self.sessions.may_look, request)
        client.on_delete(partial(self._forget, client.id))
        await client.connected()
        minutes = await client.run_javascript("-new Date().getTimezoneOffset()", timeout=5.0)
        page.use_clock(int(minutes))
        return None

    def _forget(self, client_id: str) -> None:
        self._pages.pop(client_id, None)
        self._may_look.pop(client_id, None)

    async def _changed(self, serials: list[str], whole: bool) -> None:
        hour, day = self.feed.known.sampled()
        for page in list(self._pages.values()):
            with page.client:
                page.update(serials, whole=whole, hour=hour, day=day)
            await asyncio.sleep(0)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(QUIET_LOOK_S)
            for client_id, page in list(self._pages.items()):
                if not self._may_look[client_id]():
                    self._forget(client_id)
                    with page.client:
                        ui.navigate.to("/login")
            if self.feed.silent_s > QUIET_LOOK_S * 3:
                for page in list(self._pages.values()):
                    with page.client:
                        page.update([], whole=False)


def run(settings: Settings, port: int, *, until_stdin_ends: bool = False) -> None:
    """Serve until a signal, or, as a child of the service, until that ends and its end of the pipe with it."""
    os.nice(NICENESS)
    dashboard = Dashboard(settings)
    web = _web(dashboard, settings)
    server = uvicorn.Server(
        uvicorn.Config(web, settings.http.host, port, log_level="warning", access_log=False, server_header=False)
    )

    async def begin() -> None:
        if until_stdin_ends:
            asyncio.get_running_loop().add_reader(sys.stdin, lambda: setattr(server, "should_exit", True))
        await dashboard.begin()

    app.on_startup(begin)
    server.run()


def _web(dashboard: Dashboard, settings: Settings) -> FastAPI:
    web = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    web.middleware("http")(_for_no_frame)
    web.include_router(login_routes(dashboard.sessions, settings.site.name))
    app.add_static_files("/assets", ASSETS, max_cache_age=60)
    ui.page("/", title=settings.site.name)(dashboard.show)
    ui.run_with(web, dark=True, title=settings.site.name, tailwind=False, show_welcome_message=False)
    return web


async def _for_no_frame(request: Request, serve: Callable[[Request], Awaitable[Response]]) -> Response:
    """No other page may frame this one and have its clicks."""
    answer = await serve(request)
    answer.headers["X-Frame-Options"] = "DENY"
    answer.headers["Content-Security-Policy"] = "frame-ancestors 'none'"
    answer.headers["Referrer-Policy"] = "same-origin"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer
