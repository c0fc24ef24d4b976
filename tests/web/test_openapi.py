"""The API against its own description: whatever is asked, what comes back is as OpenAPI says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from bridge.core.messages import SetpointReceived
from bridge.web.people import Role
from tests.web.site_at_hand import SiteAtHand

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
ENDLESS = "/api/v1/stream"
PATHS = {
    *(f"/api/v1/{name}" for name in ("me", "status", "chargers", "points", "events", "commands", "alarms", "history")),
    *("/api/v1/manual-limit", "/api/v1/alarms/acknowledge", "/api/v1/chargers/{serial}/retry", "/api/v1/outbox/resend"),
    *(ENDLESS, "/health", "/status"),
}


def test_every_route_is_described() -> None:
    described = SiteAtHand(Path("nowhere")).app.openapi()
    assert set(described["paths"]) == PATHS
    acts = [
        operation
        for path in described["paths"].values()
        for method, operation in path.items()
        if method in ("post", "delete")
    ]
    assert {tuple(operation["tags"]) for operation in acts} == {("operate",)}
    assert all(operation["security"] == [{"HTTPBearer": []}] for operation in acts)


@pytest.mark.parametrize("path", sorted(PATHS - {ENDLESS}))
def test_whatever_is_asked_is_answered_as_described(tmp_path: Path, path: str) -> None:
    at_hand = SiteAtHand(tmp_path)
    at_hand.recent.received(SetpointReceived(1, "192.0.2.7", 20_000.0, 20_000))
    token = at_hand.token("ada", Role.OPERATE)
    schema = schemathesis.openapi.from_asgi("/openapi.json", at_hand.app)
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    cases = st.one_of([each.as_strategy() for each in operations if each.path == path])

    @settings(
        max_examples=12,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, named=st.booleans())
    def ask(case: Any, named: bool) -> None:
        headers = {"Authorization": f"Bearer {token}"} if named else {}
        case.call_and_validate(checks=CHECKS, headers=headers)

    ask()
