"""Every make shipped is a file that loads, and what a make could not understand is refused."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.legacy.hello import hello_pattern
from bridge.settings import SHIPPED_PROFILES, ChargerProfile, charger_profile

SHIPPED = sorted(path.stem for path in (SHIPPED_PROFILES / "chargers").glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_make_shipped_loads_and_its_hello_is_a_pattern(name: str) -> None:
    made = charger_profile(name)
    assert made.minimum_w <= made.maximum_w
    if made.hello is not None:
        hello_pattern(made.hello)


@pytest.mark.parametrize(
    ("protocol", "limit", "why"),
    [
        ("ocpp1.5", {"method": "charging_profile"}, "unknown to ocpp1.5"),
        ("ocpp2.0.1", {"method": "change_configuration", "key": "X"}, "limited by method charging_profile"),
        ("ocpp1.5", {"method": "data_transfer"}, "is needed with method data_transfer"),
        ("ocpp1.5", {"method": "change_configuration", "key": "X", "vendor_id": "V"}, "and with no other"),
        ("ocpp1.5", {"method": "data_transfer", "vendor_id": "V", "data": "x"}, "must contain <value> once"),
        ("ocpp1.5", {"method": "data_transfer", "vendor_id": "V", "read_back": True}, "is needed with read_back"),
    ],
)
def test_a_limit_that_the_make_could_not_understand_is_refused(protocol: str, limit: dict[str, Any], why: str) -> None:
    said = {"vendor": "V", "model": "M", "protocol": protocol, "minimum_w": 1, "maximum_w": 2, "limit": limit}
    with pytest.raises(ValueError, match=why):
        ChargerProfile.model_validate(said)
