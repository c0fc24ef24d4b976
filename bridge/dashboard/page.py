"""The page: one object for each browser that looks, which shows what is known and changes only what has changed."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from html import escape
from typing import Any, Final

from nicegui import Client, ui

from bridge.dashboard import charts, table
from bridge.dashboard.acting import Acting, button
from bridge.dashboard.feed import Feed, Known
from bridge.dashboard.words import GERMAN, Words

ALARMS_SHOWN: Final = 12
COMMANDS_SHOWN: Final = 10
EVENTS_SHOWN: Final = 12
BARS_EVERY: Final = 2  # messages: bars move no faster than the eye follows
SILENT_S: Final = 5.0

_SOURCES: Final = {
    "setpoint": "setpoint of the grid operator",
    "fallback": "fallback limit, the link is lost",
    "manual": "set by hand",
    "capacity": "capacity of the connection",
    "at_start": "start value, no setpoint yet",
    "step": "step of the grid operator",
    "emergency_stop": "emergency stop",
}
_LINKS: Final = {
    "CONNECTED": ("connected", "", ""),
    "HOLD": ("lost, last limit held", "fallback in {}", "gl-unusual"),
    "FALLBACK": ("lost, in fallback", "released in {}", "gl-unusual"),
    "RECOVERY": ("back, waiting for a setpoint", "restored in {}", "gl-unusual"),
    "AUTONOMOUS": ("released, capacity alone", "", "gl-unusual"),
}
_SERIOUS: Final = frozenset({"journal_lost", "invariant_broken", "dead_letters", "limit_disobeyed", "limit_refused"})


class Page:
    """What one browser shows. `update` is called with every message of the feed, and with none while it is silent."""

    def __init__(self, client: Client, feed: Feed, words: Words, acting: Acting) -> None:
        self.client = client
        self._feed = feed
        self._words = words
        self._acting = acting
        self._shown: dict[str, Any] = {}
        self._span = "hour"
        self._bars_due = 0
        self._bars_changed = False
        self._build()

    # What stands where.

    def _build(self) -> None:
        self._banner = ui.label().classes("gl-banner").props("role=alert")
        self._build_head()
        with ui.element("main").classes("gl-page"):
            self._build_glance()
            self._build_charts()
            self._build_lists()
            self._build_table()
        self.update([], whole=True)

    def _build_head(self) -> None:
        words, person = self._words, self._acting.person()
        with ui.element("header").classes("gl-head"):
            ui.element("div").classes("gl-mark").props("aria-hidden=true")
            ui.html(f"<h1>{escape(self._feed.known.status.get('site', ''))}</h1>", sanitize=False)
            ui.element("div").classes("gl-grow")
            self._manual = button(words("Manual limit"), self._acting.set_manual)
            self._lift = button(words("Lift manual limit"), self._acting.lift_manual)
            other = "en" if words.language == GERMAN else "de"
            ui.link({"en": "English", "de": "Deutsch"}[other], f"/language/{other}").classes("gl-link").props(
                f"hreflang={other}"
            )
            if person is None:
                ui.link(words("Log in"), "/login").classes("gl-link")
            else:
                ui.label(person.name).classes("gl-quiet")
                ui.link(words("Log out"), "/logout").classes("gl-link")

    def _card(self, heading: str, classes: str) -> ui.element:
        card = ui.element("section").classes(f"gl-card {classes}")
        with card:
            ui.html(f"<h2>{escape(self._words(heading))}</h2>", sanitize=False)
        return card

    def _build_glance(self) -> None:
        with self._card("Limit in force", "gl-3"):
            self._limit = ui.label().classes("gl-big gl-limit")
            self._source = ui.label()
            self._limit_note = ui.label().classes("gl-quiet gl-small")
        with self._card("Site power", "gl-3"):
            self._power = ui.label().classes("gl-big gl-power")
            self._bar = ui.html('<i class="w"></i><i class="p"></i><i class="l"></i>', sanitize=False).classes("gl-bar")
            self._verdict = ui.label().props("role=status")
            self._verdict_note = ui.label().classes("gl-quiet gl-small")
        with self._card("Link to the grid operator", "gl-3"):
            self._link = ui.label().classes("gl-mid")
            self._link_next = ui.label().classes("gl-mid gl-unusual")
            self._link_note = ui.label().classes("gl-quiet gl-small")
        with self._card("Chargers", "gl-3"):
            self._connected = ui.label().classes("gl-mid")
            self._worst = ui.label()
            with ui.element("div").classes("gl-row"):
                self._outbox = ui.label().classes("gl-quiet gl-small")
                self._resend = button(self._words("Resend"), self._acting.resend)

    def _build_charts(self) -> None:
        words, known = self._words, self._feed.known
        with self._card("Power against limit", "gl-12"):
            with ui.element("div").classes("gl-row"):
                self._spans = {
                    span: button(words(name), partial(self._show_span, span), "gl-seg")
                    for span, name in (("hour", "Hour"), ("day", "Day"))
                }
            self._chart = ui.echart(charts.over_time(known.hour, words)).classes("gl-chart")
        self._mark_span()
        with self._card("Power against grant", "gl-12"):
            self._bars = ui.echart(charts.by_charger(list(known.chargers.values()), words)).classes("gl-bars")

    def _build_lists(self) -> None:
        words = self._words
        with self._card("Alarms", "gl-3"):
            self._alarms = ui.element("div").classes("gl-list gl-tall")
        with self._card("Commands of the grid operator", "gl-6"), ui.element("div").classes("gl-scroll"):
            self._commands = ui.html("", sanitize=False)
        with self._card("What happened", "gl-3"):
            self._events = ui.html("", sanitize=False).classes("gl-list gl-tall").props("tabindex=0")
        self._headings = "".join(
            f"<th>{escape(words(each))}</th>" for each in ("Time", "From", "Command", "Answer", "Reached")
        )

    def _build_table(self) -> None:
        words, known = self._words, self._feed.known
        rows = [table.row_of(charger, words) for charger in known.chargers.values()]
        with self._card("Chargers", "gl-12"):
            self._grid = ui.aggrid(table.options(rows, words), auto_size_columns=False).classes("gl-table")
            self._grid.on("cellClicked", self._open_charger, ["data"])
            self._grid.on("cellKeyDown", self._key_on_charger, ["data", "event.key"])

    def _open_charger(self, event: Any) -> None:
        self._acting.show_charger(event.args["data"]["serial"])

    def _key_on_charger(self, event: Any) -> None:
        if event.args.get("event.key") == "Enter":
            self._acting.show_charger(event.args["data"]["serial"])

    # What changes.

    def use_clock(self, offset_minutes: int) -> None:
        """Write times as the browser's clock shows them, so many minutes east of UTC."""
        self._words.offset_minutes = offset_minutes
        self._shown = {}
        self.update([], whole=False)

    def update(self, serials: Iterable[str], *, whole: bool, hour: bool = False, day: bool = False) -> None:
        """Show what is known now; `serials` are otherwise than before, `hour` and `day` have a new point."""
        known = self._feed.known
        self._show_silence()
        if not known.status:
            return
        self._show_limit(known)
        self._show_power(known)
        self._show_link(known)
        self._show_counts(known)
        self._show_alarms(known)
        self._show_commands(known)
        self._show_events(known)
        if whole or {"hour": hour, "day": day}[self._span]:
            self._draw()
        self._show_chargers(list(serials), whole=whole)

    def _changed(self, name: str, value: Any) -> bool:
        if self._shown.get(name) == value:
            return False
        self._shown[name] = value
        return True

    def _say(self, label: ui.label, text: str, look: str = "") -> None:
        """Set text and colour of a label, if they are others than before."""
        if self._changed(f"label {label.id}", (text, look)):
            label.set_text(text)
            label.set_visibility(bool(text))
            label.classes(add=look, remove=" ".join({"gl-alarm", "gl-unusual", "gl-quiet"} - {look} - {""}))

    def _show_silence(self) -> None:
        words, silent_s = self._words, self._feed.silent_s
        if not self._feed.known.status:
            text = words("Waiting for the service …")
        else:
            text = words("No values for {}: the service does not answer", words.span(silent_s))
            text = text if silent_s > SILENT_S else ""
        self._say(self._banner, text)

    def _show_limit(self, known: Known) -> None:
        words, status = self._words, known.status
        limit, manual = status["limit"], status["manual"]
        self._say(self._limit, words.power(limit["power_w"]), "")
        self._say(self._source, words(_SOURCES.get(limit["source"], limit["source"])))
        since = words("since {}", words.clock(limit["since_utc_ms"]))
        if manual is not None:
            until = "until lifted" if manual["ends_utc_ms"] is None else "until {}"
            limit_w, name, reason = manual["limit_w"], manual["name"], manual["reason"]
            by_hand = words("manual limit {} by {}: {}", words.power(limit_w), name, reason)
            since = f"{since} · {by_hand}, {words(until, words.clock(manual['ends_utc_ms']))}"
        self._say(self._limit_note, since, "gl-quiet")
        if self._changed("manual", manual is not None):
            self._lift.set_visibility(manual is not None)

    def _show_power(self, known: Known) -> None:
        words, status = self._words, known.status
        power_w, capacity_w, limit_w = status["power_w"], status["capacity_w"], status["limit"]["power_w"]
        self._say(self._power, words.power(power_w))
        scale_w = max(capacity_w, status["worst_case_w"], 1)
        parts = [round(100 * (part or 0) / scale_w, 1) for part in (status["worst_case_w"], power_w, limit_w)]
        if self._changed("bar", parts):
            self._bar.style(f"--w: {parts[0]}%; --p: {min(100, parts[1])}%; --l: {min(100, parts[2])}%")
        if status["within"]:
            self._say(self._verdict, words("within the limit"))
        elif power_w is not None and power_w > limit_w:
            self._say(self._verdict, words("above the limit"), "gl-alarm")
        else:
            self._say(self._verdict, words("not proven to be within the limit"), "gl-unusual")
        since = words("since {}", words.clock(status["within_since_utc_ms"]))
        worst = words("worst case {}", words.power(status["worst_case_w"]))
        self._say(
            self._verdict_note, f"{since} · {worst} · {words('of {} capacity', words.power(capacity_w))}", "gl-quiet"
        )

    def _show_link(self, known: Known) -> None:
        words, link = self._words, known.status["link"]
        state, coming, look = _LINKS.get(link["state"], (link["state"], "", ""))
        self._say(self._link, words(state), look)
        left_s = link["next_change_s"]
        self._say(self._link_next, words(coming, words.countdown(left_s)) if coming and left_s is not None else "",
                  "gl-unusual")  # fmt: skip
        count = link["connections"]
        centres = words("{} control centres", count) if count > 1 else words(
            "one control centre" if count else "no control centre"
        )  # fmt: skip
        since = words("since {}", words.clock(round(known.status["utc_ms"] - 1000 * link["since_s"], -3)))
        self._say(self._link_note, f"{since} · {centres}", "gl-quiet")

    def _show_counts(self, known: Known) -> None:
        words, status = self._words, known.status
        connected, total, above = status["chargers_connected"], status["chargers_total"], status["csms"]
        self._say(self._connected, words("{} of {} connected", connected, total))
        at_worst = status["counted_at_worst_total"]
        self._say(self._worst, words("{} counted at worst", at_worst) if at_worst else words("all proven"),
                  "gl-unusual" if at_worst else "gl-quiet")  # fmt: skip
        if above is None:
            self._say(self._outbox, words("the bridge is the central system"), "gl-quiet")
        elif above["dead"]:
            self._say(self._outbox, words("{} not taken by the CSMS", above["dead"]), "gl-alarm")
        else:
            self._say(self._outbox, words("waiting for the CSMS: {}", above["waiting"]), "gl-quiet")
        if self._changed("dead", dead := above is not None and bool(above["dead"])):
            self._resend.set_visibility(dead)

    def _show_alarms(self, known: Known) -> None:
        words, alarms, total = self._words, known.status["alarms"], known.status["alarms_total"]
        if not self._changed("alarms", (alarms, total)):
            return
        self._alarms.clear()
        with self._alarms:
            if not alarms:
                ui.label(words("No alarms")).classes("gl-quiet")
            unseen = [alarm for alarm in alarms if alarm["acknowledged_by"] is None]
            for alarm in alarms[:ALARMS_SHOWN]:
                self._build_alarm(alarm)
            with ui.element("div").classes("gl-row"):
                if total > ALARMS_SHOWN:
                    ui.label(words("and {} more", total - ALARMS_SHOWN)).classes("gl-quiet")
                if len(unseen) > 1:
                    button(words("Acknowledge all"), partial(self._acting.acknowledge, unseen))

    def _build_alarm(self, alarm: dict[str, Any]) -> None:
        words, seen_by = self._words, alarm["acknowledged_by"]
        with ui.element("div").classes("gl-item"):
            ui.element("i").classes(f"gl-dot {'unusual' if seen_by else 'alarm'}").props("aria-hidden=true")
            with ui.element("div").classes("gl-what"):
                ui.label(words(alarm["alarm"]))
                since = f"{alarm['subject']} · {words('since {}', words.clock(alarm['since_utc_ms']))}"
                ui.label(f"{since} · {words('seen by {}', seen_by)}" if seen_by else since).classes("gl-quiet gl-small")
            if seen_by is None:
                button(words("Acknowledge"), partial(self._acting.acknowledge, [alarm]))

    def _show_commands(self, known: Known) -> None:
        words, commands = self._words, known.commands[:COMMANDS_SHOWN]
        if not self._changed("commands", commands):
            return
        if not commands:
            self._commands.set_content(f'<p class="gl-quiet">{escape(words("No command yet"))}</p>')
            return
        lines = []
        for command in commands:
            value = words.power(command["value"]) if command["kind"] == "setpoint" else f"{command['value'] or 0:g}"
            reason = f" · {words(command['reason'])}" if command["reason"] else ""
            reached_s = command["reached_s"]
            cells = (
                words.clock(command["utc_ms"]),
                command["master"],
                f"{words(command['kind'])} {value}",
                f"{words(command['answer'])}{reason}",
                "–" if reached_s is None else f"{words.number(reached_s, 1)} s",
            )
            lines.append("".join(f"<td>{escape(cell)}</td>" for cell in cells))
        rows = "".join(f"<tr>{line}</tr>" for line in lines)
        self._commands.set_content(f'<table class="gl-commands"><tr>{self._headings}</tr>{rows}</table>')

    def _show_events(self, known: Known) -> None:
        events = list(known.events)[: -EVENTS_SHOWN - 1 : -1]
        if self._changed("events", [event["number"] for event in events]):
            self._events.set_content("".join(self._event_line(event) for event in events))

    def _event_line(self, event: dict[str, Any]) -> str:
        words, about = self._words, event["about"]
        match event["kind"]:
            case "limit_in_force":
                text = words("limit in force {}, {}", words.power(about["limit_w"]), words(about["source"]))
            case "link_state":
                text = words("link {} → {}", about["before"], about["after"])
            case "alarm_opened" | "alarm_closed" as kind:
                said = "alarm: {} {}" if kind == "alarm_opened" else "over: {} {}"
                text = words(said, words(about["alarm"]), about["subject"])
            case "manual_limit_set":
                limit = words.power(about["limit_w"])
                text = words("{} set a manual limit of {}: {}", about["name"], limit, about["reason"])
            case "manual_limit_lifted":
                text = words("{} lifted the manual limit", about["name"])
            case "alarm_acknowledged":
                text = words("{} acknowledged {} {}", about["name"], words(about["alarm"]), about["subject"])
            case "charger_retried":
                text = words("{} asked {} to be told again", about["name"], about["serial"])
            case "dead_letters_resent":
                text = words("{} resent dead letters", about["name"])
            case other:
                text = other
        time = escape(words.clock(event["utc_ms"]))
        what = f'<span class="gl-what">{escape(text)}</span>'
        return f'<div class="gl-item"><span class="gl-quiet gl-small">{time}</span>{what}</div>'

    def _show_chargers(self, serials: list[str], *, whole: bool) -> None:
        words, chargers = self._words, self._feed.known.chargers
        if whole:
            self._grid.options["rowData"] = [table.row_of(charger, words) for charger in chargers.values()]
            self._grid.update()
        elif serials:
            rows = [table.row_of(chargers[serial], words) for serial in serials]
            self._grid.run_grid_method("applyTransaction", {"update": rows})
        self._bars_changed = self._bars_changed or bool(serials) or whole
        self._bars_due += 1
        if whole or (self._bars_changed and self._bars_due >= BARS_EVERY):
            self._bars_due, self._bars_changed = 0, False
            grants, powers = charts.bars_of(list(chargers.values()))
            if whole:
                self._bars.options["xAxis"]["data"] = list(chargers)
            self._bars.options["series"][0]["data"], self._bars.options["series"][1]["data"] = grants, powers
            self._bars.update()

    def _show_span(self, span: str) -> None:
        self._span = span
        self._mark_span()
        self._draw()

    def _mark_span(self) -> None:
        for span, chosen in self._spans.items():
            chosen.classes(add="on" if span == self._span else "", remove="" if span == self._span else "on")
            chosen.props(f"aria-pressed={str(span == self._span).lower()}")

    def _draw(self) -> None:
        known = self._feed.known
        drawn = charts.over_time(known.hour if self._span == "hour" else known.day, self._words)
        self._chart.options["series"] = drawn["series"]
        self._chart.update()
