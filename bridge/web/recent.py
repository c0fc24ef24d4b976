"""What happened lately, kept in bounded memory for whoever looks: commands, transitions, and samples of the power.

It begins anew with every start of the service. What must outlive it stands in the journal and in the records.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from bridge.core.messages import AlarmChanged, Reason, SetpointReceived, SwitchReceived
from bridge.core.quantities import Millis, Now, Watts
from bridge.core.site import Site

COMMANDS_KEPT: Final = 200
EVENTS_KEPT: Final = 500
SAMPLE_S: Final = 5
SAMPLES_OF_AN_HOUR: Final = 3_600 // SAMPLE_S
MINUTES_OF_A_DAY: Final = 24 * 60
SAMPLES_OF_A_MINUTE: Final = 60 // SAMPLE_S


class Sample(NamedTuple):
    """The site at one time, W; `power_w` is None while nothing is metered."""

    utc_ms: Millis
    power_w: Watts | None
    limit_w: Watts
    worst_case_w: Watts


@dataclass(slots=True)
class Command:
    """One command of a control centre: what it asked for, how it was answered, and when its limit was reached."""

    number: int
    utc_ms: Millis
    monotonic_ms: Millis
    master: str
    kind: str
    value: float
    answer: str = "awaited"
    reason: str | None = None
    reached_s: float | None = None

    def described(self) -> dict[str, Any]:
        """As JSON data; a value that is no number has none."""
        return {
            "utc_ms": self.utc_ms,
            "master": self.master,
            "kind": self.kind,
            "value": self.value if abs(self.value) < float("inf") else None,
            "answer": self.answer,
            "reason": self.reason,
            "reached_s": self.reached_s,
        }


@dataclass(slots=True)
class Recent:
    """Fed by the shell with what arrives and what follows from it; every list is bounded."""

    clock: Callable[[], Now]
    commands: deque[Command] = field(default_factory=lambda: deque(maxlen=COMMANDS_KEPT))
    events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))
    hour: deque[Sample] = field(default_factory=lambda: deque(maxlen=SAMPLES_OF_AN_HOUR))
    day: deque[Sample] = field(default_factory=lambda: deque(maxlen=MINUTES_OF_A_DAY))
    alarm_since_utc_ms: dict[tuple[str, str], Millis] = field(default_factory=dict)
    acknowledged_by: dict[tuple[str, str], str] = field(default_factory=dict)
    limit_since_utc_ms: Millis = 0
    version: int = 0  # counts what happened to commands
    within: bool | None = None
    within_since_utc_ms: Millis = 0
    _events_seen: int = 0
    _minute: list[Sample] = field(default_factory=list)
    _open_commands: dict[int, Command] = field(default_factory=dict)

    def received(self, event: SetpointReceived | SwitchReceived) -> None:
        """A command has arrived."""
        now = self.clock()
        if isinstance(event, SetpointReceived):
            kind, value = "setpoint", event.value
        else:
            kind, value = event.switch.value, float(event.percent if event.switch.value == "step" else event.on)
        command = Command(event.command, now.utc_ms, now.monotonic_ms, event.master, kind, value)
        self.commands.append(command)
        self.version += 1
        self._open_commands[event.command] = command
        if len(self._open_commands) > COMMANDS_KEPT:
            del self._open_commands[next(iter(self._open_commands))]

    def command(self, number: int) -> Command | None:
        """An open command by its number."""
        return self._open_commands.get(number)

    def confirmed(self, number: int, reason: Reason | None) -> None:
        """A command was accepted, or refused for a reason."""
        command = self._open_commands.get(number)
        if command is None:
            return
        self.version += 1
        command.answer = "accepted" if reason is None else "refused"
        command.reason = None if reason is None else reason.value
        if reason is not None:
            del self._open_commands[number]

    def reached(self, number: int) -> None:
        """Every charger is proven within the limit that a command set."""
        command = self._open_commands.pop(number, None)
        if command is not None:
            self.version += 1
            command.reached_s = (self.clock().monotonic_ms - command.monotonic_ms) / 1000

    def alarm(self, changed: AlarmChanged) -> None:
        """An alarm was opened or closed; one that is closed is acknowledged by nobody any more."""
        key = (changed.alarm, changed.subject)
        if changed.open:
            self.alarm_since_utc_ms[key] = self.clock().utc_ms
        else:
            self.alarm_since_utc_ms.pop(key, None)
            self.acknowledged_by.pop(key, None)
        self.note("alarm_opened" if changed.open else "alarm_closed", alarm=changed.alarm, subject=changed.subject)

    def limit_changed(self, limit_w: Watts, source: str) -> None:
        """Another limit is in force."""
        self.limit_since_utc_ms = self.clock().utc_ms
        self.note("limit_in_force", limit_w=limit_w, source=source)

    def note(self, kind: str, **about: Any) -> None:
        """Keep a transition or an act, with its time and number."""
        self._events_seen += 1
        self.events.append({"number": self._events_seen, "utc_ms": self.clock().utc_ms, "kind": kind, "about": about})

    def watch(self, site: Site) -> None:
        """Note since when the worst case is within the limit, or is not. Cheap: it is called for every event."""
        within = site.ledger.total_w <= site.limit.power_w
        if within is not self.within:
            self.within, self.within_since_utc_ms = within, self.clock().utc_ms

    def sample(self, site: Site) -> None:
        """Take a sample for the chart, every `SAMPLE_S` seconds; twelve of them become a minute of the day."""
        power_w = site.power.total_w if site.power.counted else None
        taken = Sample(self.clock().utc_ms, power_w, site.limit.power_w, site.ledger.total_w)
        self.hour.append(taken)
        self._minute.append(taken)
        if len(self._minute) >= SAMPLES_OF_A_MINUTE:
            self.day.append(_minute_of(self._minute))
            self._minute = []


def _minute_of(samples: list[Sample]) -> Sample:
    """One for many: the mean of the power, the lowest limit, the highest worst case."""
    powers = [sample.power_w for sample in samples if sample.power_w is not None]
    return Sample(
        samples[-1].utc_ms,
        round(sum(powers) / len(powers)) if powers else None,
        min(sample.limit_w for sample in samples),
        max(sample.worst_case_w for sample in samples),
    )
