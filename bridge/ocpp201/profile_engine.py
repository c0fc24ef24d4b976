"""The charging profiles the CSMS has set for one station, and what they allow it to draw: OCPP 2.0.1 K01–K10; pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, Protocol

import structlog

from bridge.core.quantities import Millis, Watts
from bridge.ocpp201.charging_profile import NOMINAL_VOLTAGE_V
from bridge.ocpp201.charging_schedule import read_schedule
from bridge.ocpp201.profile_rules import (
    DEFAULT,
    OF_TRANSACTION,
    STATION_MAXIMUM,
    Abilities,
    Installed,
    Refusal,
    Transaction,
    examine,
)
from bridge.ocpp201.rpc import Payload
from bridge.ocpp201.timestamps import rfc3339

ROOM: Final = "charging_profiles"
MAX_TRANSACTIONS: Final = 64
MAX_MOMENTS: Final = 500  # looked at for one composite schedule; beyond them it is cut short, and says so
REPORT_BYTES: Final = 16_384  # of charging profiles in one message, unless one alone is longer

log = structlog.get_logger(__name__)


class Shelf(Protocol):
    """Kept values by room and key; whatever `put` was given is on disk when it returns."""

    def get(self, room: str, key: str) -> str | None:
        """Return the value, None if there is none."""
        ...

    def put(self, room: str, key: str, value: str) -> None:
        """Keep a value in place of what was there."""
        ...


class ChargingProfiles:
    """Installed charging profiles of one station, kept on a shelf across restarts (K01.FR.27).

    Answers the four requests of the CSMS about them. Requests are schema-valid; moments are UTC and handed in.
    The grid limit is no charging profile of the CSMS: it is handed in where an answer includes it. `was_kept` says
    whether there ever were any before.
    """

    def __init__(self, serial: str, abilities: Abilities, shelf: Shelf | None = None) -> None:
        self.abilities = abilities
        self._serial = serial
        self._shelf = shelf
        self._installed: dict[int, Installed] = {}
        self._transactions: dict[str, Transaction] = {}
        kept = None if shelf is None else shelf.get(ROOM, serial)
        self.was_kept = kept is not None
        if kept is not None:
            self._restore(kept)

    def __len__(self) -> int:
        return len(self._installed)

    def __contains__(self, identity: object) -> bool:
        return identity in self._installed

    def set_charging_profile(self, request: Payload, utc_ms: Millis) -> Payload:
        """Answer SetChargingProfile: install it, in place of one with the same id (K01.FR.05)."""
        wanted = self._examined(request["evseId"], request["chargingProfile"], utc_ms)
        if isinstance(wanted, Refusal):
            return wanted.answer()
        self._installed[wanted.identity] = wanted
        self._keep()
        return {"status": "Accepted"}

    def clear_charging_profile(self, request: Payload) -> Payload:
        """Answer ClearChargingProfile (K10): by id, else all that match every criterion; Unknown if none did.

        A request that names neither clears nothing (K10.FR.02).
        """
        criteria = request.get("chargingProfileCriteria", {})
        if "chargingProfileId" in request:
            matching = [each for each in self._installed.values() if each.identity == request["chargingProfileId"]]
        elif not criteria.keys() & {"evseId", "chargingProfilePurpose", "stackLevel"}:
            return Refusal("MissingParam", "neither an id nor a criterion (K10.FR.02)").answer("Unknown")
        else:
            matching = list(self._matching(criteria.get("evseId"), criteria))
        self._remove(matching)
        return {"status": "Accepted" if matching else "Unknown"}

    def get_charging_profiles(
        self, request: Payload, external: tuple[str, Payload] | None = None
    ) -> tuple[Payload, list[Payload]]:
        """Answer GetChargingProfiles, with the ReportChargingProfiles that follow the answer (K09).

        `external` is a limit that holds besides, with its chargingLimitSource; it stands at evseId 0.
        """
        criteria, evse_id = request["chargingProfile"], request.get("evseId")
        found: dict[tuple[str, int], list[Payload]] = {}
        if "CSO" in criteria.get("chargingLimitSource", ["CSO"]):
            for each in sorted(self._matching(evse_id, criteria), key=lambda each: (each.evse_id, each.identity)):
                found.setdefault(("CSO", each.evse_id), []).append(each.charging_profile)
        if external is not None and _matches(0, external[1], evse_id, criteria):
            source, charging_profile = external
            if source in criteria.get("chargingLimitSource", [source]):
                found[source, 0] = [charging_profile]
        return reports(request["requestId"], found)

    def get_composite_schedule(self, request: Payload, utc_ms: Millis, external_w: Watts | None = None) -> Payload:
        """Answer GetCompositeSchedule (K08): the least of all purposes and of `external_w`, never above the hardware.

        Its duration is shorter than asked for where the limits change too often to list them all.
        """
        evse_id, unit = int(request["evseId"]), request.get("chargingRateUnit", "W")
        if not 0 <= evse_id <= self.abilities.evses:
            return Refusal("UnknownEvse", f"EVSEs are 1 to {self.abilities.evses}").answer()
        if unit not in self.abilities.rate_units:
            return Refusal("UnsupportedRateUnit", f"one of {', '.join(self.abilities.rate_units)}").answer()
        if request["duration"] <= 0:
            return Refusal("InvalidValue", "duration is not above 0").answer()
        begins_ms = utc_ms // 1000 * 1000
        highest_dw = 10 * min(self.abilities.maximum_w, self.abilities.maximum_w if external_w is None else external_w)
        covered_s, steps = self._steps(evse_id, begins_ms, int(request["duration"]), highest_dw)
        return {
            "status": "Accepted",
            "schedule": {
                "evseId": evse_id,
                "duration": covered_s,
                "scheduleStart": rfc3339(begins_ms),
                "chargingRateUnit": unit,
                "chargingSchedulePeriod": [self._period(start_s, limit_dw, unit) for start_s, limit_dw in steps],
            },
        }

    def wish_w(self, utc_ms: Millis) -> Watts | None:
        """What the CSMS lets the whole station draw now, rounded down; None where it sets no limit.

        EVSEs with a transaction share it. Without any, it is what the first vehicle to come may draw, so that none
        begins above its default limit.
        """
        limit_dw = self._leading_dw(STATION_MAXIMUM, 0, utc_ms, utc_ms)
        active = {transaction.evse_id for transaction in self._transactions.values()}
        limits_dw = [self._evse_dw(evse_id, utc_ms, utc_ms) for evse_id in sorted(active or self._evses())]
        known_dw = [each_dw for each_dw in limits_dw if each_dw is not None]
        if len(known_dw) == len(limits_dw):
            together_dw = sum(known_dw) if active else max(known_dw)
            limit_dw = together_dw if limit_dw is None else min(limit_dw, together_dw)
        return None if limit_dw is None else limit_dw // 10

    def next_change_ms(self, utc_ms: Millis) -> Millis | None:
        """The next moment (UTC) at which the wish may change by itself, None if there is none."""
        moments = (
            each.schedule.next_change_ms(utc_ms, begun_ms)
            for each in self._installed.values()
            for begun_ms in self._begun_ms(each, utc_ms)
        )
        return min((moment for moment in moments if moment is not None), default=None)

    def refusal_at_start(self, evse_id: int, charging_profile: Payload) -> Refusal | None:
        """Say why a charging profile that came with RequestStartTransaction cannot be used (K05), None if it can.

        Whoever starts the transaction hands it to `transaction_started`.
        """
        if charging_profile["chargingProfilePurpose"] != OF_TRANSACTION or "transactionId" in charging_profile:
            return Refusal("InvalidProfile", f"only a {OF_TRANSACTION} without a transactionId (K05.FR.02)")
        transaction = {"": Transaction(evse_id, 0)}
        examined = examine(self.abilities, (), transaction, evse_id, charging_profile | {"transactionId": ""})
        return examined if isinstance(examined, Refusal) else None

    def transaction_started(
        self, transaction_id: str, evse_id: int, utc_ms: Millis, charging_profile: Payload | None = None
    ) -> None:
        """Note a running transaction, with the charging profile it was requested with; a known one stays as it is."""
        if transaction_id in self._transactions:
            return
        while len(self._transactions) >= MAX_TRANSACTIONS:
            self.transaction_ended(next(iter(self._transactions)))
        self._transactions[transaction_id] = Transaction(evse_id, utc_ms)
        if charging_profile is not None:
            wanted = self._examined(evse_id, charging_profile | {"transactionId": transaction_id}, utc_ms)
            if isinstance(wanted, Installed):
                self._installed[wanted.identity] = wanted
        if self._installed:
            self._keep()

    def transaction_ended(self, transaction_id: str) -> None:
        """Forget a transaction and delete its charging profiles (K02.FR.05)."""
        if self._transactions.pop(transaction_id, None) is not None and self._installed:
            for each in [each for each in self._installed.values() if each.transaction_id == transaction_id]:
                del self._installed[each.identity]
            self._keep()

    def only_running(self, transaction_ids: Iterable[str]) -> None:
        """End whatever is not among these: transactions may have ended while nobody was told."""
        for gone in self._transactions.keys() - set(transaction_ids):
            self.transaction_ended(gone)

    def forget(self, identity: int) -> None:
        """Remove a charging profile whose id is used elsewhere now (K01.FR.05)."""
        self._remove([each for each in self._installed.values() if each.identity == identity])

    def _examined(self, evse_id: int, charging_profile: Payload, utc_ms: Millis) -> Installed | Refusal:
        wanted = examine(self.abilities, self._installed.values(), self._transactions, int(evse_id), charging_profile)
        if isinstance(wanted, Installed) and wanted.identity not in self._installed:
            if len(self._installed) >= self.abilities.entries:
                ends = ((each, each.schedule.valid_to_ms) for each in self._installed.values())
                self._remove([each for each, end_ms in ends if end_ms is not None and end_ms <= utc_ms])
            if len(self._installed) >= self.abilities.entries:
                return Refusal("OutOfStorage", f"at most {self.abilities.entries} charging profiles")
        return wanted

    def _remove(self, matching: list[Installed]) -> None:
        for each in matching:
            del self._installed[each.identity]
        if matching:
            self._keep()

    def _matching(self, evse_id: int | None, criteria: Payload) -> Iterator[Installed]:
        return (
            each
            for each in self._installed.values()
            if _matches(each.evse_id, each.charging_profile, evse_id, criteria)
        )

    def _evses(self) -> range:
        return range(1, self.abilities.evses + 1)

    def _begun_ms(self, installed: Installed, idle_ms: Millis) -> set[Millis]:
        """When the transactions it applies to began; `idle_ms` besides where an EVSE it applies to has none."""
        running = [each for each in self._transactions.values() if installed.evse_id in (0, each.evse_id)]
        idle = {installed.evse_id} if installed.evse_id else set(self._evses())
        idle -= {transaction.evse_id for transaction in running}
        return {transaction.begun_ms for transaction in running} | ({idle_ms} if idle else set())

    def _leading_dw(
        self, purpose: str, evse_id: int, utc_ms: Millis, begun_ms: Millis, transaction_id: str | None = None
    ) -> int | None:
        """The limit of the highest stackLevel that sets one at that moment (K01.FR.17)."""
        leading_dw, leading_level = None, -1
        for each in self._installed.values():
            applies = each.purpose == purpose and each.evse_id in (0, evse_id) and each.stack_level > leading_level
            if applies and each.transaction_id == transaction_id:
                limit_dw = each.schedule.limit_dw(utc_ms, begun_ms)
                if limit_dw is not None:
                    leading_dw, leading_level = limit_dw, each.stack_level
        return leading_dw

    def _evse_dw(self, evse_id: int, utc_ms: Millis, idle_ms: Millis) -> int | None:
        """What an EVSE may draw; without a transaction as if one had begun at `idle_ms` (K08.FR.06, K02.FR.04, .08)."""
        for transaction_id, transaction in self._transactions.items():
            if transaction.evse_id == evse_id:
                begun_ms = transaction.begun_ms
                own_dw = self._leading_dw(OF_TRANSACTION, evse_id, utc_ms, begun_ms, transaction_id)
                return own_dw if own_dw is not None else self._leading_dw(DEFAULT, evse_id, utc_ms, begun_ms)
        return self._leading_dw(DEFAULT, evse_id, utc_ms, idle_ms)

    def _composite_dw(self, evse_id: int, utc_ms: Millis, idle_ms: Millis, highest_dw: int) -> int:
        maximum_dw = self._leading_dw(STATION_MAXIMUM, 0, utc_ms, utc_ms)
        lowest_dw = highest_dw if maximum_dw is None else min(highest_dw, maximum_dw)
        wanted = [evse_id] if evse_id else self._evses()
        limits_dw = [self._evse_dw(each, utc_ms, idle_ms) for each in wanted]
        return min(lowest_dw, sum(lowest_dw if each_dw is None else each_dw for each_dw in limits_dw))

    def _moments(self, begins_ms: Millis, ends_ms: Millis) -> Iterator[Millis]:
        """Every moment in between at which any limit may change."""
        at_ms: Millis | None = begins_ms
        while at_ms is not None and at_ms < ends_ms:
            yield at_ms
            coming = (
                each.schedule.next_change_ms(at_ms, begun_ms)
                for each in self._installed.values()
                for begun_ms in self._begun_ms(each, begins_ms)
            )
            at_ms = min((moment for moment in coming if moment is not None), default=None)

    def _steps(
        self, evse_id: int, begins_ms: Millis, duration_s: int, highest_dw: int
    ) -> tuple[int, list[tuple[int, int]]]:
        """The limit over time as (second, tenths of a watt), and how many seconds that covers.

        A second in which it changes counts with the least of its limits.
        """
        steps: list[tuple[int, int]] = []
        least: dict[int, int] = {}
        for number, at_ms in enumerate(self._moments(begins_ms, begins_ms + duration_s * 1000)):
            second, rest_ms = divmod(at_ms - begins_ms, 1000)
            if number >= MAX_MOMENTS:
                duration_s = max(second, 1)
                break
            limit_dw = self._composite_dw(evse_id, at_ms, begins_ms, highest_dw)
            if rest_ms:
                floor_ms = begins_ms + second * 1000
                before_dw = self._composite_dw(evse_id, floor_ms, begins_ms, highest_dw)
                least[second] = min(limit_dw, before_dw, least.get(second, limit_dw))
                after_dw = self._composite_dw(evse_id, floor_ms + 1000, begins_ms, highest_dw)
                least.setdefault(second + 1, after_dw)
            else:
                least[second] = limit_dw
        for second, limit_dw in sorted(least.items()):
            if second < duration_s and (not steps or steps[-1][1] != limit_dw):
                steps.append((second, limit_dw))
        return duration_s, steps

    def _period(self, start_s: int, limit_dw: int, unit: str) -> dict[str, Any]:
        phases = self.abilities.phases
        tenths = limit_dw if unit == "W" else limit_dw // (NOMINAL_VOLTAGE_V * phases)
        return {"startPeriod": start_s, "limit": tenths / 10, "numberPhases": phases}

    def _keep(self) -> None:
        kept = {
            "installed": [[each.evse_id, each.charging_profile] for each in self._installed.values()],
            "transactions": self._transactions,
        }
        if self._shelf is not None:
            self._shelf.put(ROOM, self._serial, json.dumps(kept))

    def _restore(self, kept: str) -> None:
        try:
            data = json.loads(kept)
            read = [
                Installed(evse_id, charging_profile, read_schedule(charging_profile, self.abilities.phases))
                for evse_id, charging_profile in data["installed"]
            ]
            self._transactions = {identity: Transaction(*each) for identity, each in data["transactions"].items()}
        except (ValueError, TypeError, KeyError, AttributeError) as why:
            log.warning("charging profiles on the shelf are unreadable: left there", charger=self._serial, why=str(why))
        else:
            self._installed = {each.identity: each for each in read}


def reports(request_id: int, found: dict[tuple[str, int], list[Payload]]) -> tuple[Payload, list[Payload]]:
    """Form the answer to GetChargingProfiles and the reports, from charging profiles by limit source and EVSE (K09)."""
    requests: list[Payload] = [
        {
            "requestId": request_id,
            "chargingLimitSource": source,
            "evseId": evse_id,
            "chargingProfile": portion,
            "tbc": True,
        }
        for (source, evse_id), charging_profiles in found.items()
        for portion in _portions(charging_profiles)
    ]
    if not requests:
        return {"status": "NoProfiles"}, []
    requests[-1]["tbc"] = False
    return {"status": "Accepted"}, requests


def _portions(charging_profiles: list[Payload]) -> Iterator[list[Payload]]:
    portion: list[Payload] = []
    length = 0
    for charging_profile in charging_profiles:
        added = len(json.dumps(charging_profile))
        if portion and length + added > REPORT_BYTES:
            yield portion
            portion, length = [], 0
        portion.append(charging_profile)
        length += added
    if portion:
        yield portion


def _matches(at_evse: int, charging_profile: Payload, evse_id: int | None, criteria: Payload) -> bool:
    """Whether a charging profile matches every criterion given (K09.FR.03–06, K10.FR.04)."""
    return (
        evse_id in (None, at_evse)
        and criteria.get("chargingProfilePurpose") in (None, charging_profile["chargingProfilePurpose"])
        and criteria.get("stackLevel") in (None, charging_profile["stackLevel"])
        and charging_profile["id"] in criteria.get("chargingProfileId", [charging_profile["id"]])
    )
