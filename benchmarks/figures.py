"""What a benchmark found: one row for each figure, the table they are shown in, and the plot over the fleet's size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table


class Spread(NamedTuple):
    """Median, 99th percentile and the worst of some figures."""

    p50: float
    p99: float
    worst: float


@dataclass(slots=True)
class Row:
    """One figure. `floor` and `stock` are medians in `unit`; None where there is nothing to compare with."""

    what: str
    chargers: int
    unit: str
    seen: Spread
    goal: str
    reached: bool
    floor: float | None = None
    stock: float | None = None
    note: str = ""
    higher_is_better: bool = False

    @property
    def ours(self) -> float:
        """The median of ours."""
        return self.seen.p50

    @property
    def to_floor(self) -> float | None:
        """How many times the floor ours costs."""
        return _ratio(self.ours, self.floor, inverted=self.higher_is_better)

    @property
    def of_stock(self) -> float | None:
        """How many times ours the stock way costs."""
        return _ratio(self.stock, self.ours, inverted=self.higher_is_better)

    def as_json(self) -> dict[str, Any]:
        """Everything, ratios included."""
        return asdict(self) | {"seen": self.seen._asdict(), "to_floor": self.to_floor, "of_stock": self.of_stock}


def _ratio(above: float | None, below: float | None, *, inverted: bool) -> float | None:
    if not above or not below:
        return None
    return below / above if inverted else above / below


def spread(values: Sequence[float]) -> Spread:
    """The spread of some figures, of which more is worse."""
    ordered = sorted(values)
    return Spread(ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], ordered[-1])


def table(rows: Sequence[Row]) -> Table:
    """The figures for a terminal."""
    shown = Table(title="benchmarks: ours beside the floor and the stock way, measured in the same run")
    for name in ("what", "chargers", "ours (p50 / p99 / max)", "floor", "× floor", "stock", "stock ÷ ours", "goal", ""):
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(*_cells(row))
    return shown


def markdown(rows: Sequence[Row]) -> str:
    """The same as a table in Markdown."""
    head = "| What | Chargers | Ours p50 / p99 / max | Floor | × floor | Stock | Stock ÷ ours | Goal | Reached |"
    lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    notes = [f"- {row.what}, {row.chargers}: {row.note}" for row in rows if row.note]
    return "\n".join([*lines, "", *notes, ""])


def _cells(row: Row) -> list[str]:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:,.4g}" if value < 1_000 else f"{value:,.0f}"

    ours = f"{number(row.seen.p50)} / {number(row.seen.p99)} / {number(row.seen.worst)} {row.unit}"
    return [
        row.what,
        f"{row.chargers:,}",
        ours,
        number(row.floor),
        number(row.to_floor),
        number(row.stock),
        number(row.of_stock),
        row.goal,
        "yes" if row.reached else "no",
    ]


def plot(rows: Sequence[Row], path: Path) -> bool:
    """Draw the cost per charger over the number of chargers; False where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  drawn only where it is installed
    except ImportError:
        return False
    fan_out = sorted((row for row in rows if row.what == "fan-out"), key=lambda row: row.chargers)
    sizes = [row.chargers for row in fan_out]
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, values in (
        ("ours", [row.ours for row in fan_out]),
        ("floor: raw websockets, same bytes", [row.floor for row in fan_out]),
        ("stock: ocpp, gathered", [row.stock for row in fan_out]),
    ):
        costs = [None if value is None else value / size for value, size in zip(values, sizes, strict=True)]
        axes.plot(sizes, costs, marker="o", label=name)  # type: ignore[arg-type,unused-ignore]
    axes.set(xscale="log", yscale="log", xlabel="chargers", ylabel="ms a charger")
    axes.set_title("one setpoint until all have acknowledged")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    return True
