"""The JSON schemas of OCPP 2.0.1 as the `ocpp` package ships them, compiled on first use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

from jsonschema_rs import Draft6Validator, ValidationError

from bridge.ocpp201.rpc import CallError, Payload

_FOLDER: Final = files("ocpp").joinpath("v201", "schemas")
_REQUEST: Final = "Request.json"

ACTIONS: Final = frozenset(
    file.name.removesuffix(_REQUEST) for file in _FOLDER.iterdir() if file.name.endswith(_REQUEST)
)

# The kind of rule that is broken → the code of OCPP 2.0.1 Part 4 §4.3; any other is FormatViolation.
CODES: Final[Mapping[str, str]] = {
    "type": "TypeConstraintViolation",
    "required": "OccurrenceConstraintViolation",
    "minItems": "OccurrenceConstraintViolation",
    "maxItems": "OccurrenceConstraintViolation",
    "enum": "PropertyConstraintViolation",
    "maxLength": "PropertyConstraintViolation",
    "minLength": "PropertyConstraintViolation",
    "minimum": "PropertyConstraintViolation",
    "maximum": "PropertyConstraintViolation",
    "pattern": "PropertyConstraintViolation",
}


def compiled(schema: dict[str, Any]) -> Draft6Validator:
    """Compile one schema; what it complains of shows no values: they may be contracts or secrets.

    Formats are not checked: stations write times in many ways, and those are read tolerantly.
    """
    return Draft6Validator(schema, validate_formats=False, mask="value")


def problem(validator: Draft6Validator, payload: Payload) -> CallError | None:
    """Say what is wrong with a payload, in the code of its first broken rule, or None."""
    if validator.is_valid(payload):
        return None
    error: ValidationError = next(validator.iter_errors(payload))
    place = "/".join(map(str, error.instance_path)) or "payload"
    return CallError(CODES.get(error.kind.name, "FormatViolation"), f"{place}: {error.message}"[:255])


@cache
def _validator(name: str) -> Draft6Validator:
    return compiled(json.loads(_FOLDER.joinpath(f"{name}.json").read_text("utf-8-sig")))


class Schemas201:
    """All actions of OCPP 2.0.1, in both directions (`bridge.ocpp201.rpc.Schemas`)."""

    def problem_in_request(self, action: str, payload: Payload) -> CallError | None:
        """Check a request; an action outside the 64 of OCPP 2.0.1 is NotImplemented."""
        if action not in ACTIONS:
            return CallError("NotImplemented", f"{action[:50]} is no action of OCPP 2.0.1")
        return problem(_validator(action + "Request"), payload)

    def problem_in_response(self, action: str, payload: Payload) -> CallError | None:
        """Check a response to `action`, which is one of OCPP 2.0.1."""
        return problem(_validator(action + "Response"), payload)


SCHEMAS_201: Final = Schemas201()  # one for all, so that what is known to be right is known to all
