"""The API, version 1: what the dashboard shows for all to read, and what a person with the role operate may do.

Reading never waits for anything and costs the control loop little: lists come in pages, and only a page is made at a
time. Acting is a core event with the person's name in it, so that the journal has it before it counts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import structlog
from fastapi import APIRouter, Depends, HTTPException, Path, Query
from fastapi.responses import JSONResponse

from bridge.core.messages import Acted, Event, ManualLimitLifted, ManualLimitSet, RetryAsked
from bridge.core.site import Site
from bridge.web import shapes
from bridge.web.guard import Guard, operating
from bridge.web.people import Person, Role, Tokens
from bridge.web.recent import MINUTES_OF_A_DAY, SAMPLE_S, SAMPLES_OF_AN_HOUR, Recent, Sample

log = structlog.get_logger()

PAGE: Final = 1_000
MOST: Final = 100  # of the alarms and burdens in the status; the lists have them all
LAST: Final = 2**31 - 1

Answers = dict[int | str, dict[str, Any]]
MAY_NOT: Final[Answers] = {
    401: {"model": shapes.Problem, "description": "No token, or one that is not known"},
    403: {"model": shapes.Problem, "description": "The token may only look"},
}


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the API takes what it shows from, and hands in what is done. All of it answers at once.

    `charger` describes one charger by serial, `csms` what waits above (None: no central system).
    """

    site: Callable[[], Site]
    status: Callable[[], dict[str, Any]]
    charger: Callable[[str], dict[str, Any]]
    recent: Recent
    submit: Callable[[Event], None]
    resend: Callable[[Sequence[int] | None], int]


def alarms_of(sources: Sources) -> list[dict[str, Any]]:
    """All open alarms, the newest first."""
    since, by = sources.recent.alarm_since_utc_ms, sources.recent.acknowledged_by
    rows = [
        {
            "alarm": alarm,
            "subject": subject,
            "since_utc_ms": since.get((alarm, subject), 0),
            "acknowledged_by": by.get((alarm, subject)),
        }
        for alarm, subject in sources.site().alarms
    ]
    return sorted(rows, key=lambda row: (-row["since_utc_ms"], row["alarm"], row["subject"]))


def status_of(sources: Sources) -> dict[str, Any]:
    """The site at one glance, its cost independent of the number of chargers but for alarms."""
    site, recent, alarms = sources.site(), sources.recent, alarms_of(sources)
    described = sources.status()
    described["limit"]["since_utc_ms"] = recent.limit_since_utc_ms
    unseen = [alarm for alarm in alarms if alarm["acknowledged_by"] is None]
    seen = [alarm for alarm in alarms if alarm["acknowledged_by"] is not None]
    return described | {
        "within": site.ledger.total_w <= site.limit.power_w,
        "within_since_utc_ms": recent.within_since_utc_ms,
        "counted_at_worst_total": len(site.at_worst),
        "alarms": (unseen + seen)[:MOST],
        "alarms_total": len(alarms),
        "chargers_total": len(site.chargers),
        "chargers_connected": sum(charger.connected for charger in site.chargers.values()),
    }


def charger_page(sources: Sources, after: int, most: int) -> dict[str, Any]:
    """The chargers behind place `after`, at most so many."""
    plans = sources.site().plan.chargers
    page = plans[after : after + most]
    end = after + len(page)
    rows = [sources.charger(plan.serial) for plan in page]
    return {"chargers": rows, "total": len(plans), "next": end if end < len(plans) else None}


def _points(site: Site, after: int, most: int) -> dict[str, Any]:
    serials = {plan.index: plan.serial for plan in site.plan.chargers}
    monitored = [point for address, point in sorted(site.plan.points.by_address.items()) if not point.kind.is_command]
    rows = []
    for point in monitored[after : after + most]:
        shown = site.image.shown.get((point.address.common_address, point.address.ioa))
        rows.append(
            {
                "common_address": point.address.common_address,
                "ioa": point.address.ioa,
                "signal": point.signal.value,
                "charger": None if point.charger is None else serials.get(point.charger),
                "name": point.name,
                "kind": point.kind.value,
                "unit": point.unit,
                "value": None if shown is None else float(shown.value),
                "quality": "INVALID" if shown is None else shown.quality.name or "GOOD",
            }
        )
    end = after + len(rows)
    return {"points": rows, "total": len(monitored), "next": end if end < len(monitored) else None}


