"""What the charts show, as options of ECharts: power against limit over time, and power against grant by charger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from bridge.dashboard.feed import Sample
from bridge.dashboard.words import Words

POWER: Final = "#45b8ac"
LIMIT: Final = "#e3b95b"
WORST: Final = "#6c8ebf"
ALARM: Final = "#ff5d5d"
OUTLINED: Final = 100  # bars; more of them are too narrow for an outline
_QUIET: Final = "#8b9aa5"
_LINE: Final = "#222d34"
_TOOLTIP: Final = {
    "trigger": "axis",
    "backgroundColor": "#1a242b",
    "borderColor": "#26323a",
    "textStyle": {"color": "#dbe4ea"},
    ":valueFormatter": "value => value === null || value === undefined ? '–' : gridlimit.power(value * 1000) + ' kW'",
}
_VALUE_AXIS: Final = {
    "type": "value",
    "min": 0,
    "name": "kW",
    "nameTextStyle": {"color": _QUIET},
    "axisLabel": {"color": _QUIET, ":formatter": "value => value.toLocaleString(gridlimit.language)"},
    "splitLine": {"lineStyle": {"color": _LINE}},
}


def over_time(samples: Iterable[Sample], words: Words) -> dict[str, Any]:
    """Site power as an area, the limit in force as a stair, the worst case dashed; W become kW."""
    lines = list(samples)
    columns: list[list[tuple[int, float | None]]] = [
        [(line[0], None if line[column] is None else line[column] / 1000) for line in lines]  # type: ignore[operator]
        for column in (1, 2, 3)
    ]
    looks: list[dict[str, Any]] = [
        {
            "name": words("power"),
            "color": POWER,
            "lineStyle": {"width": 2, "color": POWER},
            "areaStyle": {"color": POWER, "opacity": 0.16},
        },
        {"name": words("limit"), "color": LIMIT, "step": "end", "lineStyle": {"width": 2.5, "color": LIMIT}},
        {"name": words("worst case"), "color": WORST, "step": "end", "lineStyle": {"width": 1.5, "type": [5, 5]}},
    ]
    return {
        "animation": False,
        "grid": {"left": 8, "right": 16, "top": 38, "bottom": 4, "containLabel": True},
        "legend": {"right": 0, "top": 0, "icon": "roundRect", "itemWidth": 14, "itemHeight": 4,
                   "textStyle": {"color": _QUIET}},
        "tooltip": _TOOLTIP,
        "xAxis": {
            "type": "time",
            "axisLine": {"lineStyle": {"color": _LINE}},
            "axisLabel": {"color": _QUIET, "hideOverlap": True},
        },
        "yAxis": _VALUE_AXIS,
        "series": [
            {"type": "line", "showSymbol": False, "data": column} | look
            for column, look in zip(columns, looks, strict=True)
        ],
    }  # fmt: skip


def by_charger(chargers: Sequence[dict[str, Any]], words: Words) -> dict[str, Any]:
    """Each charger's power before its grant, as bars in the order of the configuration."""
    grants, powers = bars_of(chargers)
    bar = {"type": "bar", "barCategoryGap": "25%", "barGap": "-100%"}
    outlined = {"color": "rgba(227, 185, 91, 0.08)", "borderColor": LIMIT, "borderWidth": 1}
    granted = {"itemStyle": outlined, "z": 3} if len(chargers) <= OUTLINED else {"itemStyle": {"opacity": 0.35}}
    return {
        "animation": False,
        "grid": {"left": 8, "right": 16, "top": 34, "bottom": 4, "containLabel": True},
        "legend": {"right": 0, "top": 0, "icon": "roundRect", "itemWidth": 14, "itemHeight": 8,
                   "textStyle": {"color": _QUIET}},
        "tooltip": _TOOLTIP,
        "xAxis": {
            "type": "category",
            "data": [charger["serial"] for charger in chargers],
            "axisTick": {"show": False},
            "axisLine": {"lineStyle": {"color": _LINE}},
            "axisLabel": {"color": _QUIET, "hideOverlap": True},
        },
        "yAxis": _VALUE_AXIS,
        "series": [
            bar | granted | {"name": words("granted"), "color": LIMIT, "data": grants},
            bar | {"name": words("power"), "color": POWER, "data": powers},
        ],
    }  # fmt: skip


def bars_of(chargers: Sequence[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    """Grants and powers in kW; who draws more than granted stands out in the colour of alarms."""
    grants: list[Any] = []
    powers: list[Any] = []
    for charger in chargers:
        power, granted_w = charger["power_w"], charger["granted_w"]
        grants.append(None if granted_w is None else granted_w / 1000)
        if power is None or not power["valid"] or not charger["connected"]:
            powers.append(None)
        elif charger["counted_as"] == "draws more than granted":
            powers.append({"value": power["value"] / 1000, "itemStyle": {"color": ALARM}})
        else:
            powers.append(power["value"] / 1000)
    return grants, powers
