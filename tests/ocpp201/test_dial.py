"""Claims about the security profiles towards a CSMS: who is believed, who is shown a secret, and what is reported."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from bridge.lab.csms import Csms as LabCsms
from bridge.lab.simulate import csms_tls
from bridge.ocpp201.dial import dial, security_event, why_not_connected
from bridge.settings import Csms
from tests.iec104.pki import Authority

SERIAL = "S4-0001"
PASSWORD = "correct horse battery"


class Keys:
    """An authority, the certificate of a CSMS called localhost, and those of two chargers in a folder."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "authority")
        self.csms = self.authority.issue("localhost")
        self.chargers = self.authority.folder
        for serial in (SERIAL, "S4-0002"):
            self.authority.issue(serial)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@asynccontextmanager
async def listening(keys: Keys, *, client_certificates: bool = False, **options: Any) -> AsyncIterator[LabCsms]:
    tls = csms_tls(*keys.csms, keys.authority.certificate if client_certificates else None)
    csms = LabCsms("localhost", serials=[SERIAL, "S4-0002"], tls=tls, **options)
    await csms.open()
    try:
        yield csms
    finally:
        await csms.close()


def settings(csms: LabCsms, host: str = "localhost", **more: Any) -> Csms:
    return Csms(url=f"wss://{host}:{csms.port}/ocpp", **more)


async def test_profile_2_shows_the_password_to_the_csms_its_authority_vouches_for(keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(PASSWORD)
    async with listening(keys, password=PASSWORD) as csms:
        believed = settings(csms, ca=keys.authority.certificate, password_file=tmp_path / "password")
        assert believed.security_profile == 2
        connection = await dial(believed, SERIAL)
        assert connection.subprotocol == "ocpp2.0.1"
        await connection.close()
        (tmp_path / "password").write_text("wrong")
        with pytest.raises(InvalidStatus) as refused:
            await dial(believed, SERIAL)
        assert security_event(refused.value) == "FailedToAuthenticateAtCsms"
        assert PASSWORD not in why_not_connected(refused.value)


async def test_a_csms_nobody_vouches_for_is_shown_nothing(keys: Keys, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(PASSWORD)
    other = Authority(tmp_path / "other", "Other CA")
    async with listening(keys) as csms:
        with pytest.raises(ssl.SSLCertVerificationError) as refused:
            await dial(settings(csms, ca=other.certificate, password_file=tmp_path / "password"), SERIAL)
        assert security_event(refused.value) == "InvalidCsmsCertificate"
        assert not csms.told


async def test_a_certificate_of_another_host_is_refused(keys: Keys) -> None:
    async with listening(keys) as csms:
        with pytest.raises(ssl.SSLCertVerificationError):
            await dial(settings(csms, "127.0.0.1", ca=keys.authority.certificate), SERIAL)


async def test_profile_3_shows_each_serial_its_own_certificate(keys: Keys) -> None:
    async with listening(keys, client_certificates=True) as csms:
        own = settings(csms, ca=keys.authority.certificate, certificates_dir=keys.chargers)
        assert own.security_profile == 3
        for serial in (SERIAL, "S4-0002"):
            connection = await dial(own, serial)
            await connection.close()


async def test_a_certificate_of_another_serial_is_refused_by_the_csms(keys: Keys, tmp_path: Path) -> None:
    for suffix in ("pem", "key"):
        (tmp_path / f"{SERIAL}.{suffix}").write_bytes((keys.chargers / f"S4-0002.{suffix}").read_bytes())
    async with listening(keys, client_certificates=True) as csms:
        with pytest.raises(InvalidStatus) as refused:
            await dial(settings(csms, ca=keys.authority.certificate, certificates_dir=tmp_path), SERIAL)
        assert security_event(refused.value) == "FailedToAuthenticateAtCsms"


async def test_a_missing_certificate_is_named(keys: Keys, tmp_path: Path) -> None:
    async with listening(keys, client_certificates=True) as csms:
        with pytest.raises(OSError, match="No such file") as missing:
            await dial(settings(csms, ca=keys.authority.certificate, certificates_dir=tmp_path), SERIAL)
        assert "FileNotFoundError" in why_not_connected(missing.value)


async def test_an_empty_password_file_is_no_password(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("\n")
    with pytest.raises(ValueError, match="is empty"):
        await dial(Csms(url="ws://127.0.0.1:1", password_file=tmp_path / "password"), SERIAL)
