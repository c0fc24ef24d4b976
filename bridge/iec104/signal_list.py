"""The papers an outstation is signed off by: its signal list and its interoperability list, from the same point table.

`rows` and `sections` are data; `html`, `csv_text` and `xlsx` write them down. Nothing is typed in twice, so that what
stands on paper is what the outstation does.
"""

from __future__ import annotations

import csv
import html as markup
import io
import zipfile
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from bridge.core.points import Encoding, Point, PointKind
from bridge.dso_profile import unit_of
from bridge.iec104 import mapping
from bridge.iec104.asdu import TypeId
from bridge.iec104.requests import REQUESTS
from bridge.settings import Settings, plan

COLUMNS: Final = (
    "Common address",
    "IOA",
    "IOA structured",
    "Name",
    "Direction",
    "Type",
    "Type with time tag",
    "Unit",
    "One unit is",
    "Deadband",
    "Operation",
    "Interrogation groups",
    "Sent by itself",
    "Meaning",
)

_CROSSED, _EMPTY = "[X]", "[ ]"
_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)  # the same list is the same file, octet by octet


def rows(settings: Settings) -> list[tuple[str, ...]]:
    """One row of text for each point, in the order of addresses; the columns are `COLUMNS`."""
    points = sorted(plan(settings).points.points, key=lambda point: point.address)
    return [_row(point) for point in points]


def _row(point: Point) -> tuple[str, ...]:
    address, encoding, kind = point.address, point.wire_encoding, point.kind
    if kind.is_command:
        untagged, tagged = mapping.COMMANDS[kind, encoding]
    else:
        untagged, tagged = mapping.UNTAGGED[encoding], mapping.TAGGED[encoding]
    return (
        str(address.common_address),
        str(address.ioa),
        f"{address.ioa >> 16}.{address.ioa >> 8 & 0xFF}.{address.ioa & 0xFF}",
        point.name,
        "control" if kind.is_command else "monitor",
        f"{untagged.value} {untagged.name}",
        f"{tagged.value} {tagged.name}",
        point.unit,
        _scale(point),
        f"{point.deadband:g} {unit_of(point.signal)}".strip() if point.deadband else "",
        _operation(point),
        " ".join(map(str, point.groups)),
        _by_itself(point),
        point.signal.value + ("" if point.charger is None else f" of charger {point.charger}"),
    )


def _scale(point: Point) -> str:
    if point.kind in (PointKind.COMMAND, PointKind.SINGLE):
        return f"{point.percent} % of the capacity" if point.percent is not None else ""
    if point.wire_encoding is Encoding.NORMALIZED:
        return f"1.0 is {point.per_unit:g} {unit_of(point.signal)}"
    return "" if point.per_unit == 1 else f"{point.per_unit:g} {unit_of(point.signal)}"


def _operation(point: Point) -> str:
    if not point.kind.is_command:
        return ""
    return "select before operate" if point.select_before_operate else "direct"


def _by_itself(point: Point) -> str:
    if point.kind.is_command:
        return ""
    told = ["on change" + (", twice" if point.double_transmission else "")]
    periods = (("cyclic", point.cyclic_ms), ("background", point.background_ms), ("refreshed", point.refresh_ms))
    told += [f"{name} every {period / 1000:g} s" for name, period in periods if period is not None]
    return ", ".join(told)


class Line(NamedTuple):
    """One line of the interoperability list: crossed, not crossed, or (None) a value that was agreed."""

    text: str
    crossed: bool | None = None


class Section(NamedTuple):
    """A chapter of the interoperability list."""

    title: str
    lines: list[Line]


def sections(settings: Settings) -> list[Section]:
    """The interoperability list, IEC 60870-5-104 §9: every parameter, crossed where this outstation has it."""
    points = plan(settings).points.points
    return [
        Section("1 System or device", [Line("System definition", False), *_only("Controlled station", "Controlling")]),
        Section("2 Network configuration, 3 Physical layer, 4 Link layer", [Line("replaced by TCP/IP (§5)", None)]),
        Section(
            "5 Application layer: address and field sizes",
            [
                Line("Mode 1, least significant octet first", True),
                Line("Common address of ASDU: two octets", True),
                Line("Information object address: three octets, structured and unstructured", True),
                Line("Cause of transmission: two octets, with originator address (0: not used)", True),
                Line("Length of APDU: 253 octets at most in both directions", True),
            ],
        ),
        _types("6 Process information in monitor direction", range(1, 41), _monitored(points) | {TypeId.M_EI_NA_1}),
        _types("7 Process information in control direction", range(45, 65), _commanded(points)),
        _types("8 System information in monitor direction", range(70, 71), {TypeId.M_EI_NA_1}),
        _types("9 System information in control direction", range(100, 108), set(REQUESTS)),
        _types("10 Parameters in control direction", range(110, 114), set()),
        _types("11 File transfer", range(120, 128), set()),
        _functions(settings, points),
        _commands(points),
        _times(settings),
        Section("15 Deviations and what is stated besides", [Line(text) for text in DEVIATIONS]),
    ]


