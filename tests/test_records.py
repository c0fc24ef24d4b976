"""What is recorded of each event, whether a crash leaves something out, and the papers made of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from bridge import record_pages
from bridge.core.messages import (
    Answer,
    ChargerConnected,
    Effect,
    Event,
    LimitAnswered,
    LinkChanged,
    ManualLimitLifted,
    ManualLimitSet,
    MeterSampled,
    SetLimit,
)
from bridge.core.quantities import Now
from bridge.core.site import Site
from bridge.engine import Engine
from bridge.records import Recorder, differences
from tests.core.bench import UTC_MS, charger_plan, of, site_plan
from tests.test_engine import MemoryJournal, setpoint

PLAN = site_plan(charger_plan(0), charger_plan(1))
ALL = 0, 2**62


@dataclass
class Bench:
    """An engine over a journal that outlives it, the records it gave, and those a crash would leave."""

    journal: MemoryJournal
    now_ms: int = 1_000_000
    recorded: int = 0
    kept: list[dict[str, Any]] = field(default_factory=list)
    sealed: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.effects: list[Effect] = []
        self.recorder = Recorder(self.keep, self.recorded)
        self.engine = Engine(
            self.journal, self.clock, self.effects.extend, self.failed, lambda _: None, lambda _: None, self
        )
        self.engine.start(PLAN, "boot-1")

    def clock(self) -> Now:
        return Now(self.now_ms, UTC_MS + self.now_ms)

    def failed(self, why: str) -> None:
        raise AssertionError(why)

    def keep(self, kind: str, said: dict[str, Any], utc_ms: int) -> None:
        self.kept.append({"number": len(self.kept) + 1, "utc_ms": utc_ms, "kind": kind, **said})

    def observe(self, sequence: int | None, event: Event, now: Now, effects: Sequence[Effect], site: Site) -> None:
        self.recorder.observe(sequence, event, now, effects, site)

    def before_snapshot(self) -> None:
        self.sealed = list(self.kept)
        self.recorded = self.recorder.recorded

    def tell(self, *events: Event) -> None:
        for event in events:
            self.engine.submit(event)
        self.engine.flush()

    def wait(self, seconds: float) -> None:
        end_ms = self.now_ms + round(seconds * 1000)
        while (due := self.engine.next_deadline()) is not None and due <= end_ms:
            self.now_ms = max(due, self.now_ms)
            self.engine.flush()
        self.now_ms = end_ms

    def obey(self, answer: Answer = Answer.ACCEPTED) -> None:
        orders = of(SetLimit, self.effects)
        self.effects.clear()
        self.tell(*(LimitAnswered(order.serial, order.order, answer) for order in orders))

    def sample(self, power_w: int) -> None:
        for plan in PLAN.chargers:
            self.tell(MeterSampled(plan.serial, UTC_MS + self.now_ms, power_w))

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.kept if record["kind"] == kind]

    def limitation(self) -> None:
        """Two chargers at 22 kW each, 20 kW set and reached, later the full power again."""
        self.tell(LinkChanged(1), *(ChargerConnected(plan.serial) for plan in PLAN.chargers))
        for _ in range(4):
            self.obey()
            self.sample(22_000)
            self.wait(10)
        self.tell(setpoint(1, 20_000))
        self.wait(0)
        self.obey()
        for _ in range(40):
            self.wait(5)
            self.obey()
            self.sample(9_500)
        self.tell(setpoint(2, 100_000))
        self.wait(1)


@pytest.fixture
def bench() -> Bench:
    return Bench(MemoryJournal())


def test_a_command_is_recorded_with_its_decision_and_the_power_of_the_moment(bench: Bench) -> None:
    bench.sample(7_000)
    bench.tell(setpoint(1, 20_000), setpoint(2, 0))
    accepted, refused = bench.of_kind("setpoint_received")
    assert (accepted["value"], accepted["answer"], accepted["power_w"]) == (20_000, "positive", 14_000)
    assert (refused["answer"], refused["why"]) == ("negative", "below the minimum profile")
    assert accepted["event"] < refused["event"]


def test_a_value_that_is_no_number_is_recorded_as_it_was(bench: Bench) -> None:
    bench.tell(setpoint(1, 1).__class__(1, "m", float("nan"), None))
    assert bench.of_kind("setpoint_received")[0]["value"] == "nan"


def test_who_set_and_lifted_a_manual_limit_is_recorded_by_name(bench: Bench) -> None:
    bench.tell(ManualLimitSet(15_000, "A. Weber", "maintenance of feeder 3"), ManualLimitLifted("B. Huber"))
    assert bench.of_kind("manual_limit_set")[0]["name"] == "A. Weber"
    assert bench.of_kind("manual_limit_lifted")[0]["name"] == "B. Huber"


def test_orders_answers_and_the_moment_it_is_reached_are_recorded(bench: Bench) -> None:
    bench.limitation()
    serials = {order[0] for record in bench.of_kind("limits_ordered") for order in record["orders"]}
    assert serials == {plan.serial for plan in PLAN.chargers}
    assert {record["answer"] for record in bench.of_kind("limit_answered")} == {"accepted"}
    reached = bench.of_kind("limit_reached")[0]
    assert reached["worst_case_w"] <= 20_000
    assert 2.0 <= reached["seconds"] <= 10.0


def test_an_unproven_order_is_recorded_with_what_was_answered(bench: Bench) -> None:
    bench.tell(ChargerConnected("S4-0000"))
    bench.obey(Answer.REFUSED)
    assert [record["answer"] for record in bench.of_kind("limit_answered")] == ["refused"]


def test_the_power_is_followed_closely_after_a_change_and_sparsely_later(bench: Bench) -> None:
    bench.limitation()
    changed = next(record for record in bench.of_kind("limit_changed") if record["limit_w"] == 20_000)
    assert [power_w for _, power_w in changed["power_before_w"]][-1] == 44_000
    times = [record["utc_ms"] for record in bench.of_kind("power_measured") if record["limit_w"] == 20_000]
    steps = [later - earlier for earlier, later in pairwise(times)]
    assert steps[0] == 5_000
    assert steps[-1] == 15_000


def test_what_a_crash_takes_is_recorded_again_from_the_journal_and_nothing_twice(bench: Bench) -> None:
    bench.limitation()
    again = Bench(bench.journal, bench.now_ms + 5_000, bench.recorded, list(bench.sealed))

    def told(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """All but how often the power was looked at."""
        left_out = {"number": 0, "power_before_w": []}
        return [record | left_out for record in records if record["kind"] != "power_measured"]

    before = told(bench.kept)
    assert told(again.kept)[: len(before)] == before
    assert not again.of_kind("not_recorded")


def test_events_that_nobody_recorded_are_said_to_be_missing(bench: Bench) -> None:
    bench.limitation()
    bench.engine.snapshot()
    newest = bench.journal.last_sequence
    again = Bench(bench.journal, bench.now_ms + 5_000, recorded=2)
    (said,) = again.of_kind("not_recorded")
    assert (said["after_event"], said["before_event"]) == (2, newest + 1)


def test_one_page_for_each_limitation_event_says_what_an_auditor_asks(bench: Bench) -> None:
    bench.limitation()
    (event,) = record_pages.events(bench.kept, *ALL)
    said = dict(record_pages.facts(event))
    assert said["Limit in force"] == "20000 W of 100000 W, source: setpoint"
    assert said["Until"].endswith("then 100000 W")
    assert "20000" in said["Command"]
    assert "confirmed positively" in said["Command"]
    assert said["Power measured before"] == "44000 W"
    assert said["Highest by samples taken since then"] == "19000 W, within the limit"
    assert "2 accepted" in said["Chargers"]
    assert len(record_pages.charger_rows(event)) == 2


def test_an_event_outside_the_period_has_no_page(bench: Bench) -> None:
    bench.limitation()
    assert not list(record_pages.events(bench.kept, UTC_MS + bench.now_ms + 1, UTC_MS + bench.now_ms + 2))
    assert not list(record_pages.events(bench.kept, 0, UTC_MS))


def test_the_plot_stays_within_its_frame_and_ends_at_the_limit_after(bench: Bench) -> None:
    bench.limitation()
    (event,) = record_pages.events(bench.kept, *ALL)
    drawn = record_pages.plot(event)
    names = [name for name, _ in drawn.lines]
    assert names == ["limit", "worst case", "measured"]
    places = [place for _, points in drawn.lines for place in points]
    assert all(0 <= x <= record_pages.PLOT_WIDTH and 0 <= y <= record_pages.PLOT_HEIGHT for x, y in places)
    limit = drawn.lines[0][1]
    assert limit[1][1] < limit[2][1]  # down at the command
    assert limit[-1][1] < limit[-2][1]  # and up at its end


def test_the_html_is_one_file_with_nothing_from_outside_and_names_cannot_break_it(bench: Bench) -> None:
    bench.tell(ManualLimitSet(15_000, "<script>alert(1)</script>", "try"))
    bench.wait(1)
    bench.tell(ManualLimitLifted("B. Huber"))
    bench.wait(1)
    found = record_pages.events(bench.kept, *ALL)
    page = record_pages.html("Records", ["All is well."], record_pages.log_of(bench.kept, *ALL), found)
    assert "<script>" not in page
    assert "http" not in page
    assert page.count("<section>") == 2
    assert page.count("<svg") == 1


def test_the_pdf_has_a_page_for_each_event(bench: Bench) -> None:
    bench.limitation()
    found = list(record_pages.events(bench.kept, *ALL))
    written = record_pages.pdf("Records", ["Müller said “yes” – 日本."], record_pages.log_of(bench.kept, *ALL), found)
    assert written.startswith(b"%PDF-")
    assert written.count(b"/Type /Page\n") == 2


def test_the_csv_has_every_record_and_no_formula(bench: Bench) -> None:
    bench.tell(ManualLimitSet(15_000, "=cmd()", "-1+1"))
    rows = list(csv.DictReader(io.StringIO("".join(record_pages.csv_text(bench.kept, *ALL)))))
    assert len(rows) == len(bench.kept)
    act = next(row for row in rows if row["kind"] == "manual_limit_set")
    assert (act["name"], act["reason"], act["limit_w"]) == ("'=cmd()", "'-1+1", "15000")


def test_a_change_of_the_configuration_is_told_by_key_with_both_values() -> None:
    before = {"site": {"capacity_w": 1, "name": "A"}, "csms": {"url": None}}
    after = {"site": {"capacity_w": 2, "name": "A"}, "csms": {"url": "ws://x"}, "http": {"port": 1}}
    assert differences(before, after) == {
        "csms.url": [None, "ws://x"],
        "http": [None, {"port": 1}],
        "site.capacity_w": [1, 2],
    }
