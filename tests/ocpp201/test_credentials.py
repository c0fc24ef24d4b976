"""Claims about who may connect as which charger: passwords, client certificates, and TLS beside a plain listener."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.typing import Subprotocol

from bridge.core.messages import ChargerConnected, ChargerDisconnected
from bridge.core.quantities import Now
from bridge.lab.station201 import Station201
from bridge.ocpp201 import server as server_module
from bridge.ocpp201.credentials import Credentials, Shown
from bridge.ocpp201.passwords import hashed, read_hashed
from bridge.settings import ChargerEntry, OcppTls
from tests.iec104.pki import Authority
from tests.ocpp201.listening import Listening, charger_entry, eventually, listening

A, B = "CS-0001", "CS-0002"
PASSWORD = "correct horse battery"
OTHER_ADDRESS: dict[str, Any] = {"local_addr": ("127.0.0.2", 0)}
NO_TLS_CONNECTION = (ssl.SSLError, ConnectionError, InvalidMessage, ConnectionClosed, EOFError)


class Keys:
    """Two authorities, certificates of the bridge and of chargers, good and bad."""

    def __init__(self, folder: Path) -> None:
        self.ours, self.foreign = Authority(folder / "ours"), Authority(folder / "foreign", "Foreign CA")
        self.bridge = self.ours.issue("localhost")
        self.chargers = {
            A: self.ours.issue(A),
            B: self.ours.issue(B),
            "expired": self.ours.issue(f"expired {A}", start="20200101000000Z", end="20210101000000Z"),
            "foreign": self.foreign.issue(A),
            "RSA 1024": self.ours.issue(f"weak {A}", rsa_bits=1024),
            "SHA-1": self.ours.issue(f"old {A}", digest="sha1"),
        }

    def client(self, shows: str | None = None) -> ssl.SSLContext:
        """What a charger connects with; it minds no weak key of its own."""
        context = ssl.create_default_context(cafile=self.ours.certificate)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        if shows is not None:
            context.load_cert_chain(*self.chargers[shows])
        return context

    def plan(self, **more: Any) -> OcppTls:
        return OcppTls(**{"certificate": self.bridge[0], "key": self.bridge[1]} | more)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    return tmp_path / "password"


def secured(profile: int, password_file: Path | None = None, serial: str = A) -> ChargerEntry:
    return charger_entry(serial).model_copy(update={"security_profile": profile, "password_file": password_file})


def basic(user: str, password: str = PASSWORD) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


async def dial(
    world: Listening, serial: str = A, *, tls: ssl.SSLContext | None = None, port: int | None = None, **options: Any
) -> ClientConnection:
    scheme = "ws" if tls is None else "wss"
    url = f"{scheme}://localhost:{port or world.server.port}/{serial}"
    more = {"ssl": tls, "compression": None, "proxy": None, "family": 2} | options
    return await connect(url, subprotocols=[Subprotocol("ocpp2.0.1")], **more)


async def refusal(dialling: Any) -> int:
    with pytest.raises(InvalidStatus) as refused:
        await dialling
    return refused.value.response.status_code


@asynccontextmanager
async def with_tls(keys: Keys, *entries: ChargerEntry, plan: OcppTls | None = None, **more: Any) -> AsyncIterator[Any]:
    plan = plan or keys.plan(client_ca=keys.ours.certificate)
    async with listening(entries, tls=plan, plain=("127.0.0.1", 0), **more) as world:
        yield world


async def test_o1_profile_1_lets_in_who_knows_the_password_and_is_the_user(password_file: Path) -> None:
    async with listening([secured(1, password_file)]) as world:
        connection = await dial(world, additional_headers=basic(A))
        assert await world.submitted(ChargerConnected) == [ChargerConnected(A)]
        await connection.close()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic(A, "wrong"),
        basic(A, ""),
        basic(B),
        basic(A.lower()),
        {"Authorization": "Basic ***"},
        {"Authorization": "Bearer x"},
        [("Authorization", basic(A)["Authorization"]), ("Authorization", basic(A)["Authorization"])],
    ],
)
async def test_o1_without_the_right_user_and_password_it_is_401_before_the_upgrade(
    headers: Any, password_file: Path
) -> None:
    async with listening([secured(1, password_file)]) as world:
        with capture_logs() as lines:
            assert await refusal(dial(world, additional_headers=headers)) == HTTPStatus.UNAUTHORIZED
        assert world.events == []
        assert [line["event"] for line in lines] == ["charger refused"]
        assert PASSWORD not in str(lines)


async def test_o1_a_stranger_cannot_tell_a_known_serial_from_an_unknown_one(password_file: Path) -> None:
    async with listening([secured(1, password_file)]) as world:
        answers = []
        for serial in (A, "CS-9999"):
            with pytest.raises(InvalidStatus) as refused:
                await dial(world, serial, additional_headers=basic(serial, "guess"))
            response = refused.value.response
            named = sorted((name, value) for name, value in response.headers.raw_items() if name != "Date")
            answers.append((response.status_code, response.body, named))
        assert answers[0] == answers[1]
        assert ("WWW-Authenticate", 'Basic realm="ocpp"') in answers[0][2]


async def test_o1_a_hashed_password_lets_in_who_knows_the_password_and_nobody_who_knows_the_hash(
    tmp_path: Path,
) -> None:
    line, read = hashed(PASSWORD.encode()), tmp_path / "password"
    read.write_text(line + "\n")
    async with listening([secured(1, read)]) as world:
        for password in ("a guess", line):
            assert await refusal(dial(world, additional_headers=basic(A, password))) == HTTPStatus.UNAUTHORIZED
        for count in (1, 2):  # the second time from memory
            connection = await dial(world, additional_headers=basic(A))
            await world.submitted(ChargerConnected, count)
            await connection.close()
        read.write_text(hashed(b"another password"))
        assert await refusal(dial(world, additional_headers=basic(A))) == HTTPStatus.UNAUTHORIZED
        read.write_text("scrypt:3:8:AAAA:AAAA")
        assert await refusal(dial(world, additional_headers=basic(A))) == HTTPStatus.UNAUTHORIZED
        unknown = dial(world, "CS-9999", additional_headers=basic("CS-9999"))
        assert await refusal(unknown) == HTTPStatus.UNAUTHORIZED


def test_the_line_that_hashes_a_password_is_printed_and_never_the_same_twice() -> None:
    command = [sys.executable, "-m", "bridge.ocpp201.passwords"]
    lines = [
        subprocess.run(command, input=PASSWORD.encode() + b"\n", capture_output=True, check=True, timeout=60).stdout
        for _ in range(2)
    ]
    assert lines[0] != lines[1]
    for line in lines:
        read = read_hashed(line.strip())
        assert read is not None
        assert read.is_of(PASSWORD.encode())
        assert not read.is_of(b"a guess")


async def test_o1_after_five_wrong_tries_an_address_is_refused_whatever_it_says_and_others_are_not(
    password_file: Path,
) -> None:
    reports: list[tuple[str, str, str]] = []
    told = lambda *report: reports.append(report)  # noqa: E731
    async with listening([secured(1, password_file)], security_event=told) as world:
        for _ in range(5):
            answer = await refusal(dial(world, additional_headers=basic(A, "guess")))
            assert answer == HTTPStatus.UNAUTHORIZED
        assert await refusal(dial(world, additional_headers=basic(A))) == HTTPStatus.TOO_MANY_REQUESTS
        assert [report[:2] for report in reports] == [(A, "FailedToAuthenticateAtCsms")]
        connection = await dial(world, additional_headers=basic(A), **OTHER_ADDRESS)
        await world.submitted(ChargerConnected)
        await connection.close()


async def test_o1_tries_are_counted_for_a_minute_by_identity_and_address_in_bounded_memory(password_file: Path) -> None:
    now_ms = 0
    credentials = Credentials(lambda: Now(now_ms, now_ms))
    entry, wrong = secured(1, password_file), basic(A, "guess")["Authorization"]

    async def status(authorization: str, address: str = "192.0.2.1", identity: str = A) -> int | None:
        refusal = await credentials.refusal(identity, entry, Shown(address, has_tls=False, authorization=authorization))
        return None if refusal is None else refusal.status

    for second in range(5):
        now_ms = second * 10_000
        assert await status(wrong) == HTTPStatus.UNAUTHORIZED
    now_ms = 59_999
    right = basic(A)["Authorization"]
    assert await status(right) == HTTPStatus.TOO_MANY_REQUESTS
    assert await status(wrong, "192.0.2.2") == HTTPStatus.UNAUTHORIZED
    now_ms = 60_000
    assert await status(right) is None
    assert await status(wrong) == HTTPStatus.UNAUTHORIZED
    for number in range(20_000):
        await status(wrong, f"192.0.2.{number}")
    assert len(credentials._wrong) <= 10_000


async def test_a_new_password_counts_from_the_next_connection_on_and_a_lost_file_lets_nobody_in(
    password_file: Path,
) -> None:
    def write(text: str) -> None:
        password_file.write_text(text)

    async with listening([secured(1, password_file)]) as world:
        write("another horse altogether")
        assert await refusal(dial(world, additional_headers=basic(A))) == HTTPStatus.UNAUTHORIZED
        await (await dial(world, additional_headers=basic(A, "another horse altogether"))).close()
        write("\n")
        assert await refusal(dial(world, additional_headers=basic(A, ""))) == HTTPStatus.UNAUTHORIZED
        await asyncio.to_thread(password_file.unlink)
        assert await refusal(dial(world, additional_headers=basic(A, ""))) == HTTPStatus.UNAUTHORIZED


async def test_profile_2_is_wss_with_a_password_and_a_whole_station_boots_over_it(
    keys: Keys, password_file: Path
) -> None:
    async with with_tls(keys, secured(2, password_file)) as world:
        url = f"wss://localhost:{world.server.port}"
        station = Station201(url, A, password=PASSWORD, tls=keys.client())
        life = asyncio.create_task(station.run())
        await eventually(lambda: station.booted)
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_o2_profile_3_lets_in_the_certificate_that_bears_the_identity(
    version: ssl.TLSVersion, keys: Keys
) -> None:
    tls = keys.client(A)
    tls.minimum_version = tls.maximum_version = version
    async with with_tls(keys, secured(3)) as world:
        connection = await dial(world, tls=tls)
        assert await world.submitted(ChargerConnected) == [ChargerConnected(A)]
        await connection.close()


async def test_o2_certificate_path_and_user_must_be_one(keys: Keys, password_file: Path) -> None:
    both = [secured(3), secured(3, serial=B), secured(2, password_file, "CS-0003")]
    async with with_tls(keys, *both) as world:
        assert await refusal(dial(world, B, tls=keys.client(A))) == HTTPStatus.UNAUTHORIZED
        answer = await refusal(dial(world, A, tls=keys.client(A), additional_headers=basic(B)))
        assert answer == HTTPStatus.UNAUTHORIZED
        foreign = dial(world, "CS-0003", tls=keys.client(A), additional_headers=basic("CS-0003"))
        assert await refusal(foreign) == HTTPStatus.UNAUTHORIZED
        assert world.events == []


async def test_o1_no_charger_is_let_in_below_or_beside_its_security_profile(keys: Keys, password_file: Path) -> None:
    chargers = [secured(profile, password_file, f"CS-000{profile}") for profile in range(4)]
    async with with_tls(keys, *chargers) as world:
        plain = world.server.plain_port
        for profile in (2, 3):
            serial = f"CS-000{profile}"
            answer = await refusal(dial(world, serial, port=plain, additional_headers=basic(serial)))
            assert answer == HTTPStatus.UNAUTHORIZED
        for profile in (0, 1):
            serial = f"CS-000{profile}"
            answer = await refusal(dial(world, serial, tls=keys.client(), additional_headers=basic(serial)))
            assert answer == HTTPStatus.UNAUTHORIZED
        answer = await refusal(dial(world, "CS-0003", tls=keys.client(), additional_headers=basic("CS-0003")))
        assert answer == HTTPStatus.UNAUTHORIZED, "a password in the place of a certificate"
        assert world.events == []


async def test_two_listeners_share_one_table_of_sessions(keys: Keys, password_file: Path) -> None:
    async with with_tls(keys, secured(2, password_file), secured(0, serial=B)) as world:
        first = await dial(world, tls=keys.client(), additional_headers=basic(A))
        second = await dial(world, B, port=world.server.plain_port)
        assert {event.serial for event in await world.submitted(ChargerConnected, 2)} == {A, B}
        twin = dial(world, tls=keys.client(), additional_headers=basic(A), **OTHER_ADDRESS)
        assert await refusal(twin) == HTTPStatus.CONFLICT
        await asyncio.gather(first.close(), second.close())


async def test_the_owner_named_in_a_certificate_must_be_the_one_configured() -> None:
    credentials = Credentials(lambda: Now(0, 0), "Depot Nord")

    async def is_let_in(owner: str) -> bool:
        shown = Shown("192.0.2.1", has_tls=True, names=(A, owner))
        return await credentials.refusal(A, secured(3), shown) is None

    assert await is_let_in("Depot Nord")
    assert not await is_let_in("Depot Süd")
    assert not await is_let_in("")


@pytest.mark.parametrize("shows", ["expired", "foreign", "RSA 1024", "SHA-1"])
async def test_o42_a_certificate_that_does_not_count_ends_the_handshake(shows: str, keys: Keys) -> None:
    async with with_tls(keys, secured(3)) as world:
        with pytest.raises(NO_TLS_CONNECTION):
            await dial(world, tls=keys.client(shows))
        await eventually(lambda: not world.server._connections)
        assert world.events == []


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_o42_old_tls_is_refused(version: ssl.TLSVersion, keys: Keys) -> None:
    tls = keys.client(A)
    tls.minimum_version = tls.maximum_version = version
    async with with_tls(keys, secured(3)) as world:
        with pytest.raises(NO_TLS_CONNECTION):
            await dial(world, tls=tls)
        assert world.events == []


async def test_o42_a_revoked_certificate_counts_no_more_from_the_next_connection_on_and_resumes_nothing(
    keys: Keys, tmp_path: Path
) -> None:
    keys.chargers["revoked"] = keys.ours.issue("CS-0009")
    revocation_list = keys.ours.revocation_list(tmp_path / "ca.crl")
    plan = keys.plan(client_ca=keys.ours.certificate, revocation_list=revocation_list)
    async with with_tls(keys, secured(3, serial="CS-0009"), plan=plan) as world:
        tls = keys.client("revoked")
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
        connection = await dial(world, "CS-0009", tls=tls)
        session = connection.transport.get_extra_info("ssl_object").session
        assert not session.has_ticket
        await connection.close()
        keys.ours.revoke(keys.chargers["revoked"][0])
        keys.ours.revocation_list(revocation_list)
        with pytest.raises(NO_TLS_CONNECTION):
            await dial(world, "CS-0009", tls=tls)
        connected = len(world.events)
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(come_back, world.server.port, tls, session)
        assert len(world.events) == connected


async def test_o42_a_charger_whose_certificate_is_revoked_loses_its_connection_and_others_do_not(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "HEED_FILES_S", 0.02)
    keys.chargers["CS-0008"], keys.chargers["CS-0009"] = keys.ours.issue("CS-0008"), keys.ours.issue("CS-0009")
    revocation_list = keys.ours.revocation_list(tmp_path / "ca.crl")
    plan = keys.plan(client_ca=keys.ours.certificate, revocation_list=revocation_list)
    entries = [secured(3, serial="CS-0008"), secured(3, serial="CS-0009")]
    async with listening(entries, tls=plan) as world:
        good = await dial(world, "CS-0008", tls=keys.client("CS-0008"))
        bad = await dial(world, "CS-0009", tls=keys.client("CS-0009"))
        await world.submitted(ChargerConnected, 2)
        keys.ours.revoke(keys.chargers["CS-0009"][0])
        keys.ours.revocation_list(revocation_list)
        async with asyncio.timeout(10):
            await bad.wait_closed()
        assert (bad.close_code, bad.close_reason) == (1008, "certificate revoked")
        await world.submitted(ChargerDisconnected)
        await good.ping()
        assert [event for event in world.events if isinstance(event, ChargerDisconnected)] == [
            ChargerDisconnected("CS-0009")
        ]
        await good.close()


def come_back(port: int, tls: ssl.SSLContext, session: ssl.SSLSession) -> None:
    """Try to come back by an earlier session; raises ssl.SSLError where its certificate is looked at anew."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as link,
        tls.wrap_socket(link, server_hostname="localhost", session=session) as secured_link,
    ):
        secured_link.recv(1)


