"""The composition root: the one place that knows every room, starts and stops them in order, and carries effects."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from fastapi import Depends

from bridge.child import Child
from bridge.core.limit import Source
from bridge.core.messages import (
    AlarmChanged,
    Alive,
    Confirm,
    Effect,
    Event,
    LimitChanged,
    LinkStateChanged,
    PointChanged,
    Replanned,
    SetFloor,
    SetLimit,
    SetpointReceived,
    ShellAlarm,
    SwitchReceived,
    Terminate,
)
from bridge.core.points import Signal
from bridge.core.status import describe, describe_charger, describe_site
from bridge.dispatch import Dispatch, Order
from bridge.engine import Engine
from bridge.iec104.admission import Caps
from bridge.iec104.c104_stack import C104Stack
from bridge.iec104.event_buffer import MEASURED_TYPES
from bridge.iec104.listener import Listener
from bridge.iec104.outstation import OutstationPlan, RedundancyGroup
from bridge.iec104.scans import Flutter
from bridge.iec104.security import TlsPlan
from bridge.legacy.dialects import OCPP15, Dialect
from bridge.legacy.hello import hello_connection
from bridge.legacy.ocpp16 import OCPP16
from bridge.legacy.quarantine import Quarantine
from bridge.legacy.transactions import Transactions
from bridge.legacy.unit import Unit
from bridge.ocpp201.authorization_cache import AuthorizationCache
from bridge.ocpp201.central_system import CentralSystem
from bridge.ocpp201.charging_profile import Grants
from bridge.ocpp201.deadlines import Deadlines
from bridge.ocpp201.evse_sum import EvseSum
from bridge.ocpp201.grid_limit import SiteLimit
from bridge.ocpp201.intruders import Intruders
from bridge.ocpp201.server import Server
from bridge.ocpp201.smart_charging import SmartCharging
from bridge.ocpp201.station import Station
from bridge.ocpp201.timestamps import rfc3339
from bridge.ocpp201.trace import UNIT, Said, Trace
from bridge.ocpp201.upstream import Upstream
from bridge.reload import refused
from bridge.settings import ChargerEntry, ConfigError, Settings, plan
from bridge.store.conversation import Conversation, open_file
from bridge.store.copy import copy
from bridge.store.database import Database, StoreError
from bridge.store.events import StoredEvents
from bridge.store.group_commit import GroupCommit
from bridge.store.journal import Journal
from bridge.store.outbox import Outbox
from bridge.store.shelf import Shelf
from bridge.supervisor import Supervisor
from bridge.timers import ALIVE_EVERY_S, Calendar, WakeUp, boot_id, system_clock
from bridge.upgrade import upgrade
from bridge.watching import Watching
from bridge.web import v1
from bridge.web.api import create_app
from bridge.web.backup import backup_routes
from bridge.web.guard import operating, viewing
from bridge.web.metrics import Gauges, metrics_routes
from bridge.web.outbox import outbox_routes
from bridge.web.people import Tokens
from bridge.web.recent import Recent
from bridge.web.records import records_routes
from bridge.web.server import WebServer
from bridge.web.stream import Stream, stream_routes
from bridge.web.trace import trace_routes

log = structlog.get_logger()

EXIT_RESTART = 70  # the supervisor is asked to start the service anew
LAST_CUTS_S = 2.0  # what a failing service still gives its cuts to leave
JOURNAL_DAYS = 30
DAY_MS = 24 * 3600 * 1000
SIGNAL_OF = {"setpoint": Signal.LIMIT_SETPOINT, "emergency_stop": Signal.EMERGENCY_STOP}
SIGNAL_OF |= {"limit_enabled": Signal.LIMIT_ENABLE}


class App:
    """One running bridge. `failure` is the sentence for which it wants to be restarted, None while all is well."""

    def __init__(self, settings: Settings) -> None:
        loop = asyncio.get_running_loop()
        self._settings = settings
        self._plan = plan(settings)
        self.ready = False
        self.failure: str | None = None
        self.stopping = asyncio.Event()
        self._backup: asyncio.Task[None] | None = None
        self._rereading: asyncio.Task[None] | None = None
        self._supervisor = Supervisor(os.environ)
        self._database = Database(settings.data_dir / "bridge.db")
        self._events_database: Database | None = None
        self._records_broken: str | None = None
        shelf = Shelf(self._database)
        self._watching = Watching(settings, shelf, system_clock, loop.call_later, self._records_are_broken)
        self._journal = Journal(self._database, synced=self._watching.figures.synced.observe)
        self._wake_up = WakeUp(loop, system_clock, self._wake)
        self.engine = Engine(
            *(self._journal, system_clock, self._deliver, self._failed, loop.call_soon, self._wake_up.at),
            watcher=self._watching,
            call_later=loop.call_later,
        )
        self._dispatch = Dispatch(self._tell, loop.call_soon)
        self._calendar = Calendar()
        self._alive: asyncio.TimerHandle | None = None
        self._site_limit = SiteLimit()
        self.recent = Recent(system_clock)
        self._last_seen_utc_ms: dict[str, int] = {}
        self._meters: dict[str, EvseSum] = {}
        self._intruders = Intruders(lambda *alarm: self.engine.submit(ShellAlarm(*alarm)))
        self.outstation = self._new_outstation()
        self._group = GroupCommit(self._database, loop.call_soon, self._failed)
        self.outbox = Outbox(self._database, self._group, on_dead=self._letters_are_dead)
        self._trace_database = open_file(settings.data_dir / "trace.db")
        self._conversation = Conversation(self._trace_database, loop.call_later)
        newest = self._conversation.newest()
        self.trace = Trace(system_clock, keep=self._heard, before=newest, later=loop.call_later)
        self._units: dict[str, Unit] = {}
        self.upstream = self._new_upstream()
        self._entries = {entry.serial: entry for entry in settings.chargers}
        self.chargers = self._new_charger_server(shelf)
        self.web = self._new_web()

    def _new_web(self) -> WebServer:
        http = self._settings.http
        self._tokens = Tokens(
            http.tokens_file or self._settings.data_dir / "tokens", anyone_may_view=http.anyone_may_view
        )
        sources = v1.Sources(
            site=lambda: self.engine.site,
            status=self._describe_for_api,
            charger=self._describe_charger,
            recent=self.recent,
            submit=self.engine.submit,
            resend=self.resend,
        )
        self._stream = Stream(sources)
        may_view = viewing(self._tokens)
        api = create_app(self.status, lambda: self.ready, may_view, http.dashboard_port)
        api.include_router(v1.view_routes(sources, may_view))
        api.include_router(v1.act_routes(sources, self._tokens))
        api.include_router(stream_routes(self._stream, may_view))
        api.include_router(outbox_routes(self.outbox.listed), dependencies=[Depends(may_view)])
        api.include_router(trace_routes(self.said), dependencies=[Depends(may_view)])
        gauges = Gauges(lambda: self.engine.site, lambda: self.ready, self._counted_elsewhere)
        api.include_router(metrics_routes(self._watching.figures, gauges), dependencies=[Depends(may_view)])
        api.include_router(backup_routes(self._begin_backup), dependencies=[Depends(operating(self._tokens))])
        api.include_router(records_routes(lambda: self._watching.audit.signed), dependencies=[Depends(may_view)])
        return WebServer(api, http.host, http.port)

    def _new_outstation(self) -> Listener | C104Stack:
        wanted, dso, limits = self._settings.iec104, self._settings.iec104.profile, self._settings.iec104.limits
        outstation_plan = OutstationPlan(
            host=wanted.host,
            port=wanted.port,
            points=self._plan.points,
            k=dso.timers.k,
            w=dso.timers.w,
            t1_s=dso.timers.t1_s,
            t2_s=dso.timers.t2_s,
            t3_s=dso.timers.t3_s,
            caps=Caps(**limits.model_dump()),
            tls=None if wanted.tls is None else TlsPlan(**dict(wanted.tls)),
            groups=tuple(
                RedundancyGroup(group.name, frozenset(group.addresses), frozenset(group.fingerprints))
                for group in wanted.groups
            ),
            select_timeout_s=dso.select_timeout_s,
            requires_time_tag=dso.time_tags == "required",
            time_zone=dso.time_zone,
            clock_by_control_centre=dso.clock == "control_centre",
            clock_offset_limit_s=dso.clock_offset_limit_s,
            spontaneous_tagged=dso.spontaneous == "tagged",
            interrogation_tagged=dso.interrogation == "tagged",
            sequence_of_objects=dso.sequence_of_objects,
            flutter=None if dso.flutter is None else Flutter(**dso.flutter.model_dump()),
            site=self._plan.name,
        )
        if wanted.stack == "c104":
            return C104Stack(outstation_plan, self._submit_noted, system_clock)
        self._events_database = Database(self._settings.data_dir / "events.db")
        events = StoredEvents(self._events_database, MEASURED_TYPES)
        return Listener(outstation_plan, self._submit_noted, system_clock, events)

    def _submit_noted(self, event: Event) -> None:
        if isinstance(event, SetpointReceived | SwitchReceived):
            self.recent.received(event)
        self.engine.submit(event)

    def _new_upstream(self) -> Upstream | None:
        if self._settings.csms.url is None:
            return None
        entries = {entry.serial: entry for entry in self._settings.chargers}
        cache = AuthorizationCache(Shelf(self._database, self._group), system_clock)
        return Upstream(self._settings.csms, entries, self.outbox, system_clock, self.trace, cache)

    def _new_charger_server(self, shelf: Shelf) -> Server:
        settings, upstream = self._settings, self.upstream
        known = None if upstream is None else upstream.known
        central = CentralSystem(frozenset(settings.site.id_tags), system_clock, known=known)
        # A seqNo that is used goes to disk with the event that uses it, so that no crash leaves a gap.
        of_transactions = shelf if upstream is None else Shelf(self._database, self._group)
        transactions, quarantine = Transactions(of_transactions), Quarantine(shelf)
        above: dict[str, Any] = {
            "above": upstream,
            "answer_within_s": settings.csms.answer_within_s,
            "stop_refused": settings.csms.stop_tx_on_invalid_id,
            "deadlines": Deadlines(asyncio.get_running_loop()),
        }
        submit = self.engine.submit
        grants = Grants()
        kept: dict[str, SmartCharging] = {}  # through all sessions of a charger

        def smart_charging(entry: ChargerEntry) -> SmartCharging:
            if entry.serial not in kept:
                kept[entry.serial] = SmartCharging(
                    entry, submit, system_clock, shelf=shelf, site_limit=self._site_limit
                )
            return kept[entry.serial]

        def station(websocket: Any, entry: ChargerEntry) -> Station:
            of_station = above | {"smart_charging": smart_charging(entry), "grants": grants}
            of_station["observe"] = self.trace.observer(entry.serial, UNIT)
            made = Station(websocket, entry, central, submit, system_clock, **of_station)
            self._meters[entry.serial] = made.meter
            return made

        def unit(dialect: Dialect, websocket: Any, entry: ChargerEntry) -> Unit:
            of_unit = above | {"smart_charging": smart_charging(entry), "dialect": dialect}
            of_unit["observe"] = self.trace.observer(entry.serial, UNIT)
            made = Unit(websocket, entry, central, transactions, quarantine, submit, system_clock, **of_unit)
            self._units[entry.serial] = made
            self._meters[entry.serial] = made.meter
            made.record.csms = settings.csms
            if upstream is not None:
                made.record.has_queued = partial(upstream.has_queued, entry.serial)
            return made

        hellos = sorted({entry.profile.hello for entry in settings.chargers if entry.profile.hello})
        return Server(
            settings.ocpp.host,
            settings.ocpp.port,
            self._entries,
            {"ocpp2.0.1": station, "ocpp1.6": partial(unit, OCPP16), "ocpp1.5": partial(unit, OCPP15)},
            submit,
            system_clock,
            connection_class=hello_connection(hellos),
            security_event=self._security_event,
            tls=settings.ocpp.tls,
            plain=None if settings.ocpp.legacy is None else (settings.ocpp.legacy.host, settings.ocpp.legacy.port),
        )

    def _security_event(self, serial: str, kind: str, why: str) -> None:
        """Tell the operator, and the CSMS, of somebody who is not who he says (A04)."""
        self._intruders.seen(serial, kind)
        if self.upstream is not None:
            event = {"type": kind, "timestamp": rfc3339(system_clock().utc_ms), "techInfo": why[:255]}
            self.upstream.request(serial, "SecurityEventNotification", event, lambda _: None)

    def said(self, after: int, serial: str, action: str) -> tuple[int, list[str]]:
        """The conversation since message `after`; of one charger from its beginning, as far back as the file goes."""
        if after or not serial:
            return self.trace.lines(after, serial, action)
        newest, _ = self.trace.lines()
        self._conversation.flush()
        return newest, [said.line() for said in self._conversation.newest(serial, action)]

    def _letters_are_dead(self, some: bool) -> None:
        """Tell the control centre that the CSMS does not take all it is told, until a person has seen to it."""
        self.engine.submit(ShellAlarm("dead_letters", self._plan.name, some))

    def status(self) -> dict[str, Any]:
        """The status of the site, as the status API gives it."""
        return describe(self.engine.site, system_clock()) | {
            "csms": self._describe_csms(),
            "units": self._describe_units(),
        }

    def _heard(self, said: Said) -> None:
        if said.way == "Rx" and said.leg == UNIT:
            self._last_seen_utc_ms[said.serial] = said.utc_ms
        self._conversation.keep(said)

    def _counted_elsewhere(self) -> list[tuple[str, str, float]]:
        """What /metrics says beside the site, as name, help and value."""
        told: list[tuple[str, str, float]] = [
            ("gridlimit_records_total", "Records written, since the first ever.", self._watching.audit.head.number)
        ]
        if self.upstream is not None:
            outbox, oldest_utc_ms = self.outbox, self.outbox.oldest_utc_ms()
            waited_s = 0.0 if oldest_utc_ms is None else (system_clock().utc_ms - oldest_utc_ms) / 1000
            told += [
                ("gridlimit_outbox_letters", "What waits for the CSMS.", outbox.depth()),
                ("gridlimit_outbox_oldest_seconds", "How long the oldest of it has waited.", waited_s),
                ("gridlimit_dead_letters", "What the CSMS does not take.", outbox.dead),
                ("gridlimit_outbox_dropped_total", "Samples thinned out of a full outbox.", outbox.dropped),
            ]
        return told

    def _records_are_broken(self, why: str) -> None:
        """Tell people that the records are not what they were, or cannot go on; the limit is kept all the same."""
        self._records_broken = why
        if self.ready:
            self.engine.submit(ShellAlarm("records_broken", self._plan.name, True))

    def _describe_for_api(self) -> dict[str, Any]:
        """The site as the API shows it at one glance, without what grows with the number of chargers."""
        above = None
        if self.upstream is not None:
            outbox = self.outbox
            above = {
                "waiting": outbox.depth(),
                "oldest_utc_ms": outbox.oldest_utc_ms(),
                "dead": outbox.dead,
                "dropped": outbox.dropped,
            }
        return describe_site(self.engine.site, system_clock(), v1.MOST) | {"csms": above}

    def _describe_charger(self, serial: str) -> dict[str, Any]:
        """One charger as the API shows it."""
        site, entry, meter = self.engine.site, self._entries[serial], self._meters.get(serial)
        return describe_charger(site.chargers[serial], site.plans[serial]) | {
            "make": entry.charger_profile,
            "minimum_w": entry.minimum_w,
            "maximum_w": entry.maximum_w,
            "phase_currents_ma": [None, None, None] if meter is None else meter.phase_currents_ma(),
            "last_seen_utc_ms": self._last_seen_utc_ms.get(serial),
            "waiting": self.outbox.waiting(serial),
        }

    def _describe_units(self) -> dict[str, Any]:
        """What is to be known of each legacy unit since its last connection: None where it samples as ordered."""
        return {serial: {"sampling_problem": unit.record.sampling_problem} for serial, unit in self._units.items()}

    def _describe_csms(self) -> dict[str, Any] | None:
        if self.upstream is None:
            return None
        return {
            "url": self._settings.csms.url,
            "waiting": self.outbox.depth(),
            "oldest_utc_ms": self.outbox.oldest_utc_ms(),
            "dead": self.outbox.dead,
            "dropped": self.outbox.dropped,
            "chargers": {entry.serial: self.upstream.describe(entry.serial) for entry in self._settings.chargers},
        }

    def resend(self, numbers: Sequence[int] | None) -> int:
        """Let dead letters wait for the CSMS again and say how many; None means all of them."""
        letters = self.outbox.resend(numbers)
        for serial in {letter.serial for letter in letters}:
            if self.upstream is not None:
                self.upstream.resent(serial)
        return len(letters)

    def _log_command(self, what: str, number: int) -> None:
        """A line for what became of a command: which point it came to, from whom, and what it asked for."""
        about: dict[str, Any] = {"command": number}
        if (command := self.recent.command(number)) is not None:
            meaning = SIGNAL_OF.get(command.kind)
            point = None if meaning is None else self._plan.points.by_signal.get((meaning, None))
            about |= {"kind": command.kind, "value": command.value, "master": command.master}
            about |= {} if point is None else {"point": point.address.ioa}
        log.info(what, **about)

    def _begin_backup(self) -> Path | None:
        """Copy the databases into a new folder, without haste; None while another is being made."""
        if self._backup is not None and not self._backup.done():
            return None
        folder = self._settings.data_dir / f"backup-{system_clock().utc_ms}"
        folder.mkdir(mode=0o700)
        self._backup = asyncio.create_task(self._back_up(folder))
        return folder

    async def _back_up(self, folder: Path) -> None:
        try:
            for database in (self._database, self._events_database):
                for _ in () if database is None else copy(database, folder / database.path.name):
                    await asyncio.sleep(0)
            (folder / "done").touch()
        except (OSError, StoreError) as error:
            log.error("no backup", why=str(error))  # noqa: TRY400  a full disk needs no traceback
            (folder / "failed").write_text(str(error), encoding="utf-8")

    async def start(self) -> None:
        """Take up the limit where the journal ends, then open the listeners."""
        began = time.monotonic()
        self.engine.start(self._plan, boot_id(), upgrade(self._journal))
        self._watching.started(self._settings)
        if self._records_broken is not None:
            self.engine.submit(ShellAlarm("records_broken", self._plan.name, True))
        if self.outbox.dead:
            self._letters_are_dead(True)
        self._mark_alive()
        await self.chargers.open()
        if self.upstream is not None:
            self.upstream.open()
        await self.outstation.open()
        self._tokens.write_host_token(self._settings.data_dir)
        await self.web.open()
        self._calendar.daily(self._prune, hour=3)
        self._calendar.start()
        self.ready = True
        self._supervisor.tell("READY=1", f"STATUS={self._status_line()}")
        log.info(
            "ready",
            site=self._plan.name,
            iec104=f"{self._settings.iec104.host}:{self.outstation.port}",
            ocpp=f"{self._settings.ocpp.host}:{self.chargers.port}",
            ocpp_plain_port=self.chargers.plain_port,
            http=f"{self._settings.http.host}:{self.web.port}",
            chargers=len(self._plan.chargers),
            limit_w=self.engine.site.limit.power_w,
            source=self.engine.site.limit.source.value,
            seconds=round(time.monotonic() - began, 3),
        )

    def reread(self, read: Callable[[], Settings]) -> None:
        """Go by the configuration that `read` gives, all of it or nothing; a second wish waits for the first."""
        before = self._rereading

        async def in_turn() -> None:
            if before is not None:
                await asyncio.wait([before])
            await self._reread(read)

        self._rereading = asyncio.get_running_loop().create_task(in_turn())

    async def _reread(self, read: Callable[[], Settings]) -> None:
        def compared() -> tuple[Settings, list[str]]:
            settings = read()
            return settings, refused(self._settings, settings)

        self._supervisor.reloading()
        try:
            # In a thread, because reading a large configuration takes longer than a setpoint may wait.
            settings, problems = await asyncio.to_thread(compared)
        except ConfigError as error:
            settings, problems = self._settings, error.problems
        if self.engine.site.journal_lost:
            problems = ["the journal cannot be written: the service is about to start anew"]
        if problems:
            log.error("the new configuration is refused as a whole: nothing has changed", why=problems)
        else:
            self._go_by(settings)
        self._supervisor.tell("READY=1", f"STATUS={self._status_line()}")

    def _go_by(self, settings: Settings) -> None:
        self._settings, self._plan = settings, plan(settings)
        self._entries.update({entry.serial: entry for entry in settings.chargers})
        self.engine.submit(Replanned(self._plan))
        for entry in settings.chargers:
            if entry.out_of_service:
                self.chargers.drop(entry.serial)
        self._watching.configured(settings)
        log.info("the configuration was read anew", capacity_w=self._plan.capacity_w, fallback_w=self._plan.fallback_w)

    async def stop(self) -> None:
        """Close the listeners, then the journal; chargers keep what they were last told."""
        self.ready = False
        self._supervisor.tell("STOPPING=1")
        for task in (self._backup, self._rereading):
            if task is not None:
                task.cancel()
        self._calendar.stop()
        if self._alive is not None:
            self._alive.cancel()
        await self.outstation.close()
        await self.chargers.close()
        self._intruders.close()
        if self.upstream is not None:
            await self.upstream.close()
        self._group.flush()
        self.engine.flush()
        self._watching.stopped()
        self.engine.snapshot()
        self._wake_up.cancel()
        await self._stream.close()
        await self.web.close()
        self._database.close()
        self.trace.work_up()
        self._conversation.flush()
        self._trace_database.close()
        if self._events_database is not None:
            self._events_database.close()
        log.info("stopped", limit_w=self.engine.site.limit.power_w)

    def _wake(self) -> None:
        self.engine.flush()

    def _mark_alive(self) -> None:
        if (why := self.engine.unsound()) is None:
            self._supervisor.tell("WATCHDOG=1", f"STATUS={self._status_line()}")
        else:
            log.critical("the watchdog is not fed", why=why)
        self.engine.submit(Alive())
        self.recent.sample(self.engine.site)
        self._alive = asyncio.get_running_loop().call_later(ALIVE_EVERY_S, self._mark_alive)

    def _status_line(self) -> str:
        """What `systemctl status` shows."""
        site = self.engine.site
        connected = sum(charger.connected for charger in site.chargers.values())
        return (
            f"limit {site.limit.power_w} W ({site.limit.source.value}), worst case {site.ledger.total_w} W,"
            f" link {site.link.state.value}, {connected} of {len(site.chargers)} chargers, {len(site.alarms)} alarms"
        )

    def _prune(self) -> None:
        self._watching.audit.prune()
        before_utc_ms = system_clock().utc_ms - JOURNAL_DAYS * DAY_MS
        if self._journal.prune(before_utc_ms):
            asyncio.get_running_loop().call_later(1.0, self._prune)

    def _failed(self, why: str) -> None:
        self.failure = why
        asyncio.get_running_loop().call_later(LAST_CUTS_S, self.stopping.set)

    def _tell(self, order: Order) -> None:
        if isinstance(order, SetLimit):
            self.chargers.set_limit(order)
        else:
            self.chargers.set_floor(order)

    def _deliver(self, effects: Sequence[Effect]) -> None:
        orders = [effect for effect in effects if isinstance(effect, (SetLimit, SetFloor))]
        if orders:
            self._dispatch.put(orders)
        for effect in effects:
            match effect:
                case PointChanged():
                    self.outstation.publish(effect)
                case Confirm():
                    self.recent.confirmed(effect.command, effect.reason)
                    if effect.reason is None:
                        self._log_command("command accepted", effect.command)
                    self.outstation.confirm(effect)
                case Terminate():
                    self._log_command("limit reached", effect.command)
                    self.recent.reached(effect.command)
                    self.outstation.terminate(effect)
                case LimitChanged():
                    self._site_limit.source = Source(effect.source)
                    self.recent.limit_changed(effect.limit_w, effect.source)
                    log.info("limit in force", limit_w=effect.limit_w, source=effect.source)
                case LinkStateChanged():
                    self.recent.note("link_state", before=effect.before, after=effect.after)
                    log.info("link supervision", before=effect.before, after=effect.after)
                case AlarmChanged():
                    self.recent.alarm(effect)
                    log.warning("alarm", alarm=effect.alarm, subject=effect.subject, open=effect.open)
        self.recent.watch(self.engine.site)


async def run(settings: Settings, dashboard: Sequence[str], reread: Callable[[], Settings]) -> int:
    """Serve until SIGTERM or SIGINT. The exit code: 0 after a signal, 70 if the service wants to be started anew.

    At SIGHUP the configuration is read anew by `reread`.
    `dashboard` is the command of the dashboard, which is a child of the service where the settings want one.
    """
    app = App(settings)
    child = Child(dashboard)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, app.stopping.set)
    loop.add_signal_handler(signal.SIGHUP, app.reread, reread)
    try:
        await app.start()
        if settings.http.dashboard_port is not None:
            child.start()
        await app.stopping.wait()
    finally:
        await asyncio.gather(app.stop(), child.stop())
    if app.failure is not None:
        log.critical("ending to be started anew", why=app.failure)
        return EXIT_RESTART
    return 0
