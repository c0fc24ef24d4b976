"""Records as papers: a page for each limitation event with its power against the limit (HTML, PDF), or rows (CSV)."""

from __future__ import annotations

import csv
import html as markup
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

Record = dict[str, Any]

CSV_COLUMNS: Final = (
    *("number", "utc", "kind", "event", "serial", "limit_w", "power_w", "worst_case_w", "source"),
    *("answer", "why", "name", "reason"),
)
CHARGERS_ON_A_PAGE: Final = 30
POINTS_IN_A_PLOT: Final = 1_000
PLOT_WIDTH, PLOT_HEIGHT, PLOT_MARGIN, PLOT_RIGHT = 720, 260, 46, 24
SHOWN_ON_THE_FIRST_PAGE: Final = 200
# What stands on the pages of the events, or says nothing to a person.
_IN_PAGES: Final = {"limits_ordered", "limit_answered", "power_measured", "segment_opened", "checkpoint"}
_COLOURS: Final = {"limit": "#c00000", "worst case": "#0060c0", "measured": "#008000"}


@dataclass(slots=True)
class LimitationEvent:
    """A limit below the capacity of the connection, from when it came into force until another one did (None: not yet).

    `highest_proven_w` is the highest power by samples all taken since every charger was proven to be within it.
    `course` is (UTC time in ms, power measured in W or None, worst case in W or None), from some minutes before.
    `chargers` has the newest order of each: serial, limit in W, way, its time, the answer and the time of that.
    """

    began: Record
    ended_utc_ms: int | None = None
    after_w: int | None = None
    last_utc_ms: int = 0
    command: Record | None = None
    reached: Record | None = None
    highest_proven_w: int | None = None
    course: list[tuple[int, int | None, int | None]] = field(default_factory=list)
    orders: int = 0
    chargers: dict[str, list[Any]] = field(default_factory=dict)
    others: list[Record] = field(default_factory=list)

    def take(self, record: Record) -> None:
        """Add what happened while it was in force."""
        kind, utc_ms = record["kind"], record["utc_ms"]
        self.last_utc_ms = max(self.last_utc_ms, utc_ms)
        if "worst_case_w" in record:
            self.course.append((utc_ms, record["power_w"], record["worst_case_w"]))
        oldest_utc_ms = record.get("oldest_sample_utc_ms")
        if self.reached is not None and oldest_utc_ms is not None and oldest_utc_ms >= self.reached["utc_ms"]:
            self.highest_proven_w = max(self.highest_proven_w or 0, record["power_w"])
        if kind == "limits_ordered":
            for serial, number, limit_w, way, _valid_ms in record["orders"]:
                self.orders += 1
                self.chargers[serial] = [number, limit_w, way, utc_ms, None, None]
        elif kind == "limit_answered":
            told = self.chargers.get(record["serial"])
            if told is not None and told[0] == record["order"]:
                told[4:] = record["answer"], utc_ms
        elif kind == "limit_reached":
            self.reached = self.reached or record
        elif kind not in _IN_PAGES:
            self.others.append(record)


def events(records: Iterable[Record], from_utc_ms: int, to_utc_ms: int) -> Iterator[LimitationEvent]:
    """The limitation events that were in force at any time within the period, in their order."""
    current: LimitationEvent | None = None
    command: Record | None = None
    for record in records:
        if record["kind"] != "limit_changed":
            if record["kind"] in ("setpoint_received", "switch_received", "manual_limit_set", "manual_limit_lifted"):
                command = record
            if current is not None:
                current.take(record)
            continue
        if current is not None and _same(current.began, record):
            current.take(record)
            continue
        if current is not None:
            current.ended_utc_ms, current.after_w = record["utc_ms"], record["limit_w"]
            current.last_utc_ms = max(current.last_utc_ms, record["utc_ms"])
            if current.last_utc_ms >= from_utc_ms and current.began["utc_ms"] <= to_utc_ms:
                yield current
        current = None
        if record["limit_w"] < record["capacity_w"]:
            current = _begun(record, command)
    if current is not None and current.last_utc_ms >= from_utc_ms and current.began["utc_ms"] <= to_utc_ms:
        yield current


