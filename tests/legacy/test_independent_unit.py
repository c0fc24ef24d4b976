"""The lab's simulated Series 4 unit, which shares no code with this layer, in every spelling of meter values."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from bridge.core.messages import Answer, ChargerBooted, LimitAnswered, MeterSampled, SessionChanged, SetLimit
from bridge.lab.series4 import MeterForm, Series4Unit
from bridge.legacy import unit as unit_module
from tests.legacy.fake_unit import SERIAL, Bench, running, s4_entry, until


@asynccontextmanager
async def simulated(
    bench: Bench, form: MeterForm, *, subprotocol: str | None = "ocpp1.5"
) -> AsyncIterator[Series4Unit]:
    url = f"ws://127.0.0.1:{bench.server.port}/"
    unit = Series4Unit(url, SERIAL, meter_form=form, kilo=form is MeterForm.C, subprotocol=subprotocol)
    task = asyncio.ensure_future(unit.run())
    try:
        yield unit
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("form", MeterForm)
async def test_it_boots_samples_and_obeys_in_every_spelling(form: MeterForm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_module, "CONFIGURE_AFTER_S", 0)
    entry = s4_entry(sampling={**s4_entry().profile.sampling.model_dump(), "interval_s": 1})
    async with running(entry) as bench, simulated(bench, form) as unit:
        await until(lambda: bench.of(ChargerBooted))
        unit.set_demand(7_200)
        unit.start_session("04A1B2C3")
        bench.server.set_limit(SetLimit(SERIAL, 1, 20_000))
        await until(lambda: bench.of(LimitAnswered))
        assert bench.of(LimitAnswered) == [LimitAnswered(SERIAL, 1, Answer.ACCEPTED, 20_000)]
        assert unit.limit_w() == 20_000
        await until(lambda: any(sample.power_w for sample in bench.of(MeterSampled)))
        (sample, *_) = [sample for sample in bench.of(MeterSampled) if sample.power_w]
        assert sample.valid
        assert sample.voltage_mv is not None
        assert 200_000 < sample.voltage_mv < 260_000
        assert sample.current_ma is not None
        assert sample.energy_wh is not None
        unit.stop_session()
        await until(lambda: bench.of(SessionChanged)[-1:] == [SessionChanged(SERIAL, False)])
        events = bench.central_system.of("TransactionEvent")
        assert [event["seqNo"] for event in events] == list(range(len(events)))
        assert not bench.quarantine.counts


async def test_it_may_offer_no_subprotocol() -> None:
    async with running() as bench, simulated(bench, MeterForm.A, subprotocol=None):
        await until(lambda: bench.of(ChargerBooted))
