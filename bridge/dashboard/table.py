"""The table of chargers: one row each, drawn by AG Grid as far as it can be seen, updated where something changed."""

from __future__ import annotations

from typing import Any, Final

from bridge.dashboard.words import Words

NEEDS_A_PERSON: Final = frozenset({"draws more than granted", "refused its limit"})


def look_of(charger: dict[str, Any]) -> str:
    """The state of a charger in a word: it names the colour of its dot as well."""
    if charger["out_of_service"]:
        return "out of service"
    if not charger["connected"]:
        return "offline"
    if charger["counted_as"] in NEEDS_A_PERSON:
        return "alarm"
    if charger["active"]:
        return "paused" if charger["granted_w"] == 0 else "charging"
    return "ready"


def row_of(charger: dict[str, Any], words: Words) -> dict[str, Any]:
    """What a row shows of a charger; numbers stay numbers, so that columns sort."""
    power, look = charger["power_w"], look_of(charger)
    return {
        "serial": charger["serial"],
        "state": words(charger["counted_as"] if look == "alarm" else look),
        "look": look,
        "why": words(charger["counted_as"]),
        "power": power["value"] if power is not None and power["valid"] and not power["stale"] else None,
        "granted": charger["granted_w"],
        "worst": charger["worst_case_w"],
        "maximum": charger["maximum_w"],
        "currents": charger["phase_currents_ma"],
        "seen": charger["last_seen_utc_ms"],
        "waiting": charger["waiting"],
    }


def options(rows: list[dict[str, Any]], words: Words) -> dict[str, Any]:
    """The options of the grid; keys that begin with a colon are written in the browser's language."""

    def column(field: str, heading: str, width: int, **more: Any) -> dict[str, Any]:
        return {"field": field, "headerName": words(heading), "width": width, "sortable": True} | more

    watts = {":valueFormatter": "params => gridlimit.power(params.value)", "type": "rightAligned"}
    return {
        "columnDefs": [
            column("serial", "Serial", 110, minWidth=95),
            column("state", "State", 150, minWidth=115, **{":cellRenderer": "params => gridlimit.state(params.data)"}),
            column("bar", "Power / grant", 210, minWidth=90, sortable=False, **{
                ":cellRenderer": "params => gridlimit.bar(params.data)",
                ":valueGetter": "params => `${params.data.power} ${params.data.granted} ${params.data.look}`",
            }),
            column("power", "Power", 95, headerName=f"{words('Power')} kW", **watts),
            column("granted", "Granted", 110, headerName=f"{words('Granted')} kW", **watts),
            column("worst", "Worst case", 120, headerName=f"{words('Worst case')} kW", **watts),
            column("currents", "Phase currents", 140, headerName="L1 / L2 / L3 A", sortable=False, type="rightAligned",
                   **{":valueFormatter": "params => gridlimit.amperes(params.value)"}),
            column("seen", "Last seen", 110, **{":valueFormatter": "params => gridlimit.clock(params.value)"}),
            column("waiting", "Outbox", 90, type="rightAligned"),
        ],
        "rowData": rows,
        ":getRowId": "params => params.data.serial",
        "rowHeight": 40,
        "headerHeight": 38,
        "suppressMovableColumns": True,
        "suppressCellFocus": False,
        "animateRows": False,
        ":onGridReady": "params => gridlimit.fit(params.api)",
    }  # fmt: skip