def _same(began: Record, record: Record) -> bool:
    """A restart says which limit holds; it begins no other one."""
    return (began["limit_w"], began["source"]) == (record["limit_w"], record["source"])


def _begun(record: Record, command: Record | None) -> LimitationEvent:
    begun = LimitationEvent(record, last_utc_ms=record["utc_ms"])
    begun.course = [(utc_ms, power_w, None) for utc_ms, power_w in record["power_before_w"]]
    begun.take(record)
    begun.others.clear()
    caused = {"setpoint": "setpoint_received", "step": "switch_received", "emergency_stop": "switch_received"}
    caused["manual"] = "manual_limit_set"
    if command is not None and caused.get(record["source"]) == command["kind"]:
        begun.command = command
    return begun


def facts(event: LimitationEvent) -> list[tuple[str, str]]:
    """What a page says of an event, as pairs of what and how."""
    began, command, reached = event.began, event.command, event.reached
    ended = "in force still" if event.ended_utc_ms is None else _utc(event.ended_utc_ms)
    until_ms = event.last_utc_ms if event.ended_utc_ms is None else event.ended_utc_ms
    before = began["before"]
    said = [
        ("Limit in force", f"{began['limit_w']} W of {began['capacity_w']} W, source: {began['source']}"),
        ("Before", "not known" if before is None else f"{before['limit_w']} W, source: {before['source']}"),
        ("From", _utc(began["utc_ms"])),
        ("Until", ended + ("" if event.after_w is None else f", then {event.after_w} W")),
        ("Time in force", _duration(until_ms - began["utc_ms"])),
    ]
    if command is not None:
        said.append(("Command", _command_words(command)))
    if reached is not None:
        words = f"{_utc(reached['utc_ms'])}, {reached['seconds']:.1f} s after the command was accepted"
        said.append(("Every charger proven within it", words))
    else:
        said.append(("Every charger proven within it", "not reported for this command" if command else "no command"))
    return said + _power_facts(event)


def _power_facts(event: LimitationEvent) -> list[tuple[str, str]]:
    began_ms, limit_w = event.began["utc_ms"], event.began["limit_w"]
    before = [power for at, power, _ in event.course if at <= began_ms and power is not None]
    after = [power for at, power, _ in event.course if at > began_ms and power is not None]
    said = [
        ("Power measured before", f"{before[-1]} W" if before else "none known"),
        (
            "Power measured under it",
            f"{min(after)} to {max(after)} W, at last {after[-1]} W" if after else "none known",
        ),
    ]
    if event.highest_proven_w is not None:
        verdict = "within the limit" if event.highest_proven_w <= limit_w else "ABOVE THE LIMIT"
        said.append(("Highest by samples taken since then", f"{event.highest_proven_w} W, {verdict}"))
    answers: dict[str, int] = {}
    for *_, answer, _at in event.chargers.values():
        answers[answer or "no answer yet"] = answers.get(answer or "no answer yet", 0) + 1
    counts = ", ".join(f"{number} {answer}" for answer, number in sorted(answers.items()))
    said.append(("Chargers", f"{event.orders} orders to {len(event.chargers)}: {counts}" if counts else "none ordered"))
    return said


def _command_words(command: Record) -> str:
    if command["kind"] == "manual_limit_set":
        return f"{_utc(command['utc_ms'])}: {command['limit_w']} W by {command['name']}: {command['reason']}"
    what = f"{command['value']} W" if "value" in command else f"{command['switch']} {'on' if command['on'] else 'off'}"
    tag = "" if command["tag_utc_ms"] is None else f", time tag {_utc(command['tag_utc_ms'])}"
    return f"{_utc(command['utc_ms'])}: {what} from {command['master']}{tag}; {_answer_words(command)}"


def _answer_words(command: Record) -> str:
    return f"confirmed {command['answer']}ly" if not command["why"] else f"refused: {command['why']}"


