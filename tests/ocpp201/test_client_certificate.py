"""Claims about the certificate of a charger towards its CSMS: renewed on request and in time, by a good one alone."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from bridge.lab.csms import Csms as LabCsms
from bridge.lab.simulate import csms_tls
from bridge.ocpp201 import client_certificate as module
from bridge.ocpp201.client_certificate import new_request, problem_in, take_over
from bridge.ocpp201.upstream import Upstream
from bridge.settings import Csms
from tests.iec104.pki import Authority
from tests.ocpp201.test_upstream import SERIAL, World, clock, entry

T0 = 1_788_256_800_000  # 2026-09-01T10:00:00Z


class Signer:
    """The authority of the central system: signs what it is sent, as told."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "authority")
        self.chargers = folder / "chargers"
        self.chargers.mkdir()

    def first(self, serial: str = SERIAL, days: int = 365) -> None:
        """Put the certificate and key there that somebody made by hand."""
        for suffix, path in zip(("pem", "key"), self.authority.issue(serial, days), strict=True):
            (self.chargers / f"{serial}.{suffix}").write_bytes(path.read_bytes())

    def sign(self, csr: str, *, name: str | None = None, starts_s: float = -60, days: int = 365) -> str:
        asked = x509.load_pem_x509_csr(csr.encode())
        assert asked.is_signature_valid
        ours = x509.load_pem_x509_certificate(self.authority.certificate.read_bytes())
        key: Any = serialization.load_pem_private_key((self.authority.folder / "ca.key").read_bytes(), None)
        subject = asked.subject if name is None else x509.Name.from_rfc4514_string(f"CN={name}")
        begins = datetime.now(UTC) + timedelta(seconds=starts_s)
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(ours.subject).public_key(asked.public_key())
        made = made.serial_number(x509.random_serial_number())
        made = made.not_valid_before(begins).not_valid_after(begins + timedelta(days=days))
        return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path)


def now_ms() -> int:
    return clock().utc_ms


def test_a_request_names_what_the_certificate_in_use_names_and_its_key_is_nobody_elses(signer: Signer) -> None:
    signer.first()
    csr = x509.load_pem_x509_csr(new_request(signer.chargers, SERIAL).encode())
    assert csr.subject.rfc4514_string() == f"CN={SERIAL}"
    key = signer.chargers / f"{SERIAL}.new.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert serialization.load_pem_private_key(key.read_bytes(), None).public_key() == csr.public_key()
    first = key.read_bytes()
    new_request(signer.chargers, SERIAL)
    assert key.read_bytes() != first


def test_a02_fr_06_a_certificate_that_is_not_what_was_asked_for_is_refused(signer: Signer) -> None:
    signer.first()
    foreign = signer.sign(new_request(signer.chargers, SERIAL))
    (signer.chargers / f"{SERIAL}.new.key").unlink()

    def problem(chain: str) -> str:
        return problem_in(signer.chargers, SERIAL, chain, now_ms()) or ""

    assert problem(foreign) == "none was asked for"
    csr = new_request(signer.chargers, SERIAL)
    assert problem(foreign) == "it is for another key"
    assert problem(signer.sign(csr, name="S4-0002")) == f"its common name is not {SERIAL}"
    assert problem(signer.sign(csr, starts_s=-86_400 * 3, days=2)) == "it is not valid now"
    assert problem(signer.sign(csr, starts_s=86_400 * 3)) == "it is not valid now"
    assert "unreadable" in problem("no certificate")
    assert problem(signer.sign(csr)) == ""


def test_what_was_shown_before_is_kept_beside_and_nobody_may_read_it(signer: Signer) -> None:
    signer.first()
    before = (signer.chargers / f"{SERIAL}.pem").read_text()
    chain = signer.sign(new_request(signer.chargers, SERIAL))
    take_over(signer.chargers, SERIAL, chain)
    kept, shown = ((signer.chargers / f"{SERIAL}{suffix}.pem") for suffix in (".before", ""))
    assert before.strip() in kept.read_text()
    assert "PRIVATE KEY" in kept.read_text()
    assert shown.read_text().startswith(chain.strip())
    assert stat.S_IMODE(shown.stat().st_mode) == 0o600
    assert not (signer.chargers / f"{SERIAL}.new.key").exists()
    second = signer.sign(new_request(signer.chargers, SERIAL))
    take_over(signer.chargers, SERIAL, second)
    assert kept.read_text().startswith(chain.strip())


