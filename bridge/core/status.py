"""The site in words and figures for people and programs: what holds, whose it is, who is counted at what, and why."""

from __future__ import annotations

from typing import Any

from bridge.core.charger import Charger, Measurand
from bridge.core.plan import ChargerPlan
from bridge.core.quantities import Now
from bridge.core.site import ManualLimit, Site


def describe(site: Site, now: Now) -> dict[str, Any]:
    """The whole status as JSON data: powers in W, times in s, UTC times in ms since 1970."""
    return describe_site(site, now) | {
        "limit_reached": site.ledger.total_w <= site.limit.power_w,
        "alarms": [{"alarm": alarm, "subject": subject} for alarm, subject in sorted(site.alarms)],
        "chargers": [describe_charger(site.chargers[plan.serial], plan) for plan in site.plan.chargers],
    }


def describe_site(site: Site, now: Now, burdens: int | None = None) -> dict[str, Any]:
    """The site without its chargers and alarms, but for the first `burdens` (None: all) that are counted at worst."""
    deadline = site.link.deadline(site.plan)
    setpoint, manual = site.commanded.newest, site.manual
    return {
        "site": site.plan.name,
        "utc_ms": now.utc_ms,
        "link": {
            "state": site.link.state.value,
            "since_s": (now.monotonic_ms - site.link.since_ms) / 1000,
            "connections": site.connections,
            "next_change_s": None if deadline is None else (deadline[0] - now.monotonic_ms) / 1000,
        },
        "limit": {"power_w": site.limit.power_w, "source": site.limit.source.value},
        "setpoint": None if setpoint is None else {"value": setpoint.value, "limit_w": setpoint.limit_w},
        "manual": None if manual is None else _manual(manual, now),
        "capacity_w": site.plan.capacity_w,
        "fallback_w": site.plan.fallback_w,
        "worst_case_w": site.ledger.total_w,
        "power_w": site.power.total_w if site.power.counted else None,
        "counted_at_worst": [
            _burden(site.chargers[serial], site.plans[serial]) for serial in sorted(site.at_worst)[:burdens]
        ],
    }


def _manual(manual: ManualLimit, now: Now) -> dict[str, Any]:
    ends_utc_ms = None if manual.ends_ms is None else now.utc_ms + manual.ends_ms - now.monotonic_ms
    return {"limit_w": manual.limit_w, "name": manual.name, "reason": manual.reason, "ends_utc_ms": ends_utc_ms}


def describe_charger(charger: Charger, plan: ChargerPlan) -> dict[str, Any]:
    """One charger: what it was granted, what its meter says, what it is counted at and why."""
    readings = charger.readings
    return {
        "serial": charger.serial,
        "index": plan.index,
        "connected": charger.connected,
        "active": charger.active,
        "granted_w": charger.grant_w,
        "target_w": charger.target_w,
        "worst_case_w": charger.worst_w,
        "counted_as": counted_as(charger, plan),
        "out_of_service": plan.out_of_service,
    } | {
        measurand.value: {
            "value": readings[measurand].value,
            "utc_ms": readings[measurand].utc_ms,
            "valid": readings[measurand].valid,
            "stale": readings[measurand].stale,
        }
        if measurand in readings
        else None
        for measurand in Measurand
    }


def _burden(charger: Charger, plan: ChargerPlan) -> dict[str, Any]:
    """A charger counted at its worst: why, what that takes from the others, and what would free it."""
    if charger.disobeys:
        frees = "two samples within its grant, or out_of_service"
    elif not charger.connected:
        frees = "its connection, a charger profile that says what it does offline, or out_of_service"
    elif charger.refused:
        frees = "an order that it accepts: see its log for why it refuses, or out_of_service"
    else:
        frees = "its answer to the order under way"
    return {
        "serial": charger.serial,
        "why": counted_as(charger, plan),
        "worst_case_w": charger.worst_w,
        "costs_w": max(0, charger.worst_w - min(charger.target_w, charger.worst_w)),
        "frees": frees,
    }


def counted_as(charger: Charger, plan: ChargerPlan) -> str:
    """Why a charger is counted at its present worst case, in a phrase an operator understands."""
    reasons = (
        (plan.out_of_service, "out of service"),
        (charger.disobeys, "draws more than granted"),
        (charger.refused, "refused its limit"),
        (not charger.connected, f"offline, {plan.offline.value}"),
        (not charger.proven, "limit not yet acknowledged"),
        (charger.in_flight is not None, "answer awaited"),
        (charger.unanswered_w is not None, "did not answer"),
        (bool(charger.leaving), "still reacting"),
    )
    return next((phrase for holds, phrase in reasons if holds), "holds its grant")
