"""The doctor: each thing that is wrong on a new site is found, with a word about what to do."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from bridge import doctor as examined
from bridge.core.messages import Answer, ChargerConnected
from bridge.core.status import describe
from bridge.doctor import OK, WARNING, WRONG, Finding, doctor, findings
from bridge.settings import load
from tests.core.bench import Bench, charger_plan, site_plan


def configured(folder: Path, **changes: Any) -> Path:
    said: dict[str, Any] = {
        "site": {"capacity_w": 100_000, "min_limit_w": 6_000},
        "iec104": {"port": 0},
        "fallback": {"limit_w": 10_000},
        "ocpp": {"port": 0},
        "http": {"port": 0, "dashboard_port": None},
        "chargers": [{"serial": "S4-0001", "charger_profile": "series4-ultra"}],
    }
    for section, values in changes.items():
        said.setdefault(section, {}).update(values)
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(said))
    return path


def examine(folder: Path, status: dict[str, Any] | None = None, **changes: Any) -> list[Finding]:
    return list(findings(load(configured(folder, **changes), {}), status))


def at(found: list[Finding], where: str) -> Finding:
    (finding,) = [each for each in found if each.where.startswith(where)]
    return finding


def certificate(folder: Path, begins: timedelta, ends: timedelta, *, other_key: bool = False) -> tuple[str, str]:
    key = Ed25519PrivateKey.generate()
    now, name = datetime.now(UTC), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bridge")])
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .sign(key, None)
    )
    (folder / "own.pem").write_bytes(signed.public_bytes(Encoding.PEM))
    key = Ed25519PrivateKey.generate() if other_key else key
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "own.key").write_bytes(pem)
    (folder / "own.key").chmod(0o600)
    return str(folder / "own.pem"), str(folder / "own.key")


def test_a_port_that_is_taken_and_an_address_that_is_not_ours_are_wrong(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = examine(tmp_path, ocpp={"port": port}, iec104={"host": "192.0.2.1", "port": 2404, "insecure": True})
    assert at(found, "ocpp 127").level == WRONG
    assert f"sport = :{port}" in at(found, "ocpp 127").remedy
    assert at(found, "iec104 192").level == WRONG
    assert "ip address" in at(found, "iec104 192").remedy
    assert at(found, "http 127").level == OK


@pytest.mark.parametrize(
    ("begins_days", "ends_days", "other_key", "level", "said"),
    [
        (-10, 100, False, OK, "is valid until"),
        (-10, 10, False, WARNING, "ends on"),
        (-10, -1, False, WRONG, "ended on"),
        (1, 100, False, WRONG, "is the clock right"),
        (-10, 100, True, WRONG, "is not the key of"),
    ],
)
def test_certificates_are_held_against_the_clock_and_their_keys(
    tmp_path: Path, begins_days: int, ends_days: int, other_key: bool, level: str, said: str
) -> None:
    days = timedelta(days=begins_days), timedelta(days=ends_days)
    own, key = certificate(tmp_path, *days, other_key=other_key)
    found = examine(tmp_path, ocpp={"tls": {"certificate": own, "key": key}, "legacy": {"port": 0}})
    of_certificate = [each for each in found if each.where == "ocpp.tls.certificate"]
    assert of_certificate[0].level == level
    assert said in str(of_certificate[0])


def test_a_key_that_others_may_read_and_one_that_is_missing_are_said(tmp_path: Path) -> None:
    own, key = certificate(tmp_path, timedelta(-1), timedelta(100))
    Path(key).chmod(0o644)
    tls = {"tls": {"certificate": own, "key": key}, "legacy": {"port": 0}}
    assert any("chmod 0600" in each.remedy for each in examine(tmp_path, ocpp=tls))
    Path(key).unlink()
    assert at(examine(tmp_path, ocpp=tls), "ocpp.tls.certificate").level == WRONG


def test_a_csms_that_is_not_there_is_wrong_and_one_that_listens_is_well(tmp_path: Path) -> None:
    with socket.socket() as deaf:  # has the port, and listens to nobody
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        assert at(examine(tmp_path, csms={"url": f"ws://127.0.0.1:{port}/ocpp"}), "csms 127").level == WRONG
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert at(examine(tmp_path, csms={"url": f"ws://127.0.0.1:{port}/ocpp"}), "csms 127").level == OK


def test_a_slow_disk_a_full_one_and_one_that_forgets_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examined, "_syncs", lambda _: [0.5, 0.4, 0.6])
    monkeypatch.setattr(examined, "_file_system", lambda _: "tmpfs")
    monkeypatch.setattr(examined.shutil, "disk_usage", lambda _: examined.shutil._ntuple_diskusage(1, 1, 1 << 20))  # type: ignore[attr-defined]
    found = {each.what: each for each in examine(tmp_path) if each.where.startswith("data_dir")}
    assert [each.level for each in found.values()] == [WRONG, WARNING, WRONG]
    assert any("500.0 ms" in what for what in found)


def test_too_few_file_descriptors_are_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (100, 100))
    assert at(examine(tmp_path), "file descriptors").level == WRONG


def test_a_clock_that_nobody_set_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examined, "EARLIEST_YEAR", 9_999)
    assert at(examine(tmp_path), "clock").level == WRONG


def test_units_that_do_not_obey_are_named_with_what_frees_them(tmp_path: Path) -> None:
    bench = Bench(site_plan(charger_plan(0), charger_plan(1)))
    bench.connect("S4-0000")
    refusing = bench.tell(ChargerConnected("S4-0001"))
    bench.answer(refusing, Answer.REFUSED)
    found = examine(tmp_path, describe(bench.site, bench.now))
    assert at(found, "charger S4-0001").level == WRONG
    assert "refused its limit" in at(found, "charger S4-0001").what
    assert "frees it" in at(found, "charger S4-0001").remedy
    assert at(found, "link").level == WARNING


def test_the_command_ends_with_one_if_anything_is_wrong_and_with_none_else(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(doctor)
    well = CliRunner().invoke(app, ["-c", str(configured(tmp_path))])
    assert well.exit_code == (1 if "WRONG" in well.output else 0), well.output
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = configured(tmp_path, ocpp={"port": taken.getsockname()[1]})
        wrong = CliRunner().invoke(app, ["-c", str(config)])
    assert wrong.exit_code == 1
    assert "WRONG    ocpp 127.0.0.1" in wrong.output