def _history(samples: Sequence[Sample], interval_s: int) -> dict[str, Any]:
    return {
        "interval_s": interval_s,
        "utc_ms": [sample.utc_ms for sample in samples],
        "power_w": [sample.power_w for sample in samples],
        "limit_w": [sample.limit_w for sample in samples],
        "worst_case_w": [sample.worst_case_w for sample in samples],
    }


After = Annotated[int, Query(ge=0, le=LAST, description="Go on behind this one: `next` of the page before.")]
Most = Annotated[int, Query(ge=1, le=PAGE, description="How many at most.")]


def view_routes(sources: Sources, guard: Guard) -> APIRouter:
    """Everything that may be looked at; `guard` lets in whoever may."""
    routes = APIRouter(prefix="/api/v1", tags=["view"], responses={401: MAY_NOT[401]})
    may_view = Depends(guard)

    @routes.get("/me", response_model=shapes.Whoami)
    async def me(person: Annotated[Person | None, may_view]) -> JSONResponse:
        """Whose token this is, and what it may do."""
        name, role = (None, Role.VIEW) if person is None else (person.name, person.role)
        return JSONResponse({"name": name, "role": role.value})

    @routes.get("/status", response_model=shapes.Status, dependencies=[may_view])
    async def status() -> JSONResponse:
        """Link, limit in force and whose it is, whether we are within it and since when, alarms."""
        return JSONResponse(status_of(sources))

    @routes.get("/chargers", response_model=shapes.Chargers, dependencies=[may_view])
    async def chargers(after: After = 0, most: Most = 200) -> JSONResponse:
        """The chargers with their grants, readings and what they are counted at, in pages."""
        return JSONResponse(charger_page(sources, after, most))

    @routes.get("/points", response_model=shapes.Points, dependencies=[may_view])
    async def points(after: After = 0, most: Most = 200) -> JSONResponse:
        """The process image: every monitored point with its address, value and quality, in pages."""
        return JSONResponse(_points(sources.site(), after, most))

    @routes.get("/events", response_model=shapes.Events, dependencies=[may_view])
    async def events(after: Annotated[int, Query(ge=0, le=LAST)] = 0) -> JSONResponse:
        """Transitions and acts behind number `after` since the service started, at most the last 500."""
        return JSONResponse({"events": [event for event in sources.recent.events if event["number"] > after]})

    @routes.get("/commands", response_model=shapes.Commands, dependencies=[may_view])
    async def commands() -> JSONResponse:
        """The last commands of control centres since the service started, at most 200, the newest first."""
        return JSONResponse({"commands": [each.described() for each in reversed(sources.recent.commands)]})

    @routes.get("/alarms", response_model=shapes.Alarms, dependencies=[may_view])
    async def alarms() -> JSONResponse:
        """What is not as it should be."""
        return JSONResponse({"alarms": alarms_of(sources)})

    @routes.get("/history", response_model=shapes.History, dependencies=[may_view])
    async def history(span: Literal["hour", "day"] = "hour") -> JSONResponse:
        """Power, limit in force and worst case over the last hour (every 5 s) or day (every minute)."""
        if span == "hour":
            return JSONResponse(_history(list(sources.recent.hour)[-SAMPLES_OF_AN_HOUR:], SAMPLE_S))
        return JSONResponse(_history(list(sources.recent.day)[-MINUTES_OF_A_DAY:], 60))

    return routes


