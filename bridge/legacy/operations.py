"""What a legacy unit does with each request of an OCPP 2.0.1 central system."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.ocpp201.rpc import CallError, Payload

if TYPE_CHECKING:
    from bridge.legacy.unit import Unit
    from bridge.ocpp201.above import Reply


def from_above(unit: Unit, action: str, payload: Payload, reply: Reply) -> None:  # noqa: ARG001
    """Answer one request of the central system."""
    reply(CallError("NotSupported", f"{action} is not supported by {unit.serial}"))
