"""The permanent floor under all grants of a native station: installed, then found installed, or not believed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from bridge.core.messages import Answer, LimitAnswered, SetFloor
from bridge.core.quantities import Now
from bridge.ocpp201 import charging_profile
from bridge.ocpp201.native_profiles import Post
from bridge.ocpp201.rpc import NOT_SENT, CallError, NoAnswer, Outcome, Payload

REPORT_WITHIN_S: Final = 10.0
_REQUEST_IDS: Final = 2**31 - 1


class Floor:
    """Answers every `SetFloor` of one session exactly once; ACCEPTED only if a report of the station shows the floor.

    A station whose ProfileStackLevel is below 1 cannot hold a grant above a floor: it refuses one of the two, and
    counts at its hardware maximum without its connection (OCPP 2.0.1 K01.FR.17, K09).
    """

    def __init__(
        self,
        serial: str,
        post: Post,
        answered: Callable[[LimitAnswered], None],
        clock: Callable[[], Now],
        unit: charging_profile.RateUnit,
        phases: int,
    ) -> None:
        self._serial = serial
        self._post = post
        self._answered = answered
        self._clock = clock
        self._unit = unit
        self._phases = phases
        self._wanted: SetFloor | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def set(self, effect: SetFloor) -> None:
        """Install the floor and ask for it."""
        self._settle(Answer.NOT_SENT)
        self._wanted = effect
        request = charging_profile.floor_profile(
            effect.limit_w,
            self._clock().utc_ms,
            schedule_id=effect.order % _REQUEST_IDS + 1,
            unit=self._unit,
            phases=self._phases,
        )
        self._post("SetChargingProfile", request, lambda outcome: self._installed(effect, outcome))

    def reported(self, payload: Payload) -> bool:
        """Take a ReportChargingProfiles of the station; True if it was asked for here."""
        effect = self._wanted
        if effect is None or payload["requestId"] != _request_id(effect):
            return False
        found = any(self._is_floor(effect, profile) for profile in payload["chargingProfile"])
        if found or not payload.get("tbc", False):
            self._settle(Answer.ACCEPTED if found else Answer.REFUSED)
        return True

    def _installed(self, effect: SetFloor, outcome: Outcome) -> None:
        if effect is not self._wanted:
            return
        if isinstance(outcome, NoAnswer):
            self._settle(Answer.NOT_SENT if outcome is NOT_SENT else Answer.UNANSWERED)
        elif isinstance(outcome, CallError) or outcome["status"] != "Accepted":
            self._settle(Answer.REFUSED)
        else:
            criteria = {"chargingProfileId": [charging_profile.FLOOR_PROFILE_ID]}
            request = {"requestId": _request_id(effect), "chargingProfile": criteria}
            later = asyncio.get_running_loop().call_later
            self._deadline = later(REPORT_WITHIN_S, self._settle, Answer.UNANSWERED)
            self._post("GetChargingProfiles", request, lambda outcome: self._asked(effect, outcome))

    def _asked(self, effect: SetFloor, outcome: Outcome) -> None:
        if effect is self._wanted and not (isinstance(outcome, dict) and outcome["status"] == "Accepted"):
            self._settle(Answer.UNANSWERED if isinstance(outcome, NoAnswer) else Answer.REFUSED)

    def _is_floor(self, effect: SetFloor, profile: Payload) -> bool:
        """Whether a reported charging profile is the floor: ours, permanent, at stack level 0 and not above it."""
        ours = profile["id"] == charging_profile.FLOOR_PROFILE_ID and profile["stackLevel"] == 0
        if not ours or profile["chargingProfilePurpose"] != "ChargingStationMaxProfile" or "validTo" in profile:
            return False
        (schedule,) = profile["chargingSchedule"][:1]
        limit_w = charging_profile.schedule_limit_w(schedule, self._phases)
        return limit_w <= effect.limit_w and "duration" not in schedule

    def _settle(self, answer: Answer) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._wanted is not None:
            effect, self._wanted = self._wanted, None
            self._answered(LimitAnswered(self._serial, effect.order, answer))


def _request_id(effect: SetFloor) -> int:
    return effect.order % _REQUEST_IDS + 1