async def test_o42_files_that_went_bad_leave_the_old_ones_in_force(keys: Keys, tmp_path: Path) -> None:
    certificate = tmp_path / "bridge.pem"
    certificate.write_bytes(keys.bridge[0].read_bytes())
    plan = keys.plan(certificate=certificate, client_ca=keys.ours.certificate)
    async with with_tls(keys, secured(3), plan=plan) as world:
        certificate.write_text("no certificate")
        with capture_logs() as lines:
            await (await dial(world, tls=keys.client(A))).close()
        assert [line["event"] for line in lines].count("the changed TLS files cannot be used: the old ones stay") == 1


async def test_o5_half_open_tls_handshakes_are_bounded_and_end(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.ocpp201.connection.OPEN_TIMEOUT_S", 1.0)
    async with with_tls(keys, secured(3), max_opening_per_address=3) as world:
        with capture_logs() as lines:
            silent = [await asyncio.open_connection("127.0.0.1", world.server.port) for _ in range(5)]
            async with asyncio.timeout(20):
                await asyncio.gather(*(reader.read() for reader, _ in silent), return_exceptions=True)
        assert [line["event"] for line in lines] == [
            *["connection refused: too many"] * 2,
            *["TLS handshake failed"] * 3,
        ]
        await eventually(lambda: not world.server._connections and not world.server._opening)
        monkeypatch.setattr("bridge.ocpp201.connection.OPEN_TIMEOUT_S", 20.0)
        await (await dial(world, tls=keys.client(A))).close()
        for _, writer in silent:
            writer.close()


async def test_what_is_said_in_plain_words_to_the_tls_listener_is_refused(keys: Keys) -> None:
    async with with_tls(keys, secured(3)) as world:
        with pytest.raises((InvalidMessage, ConnectionError)):
            await dial(world)
        await eventually(lambda: not world.server._connections)
        assert world.events == []
