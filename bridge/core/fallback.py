"""Supervision of the link to the control centre, as one complete table.

    CONNECTED --link lost--> HOLD --hold elapsed--> FALLBACK --link up--> RECOVERY
        ^ <--link up within the hold--'                 | ^ <---link lost----' |
        |                              release elapsed  '--> AUTONOMOUS --link up-->|
        |                                                                      |
        '------- accepted setpoint (from any state), restore elapsed ----------'

CONNECTED and HOLD obey the last setpoint, FALLBACK and RECOVERY the fallback limit, AUTONOMOUS the capacity alone. The
link is up while at least one connection is in STARTDT. After a restart nobody is connected: CONNECTED goes on as HOLD,
RECOVERY as FALLBACK. AUTONOMOUS is entered only where the plan releases a fallback that lasts (EEBUS LPC: 2 to 24 h).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique

from bridge.core.plan import OnReturn, Plan
from bridge.core.quantities import Millis


@unique
class LinkState(Enum):
    """Where the supervision of the link stands."""

    CONNECTED = "CONNECTED"
    HOLD = "HOLD"
    FALLBACK = "FALLBACK"
    RECOVERY = "RECOVERY"
    AUTONOMOUS = "AUTONOMOUS"


@unique
class Trigger(Enum):
    """What can move the supervision."""

    LINK_UP = "link up"
    LINK_LOST = "link lost"
    HOLD_ELAPSED = "hold elapsed"
    SETPOINT_ACCEPTED = "setpoint accepted"
    RESTORE_ELAPSED = "restore elapsed"
    RELEASE_ELAPSED = "release elapsed"
    RESTARTED = "restarted"
    DISTRUSTED = "distrusted"


_C, _H, _F, _R, _A = LinkState

TABLE: dict[LinkState, dict[Trigger, LinkState]] = {
    _C: {
        Trigger.LINK_UP: _C,
        Trigger.LINK_LOST: _H,
        Trigger.HOLD_ELAPSED: _C,
        Trigger.SETPOINT_ACCEPTED: _C,
        Trigger.RESTORE_ELAPSED: _C,
        Trigger.RELEASE_ELAPSED: _C,
        Trigger.RESTARTED: _H,
        Trigger.DISTRUSTED: _F,
    },
    _H: {
        Trigger.LINK_UP: _C,
        Trigger.LINK_LOST: _H,
        Trigger.HOLD_ELAPSED: _F,
        Trigger.SETPOINT_ACCEPTED: _C,
        Trigger.RESTORE_ELAPSED: _H,
        Trigger.RELEASE_ELAPSED: _H,
        Trigger.RESTARTED: _H,
        Trigger.DISTRUSTED: _F,
    },
    _F: {
        Trigger.LINK_UP: _R,
        Trigger.LINK_LOST: _F,
        Trigger.HOLD_ELAPSED: _F,
        Trigger.SETPOINT_ACCEPTED: _C,
        Trigger.RESTORE_ELAPSED: _F,
        Trigger.RELEASE_ELAPSED: _A,
        Trigger.RESTARTED: _F,
        Trigger.DISTRUSTED: _F,
    },
    _R: {
        Trigger.LINK_UP: _R,
        Trigger.LINK_LOST: _F,
        Trigger.HOLD_ELAPSED: _R,
        Trigger.SETPOINT_ACCEPTED: _C,
        Trigger.RESTORE_ELAPSED: _C,
        Trigger.RELEASE_ELAPSED: _R,
        Trigger.RESTARTED: _F,
        Trigger.DISTRUSTED: _F,
    },
    _A: {
        Trigger.LINK_UP: _R,
        Trigger.LINK_LOST: _A,
        Trigger.HOLD_ELAPSED: _A,
        Trigger.SETPOINT_ACCEPTED: _C,
        Trigger.RESTORE_ELAPSED: _A,
        Trigger.RELEASE_ELAPSED: _A,
        Trigger.RESTARTED: _A,
        Trigger.DISTRUSTED: _F,
    },
}


@dataclass(frozen=True, slots=True)
class Supervision:
    """The state and the monotonic time at which it was entered."""

    state: LinkState
    since_ms: Millis

    def moved(self, trigger: Trigger, now_ms: Millis) -> Supervision:
        """The supervision after `trigger`; staying in a state does not start its time anew."""
        state = TABLE[self.state][trigger]
        return self if state is self.state else Supervision(state, now_ms)

    @property
    def falls_back(self) -> bool:
        """Whether the fallback limit replaces the setpoint."""
        return self.state in (LinkState.FALLBACK, LinkState.RECOVERY)

    def deadline(self, plan: Plan) -> tuple[Millis, Trigger] | None:
        """When time alone will move the supervision, and by which trigger."""
        if self.state is LinkState.HOLD and plan.hold_ms is not None:
            return self.since_ms + plan.hold_ms, Trigger.HOLD_ELAPSED
        if self.state is LinkState.RECOVERY and plan.on_return is OnReturn.RESTORE_LAST:
            return self.since_ms + plan.restore_after_ms, Trigger.RESTORE_ELAPSED
        if self.state is LinkState.FALLBACK and plan.release_after_ms is not None:
            return self.since_ms + plan.release_after_ms, Trigger.RELEASE_ELAPSED
        return None
