"""The papers: every point and every parameter stands in them, and they can be read by other programs."""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bridge.cli import app
from bridge.iec104 import signal_list
from bridge.iec104.asdu import TypeId
from bridge.settings import SHIPPED_PROFILES, Settings, load, plan

SITE = """
site: {name: Depot <Nord> & "Co", capacity_w: 100000, min_limit_w: 6000}
iec104: {common_address: 7, dso_profile: PROFILE}
fallback: {hold_s: 300, limit_w: 10000}
chargers:
  - {serial: S4-0001, charger_profile: series4-ultra}
  - {serial: S4-0002, charger_profile: series4-ultra}
"""
PROFILES = sorted(path.stem for path in (SHIPPED_PROFILES / "dso").glob("*.yaml"))


def configuration(tmp_path: Path, profile: str = "generic-charging-park") -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(SITE.replace("PROFILE", profile), encoding="utf-8")
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(configuration(tmp_path), {})


@pytest.mark.parametrize("profile", PROFILES)
def test_every_point_of_every_shipped_profile_stands_in_its_signal_list(tmp_path: Path, profile: str) -> None:
    settings = load(configuration(tmp_path, profile), {})
    listed = signal_list.rows(settings)
    points = sorted(point.address for point in plan(settings).points.points)
    assert [(int(row[0]), int(row[1])) for row in listed] == points
    assert all(len(row) == len(signal_list.COLUMNS) for row in listed)
    assert all(row[3] for row in listed), "each has a name"
    assert signal_list.sections(settings)


def test_a_row_says_what_an_engineer_types_in(settings: Settings) -> None:
    rows = {row[2]: row for row in signal_list.rows(settings)}
    assert rows["0.0.1"][4:] == (
        "control", "50 C_SE_NC_1", "63 C_SE_TC_1", "%", "1000 W", "", "direct", "", "", "limit_setpoint",
    )  # fmt: skip
    assert rows["0.0.11"][5:7] == ("46 C_DC_NA_1", "59 C_DC_TA_1")
    assert rows["0.0.11"][10] == "select before operate"
    assert rows["0.0.14"][8] == "30 % of the capacity"
    assert rows["0.0.23"][7:10] == ("kW", "1000 W", "1000 W")
    assert rows["0.0.23"][11:13] == ("2", "on change, refreshed every 300 s")
    assert rows["0.1.16"][3] == "Active power of charger 1"


def test_the_interoperability_list_crosses_what_the_points_need_and_leaves_the_rest(settings: Settings) -> None:
    columns, table = signal_list.table_of(signal_list.sections(settings))
    assert columns == ("Section", "Used", "Parameter")
    used = {text: mark for _, mark, text in table}
    crossed = ("<50> C_SE_NC_1", "<63> C_SE_TC_1", "<46> C_DC_NA_1", "<13> M_ME_NC_1", "<100> C_IC_NA_1")
    empty = ("<49> C_SE_NB_1", "<48> C_SE_NA_1", "<9> M_ME_NA_1", "<5> M_ST_NA_1", "<105> C_RP_NA_1", "<120> F_FR_NA_1")
    assert {used[text] for text in (*crossed, "Station interrogation: group 4", "Select and execute command")} == {
        "[X]"
    }
    assert {used[text] for text in (*empty, "Station interrogation: group 5", "Counter reset")} == {"[ ]"}
    assert "k 12 I-frames (standard 12), w 8 I-frames (standard 8)" in used


def test_every_type_this_outstation_has_a_body_for_is_in_the_interoperability_list(settings: Settings) -> None:
    _, table = signal_list.table_of(signal_list.sections(settings))
    listed = {int(found[1]) for _, _, text in table if (found := re.match(r"<(\d+)>", text))}
    assert {each.value for each in TypeId} <= listed


def test_csv_and_xlsx_say_the_same_and_html_hides_nothing_and_lets_nothing_through(settings: Settings) -> None:
    columns, table = signal_list.COLUMNS, signal_list.rows(settings)
    read = list(csv.reader(io.StringIO(signal_list.csv_text(columns, table), newline="")))
    assert read == [list(columns), *(list(row) for row in table)]
    octets = signal_list.xlsx("Signal list", columns, table)
    assert octets == signal_list.xlsx("Signal list", columns, table), "the same octets each time"
    with zipfile.ZipFile(io.BytesIO(octets)) as archive:
        assert archive.testzip() is None
        trees = {name: ET.fromstring(archive.read(name)) for name in archive.namelist()}  # noqa: S314  our own
    main = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    lines = trees["xl/worksheets/sheet1.xml"].iter(f"{main}row")
    assert [[cell.text or "" for cell in line.iter(f"{main}t")] for line in lines] == read
    page = signal_list.html('a <b> & "c"', columns, [("<script>", "&")])
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("form", ["html", "csv", "xlsx"])
@pytest.mark.parametrize("more", [[], ["--interoperability"]])
def test_the_command_writes_a_file_or_standard_output(tmp_path: Path, form: str, more: list[str]) -> None:
    file, arguments = tmp_path / "list", ["signals", "-c", str(configuration(tmp_path)), "--format", form, *more]
    to_file = CliRunner().invoke(app, [*arguments, "-o", str(file)])
    to_output = CliRunner().invoke(app, arguments)
    assert (to_file.exit_code, to_output.exit_code) == (0, 0)
    assert file.read_bytes() == to_output.stdout_bytes
    assert file.stat().st_size > 1_000
