"""What a CSMS last said of each idToken, for the time in which it cannot be asked: OCPP 2.0.1 C10, C12, D01."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol

import structlog

from bridge.core.quantities import Millis, Now
from bridge.ocpp201.rpc import Outcome, Payload
from bridge.ocpp201.timestamps import read_utc_ms, rfc3339

ROOM: Final = "authorization_cache"
MAX_ENTRIES: Final = 10_000  # of all chargers; the one that was confirmed longest ago gives way
LIFETIME_MS: Final = 30 * 86_400_000  # since the CSMS last confirmed it (AuthCacheCtrlr.LifeTime)
CONFIRM_MS: Final = 86_400_000  # what was confirmed so recently is not written anew

log = structlog.get_logger(__name__)


class Shelf(Protocol):
    """Kept values by room and key."""

    def put(self, room: str, key: str, value: str) -> None:
        """Keep a value in place of what was there."""
        ...

    def delete(self, room: str, key: str) -> None:
        """Keep it no more."""
        ...

    def items(self, room: str) -> Iterator[tuple[str, str]]:
        """Go through all of a room."""
        ...


class _Entry(NamedTuple):
    status: str
    expires_ms: Millis | None
    group: Payload | None
    confirmed_ms: Millis


class AuthorizationCache:
    """The idTokens of each charger as its CSMS knows them, kept across restarts.

    Filled by the answers to Authorize and TransactionEvent and by accepted local lists; emptied by ClearCache and
    CustomerInformation.
    """

    def __init__(self, shelf: Shelf, clock: Callable[[], Now]) -> None:
        self._shelf = shelf
        self._clock = clock
        read = {key: entry for key, value in shelf.items(ROOM) if (entry := _read(key, value)) is not None}
        self._entries = dict(sorted(read.items(), key=lambda each: each[1].confirmed_ms))

    def id_token_info(self, serial: str, id_token: Payload) -> Payload | None:
        """What the CSMS last said of an idToken, None where it said nothing that still counts."""
        entry, utc_ms = self._entries.get(_key(serial, id_token)), self._clock().utc_ms
        if entry is None or utc_ms - entry.confirmed_ms > LIFETIME_MS:
            return None
        info: Payload = {"status": entry.status}
        if entry.expires_ms is not None:
            if utc_ms >= entry.expires_ms:
                return None
            info["cacheExpiryDateTime"] = rfc3339(entry.expires_ms)
        return info if entry.group is None else info | {"groupIdToken": entry.group}

    def answered(self, serial: str, action: str, request: Payload, outcome: Outcome) -> None:
        """Take up what the CSMS answered to a charger."""
        if action in ("Authorize", "TransactionEvent") and "idToken" in request and isinstance(outcome, dict):
            info = outcome.get("idTokenInfo")
            if info is not None:
                self._learn(_key(serial, request["idToken"]), info)

    def asked(self, serial: str, action: str, request: Payload, answer: Outcome) -> None:
        """Take up what the CSMS asked of a charger, and what that answered."""
        accepted = isinstance(answer, dict) and answer.get("status") == "Accepted"
        if action == "ClearCache":
            self._forget([key for key in self._entries if key.startswith(f"{serial}/")])
        elif action == "CustomerInformation" and accepted and request["clear"] and "idToken" in request:
            self._forget([_key(serial, request["idToken"])])
        elif action == "SendLocalList" and accepted:
            for each in request.get("localAuthorizationList", ()):
                key = _key(serial, each["idToken"])
                if "idTokenInfo" in each:
                    self._learn(key, each["idTokenInfo"])
                else:
                    self._forget([key])

    def _learn(self, key: str, info: Payload) -> None:
        now_ms, before = self._clock().utc_ms, self._entries.get(key)
        entry = _Entry(
            info["status"], read_utc_ms(info.get("cacheExpiryDateTime", "")), info.get("groupIdToken"), now_ms
        )
        if before is not None and entry[:3] == before[:3] and 0 <= now_ms - before.confirmed_ms < CONFIRM_MS:
            return
        self._entries.pop(key, None)
        self._entries[key] = entry
        self._shelf.put(ROOM, key, json.dumps(entry))
        if len(self._entries) > MAX_ENTRIES:
            self._forget([next(iter(self._entries))])

    def _forget(self, keys: list[str]) -> None:
        for key in keys:
            if self._entries.pop(key, None) is not None:
                self._shelf.delete(ROOM, key)


def _read(key: str, value: str) -> _Entry | None:
    try:
        status, expires_ms, group, confirmed_ms = json.loads(value)
        return _Entry(str(status), expires_ms, group, int(confirmed_ms))
    except (ValueError, TypeError) as why:
        serial = key.partition("/")[0]
        log.warning("what the CSMS said of an idToken is unreadable: not counted", charger=serial, why=str(why))
        return None


def _key(serial: str, id_token: Payload) -> str:
    return f"{serial}/{id_token['type']}/{str(id_token['idToken']).casefold()}"
