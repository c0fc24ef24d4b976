"""The figures: what Prometheus reads is what the site is, and a page never holds up the loop for long."""

from __future__ import annotations

import math

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from bridge.core.messages import ChargerConnected, Event, LinkChanged, MeterSampled, SetpointReceived
from bridge.core.quantities import Now
from bridge.web.metrics import CHARGERS_AT_ONCE, Figures, Gauges, Histogram, exposition
from tests.core.bench import Bench, charger_plan, site_plan
from tests.test_audit_command import bridge  # noqa: F401  the fixture
from tests.test_service import Bridge


class Watched(Bench):
    """A site whose events and effects are counted, a confirmation leaving 3 ms after its command was read."""

    def __post_init__(self) -> None:
        self.figures = Figures(lambda: Now(self.now_ms + 3, self.utc_ms))
        super().__post_init__()

    def watch(self, *events: Event) -> None:
        for event in events:
            now = self.now
            self.figures.observe(event, now, self.tell(event), self.site)

    def page(self) -> dict[str, Metric]:
        text = "".join(exposition(self.figures, gauges_of(self)))
        return {family.name: family for family in text_string_to_metric_families(text)}


def gauges_of(bench: Bench) -> Gauges:
    """The site of the bench, beside it a CSMS that does not take two letters."""
    outbox = [("gridlimit_outbox_letters", 3.0), ("gridlimit_outbox_oldest_seconds", 60.0)]
    outbox += [("gridlimit_dead_letters", 2.0), ("gridlimit_outbox_dropped_total", 0.0)]
    return Gauges(lambda: bench.site, lambda: True, lambda: [(name, "About.", value) for name, value in outbox])


def value(page: dict[str, Metric], family: str, sample: str = "", **labels: str) -> float:
    found = [each.value for each in page[family].samples if each.name == (sample or family) and each.labels == labels]
    assert len(found) == 1, page[family].samples
    return found[0]


def test_the_page_says_what_the_site_is() -> None:
    bench = Watched(site_plan(charger_plan(0), charger_plan(1, out_of_service=True)))
    bench.watch(LinkChanged(1), ChargerConnected("S4-0000"), MeterSampled("S4-0000", bench.utc_ms, 7_200))
    bench.watch(
        SetpointReceived(1, "m", 20_000.0, 20_000),
        SetpointReceived(2, "m", 0.0, 0),
        SetpointReceived(3, "m", math.nan, None),
    )
    page = bench.page()
    assert value(page, "gridlimit_limit_in_force_watts") == 20_000
    assert value(page, "gridlimit_limit_source", source="setpoint") == 1
    assert value(page, "gridlimit_limit_source", source="fallback") == 0
    assert value(page, "gridlimit_link_state", state="CONNECTED") == 1
    assert value(page, "gridlimit_charger_power_watts", charger="S4-0000") == 7_200
    assert value(page, "gridlimit_site_power_watts") == 7_200
    assert value(page, "gridlimit_worst_case_watts") == bench.site.ledger.total_w
    assert value(page, "gridlimit_chargers", state="out_of_service") == 1
    assert value(page, "gridlimit_dead_letters") == 2
    accepted = {"kind": "setpoint", "answer": "accepted"}
    assert value(page, "gridlimit_commands", "gridlimit_commands_total", **accepted) == 1
    refused = {"kind": "setpoint", "answer": "below_minimum"}
    assert value(page, "gridlimit_commands", "gridlimit_commands_total", **refused) == 1


def test_a_histogram_counts_up_to_each_bound() -> None:
    bench = Watched(site_plan(charger_plan(0)))
    bench.watch(SetpointReceived(1, "m", 20_000.0, 20_000))
    page = bench.page()
    name = "gridlimit_confirmation_seconds"
    assert value(page, name, f"{name}_bucket", le="0.002") == 0
    assert value(page, name, f"{name}_bucket", le="0.005") == 1
    assert value(page, name, f"{name}_bucket", le="+Inf") == value(page, name, f"{name}_count") == 1
    late = Histogram((0.1,))
    late.observe(7)
    assert 'x_bucket{le="+Inf"} 1' in late.lines("x", "About.")


def test_a_serial_cannot_break_the_page() -> None:
    serial = 'S4"\n\\x'
    bench = Watched(site_plan(charger_plan(0, serial=serial)))
    assert value(bench.page(), "gridlimit_charger_connected", charger=serial) == 0


def test_a_thousand_chargers_come_in_parts_of_a_few_hundred() -> None:
    bench = Watched(site_plan(*(charger_plan(index) for index in range(1_000))))
    parts = list(exposition(bench.figures, Gauges(lambda: bench.site, lambda: True, list)))
    assert max(part.count("\n") for part in parts[2:]) <= CHARGERS_AT_ONCE
    assert sum(part.count("gridlimit_charger_connected{") for part in parts) == 1_000


async def test_the_running_service_serves_it(bridge: Bridge) -> None:  # noqa: F811  the fixture
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{bridge.http_port}/metrics", timeout=10)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    page = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert value(page, "gridlimit_ready") == 1
    assert value(page, "gridlimit_journal_sync_seconds", "gridlimit_journal_sync_seconds_count") >= 1
    assert value(page, "gridlimit_records", "gridlimit_records_total") >= 1