def charger_rows(event: LimitationEvent) -> list[tuple[str, str, str, str]]:
    """Serial, limit, sent and answered, of those first that did not accept; the rest in a last row beyond a page."""
    begin_ms = event.began["utc_ms"]
    told = sorted(event.chargers.items(), key=lambda item: (item[1][4] == "accepted", item[0]))
    rows = []
    for serial, (_number, limit_w, way, sent_ms, answer, answered_ms) in told[:CHARGERS_ON_A_PAGE]:
        how = "" if way == "limit" else f" ({way})"
        heard = "-" if answered_ms is None else f"{answer} after {(answered_ms - sent_ms) / 1000:.1f} s"
        rows.append((serial, f"{limit_w} W{how}", f"+{(sent_ms - begin_ms) / 1000:.1f} s", heard))
    if len(told) > CHARGERS_ON_A_PAGE:
        rows.append((f"and {len(told) - CHARGERS_ON_A_PAGE} more", "see --format csv", "", ""))
    return rows


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines in a drawing of PLOT_WIDTH × PLOT_HEIGHT, the origin above left, and what stands at its axes."""

    lines: list[tuple[str, list[tuple[float, float]]]]
    ticks: list[tuple[float, str]]
    rules: list[tuple[float, str]]


def plot(event: LimitationEvent) -> Plot:
    """Power measured and worst case against the limit, from before the event to its end."""
    course = event.course[:: max(1, len(event.course) // POINTS_IN_A_PLOT)]
    began_ms, end_ms = event.began["utc_ms"], max(event.last_utc_ms, event.began["utc_ms"] + 1_000)
    start_ms = min([began_ms - 10_000, *(at for at, *_ in course)])
    before_w = event.began["limit_w"] if event.began["before"] is None else event.began["before"]["limit_w"]
    limit_w, after_w = event.began["limit_w"], event.after_w
    values = [value for point in course for value in point[1:] if value is not None]
    highest_w = max([1, before_w, limit_w, after_w or 0, *values])

    def place(at_ms: int, value_w: int) -> tuple[float, float]:
        x = PLOT_MARGIN + (at_ms - start_ms) / (end_ms - start_ms) * (PLOT_WIDTH - PLOT_MARGIN - PLOT_RIGHT)
        return round(x, 1), round(PLOT_HEIGHT - 24 - value_w / highest_w * (PLOT_HEIGHT - 40), 1)

    corners = [(start_ms, before_w), (began_ms, before_w), (began_ms, limit_w), (end_ms, limit_w)]
    lines = [("limit", [place(*corner) for corner in corners + ([] if after_w is None else [(end_ms, after_w)])])]
    for name, column in (("worst case", 2), ("measured", 1)):
        lines.append((name, [place(point[0], value) for point in course if (value := point[column]) is not None]))
    times = [start_ms + (end_ms - start_ms) * part // 4 for part in range(5)]
    ticks = [(place(at_ms, 0)[0], f"{_moment(at_ms):%H:%M:%S}") for at_ms in times]
    powers = [highest_w * part // 4 for part in range(5)]
    return Plot(lines, ticks, [(place(start_ms, power_w)[1], f"{power_w / 1000:.1f} kW") for power_w in powers])


def _svg(drawn: Plot) -> str:
    parts = [f'<svg viewBox="0 0 {PLOT_WIDTH} {PLOT_HEIGHT}" role="img" aria-label="Power against limit">']
    for y, label in drawn.rules:
        parts.append(f'<line x1="{PLOT_MARGIN}" x2="{PLOT_WIDTH - PLOT_RIGHT}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{PLOT_MARGIN - 4}" y="{y + 3}" text-anchor="end">{label}</text>')
    parts += [f'<text x="{x}" y="{PLOT_HEIGHT - 6}" text-anchor="middle">{label}</text>' for x, label in drawn.ticks]
    for name, points in drawn.lines:
        places = " ".join(f"{x},{y}" for x, y in points)
        parts.append(f'<polyline fill="none" stroke="{_COLOURS[name]}" stroke-width="1.5" points="{places}"/>')
    keys = "".join(f'<tspan fill="{colour}" dx="12">{name}</tspan>' for name, colour in _COLOURS.items())
    return "".join([*parts, f'<text x="{PLOT_MARGIN}" y="10">{keys}</text></svg>'])


def html(title: str, preface: Sequence[str], log: Sequence[Record], found: Iterable[LimitationEvent]) -> str:
    """All pages in one file with nothing from outside: what was found in general, then one page for each event."""
    pages = [
        f"<section><h1>{markup.escape(title)}</h1>"
        + "".join(f"<p>{markup.escape(sentence)}</p>" for sentence in preface)
        + _html_table(("UTC", "What", "How"), [_log_row(record) for record in log])
        + "</section>"
    ]
    for number, event in enumerate(found, 1):
        rows = charger_rows(event)
        chargers = _html_table(("Charger", "Limit", "Sent", "Answer"), rows) if rows else ""
        others = [_log_row(record) for record in event.others[:CHARGERS_ON_A_PAGE]]
        pages.append(
            f"<section><h2>{number}. Limitation of {_utc(event.began['utc_ms'])}</h2>"
            + _html_table(None, facts(event))
            + _svg(plot(event))
            + chargers
            + (_html_table(("UTC", "Meanwhile", ""), others) if others else "")
            + "</section>"
        )
    style = (
        "body{font:10pt sans-serif;max-width:190mm;margin:auto}section{break-after:page}table{border-collapse:collapse;"
        "margin:2mm 0}td,th{border:1px solid #bbb;padding:1px 6px;text-align:left;vertical-align:top}"
        "td:first-child{white-space:nowrap}svg{width:100%;"
        "border:1px solid #bbb}svg text{font:9px sans-serif}"
    )
    head = f'<meta charset="utf-8"><title>{markup.escape(title)}</title><style>{style}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{"".join(pages)}</body></html>\n'


def _html_table(heads: Sequence[str] | None, rows: Iterable[Sequence[str]]) -> str:
    head = "" if heads is None else "<tr>" + "".join(f"<th>{markup.escape(cell)}</th>" for cell in heads) + "</tr>"
    body = "".join("<tr>" + "".join(f"<td>{markup.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{head}{body}</table>"


def log_of(records: Iterable[Record], from_utc_ms: int, to_utc_ms: int) -> list[Record]:
    """What the first page lists of the period: commands, refusals, acts, changes, alarms; the newest few hundred."""
    kept: list[Record] = []
    for record in records:
        if record["kind"] not in _IN_PAGES and from_utc_ms <= record["utc_ms"] <= to_utc_ms:
            kept.append(record)
            if len(kept) > 2 * SHOWN_ON_THE_FIRST_PAGE:
                del kept[:SHOWN_ON_THE_FIRST_PAGE]
    return kept[-SHOWN_ON_THE_FIRST_PAGE:]


def _log_row(record: Record) -> tuple[str, str, str]:
    kind = record["kind"]
    if kind in ("setpoint_received", "switch_received"):
        return _utc(record["utc_ms"]), kind.replace("_", " "), _command_words(record).partition(": ")[2]
    if kind == "limit_changed":
        return _utc(record["utc_ms"]), "limit changed", f"{record['limit_w']} W, source: {record['source']}"
    left_out = ("number", "utc_ms", "kind", "event")
    said = {key: value for key, value in record.items() if key not in left_out and value is not None}
    words = ", ".join(f"{key} {value}" for key, value in said.items())
    return _utc(record["utc_ms"]), kind.replace("_", " "), words[:400]


def csv_text(records: Iterable[Record], from_utc_ms: int, to_utc_ms: int) -> Iterator[str]:
    """Rows for a spreadsheet: a header, then the records of the period; what has no column stands in `other`."""
    yield _csv_line([*CSV_COLUMNS, "other"])
    for record in records:
        if from_utc_ms <= record["utc_ms"] <= to_utc_ms:
            known = {**record, "utc": _moment(record["utc_ms"]).isoformat(timespec="milliseconds")}
            other = {key: value for key, value in record.items() if key not in CSV_COLUMNS and key != "utc_ms"}
            cells = [_harmless(known.get(column)) for column in CSV_COLUMNS]
            yield _csv_line([*cells, json.dumps(other, separators=(",", ":")) if other else ""])


def _harmless(value: Any) -> Any:
    """No formula: a spreadsheet would compute what somebody wrote into a name."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value if isinstance(value, str | int | float | None) else json.dumps(value, separators=(",", ":"))


