"""Who is let in: by address, by certificate chain and fingerprint, within measure; and what happens to the others."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from bridge.core.messages import ShellAlarm
from bridge.core.points import Point, PointAddress, PointKind, PointTable, Signal
from bridge.core.quantities import Now
from bridge.iec104.admission import Caps
from bridge.iec104.outstation import RedundancyGroup
from bridge.iec104.security import Tls, TlsPlan
from tests.iec104.fake_site import FakeSite, clock, eventually, running, table
from tests.iec104.pki import Authority, client, fingerprint
from tests.iec104.raw_master import STARTDT, STARTDT_CON, STOPDT, TESTFR, TESTFR_CON, RawMaster, setpoint

DSO = RedundancyGroup("dso", addresses=frozenset({"127.0.0.1"}))
ELSEWHERE = RedundancyGroup("dso", addresses=frozenset({"192.0.2.1"}))
HOST = "127.0.0.1"


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """The service runs on uvloop, whose TLS is another than asyncio's."""
    return uvloop.EventLoopPolicy() if request.param == "uvloop" else asyncio.DefaultEventLoopPolicy()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki") / "ca")


@pytest.fixture(scope="module")
def ours(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("outstation")


@pytest.fixture(scope="module")
def theirs(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("control centre")


def tls(authority: Authority, ours: tuple[Path, Path], **more: Any) -> TlsPlan:
    return TlsPlan(*ours, authority.certificate, **more)


async def connected(site: FakeSite, context: ssl.SSLContext) -> RawMaster:
    """A started connection over TLS; raises what the handshake raises, and OSError for one ended after it."""
    reader, writer = await asyncio.open_connection(HOST, site.listener.port, ssl=context)
    master = RawMaster(reader, writer)
    try:
        await master.start()
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("ended after the handshake") from error
    return master


async def test_i1_an_address_in_no_group_is_reset_before_any_octet() -> None:
    async with running(FakeSite(groups=(ELSEWHERE,))) as site:
        with capture_logs() as lines:
            reader, writer = await asyncio.open_connection(HOST, site.listener.port)
            writer.write(STARTDT)
            with pytest.raises(ConnectionResetError):
                assert await reader.read(1) == b"reset, not ended"
        assert site.events == []
        assert [(line["event"], line["why"]) for line in lines] == [
            ("connection refused", "this address is in no redundancy group")
        ]


async def test_i1_an_address_of_a_group_is_let_in_and_its_commands_bear_the_groups_name() -> None:
    async with running(FakeSite(groups=(ELSEWHERE, DSO))) as site:
        master = await RawMaster.connect(site.listener.port)
        await master.answer(setpoint(20000.0))
        assert [each.group for each in site.setpoints] == ["dso"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_control_centre_with_a_certificate_commands_over_tls(
    version: ssl.TLSVersion, authority: Authority, ours: tuple[Path, Path], theirs: tuple[Path, Path]
) -> None:
    group = RedundancyGroup("dso", fingerprints=frozenset({fingerprint(theirs[0])}))
    async with running(FakeSite(groups=(group,), tls=tls(authority, ours))) as site:
        master = await connected(site, client(authority, theirs, version))
        assert (await master.answer(setpoint(20000.0))).negative is False
        assert site.setpoints[0].master.endswith(" (control centre)")
        session = master.writer.get_extra_info("ssl_object")
        assert session.cipher()[0] in {"ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_AES_256_GCM_SHA384"}


async def test_i2_without_a_good_certificate_nobody_is_let_in_and_a_good_one_is_served_meanwhile(
    tmp_path: Path, authority: Authority, ours: tuple[Path, Path], theirs: tuple[Path, Path]
) -> None:
    foreign = Authority(tmp_path / "foreign", "Foreign CA")
    past = authority.issue("past", start="20200101000000Z", end="20210101000000Z")
    other = authority.issue("other")
    hostile: list[tuple[str, tuple[Path, Path] | None]] = [
        ("none", None),
        ("of a foreign authority", foreign.issue("control centre")),
        ("expired", past),
        ("trusted, but not on the list", other),
    ]
    group = RedundancyGroup("dso", fingerprints=frozenset({fingerprint(theirs[0]), fingerprint(past[0])}))
    async with running(FakeSite(groups=(group,), tls=tls(authority, ours))) as site:
        good = await connected(site, client(authority, theirs))
        for name, certificate in hostile:
            context = client(authority, certificate)
            with pytest.raises(OSError, match=r".*"):
                print(name, await connected(site, context))  # noqa: T201  says who got in
        plain = await RawMaster.connect(site.listener.port, start=False)
        plain.writer.write(STARTDT)
        assert await plain.is_closed()
        assert (await good.answer(setpoint(20000.0))).negative is False
        assert site.started == [1]
        await eventually(lambda: len(site.listener.links) == 1)


async def test_i2_a_fingerprint_on_the_list_without_the_chain_is_refused(
    tmp_path: Path, authority: Authority, ours: tuple[Path, Path]
) -> None:
    stranger = Authority(tmp_path / "foreign", "Foreign CA").issue("control centre")
    group = RedundancyGroup("dso", fingerprints=frozenset({fingerprint(stranger[0])}))
    async with running(FakeSite(groups=(group,), tls=tls(authority, ours))) as site:
        with pytest.raises(OSError, match=r".*"):
            await connected(site, client(authority, stranger))
        assert site.events == []


async def test_tls_1_1_and_below_the_agreed_minimum_is_refused(
    authority: Authority, ours: tuple[Path, Path], theirs: tuple[Path, Path]
) -> None:
    async with running(FakeSite(tls=tls(authority, ours, minimum_version="1.3"))) as site:
        with pytest.raises(OSError, match=r".*"):
            await connected(site, client(authority, theirs, ssl.TLSVersion.TLSv1_2))
        await connected(site, client(authority, theirs, ssl.TLSVersion.TLSv1_3))


async def test_a_silent_connection_delays_nobody(
    authority: Authority, ours: tuple[Path, Path], theirs: tuple[Path, Path]
) -> None:
    async with running(FakeSite(tls=tls(authority, ours, handshake_s=300))) as site:
        silent = await RawMaster.connect(site.listener.port, start=False)
        master = await connected(site, client(authority, theirs))
        assert (await master.answer(setpoint(20000.0))).negative is False
        silent.close()


async def test_a_silent_connection_ends_with_the_deadline_of_the_handshake(
    authority: Authority, ours: tuple[Path, Path]
) -> None:
    async with running(FakeSite(tls=tls(authority, ours, handshake_s=0.5))) as site:
        silent = await RawMaster.connect(site.listener.port, start=False)
        assert await silent.is_closed()


async def test_the_control_centre_updates_the_keys_of_tls_1_3_and_the_link_stays(
    authority: Authority, ours: tuple[Path, Path], theirs: tuple[Path, Path]
) -> None:
    """By OpenSSL's own client: a line that begins with K asks both sides for new keys."""
    async with running(FakeSite(tls=tls(authority, ours))) as site:
        process = await asyncio.create_subprocess_exec(
            "openssl", "s_client", "-connect", f"{HOST}:{site.listener.port}", "-tls1_3", "-CAfile",
            str(authority.certificate), "-cert", str(theirs[0]), "-key", str(theirs[1]),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(30):
                for line, awaited in (
                    (STARTDT, STARTDT_CON), (b"K\n", b"KEYUPDATE"), (TESTFR, TESTFR_CON),
                    (b"K\n", b"KEYUPDATE"), (TESTFR, TESTFR_CON),
                ):  # fmt: skip
                    process.stdin.write(line)
                    await process.stdout.readuntil(awaited)
        finally:
            process.kill()
            await process.wait()
        assert site.started[0] == 1


async def test_a_link_is_ended_when_its_keys_have_served_their_time_and_the_next_one_is_served(
    authority: Authority, ours: tuple[Path, Path], theirs: tuple[Path, Path]
) -> None:
    async with running(FakeSite(tls=tls(authority, ours, renew_after_s=0.5))) as site:
        for _ in range(2):
            assert await (await connected(site, client(authority, theirs))).is_closed()
        assert site.started[:2] == [1, 0]


async def test_i34_a_revoked_certificate_is_refused_its_link_is_ended_and_others_stay(
    tmp_path: Path, authority: Authority, ours: tuple[Path, Path], theirs: tuple[Path, Path]
) -> None:
    revoked = authority.issue("revoked")
    crl = authority.revocation_list(tmp_path / "crl.pem")
    async with running(FakeSite(tls=tls(authority, ours, revocation_list=crl))) as site:
        good, bad = [await connected(site, client(authority, each)) for each in (theirs, revoked)]
        authority.revoke(revoked[0])
        authority.revocation_list(crl)
        assert await bad.is_closed()
        with pytest.raises(OSError, match=r".*"):
            await connected(site, client(authority, revoked))
        assert (await good.answer(setpoint(20000.0))).negative is False


async def test_i34_no_session_is_resumed(
    authority: Authority, ours: tuple[Path, Path], theirs: tuple[Path, Path]
) -> None:
    async with running(FakeSite(tls=tls(authority, ours))) as site:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            first = await connected(site, client(authority, theirs, version))
            session = first.writer.get_extra_info("ssl_object").session
            assert session is None or not session.has_ticket


async def test_i34_an_expired_revocation_list_lets_nobody_in_and_raises_the_alarm(
    tmp_path: Path, authority: Authority, ours: tuple[Path, Path], theirs: tuple[Path, Path]
) -> None:
    crl = authority.revocation_list(tmp_path / "crl.pem", seconds=1)
    await asyncio.sleep(1.1)
    assert Tls(tls(authority, ours, revocation_list=crl)).expires_soon(time.time_ns() // 1_000_000)
    async with running(FakeSite(tls=tls(authority, ours, revocation_list=crl))) as site:
        with pytest.raises(OSError, match=r".*"):
            await connected(site, client(authority, theirs))


async def test_a_new_certificate_of_ours_is_shown_to_new_connections_and_old_links_stay(
    tmp_path: Path, authority: Authority, ours: tuple[Path, Path], theirs: tuple[Path, Path]
) -> None:
    certificate, key = tmp_path / "us.pem", tmp_path / "us.key"
    shutil.copy(ours[0], certificate)
    shutil.copy(ours[1], key)
    async with running(FakeSite(tls=tls(authority, (certificate, key)))) as site:
        old = await connected(site, client(authority, theirs))
        renewed = authority.issue("outstation renewed")
        shutil.copy(renewed[1], key)
        shutil.copy(renewed[0], certificate)

        async def shown() -> Any:
            new = await connected(site, client(authority, theirs))
            try:
                return new.writer.get_extra_info("peercert")["subject"][0][0][1]
            finally:
                new.close()

        async with asyncio.timeout(30):
            while await shown() != "outstation renewed":  # noqa: ASYNC110  the files are looked at by time
                await asyncio.sleep(0.2)
        assert (await old.answer(setpoint(20000.0))).negative is False


async def test_files_that_cannot_be_used_are_logged_and_the_old_ones_stay(
    tmp_path: Path, authority: Authority, ours: tuple[Path, Path]
) -> None:
    certificate = tmp_path / "us.pem"
    shutil.copy(ours[0], certificate)
    made = Tls(TlsPlan(certificate, ours[1], authority.certificate))
    before = made.context
    certificate.write_text("no certificate", encoding="ascii")
    with capture_logs() as lines:
        assert not made.reload()
        assert not made.reload()
    assert len(lines) == 1
    assert made.context is before
    with pytest.raises((OSError, ValueError)):
        Tls(TlsPlan(certificate, ours[1], authority.certificate))


@pytest.mark.parametrize(("days", "soon"), [(29, True), (31, False)])
def test_a_certificate_that_ends_within_thirty_days_is_an_alarm(authority: Authority, days: int, soon: bool) -> None:
    certificate = authority.issue(f"for {days} days", days=days)
    made = Tls(tls(authority, certificate))
    assert made.expires_soon(time.time_ns() // 1_000_000) is soon


async def test_i33_another_certificate_from_the_same_address_is_remarked_upon(
    authority: Authority, ours: tuple[Path, Path], theirs: tuple[Path, Path]
) -> None:
    other = authority.issue("another control centre")
    async with running(FakeSite(tls=tls(authority, ours))) as site:
        with capture_logs() as lines:
            for certificate in (theirs, theirs, other):
                (await connected(site, client(authority, certificate))).close()
        alarms = [line for line in lines if line["event"].startswith("ALARM")]
        assert [(line["peer"].name, line["before"].name) for line in alarms] == [
            ("another control centre", "control centre")
        ]


@pytest.mark.parametrize(("host", "value"), [("0.0.0.0", b"\x01"), (HOST, b"\x00")])
async def test_plain_tcp_beyond_this_machine_is_an_alarm_point(host: str, value: bytes) -> None:
    points = PointTable((*table().points, Point(PointAddress(1, 310), PointKind.SINGLE, Signal.PLAIN_TCP)))
    async with running(FakeSite(points, host=host)) as site:
        master = await RawMaster.connect(site.listener.port)
        seen = [one for one in await master.interrogate() if one.type_id == 1]
        assert dict(seen[0].objects(1))[310] == value
        assert not [each for each in site.events if isinstance(each, ShellAlarm)], "it has a point of its own"


async def test_plain_tcp_beyond_this_machine_is_in_the_common_alarm_where_it_has_no_point() -> None:
    async with running(FakeSite(host="0.0.0.0", site="Depot")) as site:
        assert site.events == [ShellAlarm("plain_tcp", "Depot", open=True)]


async def test_a_certificate_that_ends_soon_is_in_the_common_alarm_until_it_is_renewed(
    tmp_path: Path, authority: Authority
) -> None:
    certificate, key = tmp_path / "us.pem", tmp_path / "us.key"

    def install(days: int) -> None:
        for issued, name in zip(authority.issue(f"us for {days} days", days=days), (certificate, key), strict=True):
            shutil.copy(issued, name)

    install(29)
    async with running(FakeSite(tls=tls(authority, (certificate, key)), site="Depot")) as site:
        assert site.events == [ShellAlarm("certificate_expires", "Depot", open=True)]
        install(300)
        await eventually(lambda: len(site.events) == 2)
        assert site.events[1] == ShellAlarm("certificate_expires", "Depot", open=False)


async def test_i16_starting_and_stopping_more_often_than_agreed_ends_the_connection_whichever_it_is() -> None:
    async with running(FakeSite(caps=Caps(start_stop_per_minute=10))) as site:
        for _ in range(5):
            master = await RawMaster.connect(site.listener.port)
            await master.stop()
            master.close()
        flapping = await RawMaster.connect(site.listener.port, start=False)
        flapping.writer.write(STARTDT + STOPDT)
        assert await flapping.is_closed()


async def test_i32_a_search_for_addresses_is_ended_shut_out_and_told_and_controls_nothing() -> None:
    caps = Caps(unknown_addresses_per_minute=10, back_off_s=300)
    async with running(FakeSite(caps=caps, site="Depot")) as site:
        sweep = await RawMaster.connect(site.listener.port)
        with capture_logs() as lines:
            for address in range(2000, 2012):
                sweep.send(setpoint(20000.0, address=address))
            assert await sweep.is_closed()
        assert "ALARM: somebody searches for addresses and is shut out" in {line["event"] for line in lines}
        assert site.setpoints == []
        again = await RawMaster.connect(site.listener.port, start=False)
        assert await again.is_closed()
        alarm = ShellAlarm("address_search", "Depot", open=True)
        await eventually(lambda: alarm in site.events)
        site.listener.clock = lambda: Now(clock().monotonic_ms + 301_000, clock().utc_ms)
        await RawMaster.connect(site.listener.port)
        await eventually(lambda: replace(alarm, open=False) in site.events)


async def test_an_event_store_that_fails_is_an_alarm() -> None:
    async with running(FakeSite(site="Depot")) as site:
        site.listener.outstation.store_failed = True
        await eventually(lambda: ShellAlarm("event_store_lost", "Depot", open=True) in site.events)


async def test_i27_more_commands_than_agreed_are_refused_and_the_link_stays() -> None:
    async with running(FakeSite(caps=Caps(commands_per_minute=3))) as site:
        master = await RawMaster.connect(site.listener.port)
        refused = [(await master.answer(setpoint(20000.0))).negative for _ in range(3)]
        assert refused == [False, False, False]
        while not (answer := await master.answer(setpoint(20000.0))).negative:
            pass
        assert answer.cause == 7
        assert len(site.setpoints) == 3


async def test_i3_one_address_cannot_take_all_the_room() -> None:
    async with running(FakeSite(caps=Caps(connections=8, connections_per_address=2))) as site:
        held = [await RawMaster.connect(site.listener.port) for _ in range(2)]
        third = await RawMaster.connect(site.listener.port, start=False)
        assert await third.is_closed()
        other = await asyncio.open_connection(HOST, site.listener.port, local_addr=("127.0.0.2", 0))
        other[1].write(STARTDT)
        assert len(await other[0].readexactly(6)) == 6
        assert len(site.listener.links) == len(held) + 1


async def test_i15_a_second_path_of_the_group_takes_over_and_the_first_stands_by() -> None:
    async with running(FakeSite(groups=(DSO,))) as site:
        first = await RawMaster.connect(site.listener.port)
        await first.asdu()
        first.confirm = False
        for number in range(40):
            site.publish(200, float(number))
        site.listener.outstation.flush()
        site.listener._write()
        unconfirmed = [await first.asdu() for _ in range(3)]
        second = await RawMaster.connect(site.listener.port)
        told = [await second.asdu() for _ in range(3)]
        assert [one.body for one in told] == [one.body for one in unconfirmed], "nothing lost, nothing out of order"
        assert site.started == [1], "the core sees no gap"
        first.supervise()
        site.publish(202, 1.0)
        assert (await second.asdu()).ioa == 202
        assert (await second.answer(setpoint(20000.0))).negative is False
        await first.start()
        site.publish(202, 2.0)
        await second_is_silent(second)
        while (seen := await first.asdu()).ioa != 202:
            pass
        assert seen.cause == 3
        assert len(site.listener.links) == 2


async def second_is_silent(master: RawMaster) -> None:
    """What was under way to it before it stood down may still come; nothing after."""
    try:
        async with asyncio.timeout(0.2):
            while True:
                await master.asdu()
    except TimeoutError:
        pass


async def test_i15_a_command_on_a_connection_that_stood_down_ends_it_unexecuted() -> None:
    async with running(FakeSite(groups=(DSO,))) as site:
        first = await RawMaster.connect(site.listener.port)
        await RawMaster.connect(site.listener.port)
        first.send(setpoint(20000.0))
        assert await first.is_closed()
        assert site.setpoints == []


async def test_each_group_has_all_events_and_a_slow_one_delays_no_other() -> None:
    groups = (
        RedundancyGroup("dso", addresses=frozenset({"127.0.0.1"})),
        RedundancyGroup("tso", addresses=frozenset({"127.0.0.2"})),
    )
    async with running(FakeSite(groups=groups)) as site:
        first = await RawMaster.connect(site.listener.port)
        await first.asdu()
        site.publish(200, 1.0)
        assert (await first.asdu()).ioa == 200
        other = RawMaster(*await asyncio.open_connection(HOST, site.listener.port, local_addr=("127.0.0.2", 0)))
        await other.start()
        assert [(await other.asdu()).type_id for _ in range(2)] == [70, 36], "its own end of initialisation, all events"
        other.confirm = False
        for number in range(50):
            site.publish(200, float(number))
            site.listener.outstation.flush()
            site.listener._write()
            assert (await first.asdu()).ioa == 200
