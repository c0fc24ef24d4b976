"""Small wrong versions of the rules, planted one at a time: a seeded world that misses one of them proves nothing."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from bridge import engine
from bridge.core import allocation, charger, fallback, ledger, limit, setpoint, site
from bridge.core.charger import Charger
from bridge.core.fallback import Supervision
from bridge.core.setpoint import Commanded
from bridge.engine import Engine


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of the text of a function or method of `owner`, which `module` defines."""

    module: ModuleType
    owner: Any
    function: str
    right: str
    wrong: str


@dataclass(frozen=True, slots=True)
class Bug:
    """A wrong version of the rules; the world of `seed` is the shortest known that catches it."""

    name: str
    seed: int
    edits: tuple[Edit, ...]


class Outdated(Exception):  # noqa: N818  it says what is wrong with the bug, not with the rules
    """The text that a bug changes is no longer there."""


@contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """The core with this bug in it, as long as the context lasts. Raises Outdated where it no longer fits the core."""
    undo = []
    try:
        for edit in bug.edits:
            original = vars(edit.owner)[edit.function]
            undo.append((edit.owner, edit.function, original))
            setattr(edit.owner, edit.function, _changed(edit, original))
        yield
    finally:
        for owner, function, original in reversed(undo):
            setattr(owner, function, original)


def _changed(edit: Edit, original: Any) -> Any:
    plain: Any = original.fget if isinstance(original, property) else original
    text = textwrap.dedent(inspect.getsource(plain))
    if edit.right not in text:
        raise Outdated(f"{edit.function} no longer says {edit.right!r}")
    text = "from __future__ import annotations\n" + text.replace(edit.right, edit.wrong)
    names: dict[str, Any] = {}
    exec(compile(text, f"<{edit.function}, wrong>", "exec"), vars(edit.module), names)  # noqa: S102  our own text
    return names[edit.function]


def _charger(function: str, right: str, wrong: str) -> Edit:
    return Edit(charger, Charger, function, right, wrong)


def _site(function: str, right: str, wrong: str) -> Edit:
    return Edit(site, site, function, right, wrong)


def _engine(function: str, right: str, wrong: str) -> Edit:
    return Edit(engine, Engine, function, right, wrong)


def _commanded(function: str, right: str, wrong: str) -> Edit:
    return Edit(setpoint, Commanded, function, right, wrong)


_WALL_MS = "now.utc_ms - 1_699_999_995_000"  # what the wall clock of these worlds shows beyond the monotonic one

