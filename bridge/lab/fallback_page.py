"""The page docs/fallback.md, made from the core's table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bridge.core.fallback import TABLE, LinkState, Trigger

HOLDER: Final[dict[LinkState, tuple[str, str]]] = {
    LinkState.CONNECTED: (
        "the last setpoint",
        "The control centre: its last accepted setpoint, until it sets another or that one ends.",
    ),
    LinkState.HOLD: (
        "the last setpoint",
        (
            "Still the control centre: its last accepted setpoint is kept for `hold_s` (`null`: for ever; 0: not at"
            " all). Before the first setpoint ever it is `at_start_w`."
        ),
    ),
    LinkState.FALLBACK: (
        "the fallback limit",
        "The agreement: `fallback.limit_w` takes the place of the setpoint, even where it is higher.",
    ),
    LinkState.RECOVERY: (
        "the fallback limit",
        (
            "Still the agreement: a link that is back raises nothing by itself. A fresh setpoint ends it; with"
            " `on_return: restore_last` the last setpoint does, after `restore_after_s`."
        ),
    ),
    LinkState.AUTONOMOUS: (
        "the capacity alone",
        (
            "The site: nothing but its connection capacity. Only in mode `eebus_lpc`, when the fallback has lasted for"
            " `release_after_s` without a link."
        ),
    ),
}
"""For each state: which limit holds, in a few words, and whose it is and until when."""

WHEN: Final[dict[Trigger, str]] = {
    Trigger.LINK_UP: "the first connection of a control centre is in STARTDT",
    Trigger.LINK_LOST: "the last one is not any more: closed, cut, stopped, or silent for longer than t3 + t1",
    Trigger.HOLD_ELAPSED: "HOLD has lasted for `hold_s`; not with `hold_s: null`",
    Trigger.SETPOINT_ACCEPTED: "a setpoint is positively confirmed",
    Trigger.RESTORE_ELAPSED: "RECOVERY has lasted for `restore_after_s`; only with `on_return: restore_last`",
    Trigger.RELEASE_ELAPSED: "FALLBACK has lasted for `release_after_s`; only in mode `eebus_lpc`",
    Trigger.RESTARTED: "the service starts again: nobody is connected, and what had begun goes on from where it was",
    Trigger.DISTRUSTED: "an invariant of the service is broken: it no longer trusts what it holds",
}
"""What each trigger is."""

_INTRODUCTION: Final = """# When the link to the control centre is lost

One table decides what a lost link, a restart and a fresh setpoint do: `bridge/core/fallback.py`. This page is made from
it, drawing included; a test compares the two. It begins in HOLD before the first setpoint ever, in mode `eebus_lpc` in
FALLBACK.

The limit in force is the lowest of what this table says, the connection capacity, a manual limit and an emergency stop:
these three hold in every state. All times run on the monotonic clock and go on over a restart; steps of the wall clock
change none of them.
"""


def page() -> str:
    """The page docs/fallback.md: who holds which limit, what the triggers are, and the complete table."""
    states = [f"| {state.value} | {holder} | {why} |" for state, (holder, why) in HOLDER.items()]
    triggers = [f"| {trigger.value} | {when} |" for trigger, when in WHEN.items()]
    table = [f"| {trigger.value} | {' | '.join(_cells(trigger))} |" for trigger in Trigger]
    parts = [
        _INTRODUCTION,
        *("![The states and what moves them](link-states.svg)", ""),
        *("## Who holds which limit", "", "| State | What limits | Whose it is |", "|---|---|---|", *states, ""),
        *("## What moves it", "", "| Trigger | When |", "|---|---|", *triggers, ""),
        *("## The complete table", "", "A dash stays where it is, and the time of the state goes on.", ""),
        f"| Trigger | {' | '.join(f'in {state.value}' for state in LinkState)} |",
        f"|---|{'---|' * len(LinkState)}",
        *table,
    ]
    return "\n".join(parts) + "\n"


def _cells(trigger: Trigger) -> Iterator[str]:
    for state in LinkState:
        target = TABLE[state][trigger]
        yield "–" if target is state else target.value
