"""Who is logged in: a random word in a cookie of the browser, and behind it, in memory alone, a token.

A token that no longer counts logs out whoever came with it, and a restart everybody. The cookie is for this site only
(SameSite=Strict), so no other page can act with it, and no script can read it.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Final

from fastapi import Request

from bridge.web.people import Person, Role, Tokens

COOKIE: Final = "gridlimit_session"
SESSION_S: Final = 12 * 3_600
MAX_SESSIONS: Final = 500


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who has logged in with a token, until a monotonic time."""

    token: str
    ends_s: float


class Sessions:
    """The sessions of one dashboard; the oldest go where there are too many."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._sessions: dict[str, Session] = {}

    def log_in(self, token: str) -> str | None:
        """The word for the cookie, None if the token is nobody's."""
        if self._tokens.person(token) is None:
            return None
        while len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        word = secrets.token_urlsafe(24)
        self._sessions[word] = Session(token, time.monotonic() + SESSION_S)
        return word

    def log_out(self, word: str) -> None:
        """Forget a session."""
        self._sessions.pop(word, None)

    def token(self, word: str) -> str | None:
        """The token behind a cookie, None if there is none that still counts."""
        session = self._sessions.get(word)
        if session is None or session.ends_s < time.monotonic() or self._tokens.person(session.token) is None:
            self.log_out(word)
            return None
        return session.token

    def person(self, word: str) -> Person | None:
        """Who has logged in, None if nobody has."""
        token = self.token(word)
        return None if token is None else self._tokens.person(token)

    def may_look(self, request: Request) -> bool:
        """Whether whoever asks may see the dashboard: by a session, or as one who needs none."""
        if self.person(request.cookies.get(COOKIE, "")) is not None:
            return True
        address = request.client.host if request.client is not None else ""
        return self._tokens.may_look_unnamed(address, request.url.hostname or "")

    def may_act(self, word: str) -> bool:
        """Whether whoever bears the cookie may act."""
        person = self.person(word)
        return person is not None and person.role is Role.OPERATE
