"""The guards of the routes: a token of the right role, or a caller who may look unnamed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from fastapi import HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from bridge.web.people import Person, Role, Tokens

Guard = Callable[..., Awaitable[Person | None]]

_bearer = HTTPBearer(auto_error=False, description="A token made by `gridlimit token add`.")
_Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]

_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
UNKNOWN: Final = "this token is not known: make one on the host with `gridlimit token add NAME --role view`"
VIEW_NEEDS_TOKEN: Final = "looking needs a token: `gridlimit token add NAME --role view` makes one on the host"  # noqa: S105
ACT_NEEDS_TOKEN: Final = "acting needs a token: `gridlimit token add NAME --role operate` makes one on the host"  # noqa: S105
MAY_ONLY_LOOK: Final = "this token may only look: acting needs one of the role operate"


def viewing(tokens: Tokens) -> Guard:
    """What lets in whoever may look, named or not."""

    async def guard(request: Request, credentials: _Credentials) -> Person | None:
        if credentials is not None:
            return _known(tokens, credentials)
        address = request.client.host if request.client is not None else ""
        if not tokens.may_look_unnamed(address, request.url.hostname or ""):
            raise HTTPException(401, VIEW_NEEDS_TOKEN, _CHALLENGE)
        return None

    return guard


def operating(tokens: Tokens) -> Callable[..., Awaitable[Person]]:
    """What lets in whoever may act, always by name."""

    async def guard(credentials: _Credentials) -> Person:
        if credentials is None:
            raise HTTPException(401, ACT_NEEDS_TOKEN, _CHALLENGE)
        person = _known(tokens, credentials)
        if person.role is not Role.OPERATE:
            raise HTTPException(403, MAY_ONLY_LOOK)
        return person

    return guard


def _known(tokens: Tokens, credentials: HTTPAuthorizationCredentials) -> Person:
    person = tokens.person(credentials.credentials)
    if person is None:
        raise HTTPException(401, UNKNOWN, _CHALLENGE)
    return person
