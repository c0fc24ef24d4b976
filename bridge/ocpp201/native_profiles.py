"""The charging profiles of a native station whose maximum the bridge holds: ChargingStationMaxProfile is kept here.

A higher stackLevel overrules a lower one (K01.FR.17), so two authors of one purpose cannot both limit a station. The
CSMS's maximum is therefore never installed: it becomes the wish, and the station has the one grant of the bridge, which
is the lesser. All other purposes pass through; what is the bridge's own at the station is neither seen nor touched.
A station that can only be limited per transaction takes those from the bridge alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from bridge.core.messages import SetLimit
from bridge.core.plan import Way
from bridge.ocpp201.above import Reply
from bridge.ocpp201.charging_profile import NOMINAL_VOLTAGE_V
from bridge.ocpp201.charging_schedule import DEFAULT_PHASES
from bridge.ocpp201.profile_engine import reports
from bridge.ocpp201.profile_rules import (
    DEFAULT,
    EXTERNAL,
    OF_TRANSACTION,
    STATION_MAXIMUM,
    Refusal,
    is_reserved,
)
from bridge.ocpp201.rpc import CallError, NoAnswer, Outcome, Payload
from bridge.ocpp201.smart_charging import SmartCharging

COLLECT_S: Final = 10.0  # reports of a station that do not come by then are not waited for
MAX_COLLECTED: Final = 200
PASSING: Final = (DEFAULT, OF_TRANSACTION)
NO_ANSWER: Final = CallError("GenericError", "the station does not answer")

Found = dict[tuple[str, int], list[Payload]]


class Post(Protocol):
    """How a request goes to the station (`bridge.ocpp201.rpc.Rpc.post`)."""

    def __call__(self, action: str, payload: Payload, on_answer: Callable[[Outcome], None], /) -> object:
        """Send; `on_answer` is called once."""
        ...


class NativeProfiles:
    """The four requests about charging profiles for one session of a native station, and its reports.

    `post` sends to the station; what it says itself goes on to the CSMS, less what is the bridge's own.
    """

    def __init__(self, smart_charging: SmartCharging, post: Post) -> None:
        self._smart_charging = smart_charging
        self._post = post
        self._collecting: dict[int, _Collecting] = {}
        self._request_id = 0  # of the bridge's own requests, downwards: no CSMS is known to use negative ones
        self._is_alone = False

    def granted(self, effect: SetLimit) -> None:
        """Take up an acknowledged order; the first one per transaction ends what the CSMS has for transactions."""
        self._smart_charging.granted(effect)
        per_transaction = effect.way is Way.PER_TRANSACTION
        if per_transaction and not self._is_alone:
            self._clear_by_id({}, lambda _: None)
        self._is_alone = per_transaction

    def refused(self, action: str, payload: Payload) -> Payload | None:
        """The refusal of another request that would raise the station above the limit; None for one that may pass.

        A RequestStartTransaction carries a charging profile too (K05); an id or purpose of the bridge's would replace
        or overrule the grant. A station that was put out of operation to keep the limit stays so.
        """
        way = self._smart_charging.way
        if action == "ChangeAvailability" and way is Way.STOP and payload["operationalStatus"] == "Operative":
            return Refusal("NotEnabled", "the grid limits this station by its availability").answer()
        if action != "RequestStartTransaction" or "chargingProfile" not in payload:
            return None
        charging_profile = payload["chargingProfile"]
        if charging_profile["chargingProfilePurpose"] != OF_TRANSACTION or is_reserved(charging_profile["id"]):
            return Refusal("InvalidProfile", f"only {OF_TRANSACTION} (K05.FR.02), with an id of the CSMS").answer()
        if way is Way.PER_TRANSACTION:
            return Refusal("InvalidProfile", "the grid limits this station per transaction").answer()
        return None

    def from_above(self, action: str, payload: Payload, reply: Reply) -> None:
        """Answer one of the four requests, schema-valid."""
        if action == "SetChargingProfile":
            self._set(payload, reply)
        elif action == "ClearChargingProfile":
            self._clear(payload, reply)
        elif action == "GetChargingProfiles":
            self._get(payload, reply)
        else:
            self._composite(payload, reply)

    def reported(self, payload: Payload) -> Payload | None:
        """Take a ReportChargingProfiles of the station: what of it goes on to the CSMS, None if nothing does."""
        visible = [each for each in payload["chargingProfile"] if not is_reserved(each["id"])]
        collecting = self._collecting.get(payload["requestId"])
        if collecting is not None:
            collecting.add(payload["chargingLimitSource"], payload["evseId"], visible)
            if not payload.get("tbc", False):
                collecting.finish()
            return None
        if len(visible) == len(payload["chargingProfile"]):
            return payload
        return payload | {"chargingProfile": visible} if visible else None

    def _set(self, payload: Payload, reply: Reply) -> None:
        charging_profile = payload["chargingProfile"]
        identity, purpose = charging_profile["id"], charging_profile["chargingProfilePurpose"]
        profiles = self._smart_charging.profiles
        if purpose == STATION_MAXIMUM:
            is_new = identity not in profiles
            self._smart_charging.answer("SetChargingProfile", payload, reply)
            if is_new and identity in profiles:
                # The same id replaces, wherever it stands (K01.FR.05): the station may have it for another purpose.
                self._post("ClearChargingProfile", {"chargingProfileId": identity}, lambda _: None)
        elif purpose == EXTERNAL or is_reserved(identity):
            reply(Refusal("InvalidValue", "the purpose or the id is not for a CSMS (K01.FR.22)").answer())
        elif self._smart_charging.way is Way.PER_TRANSACTION:
            reply(Refusal("UnsupportedParam", f"{purpose}: the grid limits this station per transaction").answer())
        else:

            def answered(outcome: Outcome) -> None:
                if isinstance(outcome, dict) and outcome["status"] == "Accepted" and identity in profiles:
                    profiles.forget(identity)
                    self._smart_charging.follow()
                reply(_said(outcome))

            self._post("SetChargingProfile", payload, answered)

    def _clear(self, payload: Payload, reply: Reply) -> None:
        """Clear here what is kept here, and at the station what is not the bridge's own."""
        criteria = payload.get("chargingProfileCriteria", {})
        if "chargingProfileId" in payload:
            identity = payload["chargingProfileId"]
            if identity in self._smart_charging.profiles or is_reserved(identity):
                self._smart_charging.answer("ClearChargingProfile", payload, reply)
            else:
                self._post("ClearChargingProfile", payload, lambda outcome: reply(_said(outcome)))
            return
        here: list[Payload | CallError] = []
        self._smart_charging.answer("ClearChargingProfile", payload, here.append)
        purposes = [purpose for purpose in PASSING if criteria.get("chargingProfilePurpose", purpose) == purpose]
        if not purposes or not criteria.keys() & {"chargingProfilePurpose", "evseId", "stackLevel"}:
            reply(here[0])
        elif self._smart_charging.way is Way.PER_TRANSACTION:
            self._clear_by_id(criteria, lambda outcomes: reply(_cleared([*here, *outcomes])))
        else:
            at_station = [{"chargingProfileCriteria": criteria | {"chargingProfilePurpose": each}} for each in purposes]
            self._clear_all(at_station, lambda outcomes: reply(_cleared([*here, *outcomes])))

    def _clear_by_id(self, criteria: Payload, then: Callable[[list[Payload | CallError]], None]) -> None:
        """Clear what matches but the bridge's own, which has the same purposes where it limits per transaction."""
        self._request_id -= 1
        named: Payload = {key: criteria[key] for key in ("chargingProfilePurpose", "stackLevel") if key in criteria}
        request = {"requestId": self._request_id, "chargingProfile": named or {"chargingLimitSource": ["CSO"]}}
        if "evseId" in criteria:
            request["evseId"] = criteria["evseId"]

        def found(found: Found) -> None:
            charging_profiles = [each for group in found.values() for each in group]
            foreign = [each["id"] for each in charging_profiles if each["chargingProfilePurpose"] in PASSING]
            self._clear_all([{"chargingProfileId": identity} for identity in foreign], then)

        self._collect(request, {}, found)

    def _clear_all(self, requests: list[Payload], then: Callable[[list[Payload | CallError]], None]) -> None:
        outcomes: list[Payload | CallError] = []

        def answered(outcome: Outcome) -> None:
            outcomes.append(_said(outcome))
            if len(outcomes) == len(requests):
                then(outcomes)

        for request in requests:
            self._post("ClearChargingProfile", request, answered)
        if not requests:
            then([])

    def _get(self, payload: Payload, reply: Reply) -> None:
        """Collect the station's reports, then answer and report all together (K09.FR.02)."""
        _, own = self._smart_charging.profiles.get_charging_profiles(payload, self._smart_charging.grid.reported())
        found: Found = {}
        for report in own:
            found.setdefault((report["chargingLimitSource"], report["evseId"]), []).extend(report["chargingProfile"])

        def collected(found: Found) -> None:
            response, requests = reports(payload["requestId"], found)
            reply(response)
            self._smart_charging.report(requests)

        self._collect(payload, found, collected)

    def _collect(self, request: Payload, found: Found, then: Callable[[Found], None]) -> None:
        """Ask the station for charging profiles; what it reports, less the bridge's own, is added to `found`."""
        request_id = request["requestId"]
        if request_id in self._collecting:
            self._collecting[request_id].finish()

        def finished() -> None:
            if self._collecting.get(request_id) is collecting:
                del self._collecting[request_id]
            then(found)

        collecting = self._collecting[request_id] = _Collecting(found, finished)

        def answered(outcome: Outcome) -> None:
            if not isinstance(outcome, dict) or outcome["status"] != "Accepted":
                collecting.finish()

        self._post("GetChargingProfiles", request, answered)

    def _composite(self, payload: Payload, reply: Reply) -> None:
        """Lower what the station answers by what is yet to come of the CSMS's maximum, and by the grid limit."""

        def answered(outcome: Outcome) -> None:
            if isinstance(outcome, dict) and outcome["status"] == "Accepted" and "schedule" in outcome:
                own: list[Any] = []
                whole = {"evseId": 0, "duration": max(1, outcome["schedule"]["duration"]), "chargingRateUnit": "W"}
                self._smart_charging.answer("GetCompositeSchedule", whole, own.append)
                outcome = outcome | {"schedule": lowered(outcome["schedule"], own[0]["schedule"])}
            reply(_said(outcome))

        self._post("GetCompositeSchedule", payload, answered)