@asynccontextmanager
async def world(folder: Path, signer: Signer) -> AsyncIterator[World]:
    """An upstream of security profile 3 below a central system that demands client certificates."""
    tls = csms_tls(*signer.authority.issue("localhost"), signer.authority.certificate)
    csms = LabCsms("localhost", serials=[SERIAL], tls=tls)
    csms.answers["SignCertificate"] = lambda _serial, _payload: {"status": "Accepted"}
    await csms.open()
    made = World(folder, csms, "ocpp1.5")
    settings = Csms(
        url=f"wss://localhost:{csms.port}/ocpp",
        ca=signer.authority.certificate,
        certificates_dir=signer.chargers,
        retry_wait_minimum_s=0.02,
        retry_random_range_s=0.01,
    )
    made.upstream = Upstream(settings, {SERIAL: entry()}, made.outbox, clock)
    try:
        yield made
    finally:
        await made.upstream.close()
        await csms.close()
        made.database.close()


def shown_number(csms: LabCsms) -> int:
    """The serial number of the certificate that the charger shows to its central system now."""
    connected = csms.connected.get(SERIAL)
    if connected is None:
        return 0
    told = connected.peer.websocket.transport.get_extra_info("peercert")
    return int(told["serialNumber"], 16)


async def test_a02_a_certificate_the_csms_has_signed_is_shown_from_the_next_connection_on(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TAKE_OVER_S", 0.02)
    signer.first()
    async with world(tmp_path, signer) as both:
        await both.booted()
        trigger = {"requestedMessage": "SignChargingStationCertificate"}
        assert await both.csms.call(SERIAL, "TriggerMessage", trigger) == {"status": "Accepted"}
        asked = await both.csms.hears(SERIAL, "SignCertificate")
        assert asked["certificateType"] == "ChargingStationCertificate"
        bad = {"certificateChain": signer.sign(asked["csr"], name="S4-0002")}
        refused = await both.csms.call(SERIAL, "CertificateSigned", bad)
        assert isinstance(refused, dict)
        assert (refused["status"], refused["statusInfo"]["reasonCode"]) == ("Rejected", "InvalidCertificate")
        told = await both.csms.hears(SERIAL, "SecurityEventNotification")
        assert told["type"] == "InvalidChargingStationCertificate"
        chain = signer.sign(asked["csr"])
        number = x509.load_pem_x509_certificate(chain.encode()).serial_number
        good = {"certificateChain": chain, "certificateType": "ChargingStationCertificate"}
        assert await both.csms.call(SERIAL, "CertificateSigned", good) == {"status": "Accepted"}
        await both.until(lambda: shown_number(both.csms) == number)
        await both.until(lambda: both.link.is_accepted)


async def test_a03_a_certificate_that_ends_within_a_month_is_renewed_by_itself_and_asked_for_again(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SIGNING_WAIT_S", 0.02)
    signer.first(days=29)
    async with world(tmp_path, signer) as both:
        await both.booted()
        last = await both.csms.hears(SERIAL, "SignCertificate", count=4)
        assert both.csms.heard(SERIAL, "SignCertificate") == [last] * 4
        renewal = both.link._renewal
        assert renewal is not None
        await both.until(lambda: not renewal._csr)  # it has given up
        assert len(both.csms.heard(SERIAL, "SignCertificate")) == 4


async def test_a_certificate_that_lasts_is_left_alone_and_one_of_iso_15118_is_the_chargers(
    tmp_path: Path, signer: Signer
) -> None:
    signer.first()
    async with world(tmp_path, signer) as both:
        await both.booted()
        signed = {"certificateChain": "PEM", "certificateType": "V2GCertificate"}
        assert await both.csms.call(SERIAL, "CertificateSigned", signed) == {"status": "Accepted"}
        assert both.below.asked == [("CertificateSigned", signed)]
        assert both.csms.heard(SERIAL, "SignCertificate") == []
