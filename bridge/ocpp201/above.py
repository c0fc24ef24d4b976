"""What stands above a charger: the central system as a session sees it, and a session as the central system sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from bridge.ocpp201.rpc import CallError, Outcome, Payload

Reply: TypeAlias = Callable[[Payload | CallError], None]
OnAnswer: TypeAlias = Callable[[Outcome], None]

# What goes by way of contracts, certificates and plans may take its time at the CSMS (ISO 15118), and is never logged.
SLOW: Final = frozenset({"Get15118EVCertificate", "GetCertificateStatus", "NotifyEVChargingNeeds", "SignCertificate"})

# A connection to the CSMS that was gone for longer counts as an outage: all statuses are told anew (B04.FR.01).
OFFLINE_THRESHOLD_S: Final = 300.0


class Below(Protocol):
    """One connected charger, whatever it speaks: above it is an OCPP 2.0.1 charging station."""

    serial: str

    def from_above(self, action: str, payload: Payload, reply: Reply) -> None:
        """Act on a request of the central system, schema-valid OCPP 2.0.1; `reply` is called once, now or later."""
        ...


class Above(Protocol):
    """The central system of all chargers: the embedded one, or the upstream connections to a CSMS."""

    def attach(self, session: Below) -> None:
        """Note that a charger is connected; what the central system asks of its serial goes to this session."""
        ...

    def detach(self, session: Below) -> None:
        """Note that a session has ended; without effect where another one has taken its place."""
        ...

    def request(
        self,
        serial: str,
        action: str,
        payload: Payload,
        on_answer: OnAnswer,
        on_kept: Callable[[bool], None] | None = None,
    ) -> None:
        """Hand an OCPP 2.0.1 request of a station on; `on_answer` is called once, now or later.

        It gets NoAnswer where the central system is away or does not say in time. What must not be lost is kept until
        it is delivered: it is answered late or, when the service ends before, never. `on_kept` is called once, before
        `on_answer`, when it cannot be lost any more, and is told whether an answer may come soon.
        """
        ...
