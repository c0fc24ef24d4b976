"""Every make shipped is a file that loads, and every key of it is documented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridge.legacy import pages
from bridge.legacy.hello import hello_pattern
from bridge.settings import SHIPPED_PROFILES, ChargerProfile, charger_profile

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "charger-profiles.md"
SHIPPED = sorted(path.stem for path in (SHIPPED_PROFILES / "chargers").glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_make_shipped_loads_and_its_hello_is_a_pattern(name: str) -> None:
    made = charger_profile(name)
    assert made.minimum_w <= made.maximum_w
    if made.hello is not None:
        hello_pattern(made.hello)


def test_the_page_of_charger_profiles_is_made_from_the_settings() -> None:
    assert PAGE.read_text(encoding="utf-8") == pages.page(), "python -m bridge.legacy.pages > docs/charger-profiles.md"


def test_every_key_of_a_charger_profile_has_a_description() -> None:
    def keys(model: Any) -> None:
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            if hasattr(field.annotation, "model_fields"):
                keys(field.annotation)

    keys(ChargerProfile)


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
