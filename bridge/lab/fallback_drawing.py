"""The drawing docs/link-states.svg, made from the core's table: a box for each state, an arrow for each change."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from bridge.core.fallback import TABLE, LinkState, Trigger
from bridge.lab.fallback_page import HOLDER

_C, _H, _F, _R, _A = LinkState

WIDTH: Final = 200
HEIGHT: Final = 56
LINE: Final = 15

PLACES: Final[dict[LinkState, tuple[int, int]]] = {
    _C: (40, 60),
    _H: (400, 60),
    _F: (760, 60),
    _R: (400, 330),
    _A: (760, 330),
}
"""Left upper corner of each box."""

ARROWS: Final[dict[tuple[LinkState, LinkState], tuple[str, int, int]]] = {
    (_C, _H): ("M240 76 H396", 318, 52),
    (_H, _C): ("M400 102 H244", 320, 122),
    (_H, _F): ("M600 76 H756", 678, 52),
    (_C, _F): ("M140 60 V20 H860 V56", 500, 14),
    (_F, _C): ("M770 116 V170 H210 V120", 640, 164),
    (_F, _R): ("M790 116 V208 H560 V326", 640, 202),
    (_R, _F): ("M600 344 H680 V232 H820 V120", 690, 290),
    (_R, _C): ("M440 330 V232 H160 V120", 300, 212),
    (_F, _A): ("M880 116 V326", 880, 280),
    (_A, _F): ("M934 330 V120", 972, 214),
    (_A, _R): ("M760 372 H604", 682, 388),
    (_A, _C): ("M860 386 V426 H90 V120", 500, 420),
}
"""How each arrow goes, and where the middle of its words stands."""


def drawing() -> str:
    """The drawing as SVG text, the same for the same table."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1060 450" role="img" font-family="sans-serif"',
        ' font-size="13" text-anchor="middle">',
        "<title>The states of the link to the control centre, and what moves them</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">',
        '<path d="M0 0 8 4 0 8z" fill="#37474f"/></marker></defs>',
        '<rect width="1060" height="450" rx="8" fill="#fff"/>',
        *(_arrow(*between) for between in changes()),
        *(_box(state) for state in LinkState),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def changes() -> Iterator[tuple[LinkState, LinkState]]:
    """Every pair of states between which something moves the link."""
    for state, row in TABLE.items():
        yield from ((state, target) for target in LinkState if target is not state and target in row.values())


def _arrow(state: LinkState, target: LinkState) -> str:
    path, x, y = ARROWS[state, target]
    words = [trigger.value for trigger in Trigger if TABLE[state][trigger] is target]
    lines = [
        f'<text x="{x}" y="{y + LINE * line}" fill="#37474f" paint-order="stroke" stroke="#fff" stroke-width="4">'
        f"{escape(word)}</text>"
        for line, word in enumerate(words)
    ]
    arrow = f'<path d="{path}" fill="none" stroke="#37474f" stroke-width="1.3" marker-end="url(#tip)"/>'
    return "\n".join([arrow, *lines])


def _box(state: LinkState) -> str:
    (x, y), middle = PLACES[state], PLACES[state][0] + WIDTH // 2
    fill = "#e8f5e9" if state in (_C, _H) else "#fff3e0" if state in (_F, _R) else "#eceff1"
    return (
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{fill}" stroke="#37474f"/>'
        f'<text x="{middle}" y="{y + 24}" font-weight="bold" fill="#1b262c">{state.value}</text>'
        f'<text x="{middle}" y="{y + 42}" fill="#1b262c">{escape(HOLDER[state][0])}</text>'
    )
