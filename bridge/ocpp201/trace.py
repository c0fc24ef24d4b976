"""The conversation of every charger as it happened, on both sides of the bridge, its secrets masked."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeAlias

import msgspec

from bridge.core.quantities import Now
from bridge.ocpp201.letters import NO_CAUSE, Cause, Delivery
from bridge.ocpp201.rpc import CallError, Payload
from bridge.ocpp201.timestamps import rfc3339

KEPT: Final = 5_000
SHOWN_CHARACTERS: Final = 2_000
OPEN_CALLS: Final = 2_000
CAUSED_WITHIN_MS: Final = 2_000
MASK: Final = "***"
SHOWN_OF_A_TAG: Final = 2

UNIT: Final = "unit"
CSMS: Final = "CSMS"

Observer: TypeAlias = Callable[[str, bool, str, str, Payload | CallError], None]

# The driver: the first characters stay, so that an engineer can tell two of them apart.
_DRIVERS: Final = frozenset({"idtag", "parentidtag", "idtoken", "customeridentifier"})
_SECRETS: Final = frozenset(
    {
        *("password", "certificate", "certificatechain", "csr", "exirequest", "exiresponse", "signature"),
        *("signingcertificate", "hexidecimalpassword", "iso15118certificatehashdata", "ocspresult"),
    }
)
# What vehicles and certificates say to each other is on no disk of ours.
_NEVER_KEPT: Final = frozenset(
    {
        *("Get15118EVCertificate", "GetCertificateStatus", "NotifyEVChargingNeeds", "NotifyEVChargingSchedule"),
        *("SignCertificate", "CertificateSigned", "InstallCertificate", "DeleteCertificate"),
        "GetInstalledCertificateIds",
    }
)
_ISO15118: Final = "iso15118"  # in the vendorId of a DataTransfer: the same for OCPP 1.6
NOT_KEPT: Final = '"not kept"'
_SECRET_KEYS: Final = re.compile(r"password|authorizationkey|secret|token", re.IGNORECASE)
# Whose text has none of these has nothing to hide and need not be taken apart, which most messages are spared.
_SUSPICIOUS: Final = re.compile(
    "|".join((*_DRIVERS, *_SECRETS, "password", "authorizationkey", "secret", "token", "://")).encode()
)
_encode = msgspec.json.Encoder(enc_hook=str).encode
_USER_OF_URL: Final = re.compile(r"(?<=://)[^/@\s]+(?=@)")


@dataclass(frozen=True, slots=True)
class Said:
    """One message. `way` is Rx or Tx and `leg` unit or CSMS, seen from the bridge; `text` is its payload, masked.

    `exchange` is shared by a request, what it caused on the other leg, and their answers; `cause` names the request
    that caused it, such as `Rx unit StartTransaction`, empty where nothing did.
    """

    number: int
    utc_ms: int
    serial: str
    leg: str
    way: str
    kind: str
    action: str
    exchange: int
    cause: str
    text: str

    def line(self) -> str:
        """The message for a person, its cause before it."""
        arrow = f"{self.cause} → " if self.cause else ""
        sign = {"call": "", "result": "= ", "error": "! "}[self.kind]
        said = f"{arrow}{self.way} {self.leg} {sign}{self.action} {self.text}"
        return f"{rfc3339(self.utc_ms)} {self.serial} #{self.exchange} {said}"


class Trace:
    """The last 5,000 messages of all chargers, oldest first, beginning with those `before` the service started.

    `keep` is told of each, without the payload where it concerns ISO 15118. `observer` is what an `Rpc` tells of its
    messages. A request that leaves is taken to be caused by the newest request that came for the same charger on the
    other leg, if that is not older than 2 s; a `Delivery` says itself what caused it, however long ago.
    """

    def __init__(
        self,
        clock: Callable[[], Now],
        kept: int = KEPT,
        *,
        keep: Callable[[Said], None] = lambda _: None,
        before: Iterable[Said] = (),
    ) -> None:
        self._clock = clock
        self._keep = keep
        self._said: deque[Said] = deque(before, maxlen=kept)
        self._number = self._said[-1].number if self._said else 0
        self._came: dict[tuple[str, str], Said] = {}
        self._calls: dict[tuple[str, str, str, str], Said] = {}

    def observer(self, serial: str, leg: str) -> Observer:
        """What to hand to the `Rpc` of this leg of a charger."""
        return partial(self._observe, serial, leg)

    def since(self, number: int = 0, serial: str = "", action: str = "") -> Iterator[Said]:
        """Go through what was said after message `number`, of one charger, of actions with `action` in their names."""
        wanted = action.casefold()
        for said in list(self._said):
            about = f"{said.action} {said.cause}".casefold()
            if said.number > number and serial in ("", said.serial) and wanted in about:
                yield said

    def lines(self, after: int = 0, serial: str = "", action: str = "") -> tuple[int, list[str]]:
        """The number of the newest message, and what was said after message `after` as lines for a person."""
        if after > self._number:
            after = 0  # the service has started anew
        return self._number, [said.line() for said in self.since(after, serial, action)]

    def cause(self, serial: str, leg: str) -> Cause:
        """What a request of this moment to a charger or its CSMS is taken to be caused by."""
        came = self._came.get((serial, CSMS if leg == UNIT else UNIT))
        if came is None or not 0 <= self._clock().utc_ms - came.utc_ms <= CAUSED_WITHIN_MS:
            return NO_CAUSE
        return Cause(came.exchange, f"{came.way} {came.leg} {came.action}")

    def _observe(
        self, serial: str, leg: str, way: str, is_call: bool, message_id: str, action: str, content: Payload | CallError
    ) -> None:
        self._number += 1
        now_ms = self._clock().utc_ms
        if isinstance(content, CallError):
            kind, shown = "error", {"code": content.code, "description": content.description}
        else:
            kind, shown = "call" if is_call else "result", content
        caller = way if is_call else {"Rx": "Tx", "Tx": "Rx"}[way]
        key = (serial, leg, caller, message_id)
        call = None if is_call else self._calls.pop(key, None)
        cause = NO_CAUSE
        if isinstance(content, Delivery):
            cause = content.cause
        elif is_call and way == "Tx":
            cause = self.cause(serial, leg)
        exchange = cause.exchange or self._number
        if call is not None:
            exchange, action = call.exchange, call.action
        said = Said(self._number, now_ms, serial, leg, way, kind, action, exchange, cause.request, shown_text(shown))
        self._said.append(said)
        is_private = action in _NEVER_KEPT or _is_iso15118(said) or (call is not None and _is_iso15118(call))
        self._keep(replace(said, text=NOT_KEPT) if is_private else said)
        if is_call:
            self._calls[key] = said
            if len(self._calls) > OPEN_CALLS:
                del self._calls[next(iter(self._calls))]
            if way == "Rx":
                self._came[serial, leg] = said


def _is_iso15118(said: Said) -> bool:
    return said.action == "DataTransfer" and _ISO15118 in said.text.casefold()


def shown_text(payload: Payload) -> str:
    """A payload as compact JSON without its secrets, cut where it is long."""
    written = _encode(payload)
    if not written.isascii() or _SUSPICIOUS.search(written.lower()) is not None:
        written = _encode(masked(payload))
    text = written.decode()
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}… {len(text)} characters"


def masked(value: Any, name: str = "") -> Any:
    """The same value without passwords, certificates, users in addresses, and all but the beginning of idTags."""
    if name in _SECRETS:
        return MASK
    if isinstance(value, Mapping):
        secret = _names_a_secret(value)
        return {
            key: MASK if secret and key in ("value", "attributeValue") else masked(item, str(key).casefold())
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [masked(item, name) for item in value]
    if not isinstance(value, str):
        return value
    if name in _DRIVERS:
        return value[:SHOWN_OF_A_TAG] + MASK if value else value
    return _USER_OF_URL.sub(MASK, value)


def _names_a_secret(value: Mapping[str, Any]) -> bool:
    """Whether the value beside a configuration key or variable is one nobody should read."""
    variable = value.get("variable")
    named = variable.get("name") if isinstance(variable, Mapping) else value.get("key")
    return isinstance(named, str) and _SECRET_KEYS.search(named) is not None