DEVIATIONS: Final = (
    "Broadcast to common address 65535 is answered for interrogation and clock synchronization, never for commands.",
    "A counter that is frozen stays frozen for the control centre that froze it; counters are never reset.",
    "C_RP_NA_1, parameters and file transfer are refused with cause 44.",
    "ACTIVATION_TERMINATION is sent when the limit is in force: at most once for a positively confirmed command.",
    "TLS 1.3: keys are updated when the control centre asks for it (KeyUpdate), never by the outstation itself.",
    "TLS 1.2: renegotiation is refused (IEC 62351-3 has it within 24 h); `renew_after_s` ends a connection instead.",
    "No TLS session is resumed. A new revocation list ends the links of those it names; no other link is dropped.",
    "Application authentication (IEC 60870-5-7, IEC 62351-5) is not supported: types 81–95 are refused with cause 44.",
    "After a crash events may be repeated, with the time tag they had; none is lost while the event store has room.",
)
"""What an engineer would otherwise have to ask."""

_OTHER_TYPES: Final = {
    5: "M_ST_NA_1",
    7: "M_BO_NA_1",
    20: "M_PS_NA_1",
    21: "M_ME_ND_1",
    32: "M_ST_TB_1",
    33: "M_BO_TB_1",
    38: "M_EP_TD_1",
    39: "M_EP_TE_1",
    40: "M_EP_TF_1",
    47: "C_RC_NA_1",
    51: "C_BO_NA_1",
    60: "C_RC_TA_1",
    64: "C_BO_TA_1",
    105: "C_RP_NA_1",
    110: "P_ME_NA_1",
    111: "P_ME_NB_1",
    112: "P_ME_NC_1",
    113: "P_AC_NA_1",
    120: "F_FR_NA_1",
    121: "F_SR_NA_1",
    122: "F_SC_NA_1",
    123: "F_LS_NA_1",
    124: "F_AF_NA_1",
    125: "F_SG_NA_1",
    126: "F_DR_TA_1",
    127: "F_SC_NB_1",
}
"""The standard's types that this outstation has no body for."""


def _only(have: str, have_not: str) -> list[Line]:
    return [Line(have, True), Line(f"{have_not} station", False)]


def _types(title: str, numbers: range, have: set[TypeId] | set[int]) -> Section:
    names = {each.value: each.name for each in TypeId} | _OTHER_TYPES
    return Section(title, [Line(f"<{n}> {names[n]}", n in have) for n in numbers if n in names])


def _monitored(points: Iterable[Point]) -> set[TypeId]:
    encodings = {point.wire_encoding for point in points if not point.kind.is_command}
    return {types[encoding] for encoding in encodings for types in (mapping.UNTAGGED, mapping.TAGGED)}


def _commanded(points: Iterable[Point]) -> set[TypeId]:
    commands = [point for point in points if point.kind.is_command]
    return {type_id for point in commands for type_id in mapping.COMMANDS[point.kind, point.wire_encoding]}


def _functions(settings: Settings, points: Sequence[Point]) -> Section:
    dso = settings.iec104.profile
    groups = {group for point in points if point.kind is not PointKind.TOTAL for group in point.groups}
    counter_groups = {group for point in points if point.kind is PointKind.TOTAL for group in point.groups}
    counters = any(point.kind is PointKind.TOTAL for point in points)
    return Section(
        "12 Basic application functions in monitor direction",
        [
            Line("Remote initialization", True),
            Line("Cyclic data transmission", any(point.cyclic_ms for point in points)),
            Line("Read procedure", True),
            Line("Spontaneous transmission", True),
            Line("Spontaneous transmission with time tag", dso.spontaneous == "tagged"),
            Line("Double transmission of information objects", any(point.double_transmission for point in points)),
            Line("Station interrogation: global", True),
            *(Line(f"Station interrogation: group {number}", number in groups) for number in range(1, 17)),
            Line("Interrogation answered with time tag", dso.interrogation == "tagged"),
            Line("Sequence of elements in one object (SQ=1)", dso.sequence_of_objects),
            Line("Clock synchronization", True),
            Line("Our time tags go by the control centre's clock", dso.clock == "control_centre"),
            Line("Transmission of integrated totals: interrogation", counters),
            Line("Counter read", counters),
            Line("Counter freeze without reset", counters),
            Line("Counter freeze with reset", False),
            Line("Counter reset", False),
            *(Line(f"Counters: group {number}", number in counter_groups) for number in range(1, 5)),
            Line("Background scan", any(point.background_ms for point in points)),
            Line("Test procedure (C_TS_TA_1, TESTFR)", True),
            Line("Parameter loading, activation, file transfer", False),
            Line("Acquisition of transmission delay", False),
        ],
    )


