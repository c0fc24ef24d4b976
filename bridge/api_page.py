"""The page docs/api.md, made from the OpenAPI description of the API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bridge.web import v1
from bridge.web.api import create_app
from bridge.web.guard import viewing
from bridge.web.metrics import metrics_routes
from bridge.web.outbox import outbox_routes
from bridge.web.people import Tokens
from bridge.web.records import records_routes
from bridge.web.stream import stream_routes
from bridge.web.trace import trace_routes

_INTRODUCTION: Final = """# API

What the dashboard shows, and what may be done there, for programs. JSON over HTTP at `http.host`:`http.port`; the exact
description is `GET /openapi.json`, from which this page is made.

    gridlimit token add --help                                      # who may `view`, who may `operate`
    curl -s http://127.0.0.1:8080/api/v1/status -H "Authorization: Bearer $TOKEN"
    curl -sN http://127.0.0.1:8080/api/v1/stream -H "Authorization: Bearer $TOKEN"

While there are no tokens, this machine may look without one. Acting always needs a token of the role `operate`, and is
recorded with its name. Powers are watts, `_utc_ms` milliseconds since 1970. Lists come in pages: ask on with `after`.

| Request | Who | What | Answers |
|---|---|---|---|
"""


def page() -> str:
    """The page docs/api.md."""
    described = _description()
    schemas = described["components"]["schemas"]
    shown = {name: each for name, each in schemas.items() if name not in ("HTTPValidationError", "ValidationError")}
    rows = [_row(method, path, each) for path, ways in described["paths"].items() for method, each in ways.items()]
    return _INTRODUCTION + "\n".join([*rows, "", *_shapes(shown)])


def _description() -> dict[str, Any]:
    """The OpenAPI description, of an API behind which there is no service."""
    nothing: Any = None
    tokens = Tokens(Path("none"))
    guard = viewing(tokens)
    api = create_app(dict, bool, guard)
    api.include_router(v1.view_routes(nothing, guard))
    api.include_router(v1.act_routes(nothing, tokens))
    api.include_router(stream_routes(nothing, guard))
    for routes in (outbox_routes(nothing), trace_routes(nothing), records_routes(nothing)):
        api.include_router(routes)
    api.include_router(metrics_routes(nothing, nothing))
    return api.openapi()


def _row(method: str, path: str, operation: dict[str, Any]) -> str:
    named = [each["name"] for each in operation.get("parameters", []) if each["in"] == "query"]
    query = f"?{'&'.join(f'{name}=' for name in named)}" if named else ""
    body = _shape(operation.get("requestBody", {}))
    who = "anybody" if path == "/health" else "operate" if "operate" in operation.get("tags", []) else "view"
    what = " ".join(operation.get("description", "").split())
    answer = _shape(operation["responses"].get("200", {})) or "–"
    return f"| `{method.upper()} {path}{query}`{' ' + body if body else ''} | {who} | {what} | {answer} |"


def _shape(said: dict[str, Any]) -> str:
    schema = said.get("content", {}).get("application/json", {}).get("schema", {})
    name = schema.get("$ref", "").rpartition("/")[2]
    return f"[{name}](#{name.lower()})" if name else ""


def _shapes(schemas: dict[str, Any]) -> Iterator[str]:
    for name, schema in schemas.items():
        yield from (f"## {name}", "", " ".join(schema.get("description", "").split()), "")
        yield from ("| Key | Value | Meaning |", "|---|---|---|")
        needed = schema.get("required", [])
        for key, field in schema.get("properties", {}).items():
            may = "" if key in needed else ", optional"
            yield f"| `{key}` | {_kind(field)}{may} | {' '.join(field.get('description', '').split())} |"
        yield ""


def _kind(field: dict[str, Any]) -> str:
    """The type of a field in words, with the shape it refers to."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(_kind(each) for each in field["anyOf"])
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}))}"
    return str(field.get("type", "any"))
