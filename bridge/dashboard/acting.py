"""What a person can do on the page: each act asks first, needs a login, and is done in the name of that person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from nicegui import Client, ui

from bridge.dashboard.feed import Feed
from bridge.dashboard.sessions import Sessions
from bridge.dashboard.table import look_of
from bridge.dashboard.words import Words
from bridge.web.people import Person

ENDS: Final = {900: "after 15 minutes", 3_600: "after 1 hour", 14_400: "after 4 hours", 86_400: "after 24 hours"}
WHEN_LIFTED: Final = 0
REASON_CHARACTERS: Final = 3


def button(text: str, act: Any, look: str = "gl-act") -> ui.button:
    """A button in the looks of this page."""
    return ui.button(text, on_click=act, color=None).classes(look).props("flat no-caps")


class Acting:
    """The acts of one browser. `session` is the word in its cookie."""

    def __init__(self, client: Client, feed: Feed, sessions: Sessions, session: str, words: Words) -> None:
        self._client = client
        self._feed = feed
        self._sessions = sessions
        self._session = session
        self._words = words

    def person(self) -> Person | None:
        """Who has logged in here."""
        return self._sessions.person(self._session)

    def _may(self) -> bool:
        """Whether who looks may act; who has not logged in is led there."""
        if self.person() is None:
            ui.navigate.to("/login")
            return False
        if not self._sessions.may_act(self._session):
            ui.notify(self._words("This token may only look."), type="warning")
            return False
        return True

    async def _do(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        token = self._sessions.token(self._session)
        if token is None:
            with self._client:
                ui.navigate.to("/login")
            return
        answer = await self._feed.act(token, method, path, body)
        with self._client:
            said = self._words("done") if answer.ok else answer.said
            ui.notify(said, type="positive" if answer.ok else "negative", position="top")

    async def _sure(self, question: str, note: str = "") -> bool:
        words = self._words
        with self._client, ui.dialog() as dialog, ui.element("div").classes("gl-dialog"):
            ui.label(question).classes("gl-mid")
            if note:
                ui.label(note).classes("gl-quiet")
            with ui.element("div").classes("gl-row"):
                button(words("Cancel"), lambda: dialog.submit(False))
                button(words("Confirm"), lambda: dialog.submit(True), "gl-act gl-go").props("autofocus")
        sure = bool(await dialog)
        dialog.delete()
        return sure

    async def set_manual(self) -> None:
        """Ask for a manual limit, with reason and end, ask again, and set it."""
        if not self._may():
            return
        wanted = await self._ask_manual()
        if wanted is None:
            return
        words = self._words
        ends = ENDS.get(wanted["duration_s"] or WHEN_LIFTED, "until lifted")
        question = words("Set the limit to {}, {}?", words.power(wanted["limit_w"]), words(ends))
        if await self._sure(question, words("It can only lower what the grid operator allows.")):
            await self._do("POST", "manual-limit", wanted)

    async def _ask_manual(self) -> dict[str, Any] | None:
        words = self._words
        with ui.dialog() as dialog, ui.element("div").classes("gl-dialog"):
            ui.html(f"<h3>{words('Manual limit')}</h3>", sanitize=False)
            limit = ui.input(
                words("Limit in kW"),
                validation={words("a number from 0 on, in kW"): lambda text: _watts(text) is not None},
            ).props("inputmode=decimal autofocus dark outlined")
            reason = ui.input(
                words("Reason"),
                validation={words("at least three letters"): lambda text: len(text.strip()) >= REASON_CHARACTERS},
            ).props("maxlength=200 dark outlined")
            ends = {seconds: words(name) for seconds, name in ENDS.items()} | {WHEN_LIFTED: words("when lifted")}
            duration = ui.select(ends, value=3_600, label=words("Ends")).props("dark outlined")

            def go_on() -> None:
                if limit.validate() and reason.validate():
                    dialog.submit(True)

            for field in (limit, reason):
                field.on("keydown.enter", go_on)
            with ui.element("div").classes("gl-row"):
                button(words("Cancel"), lambda: dialog.submit(False))
                button(words("Continue"), go_on, "gl-act gl-go")
        sure = await dialog
        wanted = {
            "limit_w": _watts(limit.value or ""),
            "reason": (reason.value or "").strip(),
            "duration_s": duration.value or None,
        }
        dialog.delete()
        return wanted if sure else None

    async def lift_manual(self) -> None:
        """Lift the manual limit."""
        if self._may() and await self._sure(self._words("Lift the manual limit? What the others allow holds again.")):
            await self._do("DELETE", "manual-limit")

    async def acknowledge(self, alarms: Sequence[dict[str, Any]]) -> None:
        """Say of alarms that somebody has seen them."""
        if not self._may():
            return
        words, first = self._words, alarms[0]
        question = words("Acknowledge {} of {}?", words(first["alarm"]), first["subject"])
        if len(alarms) > 1:
            question = words("Acknowledge all {} alarms?", len(alarms))
        if await self._sure(question):
            for alarm in alarms:
                body = {"alarm": alarm["alarm"], "subject": alarm["subject"]}
                await self._do("POST", "alarms/acknowledge", body)

    async def resend(self) -> None:
        """Let dead letters wait for the CSMS again."""
        if self._may() and await self._sure(self._words("Send what the CSMS did not take again?")):
            await self._do("POST", "outbox/resend", {"numbers": None})

    async def retry(self, serial: str) -> None:
        """Tell a charger its limit anew."""
        if self._may() and await self._sure(self._words("Tell {} its limit again now?", serial)):
            await self._do("POST", f"chargers/{serial}/retry")

    def show_charger(self, serial: str) -> None:
        """All that is known of one charger, and a retry."""
        charger, words = self._feed.known.chargers.get(serial), self._words
        if charger is None:
            return
        facts = _facts(charger, words)
        with self._client, ui.dialog() as dialog, ui.element("div").classes("gl-dialog"):
            with ui.element("div").classes("gl-row"):
                ui.element("i").classes(f"gl-dot {look_of(charger)}")
                ui.label(serial).classes("gl-mid")
            with ui.element("div").classes("gl-facts"):
                for name, value in facts:
                    ui.label(name).classes("gl-quiet")
                    ui.label(value)

            async def retry() -> None:
                dialog.close()
                await self.retry(serial)

            with ui.element("div").classes("gl-row"):
                button(words("Close"), dialog.close)
                if charger["connected"]:
                    button(words("Retry"), retry)
        dialog.on("hide", dialog.delete)
        dialog.open()


def _facts(charger: dict[str, Any], words: Words) -> list[tuple[str, str]]:
    def reading(name: str, divisor: float, unit: str, digits: int) -> str:
        found = charger[name]
        return "–" if found is None else f"{words.number(found['value'] / divisor, digits)} {unit}"

    phases = charger["phase_currents_ma"]
    currents = ["–" if current is None else words.number(current / 1000, 1) for current in phases]
    return [
        (words("State"), words(look_of(charger) if look_of(charger) != "alarm" else charger["counted_as"])),
        (words("Counted as"), words(charger["counted_as"])),
        (words("Power"), reading("power_w", 1_000, "kW", 2)),
        (words("Granted"), words.power(charger["granted_w"])),
        (words("Worst case"), words.power(charger["worst_case_w"])),
        (words("Phase currents"), " / ".join(currents) + " A"),
        (words("Voltage"), reading("voltage_mv", 1_000, "V", 1)),
        (words("Energy"), reading("energy_wh", 1_000, "kWh", 2)),
        (words("Last seen"), words.clock(charger["last_seen_utc_ms"])),
        (words("Make"), charger["make"]),
        (words("waiting messages"), str(charger["waiting"])),
    ]


def _watts(text: str) -> int | None:
    """Whole watts, rounded down, of kilowatts as they are typed, with a comma or a point; None if they are none."""
    try:
        typed = float(text.strip().replace(",", "."))
    except ValueError:
        return None
    return int(typed * 1000) if 0 <= typed <= 1_000_000 else None  # noqa: PLR2004  what the API takes
