"""Smart charging of one charger between its CSMS and the site: charging profiles down, the grid limit up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from bridge.core.messages import Event, SetLimit, WishChanged
from bridge.core.plan import Way
from bridge.core.quantities import Now, Watts
from bridge.ocpp201.above import Above, Reply
from bridge.ocpp201.central_system import CentralSystem
from bridge.ocpp201.grid_limit import GridLimit, Notice, SiteLimit
from bridge.ocpp201.profile_engine import ChargingProfiles, Shelf
from bridge.ocpp201.profile_rules import Abilities
from bridge.ocpp201.rpc import NoAnswer, Outcome, Payload
from bridge.settings import ChargerEntry

ACTIONS: Final = frozenset(
    {"ClearChargingProfile", "GetChargingProfiles", "GetCompositeSchedule", "SetChargingProfile"}
)
LOOK_AGAIN_S: Final = 60.0  # schedules run by the wall clock, which may step
SETTLE_S: Final = 5.0  # what follows from another wish is ordered and acknowledged by then
TELL_AGAIN_S: Final = 30.0


def abilities_of(entry: ChargerEntry) -> Abilities:
    """What charging profiles a charger can have here: of a native station its maximum only, with no bounds of ours."""
    made = entry.profile
    if made.protocol == "ocpp2.0.1":
        return Abilities(entry.maximum_w, made.phases, stack_level=255, periods=1_024)
    return Abilities(entry.maximum_w, made.phases, made.connectors)


class SmartCharging:
    """One charger's charging profiles and grid limit; lives as long as the service, through all its sessions.

    Submits WishChanged whenever what the CSMS allows has changed, by its message or by time. Tells the CSMS of the grid
    limit (K11–K13), again where it did not arrive; without a CSMS nobody is told. No request of the CSMS raises
    anything: the wish is a cap. `way` is how the charger was last told its limit.
    """

    def __init__(
        self,
        entry: ChargerEntry,
        submit: Callable[[Event], None],
        clock: Callable[[], Now],
        *,
        shelf: Shelf | None = None,
        site_limit: SiteLimit | None = None,
    ) -> None:
        self.serial = entry.serial
        self.profiles = ChargingProfiles(entry.serial, abilities_of(entry), shelf)
        self.grid = GridLimit(entry.maximum_w)
        self._site_limit = site_limit or SiteLimit()
        self._submit = submit
        self._clock = clock
        self._above: Above | None = None
        self._session: object = None
        self._is_told = True
        self._rate_changed: Callable[[], None] = _nothing
        # A wish the core kept from before may have ended since: where there ever was one, it is said anew.
        self._said = not self.profiles.was_kept
        self._wish_w: Watts | None = None
        self.way = Way.LIMIT
        self._ordered_for_w: tuple[int, Watts | None] = (0, None)
        self._grant_w: Watts | None = None
        self._following: asyncio.TimerHandle | None = None
        self._settling: asyncio.TimerHandle | None = None
        self._telling: asyncio.TimerHandle | None = None

    def open(self, session: object, above: Above, rate_changed: Callable[[], None] | None = None) -> None:
        """Begin a session: requests go to `above`; `rate_changed` is told of each new rate (ChargingRateChanged)."""
        self._session, self._above, self._rate_changed = session, above, rate_changed or _nothing
        self._is_told = type(above) is not CentralSystem  # the embedded one makes nothing of it
        self.follow()

    def close(self, session: object) -> None:
        """End a session; without effect where another one has taken its place."""
        if session is self._session:
            self._session, self._above, self._rate_changed = None, None, _nothing
            for timer in (self._following, self._settling, self._telling):
                if timer is not None:
                    timer.cancel()

    def answer(self, action: str, payload: Payload, reply: Reply) -> None:
        """Answer one of the four `ACTIONS`, schema-valid; reports follow their answer (K09)."""
        utc_ms = self._clock().utc_ms
        if action == "GetChargingProfiles":
            response, reports = self.profiles.get_charging_profiles(payload, self.grid.reported())
            reply(response)
            self.report(reports)
            return
        if action == "GetCompositeSchedule":
            reply(self.profiles.get_composite_schedule(payload, utc_ms, self.grid_w))
            return
        if action == "SetChargingProfile":
            response = self.profiles.set_charging_profile(payload, utc_ms)
        else:
            response = self.profiles.clear_charging_profile(payload)
        reply(response)
        self.follow()

    def report(self, reports: list[Payload]) -> None:
        """Send ReportChargingProfiles; what does not arrive is not said again: the CSMS asks again."""
        for each in reports:
            self._request("ReportChargingProfiles", each, lambda _: None)

    @property
    def grid_w(self) -> Watts | None:
        """The grid limit of this charger, None without one."""
        return None if self.grid.now is None else self.grid.now.limit_w

    def transaction_started(self, transaction_id: str, evse_id: int, charging_profile: Payload | None = None) -> None:
        """Note that a transaction runs, with the charging profile of its RequestStartTransaction (K05)."""
        self.profiles.transaction_started(transaction_id, evse_id, self._clock().utc_ms, charging_profile)
        self.follow()

    def running(self, transactions: Mapping[str, int]) -> None:
        """Note which transactions run, by id, and on which EVSE each; all others have ended."""
        self.profiles.only_running(transactions)
        for transaction_id, evse_id in transactions.items():
            self.profiles.transaction_started(transaction_id, evse_id, self._clock().utc_ms)
        self.follow()

    def ordered(self, effect: SetLimit) -> None:
        """Note for which wish an order was given: what is not below it is no limit of the grid's."""
        self.way = effect.way
        self._ordered_for_w = (effect.order, self._wish_w)

    def granted(self, effect: SetLimit) -> None:
        """Take up an order the charger has acknowledged."""
        number, wish_w = self._ordered_for_w
        self._grant_w = effect.limit_w
        self._look(wish_w if number == effect.order else self._wish_w)

    def follow(self) -> None:
        """Submit the wish if it has changed, and come back when it next may."""
        now = self._clock()
        wish_w = self.profiles.wish_w(now.utc_ms)
        if wish_w != self._wish_w or not self._said:
            self._said, self._wish_w = True, wish_w
            self._submit(WishChanged(self.serial, wish_w))
            self._settling = self._later(self._settling, SETTLE_S, self._settled)
        coming_ms = self.profiles.next_change_ms(now.utc_ms)
        if coming_ms is not None:
            delay_s = min(max(coming_ms - now.utc_ms, 1) / 1000, LOOK_AGAIN_S)
            self._following = self._later(self._following, delay_s, self.follow)
        elif self._following is not None:
            self._following.cancel()

    def _settled(self) -> None:
        self._look(self._wish_w)

    def _look(self, wish_w: Watts | None) -> None:
        if self._grant_w is not None and not self._is_told:
            self.grid.take_up(self._grant_w, wish_w, self._site_limit.source)
        elif self._grant_w is not None:
            utc_ms = self._clock().utc_ms
            self._tell(self.grid.granted(self._grant_w, wish_w, self._site_limit.source, utc_ms))

    def _tell(self, notice: Notice) -> None:
        for action, payload in notice.requests:
            self._request(action, payload, self._told)
        if notice.charging_rate_changed:
            self._rate_changed()

    def _told(self, outcome: Outcome) -> None:
        if isinstance(outcome, NoAnswer):
            self.grid.not_told()
            self._telling = self._later(self._telling, TELL_AGAIN_S, self._tell_again)

    def _tell_again(self) -> None:
        self._tell(self.grid.again(self._clock().utc_ms))

    def _request(self, action: str, payload: Payload, on_answer: Callable[[Outcome], None]) -> None:
        if self._above is not None:
            self._above.request(self.serial, action, payload, on_answer)

    def _later(
        self, timer: asyncio.TimerHandle | None, delay_s: float, then: Callable[[], None]
    ) -> asyncio.TimerHandle:
        if timer is not None:
            timer.cancel()
        return asyncio.get_running_loop().call_later(delay_s, then)


def _nothing() -> None:
    """For a station that tells of its charging rate itself."""
