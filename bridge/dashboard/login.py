"""The page on which somebody logs in with a token, and the routes around the session: plain HTML, no script."""

from __future__ import annotations

from html import escape
from typing import Annotated, Final

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from bridge.dashboard.sessions import COOKIE, SESSION_S, Sessions
from bridge.dashboard.words import LANGUAGES, Words, language_of

LANGUAGE_COOKIE: Final = "gridlimit_language"
YEAR_S: Final = 365 * 86_400

_PAGE: Final = """<!doctype html>
<html lang="{language}"><head><meta charset="utf-8"><title>{site} · {title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="stylesheet" href="/assets/dashboard.css">
</head><body><main class="gl-card gl-login"><h1>{site}</h1><p class="gl-quiet">{why}</p>{note}
<form method="post" action="/login"><label>{token}<input name="token" type="password" autocomplete="current-password"
 autofocus required maxlength="200"></label><button type="submit">{title}</button></form>
<p class="gl-quiet gl-small">{how}<br><code>gridlimit token add NAME --role operate</code></p></main></body></html>"""


def words_for(request: Request) -> Words:
    """The words of the language that was chosen, or that the browser asks for."""
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    return Words(chosen if chosen in LANGUAGES else language_of(request.headers.get("accept-language", "")))


def login_routes(sessions: Sessions, site: str) -> APIRouter:
    """Logging in and out, and choosing a language."""
    routes = APIRouter(include_in_schema=False)

    def page(request: Request, *, refused: bool = False) -> HTMLResponse:
        words = words_for(request)
        free = sessions.may_look(request)
        text = _PAGE.format(
            language=words.language,
            site=escape(site),
            title=words("Log in"),
            why=words("Looking needs no login here, acting does." if free else "Looking needs a login here."),
            note=f'<p class="gl-note" role="alert">{words("This token is not known.")}</p>' if refused else "",
            token=words("Token"),
            how=words("A token is made on the host of the bridge:"),
        )
        return HTMLResponse(text, 401 if refused else 200)

    @routes.get("/login")
    async def ask(request: Request) -> HTMLResponse:
        return page(request)

    @routes.post("/login")
    async def log_in(request: Request, token: Annotated[str, Form(max_length=200)]) -> Response:
        word = sessions.log_in(token.strip())
        if word is None:
            return page(request, refused=True)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, word, max_age=SESSION_S, httponly=True, samesite="strict")
        return answer

    @routes.get("/logout")
    async def log_out(request: Request) -> Response:
        sessions.log_out(request.cookies.get(COOKIE, ""))
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(COOKIE)
        return answer

    @routes.get("/language/{language}")
    async def choose(language: str) -> Response:
        answer = RedirectResponse("/", 303)
        if language in LANGUAGES:
            answer.set_cookie(LANGUAGE_COOKIE, language, max_age=YEAR_S, httponly=True, samesite="strict")
        return answer

    return routes