class _Collecting:
    """Reports of one request, until the last has come or time is up."""

    def __init__(self, found: Found, finished: Callable[[], None]) -> None:
        self._found = found
        self._finished: Callable[[], None] | None = finished
        self._room = MAX_COLLECTED
        self._timer = asyncio.get_running_loop().call_later(COLLECT_S, self.finish)

    def add(self, source: str, evse_id: int, charging_profiles: list[Payload]) -> None:
        taken = charging_profiles[: self._room]
        self._room -= len(taken)
        if taken:
            self._found.setdefault((source, evse_id), []).extend(taken)

    def finish(self) -> None:
        self._timer.cancel()
        finished, self._finished = self._finished, None
        if finished is not None:
            finished()


def lowered(schedule: Payload, maximum: Payload) -> Payload:
    """A composite schedule of a station, in its own unit and never above another one, which is in watts."""
    periods = schedule["chargingSchedulePeriod"]
    caps = maximum["chargingSchedulePeriod"]
    starts_s = sorted({each["startPeriod"] for each in [*periods, *caps]})
    merged: list[Payload] = []
    for start_s in starts_s:
        period = next((each for each in reversed(periods) if each["startPeriod"] <= start_s), periods[0])
        cap_w = next(each["limit"] for each in reversed(caps) if each["startPeriod"] <= start_s)
        unit_w = 1
        if schedule["chargingRateUnit"] == "A":
            unit_w = NOMINAL_VOLTAGE_V * period.get("numberPhases", DEFAULT_PHASES)
        limit = min(period["limit"], int(cap_w * 10 // unit_w) / 10)
        if not merged or (merged[-1] | {"startPeriod": start_s}) != period | {"startPeriod": start_s, "limit": limit}:
            merged.append(period | {"startPeriod": start_s, "limit": limit})
    return schedule | {
        "duration": min(schedule["duration"], maximum["duration"]),
        "chargingSchedulePeriod": merged,
    }


def _said(outcome: Outcome) -> Payload | CallError:
    return NO_ANSWER if isinstance(outcome, NoAnswer) else outcome


def _cleared(outcomes: list[Payload | CallError]) -> Payload | CallError:
    """Accepted if any was, else a CALLERROR if there was one, else Unknown."""
    if any(isinstance(each, dict) and each["status"] == "Accepted" for each in outcomes):
        return {"status": "Accepted"}
    return next((each for each in outcomes if isinstance(each, CallError)), {"status": "Unknown"})
