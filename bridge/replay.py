"""A recorded journal played again: what followed from each event, and whether it is what was kept at the time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from bridge.core import codec
from bridge.core.messages import Alive, Effect, Event, MeterSampled, PointChanged, Started, Woke
from bridge.core.quantities import Now
from bridge.core.site import Site, new_site, step

ROUTINE = (Alive, MeterSampled, Woke)  # shown only where something follows


class ReplayError(Exception):
    """The journal cannot be played again; the text says at which record and why."""


@dataclass(slots=True)
class Replayed:
    """What a journal gave: `digest` is SHA-256 over every effect in order, `kept` how many kept states it led to."""

    records: int = 0
    effects: int = 0
    kept: int = 0
    digest: str = ""


def replay(
    records: Iterable[tuple[int, str]],
    state: tuple[int, str] | None,
    kept: Mapping[int, str],
    show: Callable[[str], None] = lambda _: None,
) -> Replayed:
    """Step every record after `state` (its number and text; None: from the first start) and digest what follows.

    Wherever a state was `kept` after a record of that number, the state must be the same to the byte. `show` takes a
    readable line for each event and each effect but points. Raises ReplayError at the first difference, at a record
    that cannot be read, and at one that breaks a promise.
    """
    site: Site | None = None if state is None else codec.unpack(Site, json.loads(state[1]))
    done, digest = Replayed(), hashlib.sha256()
    for sequence, text in records:
        try:
            event, now = codec.replayed(text)
            site = _begun(site, event, now)
            effects = step(site, event, now)
        except (ValueError, TypeError, AssertionError) as problem:
            raise ReplayError(f"record {sequence}: {type(problem).__name__}: {problem}") from problem
        _show(event, now, effects, show)
        for effect in effects:
            digest.update(_line(effect).encode())
        done.records += 1
        done.effects += len(effects)
        if sequence in kept:
            if json.dumps(codec.pack(site), separators=(",", ":")) != kept[sequence]:
                raise ReplayError(f"after record {sequence} the state is not the one that was kept then")
            done.kept += 1
    done.digest = digest.hexdigest()
    return done


def _begun(site: Site | None, event: Event, now: Now) -> Site:
    if site is not None:
        return site
    if not isinstance(event, Started):
        raise ValueError("no start, and no state from before was kept")  # noqa: TRY004  a record, not an argument
    return new_site(event.plan, event.boot_id, now)


def _line(effect: Effect) -> str:
    return json.dumps([type(effect).__name__, codec.pack(effect)], separators=(",", ":")) + "\n"


def _show(event: Event, now: Now, effects: list[Effect], show: Callable[[str], None]) -> None:
    told = [effect for effect in effects if not isinstance(effect, PointChanged)]
    if isinstance(event, ROUTINE) and not told:
        return
    time = datetime.fromtimestamp(now.utc_ms / 1000, UTC).isoformat(timespec="milliseconds")
    show(f"{time}  {_words(event)}")
    for effect in told:
        show(f"{'':29}    -> {_words(effect)}")


def _words(message: Any) -> str:
    """An event or effect in a line, without what says nothing: values that are None, and the plan of a start."""
    said = {field.name: getattr(message, field.name) for field in fields(message) if field.name != "plan"}
    parts = [f"{name}={getattr(value, 'value', value)}" for name, value in said.items() if value is not None]
    return " ".join([type(message).__name__, *parts])