def _csv_line(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()


def pdf(title: str, preface: Sequence[str], log: Sequence[Record], found: Iterable[LimitationEvent]) -> bytes:
    """The same pages as a PDF, A4. ImportError without the extra `pdf`."""
    from fpdf import FPDF  # noqa: PLC0415  the extra `pdf`

    paper = FPDF(format="A4")
    paper.set_auto_page_break(True, 15)
    paper.set_title(_latin(title))

    def text(words: str, size: float, style: str = "") -> None:
        paper.set_font("helvetica", style, size)
        paper.multi_cell(0, size * 0.5, _latin(words), new_x="LMARGIN", new_y="NEXT")

    def rows(cells: Iterable[Sequence[str]], widths: Sequence[int]) -> None:
        paper.set_font("helvetica", "", 7)
        lines = [[_latin(cell) for cell in row] for row in cells]
        if lines:
            paper.set_line_width(0.1)
            paper.ln(2)
            with paper.table(col_widths=tuple(widths), first_row_as_headings=False, line_height=3.6) as table:
                for line in lines:
                    table.row(line)

    paper.add_page()
    text(title, 14, "B")
    for sentence in preface:
        text(sentence, 9)
    rows([_log_row(record) for record in log], (38, 32, 120))
    for number, event in enumerate(found, 1):
        paper.add_page()
        text(f"{number}. Limitation of {_utc(event.began['utc_ms'])}", 12, "B")
        rows(facts(event), (50, 140))
        _draw(paper, plot(event))
        rows(charger_rows(event), (50, 50, 30, 60))
        rows([_log_row(record) for record in event.others[:CHARGERS_ON_A_PAGE]], (38, 32, 120))
    return bytes(paper.output())


def _draw(paper: Any, drawn: Plot) -> None:
    left, top, scale = paper.l_margin, paper.get_y() + 3, (paper.w - paper.l_margin - paper.r_margin) / PLOT_WIDTH
    paper.set_font("helvetica", "", 6)
    paper.set_line_width(0.1)
    for y, label in drawn.rules:
        paper.set_draw_color("#dddddd")
        paper.line(
            left + PLOT_MARGIN * scale, top + y * scale, left + (PLOT_WIDTH - PLOT_RIGHT) * scale, top + y * scale
        )
        paper.text(left, top + y * scale + 0.8, label)
    for x, label in drawn.ticks:
        paper.text(left + (x - 20) * scale, top + (PLOT_HEIGHT - 4) * scale, label)
    paper.set_line_width(0.3)
    for place, (name, points) in enumerate(drawn.lines):
        paper.set_draw_color(_COLOURS[name])
        if len(points) > 1:
            paper.polyline([(left + x * scale, top + y * scale) for x, y in points])
        paper.set_text_color(_COLOURS[name])
        paper.text(left + (PLOT_MARGIN + 90 * place) * scale, top + 2, name)
    paper.set_text_color("#000000")
    paper.set_draw_color("#000000")
    paper.set_y(top + PLOT_HEIGHT * scale + 2)


def _latin(words: str) -> str:
    """What the fonts that every PDF reader has can show."""
    return words.encode("latin-1", "replace").decode("latin-1")


def _moment(utc_ms: int) -> datetime:
    return datetime.fromtimestamp(utc_ms / 1000, UTC)


def _utc(utc_ms: int) -> str:
    return f"{_moment(utc_ms):%Y-%m-%d %H:%M:%S} UTC"


def _duration(duration_ms: int) -> str:
    minutes, seconds = divmod(max(0, duration_ms) // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} h"
