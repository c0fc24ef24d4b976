"""A native station that is not ours, mobilityhouse's ChargePoint, against the listener over real sockets."""

# mypy: disable-error-code="import-untyped, misc, untyped-decorator"

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from ocpp.routing import on
from ocpp.v201 import ChargePoint, call, call_result, datatypes, enums

from bridge.core.messages import Answer, ChargerBooted, LimitAnswered, MeterSampled, SessionChanged
from tests.ocpp201.listening import Listening, charger_entry, eventually, listening

TIME = "2026-09-01T10:00:00Z"


class IndependentStation(ChargePoint):
    """Accepts every charging profile and variable, and remembers them."""

    def __init__(self, serial: str, websocket: Any) -> None:
        super().__init__(serial, websocket)
        self.limits_w: list[float] = []
        self.variables: dict[str, str] = {}

    @on("SetChargingProfile")
    async def on_set_charging_profile(self, evse_id: int, charging_profile: dict[str, Any], **_: Any) -> Any:
        assert evse_id == 0
        assert charging_profile["charging_profile_purpose"] == "ChargingStationMaxProfile"
        (schedule,) = charging_profile["charging_schedule"]
        self.limits_w.append(schedule["charging_schedule_period"][0]["limit"])
        return call_result.SetChargingProfile(status=enums.ChargingProfileStatusEnumType.accepted)

    @on("GetCompositeSchedule")
    async def on_get_composite_schedule(self, duration: int, evse_id: int, **_: Any) -> Any:
        schedule = datatypes.CompositeScheduleType(
            evse_id=evse_id,
            duration=duration,
            schedule_start=TIME,
            charging_rate_unit=enums.ChargingRateUnitEnumType.watts,
            charging_schedule_period=[datatypes.ChargingSchedulePeriodType(start_period=0, limit=self.limits_w[-1])],
        )
        return call_result.GetCompositeSchedule(status=enums.GenericStatusEnumType.accepted, schedule=schedule)

    @on("SetVariables")
    async def on_set_variables(self, set_variable_data: list[dict[str, Any]], **_: Any) -> Any:
        results = []
        for item in set_variable_data:
            component, variable = item["component"]["name"], item["variable"]["name"]
            self.variables[f"{component}.{variable}"] = item["attribute_value"]
            results.append(
                datatypes.SetVariableResultType(
                    attribute_status=enums.SetVariableStatusEnumType.accepted,
                    component=datatypes.ComponentType(name=component),
                    variable=datatypes.VariableType(name=variable),
                )
            )
        return call_result.SetVariables(set_variable_result=results)


@asynccontextmanager
async def independent_station(world: Listening) -> AsyncIterator[IndependentStation]:
    async with world.connect() as websocket:
        station = IndependentStation("CS-0001", websocket)
        running = asyncio.create_task(station.start())
        try:
            yield station
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def boot() -> call.BootNotification:
    charging_station = datatypes.ChargingStationType(model="Independent", vendor_name="Other", firmware_version="3")
    return call.BootNotification(charging_station=charging_station, reason=enums.BootReasonEnumType.power_up)


def transaction_event(kind: enums.TransactionEventEnumType, seq_no: int, power_w: float) -> call.TransactionEvent:
    sampled = datatypes.SampledValueType(
        value=power_w,
        measurand=enums.MeasurandEnumType.power_active_import,
        unit_of_measure=datatypes.UnitOfMeasureType(unit="W"),
    )
    return call.TransactionEvent(
        event_type=kind,
        timestamp=TIME,
        trigger_reason=enums.TriggerReasonEnumType.meter_value_periodic,
        seq_no=seq_no,
        transaction_info=datatypes.TransactionType(transaction_id="t1"),
        evse=datatypes.EVSEType(id=1, connector_id=1),
        id_token=datatypes.IdTokenType(id_token="04A1B2C3", type=enums.IdTokenEnumType.iso14443),
        meter_value=[datatypes.MeterValueType(timestamp=TIME, sampled_value=[sampled])],
    )


@pytest.mark.parametrize("read_back", [False, True])
async def test_an_independent_station_boots_is_limited_charges_and_is_metered(read_back: bool) -> None:
    entry = charger_entry(limit={"method": "charging_profile", "read_back": read_back})
    async with listening([entry]) as world, independent_station(world) as station:
        booted = await station.call(boot(), suppress=False)
        assert booted.status == "Accepted"
        assert await world.submitted(ChargerBooted) == [ChargerBooted("CS-0001", "Independent", "3")]

        world.order(20_000, order=1)
        proof = 20_000 if read_back else None
        assert await world.submitted(LimitAnswered) == [LimitAnswered("CS-0001", 1, Answer.ACCEPTED, proof)]
        assert station.limits_w == [20_000]

        await station.call(call.Heartbeat(), suppress=False)
        status = call.StatusNotification(
            timestamp=TIME,
            connector_status=enums.ConnectorStatusEnumType.occupied,
            evse_id=1,
            connector_id=1,
        )
        await station.call(status, suppress=False)
        started = await station.call(
            transaction_event(enums.TransactionEventEnumType.started, 0, 7_200), suppress=False
        )
        assert started.id_token_info["status"] == "Accepted"
        await station.call(transaction_event(enums.TransactionEventEnumType.ended, 1, 0), suppress=False)
        assert [sample.power_w for sample in await world.submitted(MeterSampled, 2)] == [7_200, 0]
        assert [session.active for session in await world.submitted(SessionChanged, 2)] == [True, False]

        await eventually(lambda: len(station.variables) == 4)
        assert station.variables["SampledDataCtrlr.TxUpdatedInterval"] == "60"


async def test_an_independent_station_hears_what_the_central_system_cannot_do() -> None:
    async with listening([charger_entry()]) as world, independent_station(world) as station:
        transfer = await station.call(call.DataTransfer(vendor_id="x"), suppress=False)
        assert transfer.status == "UnknownVendorId"
        signed = await station.call(call.SignCertificate(csr="x"), suppress=False)
        assert signed.status == "Rejected"