def act_routes(sources: Sources, tokens: Tokens) -> APIRouter:
    """Everything that may be done by a person with the role operate."""
    lost: Answers = {
        503: {"model": shapes.Problem, "description": "The journal cannot be written: nothing may be done"}
    }
    routes = APIRouter(prefix="/api/v1", tags=["operate"], responses=MAY_NOT | lost)
    may_operate = Depends(operating(tokens))
    not_there: Answers = {404: {"model": shapes.Problem, "description": "There is none of that name"}}
    not_now: Answers = {409: {"model": shapes.Problem, "description": "As things stand there is nothing to do"}}

    def act(person: Person, event: Event, kind: str, **about: Any) -> None:
        if sources.site().journal_lost:
            raise HTTPException(503, "the journal cannot be written: the service is about to start anew")
        sources.submit(event)
        sources.recent.note(kind, name=person.name, **about)
        log.info(kind.replace("_", " "), person=person.name, **about)

    @routes.post("/manual-limit", response_model=shapes.Done)
    async def set_manual(wanted: shapes.ManualLimitWanted, person: Annotated[Person, may_operate]) -> JSONResponse:
        """Set the manual limit, in place of the one before; it can only lower what the others allow."""
        duration_ms = None if wanted.duration_s is None else wanted.duration_s * 1000
        event = ManualLimitSet(wanted.limit_w, person.name, wanted.reason, duration_ms)
        about = {"limit_w": wanted.limit_w, "reason": wanted.reason, "duration_s": wanted.duration_s}
        act(person, event, "manual_limit_set", **about)
        return JSONResponse({"done": f"manual limit {wanted.limit_w} W"})

    @routes.delete("/manual-limit", response_model=shapes.Done, responses=not_now)
    async def lift_manual(person: Annotated[Person, may_operate]) -> JSONResponse:
        """Lift the manual limit; what the others allow holds again."""
        if sources.site().manual is None:
            raise HTTPException(409, "no manual limit is set")
        act(person, ManualLimitLifted(person.name), "manual_limit_lifted")
        return JSONResponse({"done": "manual limit lifted"})

    @routes.post("/alarms/acknowledge", response_model=shapes.Done, responses=not_there)
    async def acknowledge(named: shapes.AlarmNamed, person: Annotated[Person, may_operate]) -> JSONResponse:
        """Say that a person has seen an alarm; it stays open until its cause is gone."""
        if (named.alarm, named.subject) not in sources.site().alarms:
            raise HTTPException(404, "no such alarm is open")
        about = {"alarm": named.alarm, "subject": named.subject}
        act(person, Acted(person.name, f"acknowledged {named.alarm}", named.subject), "alarm_acknowledged", **about)
        sources.recent.acknowledged_by[named.alarm, named.subject] = person.name
        return JSONResponse({"done": "acknowledged"})

    @routes.post("/chargers/{serial}/retry", response_model=shapes.Done, responses=not_there | not_now)
    async def retry(
        serial: Annotated[str, Path(max_length=48)], person: Annotated[Person, may_operate]
    ) -> JSONResponse:
        """Tell a charger its limit now, without the wait after its last refusal. What it is counted at stays."""
        charger = sources.site().chargers.get(serial)
        if charger is None:
            raise HTTPException(404, "there is no such charger")
        if not charger.connected:
            raise HTTPException(409, "it is not connected: it is told its limit as soon as it is")
        act(person, RetryAsked(serial, person.name), "charger_retried", serial=serial)
        return JSONResponse({"done": "it is told its limit anew"})

    @routes.post("/outbox/resend", response_model=shapes.Resent)
    async def resend(wanted: shapes.DeadLetters, person: Annotated[Person, may_operate]) -> JSONResponse:
        """Let dead letters wait for the central system again, in their old places."""
        which = "all" if wanted.numbers is None else f"{len(wanted.numbers)} letters"
        act(person, Acted(person.name, "resent dead letters", which), "dead_letters_resent", which=which)
        return JSONResponse({"resent": sources.resend(wanted.numbers)})

    return routes
