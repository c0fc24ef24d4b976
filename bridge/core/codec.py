"""Events and the site to and from JSON text, driven by their annotations: what journal and snapshots hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from bridge.core import messages
from bridge.core.messages import Event
from bridge.core.quantities import Now

EVENTS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(messages.Event)}
_PLAIN = frozenset({str, int, float, bool})
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_NAMES: dict[Any, tuple[str, ...]] = {}
_DECODERS: dict[Any, Callable[[Any], Any]] = {}


def record(event: Event, now: Now) -> str:
    """One journal record: name, both clocks, then the fields in order. Floats keep NaN and infinities as JSON5 does."""
    kind: Any = type(event)
    values = [
        value if (value := getattr(event, name)) is None or type(value) in _PLAIN else pack(value)
        for name in _names(kind)
    ]
    return _ENCODER.encode([kind.__name__, now.monotonic_ms, now.utc_ms, *values])


def replayed(text: str) -> tuple[Event, Now]:
    """The event and clocks of a journal record. ValueError if the record is none of ours."""
    name, monotonic_ms, utc_ms, *values = json.loads(text)
    kind = EVENTS.get(name)
    if kind is None:
        raise ValueError(f"no event is called {name!r}")
    event: Event = _decoder(kind)(values)
    return event, Now(monotonic_ms, utc_ms)


def pack(value: Any) -> Any:
    """A value as JSON data: dataclasses become lists in field order, enums their values, dicts lists of pairs."""
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return [[pack(key), pack(item)] for key, item in value.items()]
    kind: Any = type(value)
    if is_dataclass(kind):
        return [pack(getattr(value, name)) for name in _names(kind)]
    if isinstance(value, (set, frozenset)):
        return sorted(pack(item) for item in value)
    return [pack(item) for item in value]


def unpack(kind: Any, data: Any) -> Any:
    """The value of type `kind` that `pack` made `data` of."""
    return _decoder(kind)(data)


def _names(kind: Any) -> tuple[str, ...]:
    if kind not in _NAMES:
        _NAMES[kind] = tuple(field.name for field in fields(kind) if field.init)
    return _NAMES[kind]


def _decoder(kind: Any) -> Callable[[Any], Any]:
    if kind not in _DECODERS:
        _DECODERS[kind] = _new_decoder(kind)
    return _DECODERS[kind]


def _new_decoder(kind: Any) -> Callable[[Any], Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (inner,) = [argument for argument in arguments if argument is not NoneType]
        decode = _decoder(inner)
        return lambda data: None if data is None else decode(data)
    if origin in (list, set, frozenset) or (origin is tuple and arguments[-1] is Ellipsis):
        decode = _decoder(arguments[0])
        return lambda data: origin(decode(item) for item in data)
    if origin is dict:
        key, item = _decoder(arguments[0]), _decoder(arguments[1])
        return lambda data: {key(name): item(value) for name, value in data}
    if origin is tuple:
        decoders = tuple(_decoder(argument) for argument in arguments)
        return lambda data: tuple(decode(item) for decode, item in zip(decoders, data, strict=True))
    return _plain_decoder(kind)


def _plain_decoder(kind: Any) -> Callable[[Any], Any]:
    if isinstance(kind, type) and issubclass(kind, tuple):
        hints = get_type_hints(kind)
        decoders = tuple(_decoder(hint) for hint in hints.values())
        return lambda data: kind(*(decode(item) for decode, item in zip(decoders, data, strict=True)))
    if is_dataclass(kind):
        make: Any = kind
        hints = get_type_hints(kind)
        decoders = tuple(_decoder(hints[name]) for name in _names(kind))
        return lambda data: make(*(decode(item) for decode, item in zip(decoders, data, strict=True)))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    if kind in (int, float, str, bool):
        return lambda data: data
    raise TypeError(f"{kind!r} cannot be recorded")
