"""Events and the site to and from JSON text, driven by their annotations: what journal and snapshots hold.

Fields stand by place, so what was written can be read only beside the format that held then: `format_of` gives it, and
`Reader` reads by it. A field that is new since then has its default; one that is gone cannot be read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
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
_PACKERS: dict[Any, Callable[[Any], Any]] = {}


def record(event: Event, now: Now) -> str:
    """One journal record: name, both clocks, then the fields in order. Floats keep NaN and infinities as JSON5 does."""
    kind: Any = type(event)
    values = [
        value if (value := getattr(event, name)) is None or type(value) in _PLAIN else pack(value)
        for name in _names(kind)
    ]
    return _ENCODER.encode([kind.__name__, now.monotonic_ms, now.utc_ms, *values])


def pack(value: Any) -> Any:
    """A value as JSON data: dataclasses become lists in field order, enums their values, dicts lists of pairs."""
    kind: Any = type(value)
    if value is None or kind in _PLAIN:
        return value
    if kind not in _PACKERS:
        _PACKERS[kind] = _packer(kind)
    return _PACKERS[kind](value)


def _packer(kind: Any) -> Callable[[Any], Any]:
    if issubclass(kind, Enum):
        return lambda value: value.value
    if issubclass(kind, dict):
        return lambda value: [[pack(key), pack(item)] for key, item in value.items()]
    if is_dataclass(kind):
        return _record_packer(kind)
    if issubclass(kind, (set, frozenset)):
        return lambda value: sorted(pack(item) for item in value)
    return lambda value: [pack(item) for item in value]


def _record_packer(kind: Any) -> Callable[[Any], list[Any]]:
    """Takes all fields as they are, and then packs those that may be no JSON data by themselves."""
    names, hints = _names(kind), get_type_hints(kind)
    places = [place for place, name in enumerate(names) if not _is_plain(hints[name])]

    def packed(value: Any) -> list[Any]:
        row = [getattr(value, name) for name in names]
        for place in places:
            row[place] = pack(row[place])
        return row

    return packed


def _is_plain(hint: Any) -> bool:
    is_union = get_origin(hint) in (Union, UnionType)
    return hint in _PLAIN or (is_union and all(each is NoneType or each in _PLAIN for each in get_args(hint)))


def _names(kind: Any) -> tuple[str, ...]:
    if kind not in _NAMES:
        is_tuple = issubclass(kind, tuple)
        _NAMES[kind] = kind._fields if is_tuple else tuple(field.name for field in fields(kind) if field.init)
    return _NAMES[kind]


class Reader:
    """Reads what was written in the format `written` (see `format_of`; None: that of now)."""

    def __init__(self, written: Mapping[str, Mapping[str, str]] | None = None) -> None:
        self._written = {} if written is None else written
        self._decoders: dict[Any, Callable[[Any], Any]] = {}

    def replayed(self, text: str) -> tuple[Event, Now]:
        """The event and clocks of a journal record. ValueError or TypeError if the record is none of ours."""
        name, monotonic_ms, utc_ms, *values = json.loads(text)
        kind = EVENTS.get(name)
        if kind is None:
            raise ValueError(f"no event is called {name!r}")
        event: Event = self._decoder(kind)(values)
        return event, Now(monotonic_ms, utc_ms)

    def unpack(self, kind: Any, data: Any) -> Any:
        """The value of type `kind` that `pack` made `data` of. ValueError or TypeError if it did not."""
        return self._decoder(kind)(data)

    def _decoder(self, kind: Any) -> Callable[[Any], Any]:
        if kind not in self._decoders:
            self._decoders[kind] = self._new_decoder(kind)
        return self._decoders[kind]

    def _new_decoder(self, kind: Any) -> Callable[[Any], Any]:
        origin, arguments = get_origin(kind), get_args(kind)
        if origin in (Union, UnionType):
            (inner,) = [argument for argument in arguments if argument is not NoneType]
            decode = self._decoder(inner)
            return lambda data: None if data is None else decode(data)
        if origin in (list, set, frozenset) or (origin is tuple and arguments[-1] is Ellipsis):
            decode = self._decoder(arguments[0])
            return lambda data: origin(decode(item) for item in data)
        if origin is dict:
            key, item = self._decoder(arguments[0]), self._decoder(arguments[1])
            return lambda data: {key(name): item(value) for name, value in data}
        if origin is tuple:
            decoders = tuple(self._decoder(argument) for argument in arguments)
            return lambda data: tuple(decode(item) for decode, item in zip(decoders, data, strict=True))
        return self._plain_decoder(kind)

    def _plain_decoder(self, kind: Any) -> Callable[[Any], Any]:
        if is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, tuple)):
            return self._record_decoder(kind)
        if isinstance(kind, type) and issubclass(kind, Enum):
            return kind
        if kind in (int, float, str, bool):
            return lambda data: data
        raise TypeError(f"{kind!r} cannot be recorded")

    def _record_decoder(self, make: Any) -> Callable[[Any], Any]:
        hints, names = get_type_hints(make), _names(make)
        written = tuple(self._written.get(make.__name__, names))
        if unknown := [name for name in written if name not in names]:
            raise ValueError(f"{make.__name__} has no {unknown[0]} any more")
        decoders = tuple(self._decoder(hints[name]) for name in written)
        if written == names:
            return lambda data: make(*(decode(item) for decode, item in zip(decoders, data, strict=True)))
        return lambda data: make(
            **{name: decode(item) for name, decode, item in zip(written, decoders, data, strict=True)}
        )


_NOW = Reader()
replayed = _NOW.replayed
unpack = _NOW.unpack


def format_of(*kinds: Any) -> dict[str, dict[str, str]]:
    """The fields and their types of every record within `kinds`, by its name; of an enumeration its values."""
    found: dict[str, dict[str, str]] = {}
    waiting = list(kinds)
    while waiting:
        kind = waiting.pop()
        waiting += get_args(kind)
        if not isinstance(kind, type) or kind.__name__ in found:
            continue
        if issubclass(kind, Enum):
            found[kind.__name__] = {str(member.value): "" for member in kind}
        elif is_dataclass(kind) or hasattr(kind, "_fields"):
            hints = get_type_hints(kind)
            found[kind.__name__] = {name: str(hints[name]) for name in _names(kind)}
            waiting += [hints[name] for name in _names(kind)]
    return found
