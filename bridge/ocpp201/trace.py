"""The conversation of every charger as it happened, on both sides of the bridge, its secrets masked."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from bridge.core.quantities import Now
from bridge.ocpp201.letters import NO_CAUSE, Cause, Delivery
from bridge.ocpp201.rpc import CallError, Payload, Written
from bridge.ocpp201.timestamps import rfc3339

KEPT: Final = 5_000
WORK_UP_AFTER_S: Final = 0.5
WORK_UP_NEXT_AFTER_S: Final = 0.01
WORKED_UP_AT_ONCE: Final = 100
HEARD_AT_MOST: Final = 20_000
SHOWN_CHARACTERS: Final = 2_000
REMEMBERED: Final = 1_024
REMEMBERED_CHARACTERS: Final = 512
OPEN_CALLS: Final = 2_000
CAUSED_WITHIN_MS: Final = 2_000
MASK: Final = "***"
SHOWN_OF_A_TAG: Final = 2

UNIT: Final = "unit"
CSMS: Final = "CSMS"
_OTHER_WAY: Final = {"Rx": "Tx", "Tx": "Rx"}

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
_VALUES: Final = frozenset({"value", "attributeValue", "actualValue"})
_SECRET_KEYS: Final = re.compile(r"password|authorizationkey|secret|token", re.IGNORECASE)
# Whose text has none of these has nothing to hide and need not be taken apart, which most messages are spared.
_EVERY_SUSPICIOUS: Final = (*_DRIVERS, *_SECRETS, "password", "authorizationkey", "secret", "token", "://")
_SUSPICIOUS: Final = tuple(
    word.encode()
    for word in _EVERY_SUSPICIOUS
    if not any(other != word and other in word for other in _EVERY_SUSPICIOUS)  # who looks for the other finds it
)
_harmless: set[bytes] = set()
_encode = msgspec.json.Encoder(enc_hook=str).encode
_USER_OF_URL: Final = re.compile(r"(?<=://)[^/@\s]+(?=@)")


class Said(NamedTuple):
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


class _Heard(NamedTuple):
    """A message as it was observed; `text` is its JSON text with all its secrets."""

    number: int
    utc_ms: int
    serial: str
    leg: str
    way: str
    kind: str
    message_id: str
    action: str
    cause: Cause
    text: bytes


class Trace:
    """The last 5,000 messages of all chargers, oldest first, beginning with those `before` the service started.

    `keep` is told of each, without the payload where it concerns ISO 15118. `observer` is what an `Rpc` tells of its
    messages. A request that leaves is taken to be caused by the newest request that came for the same charger on the
    other leg, if that is not older than 2 s; a `Delivery` says itself what caused it, however long ago.

    With `later`, which runs a function after so many seconds, a message is only noted when it is observed; masked,
    matched and kept it is a moment later, in small parts, or when somebody reads: no order waits for it.
    """

    def __init__(
        self,
        clock: Callable[[], Now],
        kept: int = KEPT,
        *,
        keep: Callable[[Said], None] = lambda _: None,
        before: Iterable[Said] = (),
        later: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        self._clock = clock
        self._keep = keep
        self._later = later
        self._heard: deque[_Heard] = deque()
        self._said: deque[Said] = deque(before, maxlen=kept)
        self._number = self._said[-1].number if self._said else 0
        self._came: dict[tuple[str, str], tuple[int, Cause]] = {}
        self._calls: dict[tuple[str, str, str, str], Said] = {}

    def observer(self, serial: str, leg: str) -> Observer:
        """What to hand to the `Rpc` of this leg of a charger."""
        return partial(self._observe, serial, leg)

    def since(self, number: int = 0, serial: str = "", action: str = "") -> Iterator[Said]:
        """Go through what was said after message `number`, of one charger, of actions with `action` in their names."""
        self.work_up()
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
        return self._cause(serial, leg, self._clock().utc_ms)

    def _cause(self, serial: str, leg: str, now_ms: int) -> Cause:
        came = self._came.get((serial, CSMS if leg == UNIT else UNIT))
        return came[1] if came is not None and 0 <= now_ms - came[0] <= CAUSED_WITHIN_MS else NO_CAUSE

    def _observe(
        self, serial: str, leg: str, way: str, is_call: bool, message_id: str, action: str, content: Payload | CallError
    ) -> None:
        self._number += 1
        now_ms = self._clock().utc_ms
        kind, cause = "call" if is_call else "result", NO_CAUSE
        if isinstance(content, Written):
            text = content.text
        elif isinstance(content, CallError):
            kind, text = "error", _encode({"code": content.code, "description": content.description})
        else:
            text = _encode(content)
        if isinstance(content, Delivery):
            cause = content.cause
        elif is_call and way == "Tx":
            cause = self._cause(serial, leg, now_ms)
        elif is_call:
            self._came[serial, leg] = now_ms, Cause(self._number, f"{way} {leg} {action}")
        self._heard.append(_Heard(self._number, now_ms, serial, leg, way, kind, message_id, action, cause, text))
        if self._later is None or len(self._heard) > HEARD_AT_MOST:
            self.work_up(1)
        elif len(self._heard) == 1:
            self._later(WORK_UP_AFTER_S, self._work_up_some)

    def work_up(self, number: int = HEARD_AT_MOST) -> None:
        """Mask, match and keep the oldest messages that were only noted so far."""
        for _ in range(min(number, len(self._heard))):
            self._work_up_one(self._heard.popleft())

    def _work_up_some(self) -> None:
        self.work_up(WORKED_UP_AT_ONCE)
        if self._heard and self._later is not None:
            self._later(WORK_UP_NEXT_AFTER_S, self._work_up_some)

    def _work_up_one(self, heard: _Heard) -> None:
        is_call, action, exchange = heard.kind == "call", heard.action, heard.cause.exchange or heard.number
        key = heard.serial, heard.leg, heard.way if is_call else _OTHER_WAY[heard.way], heard.message_id
        call = None if is_call else self._calls.pop(key, None)
        if call is not None:
            exchange, action = call.exchange, call.action
        said = Said(
            *(heard.number, heard.utc_ms, heard.serial, heard.leg, heard.way, heard.kind, action),
            *(exchange, heard.cause.request, shown_text(heard.text)),
        )
        self._said.append(said)
        is_private = action in _NEVER_KEPT or _is_iso15118(said) or (call is not None and _is_iso15118(call))
        self._keep(said._replace(text=NOT_KEPT) if is_private else said)
        if is_call:
            self._calls[key] = said
            if len(self._calls) > OPEN_CALLS:
                del self._calls[next(iter(self._calls))]


def _is_iso15118(said: Said) -> bool:
    return said.action == "DataTransfer" and _ISO15118 in said.text.casefold()


def shown_text(written: bytes) -> str:
    """The compact JSON text of a payload without its secrets, cut where it is long."""
    if not (written in _harmless or _is_harmless(written)):
        written = _encode(masked(msgspec.json.decode(written)))
    text = written.decode()
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}… {len(text)} characters"


def _is_harmless(written: bytes) -> bool:
    """Whether there is nothing to hide in a text; of short ones, which many say alike, it is remembered."""
    small = written.lower()
    if not written.isascii() or any(word in small for word in _SUSPICIOUS):
        return False
    if len(written) <= REMEMBERED_CHARACTERS:
        if len(_harmless) >= REMEMBERED:
            _harmless.clear()
        _harmless.add(written)
    return True


def masked(value: Any, name: str = "", *, of_secret: bool = False) -> Any:
    """The same value without passwords, certificates, users in addresses, and all but the beginning of idTags.

    `of_secret` says that it stands within something that is named like a secret.
    """
    if name in _SECRETS:
        return MASK
    if isinstance(value, Mapping):
        secret = of_secret or _names_a_secret(value)
        return {
            key: MASK if secret and key in _VALUES else masked(item, str(key).casefold(), of_secret=secret)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [masked(item, name, of_secret=of_secret) for item in value]
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