def _commands(points: Sequence[Point]) -> Section:
    commands = [point for point in points if point.kind.is_command]
    return Section(
        "13 Command transmission",
        [
            Line("Direct command transmission", any(not point.select_before_operate for point in commands)),
            Line("Select and execute command", any(point.select_before_operate for point in commands)),
            Line("C_SE ACTTERM used", True),
            Line("QU 0 no additional definition", True),
            Line("QU 1 short pulse, QU 2 long pulse", False),
            Line("QU 3 persistent output", True),
            Line("Supervision of maximum delay of commands and setpoints by their time tag", True),
        ],
    )


def _times(settings: Settings) -> Section:
    iec104, dso, timers = settings.iec104, settings.iec104.profile, settings.iec104.profile.timers
    return Section(
        "14 Values agreed",
        [
            Line(f"t0 {timers.t0_s} s (of the control centre; standard 30 s)"),
            Line(f"t1 {timers.t1_s} s (standard 15 s)"),
            Line(f"t2 {timers.t2_s} s (standard 10 s)"),
            Line(f"t3 {timers.t3_s} s (standard 20 s)"),
            Line(f"k {timers.k} I-frames (standard 12), w {timers.w} I-frames (standard 8)"),
            Line(f"TCP port {iec104.port} (standard 2404, with TLS 19998)"),
            Line(f"Ethernet 802.3, IP, TCP; TLS {'as IEC 62351-3' if iec104.tls else 'not used'}"),
            Line(f"Redundancy groups {len(iec104.groups) or 'not used'}"),
            Line(f"Common address {iec104.common_address}"),
            Line(f"Time tags in {dso.time_zone or 'UTC'}" + (" with SU" if dso.time_zone else "")),
            Line(f"Commands with time tag: within {dso.time_tag_window_s:g} s, {dso.time_tags}"),
            Line(f"A selection holds {dso.select_timeout_s:g} s"),
        ],
    )


def table_of(listed: Iterable[Section]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The interoperability list as a table: its columns and its rows."""
    marks = {True: _CROSSED, False: _EMPTY, None: ""}
    table: list[tuple[str, ...]] = [
        (section.title, marks[line.crossed], line.text) for section in listed for line in section.lines
    ]
    return ("Section", "Used", "Parameter"), table


def csv_text(columns: Sequence[str], table: Iterable[Sequence[str]]) -> str:
    """RFC 4180, read by every spreadsheet."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([columns, *table])
    return text.getvalue()


def html(title: str, columns: Sequence[str], table: Iterable[Sequence[str]]) -> str:
    """One page without anything from outside, made to be printed."""

    def line(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{markup.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "\n".join(line(cells, "td") for cells in table)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{markup.escape(title)}</title>\n'
        "<style>body{font:10pt sans-serif}table{border-collapse:collapse}"
        "th,td{border:1px solid #999;padding:2px 6px;text-align:left;vertical-align:top}th{background:#eee}"
        "tr{break-inside:avoid}thead{display:table-header-group}</style></head>\n"
        f"<body><h1>{markup.escape(title)}</h1>\n<table><thead>{line(columns, 'th')}</thead>\n"
        f"<tbody>\n{body}\n</tbody></table></body></html>\n"
    )


def xlsx(sheet: str, columns: Sequence[str], table: Iterable[Sequence[str]]) -> bytes:
    """A workbook of one sheet of text (ECMA-376), its first row frozen."""

    def line(number: int, cells: Sequence[str]) -> str:
        texts = "".join(f'<c t="inlineStr"><is><t xml:space="preserve">{_xml(cell)}</t></is></c>' for cell in cells)
        return f'<row r="{number}">{texts}</row>'

    body = "".join(line(number, cells) for number, cells in enumerate([columns, *table], 1))
    office = "http://schemas.openxmlformats.org"
    kinds, relations = f"{office}/package/2006/content-types", f"{office}/package/2006/relationships"
    of_document, main = f"{office}/officeDocument/2006/relationships", f"{office}/spreadsheetml/2006/main"
    part = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    files = {
        "[Content_Types].xml": f'<Types xmlns="{kinds}"><Default Extension="rels" ContentType='
        '"application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType='
        f'"application/xml"/><Override PartName="/xl/workbook.xml" ContentType="{part}.sheet.main+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{part}.worksheet+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{relations}"><Relationship Id="r1" '
        f'Type="{of_document}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{of_document}"><sheets>'
        f'<sheet name="{_xml(sheet[:31])}" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{relations}"><Relationship Id="r1" '
        f'Type="{of_document}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetViews><sheetView workbookViewId="0">'
        '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews>'
        f"<sheetData>{body}</sheetData></worksheet>",
    }
    octets = io.BytesIO()
    with zipfile.ZipFile(octets, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            declared = f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n{text}'
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), declared, zipfile.ZIP_DEFLATED)
    return octets.getvalue()


def _xml(text: str) -> str:
    return markup.escape("".join(character for character in text if character.isprintable()))