BUGS: tuple[Bug, ...] = (
    Bug(
        "acknowledged limits alone are counted",
        0,
        (_charger("worst_case_w", "min(max(settled_w, leaving_w, in_flight_w), hardware_w)", "settled_w"),),
    ),
    Bug(
        "an order on its way is not counted",
        0,
        (_charger("worst_case_w", "max(settled_w, leaving_w, in_flight_w)", "max(settled_w, leaving_w)"),),
    ),
    Bug(
        "the reaction time is ignored",
        0,
        (_charger("_accepted", "Leaving(superseded_w, now_ms + plan.reaction_ms)", "Leaving(superseded_w, now_ms)"),),
    ),
    Bug(
        "an unanswered order is forgotten",
        0,
        (_charger("answered", "if answer is Answer.UNANSWERED and", "if False and"),),
    ),
    Bug(
        "an order on its way is forgotten with the connection",
        272,
        (_charger("lost_connection", "self._may_hold(self.in_flight)", "pass"),),
    ),
    Bug(
        "raise before cut",
        0,
        (
            _site(
                "_order", "if target_w > charger.worst_w + max(0, site.ledger.room_w(site.limit.power_w))", "if False"
            ),
            _site("step", "site.ledger.total_w <= max(before_w, site.limit.power_w)", "True"),
        ),
    ),
    Bug("0 W is no limit", 0, (Edit(limit, site, "lowest", "min(limits", "min((x for x in limits if x.power_w)"),)),
    Bug(
        "deadlines on the wall clock",
        3,
        (_site("_let_time_pass", "deadline[0] <= now.monotonic_ms", f"deadline[0] <= {_WALL_MS}"),),
    ),
    Bug(
        "a lease is over when it ends on our clock",
        17,
        (
            _charger("_let_leases_end", "_ends_ms + plan.guard_ms <= now_ms", "_ends_ms <= now_ms"),
            _charger("due_ms", "time + plan.guard_ms for time in ends", "time for time in ends"),
        ),
    ),
    Bug(
        "a lease that may have ended on theirs still counts",
        1,
        (_charger("_let_leases_end", "min(ends) - plan.guard_ms <= now_ms", "min(ends) <= now_ms"),),
    ),
    Bug(
        "what is not proven is trusted",
        0,
        (_charger("worst_case_w", "settled_w = hardware_w", "settled_w = self._told_w(plan)"),),
    ),
    Bug(
        "a reboot forgets nothing",
        6,
        (_charger("booted", "self.proven = self.active = self.floored = False", "self.active = False"),),
    ),
    Bug(
        "a connection proves what the last one knew",
        1,
        (
            _charger(
                "lost_connection",
                "self.connected = self.proven = self.active = False",
                "self.connected = self.active = False",
            ),
        ),
    ),
    Bug(
        "every make keeps its limit offline",
        1,
        (_charger("_trusted", "plan.offline is Offline.KEEPS_LIMIT and", "plan.offline is not Offline.STOPS and"),),
    ),
    Bug(
        "who stops offline stops at once",
        5,
        (_charger("lost_connection", "now_ms + plan.reaction_ms)]", "now_ms)]"),),
    ),
    Bug("the floor is assumed", 6, (_charger("_trusted", "self.floored and self.grant_w", "self.grant_w"),)),
    Bug(
        "a floor proves that no grant is left",
        5,
        (_charger("_floor_found", "self.lease_ending = True", "self.grant_w, self.lease_ending = plan.floor_w, True"),),
    ),
    Bug(
        "refused counts as accepted",
        0,
        (_charger("answered", "if answer is Answer.ACCEPTED:", "if answer in (Answer.ACCEPTED, Answer.REFUSED):"),),
    ),
    Bug(
        "the ladder ends in an assumption",
        0,
        (_charger("answered", "self.refused = True", "self.refused = self.rung < len(plan.ladder) - 1"),),
    ),
    Bug(
        "a late answer proves",
        0,
        (_charger("answered", "if order is None or order.number != number:", "if order is None:"),),
    ),
    Bug("what is read back is ignored", 0, (_charger("answered", "if read_back_w is not None and", "if False and"),)),
    Bug("disobedience is never noticed", 2, (_charger("_judge", ">= VIOLATIONS_TO_DISTRUST", ">= 1_000_000"),)),
    Bug("one sample forgives", 2, (_charger("_judge", ">= PROOFS_TO_TRUST", ">= 1"),)),
    Bug(
        "what cannot be told is left out of the budget",
        0,
        (
            Edit(
                ledger,
                site,
                "budget_w",
                "max(0, limit_w - sum(charger.worst_w for charger in chargers if not charger.obedient))",
                "limit_w",
            ),
        ),
    ),
    Bug(
        "more minimums are fed than fit",
        0,
        (Edit(allocation, site, "allocate", "if requests[place].minimum_w <= left_w:", "if True:"),),
    ),
    Bug("nobody is fed", 0, (Edit(allocation, site, "allocate", "return grants", "return [0] * len(grants)"),)),
    Bug(
        "a ramp delays a cut",
        0,
        (
            _site(
                "_ramped",
                "shared_w = min(limit_w,",
                "shared_w = max(limit_w, before_w - 1_000) if limit_w < before_w else min(limit_w,",
            ),
        ),
    ),
    Bug(
        "a wish raises",
        2,
        (_site("_request", "min(plan.maximum_w, charger.wish_w)", "max(plan.minimum_w, charger.wish_w)"),),
    ),
    Bug(
        "a manual limit raises",
        0,
        (
            _site(
                "_limit_in_force",
                "limits.append(Limit(site.manual.limit_w, Source.MANUAL))",
                "limits = [Limit(site.manual.limit_w, Source.MANUAL)]",
            ),
        ),
    ),
    Bug(
        "the lower of setpoint and fallback",
        3,
        (
            _site(
                "_limit_in_force",
                "limits.append(Limit(plan.fallback_w, Source.FALLBACK))\n    elif",
                "limits += [Limit(plan.fallback_w, Source.FALLBACK), *site.commanded.limits(plan)]\n    elif",
            ),
        ),
    ),
    Bug(
        "a link that is back ends the fallback",
        0,
        (
            Edit(
                fallback,
                Supervision,
                "falls_back",
                "in (LinkState.FALLBACK, LinkState.RECOVERY)",
                "is LinkState.FALLBACK",
            ),
        ),
    ),
    Bug(
        "an emergency stop ends with the link",
        3,
        (
            _site(
                "_limit_in_force",
                "if site.commanded.emergency_stop:",
                "if site.commanded.emergency_stop and not site.link.falls_back:",
            ),
        ),
    ),
    Bug(
        "a restart begins the hold anew", 69, (_site("_started", "site.link.since_ms + offset_ms", "now.monotonic_ms"),)
    ),
    Bug(
        "a refused setpoint moves the link",
        1,
        (
            _site(
                "_command_received",
                "if reason is not None:",
                "if reason is not None:\n"
                "        site.link = site.link.moved(Trigger.SETPOINT_ACCEPTED, now.monotonic_ms)",
            ),
        ),
    ),
    Bug(
        "a time tag may be replayed", 18, (Edit(setpoint, setpoint, "tag_problem", "tag_ms <= newer_than_ms", "False"),)
    ),
    Bug(
        "0 W is always allowed",
        1,
        (Edit(setpoint, site, "decide", "received.value == 0 and plan.allow_zero", "received.value == 0"),),
    ),
    Bug(
        "a limit is rounded up",
        0,
        (
            _site(
                "_command_received",
                "before.with_setpoint(event, event.limit_w, now)",
                "before.with_setpoint(event, event.limit_w + 1, now)",
            ),
        ),
    ),
    Bug(
        "a setpoint with an end never ends",
        0,
        (_commanded("without_ended", "if end_ms is None or end_ms > now_ms:", "if True:"),),
    ),
    Bug("the newest group decides", 0, (_commanded("limits", "in self.by_group", "in self.by_group[-1:]"),)),
    Bug(
        "a termination comes when all are told",
        0,
        (_site("_settle", "site.ledger.total_w <= min(", "sum(x.target_w for x in site.chargers.values()) <= min("),),
    ),
    Bug(
        "a superseded command is terminated",
        0,
        (_site("_command_received", "= event.command, now", "= site.awaiting or event.command, now"),),
    ),
    Bug(
        "the limit is said to be reached too early",
        0,
        (
            _site(
                "_show_limit",
                "Signal.LIMIT_REACHED, worst_w <= limit_w",
                "Signal.LIMIT_REACHED, worst_w <= limit_w + 5_000",
            ),
        ),
    ),
    Bug(
        "without a journal setpoints are accepted",
        13,
        (_site("_command_received", "if site.journal_lost:", "if False:"),),
    ),
    Bug("without a journal raises leave", 31, (_site("_order", "if site.journal_lost and", "if False and"),)),
    Bug(
        "an event is acted upon before it is recorded",
        0,
        (
            _engine(
                "_process",
                "self._journal.append([codec.record(event, now) for event, now in batch])",
                "late, self._late = vars(self).get('_late', []), [codec.record(*recorded) for recorded in batch]\n"
                "            self._journal.append(late)",
            ),
        ),
    ),
    Bug(
        "a snapshot loses the manual limit",
        30,
        (
            _engine(
                "snapshot",
                "codec.pack(self.site)",
                "[codec.pack(None if name == 'manual' else getattr(self.site, name)) for name in codec._names(Site)]",
            ),
        ),
    ),
    Bug(
        "what has left is kept for ever", 0, (_charger("_may_still_draw", "if leaving.until_ms > now_ms:", "if True:"),)
    ),
)
"""Every bug is caught within a minute of computing, or `gridlimit prove` fails."""
