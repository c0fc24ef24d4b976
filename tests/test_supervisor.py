"""What systemd is told, and that the watchdog is fed only while the control loop keeps its promises."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.core.messages import ChargerConnected
from bridge.engine import OVERDUE_MS
from bridge.supervisor import Supervisor
from tests.test_engine import Bench, FailingJournal, MemoryJournal, setpoint
from tests.test_service import Bridge

UNIT = Path(__file__).parent.parent / "deploy" / "systemd" / "gridlimit.service"


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(20)
        yield listening


def heard(listener: socket.socket) -> list[str]:
    told = []
    with contextlib.suppress(BlockingIOError):
        while True:
            told.append(listener.recv(10_000).decode())
    return told


def test_without_a_supervisor_nothing_is_told() -> None:
    Supervisor({}).tell("READY=1")


def test_a_supervisor_that_has_gone_or_does_not_listen_holds_nobody_up(listener: socket.socket) -> None:
    told = Supervisor({"NOTIFY_SOCKET": str(listener.getsockname())})
    for _ in range(10_000):
        told.tell("STATUS=" + "x" * 1_000)  # far more than a socket buffers
    Supervisor({"NOTIFY_SOCKET": "/nowhere"}).tell("READY=1")


def test_an_abstract_address_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        name = f"gridlimit-test-{os.getpid()}"
        listening.bind(f"\0{name}")
        listening.settimeout(20)
        Supervisor({"NOTIFY_SOCKET": f"@{name}"}).reloading()
        assert listening.recv(1_000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")


async def test_the_service_says_that_it_lives_is_ready_and_stops(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    bridge = Bridge(tmp_path)
    await bridge.start()
    listener.setblocking(False)
    told = heard(listener)  # before the few that a socket keeps are too many
    assert bridge.end(signal.SIGTERM) == 0
    told += heard(listener)
    assert told[0].startswith("WATCHDOG=1\nSTATUS=limit 100000 W (at_start)")
    assert any(words.startswith("READY=1") for words in told)
    assert told[-1] == "STOPPING=1"


def test_a_sound_site_feeds_the_watchdog_and_a_lost_count_does_not() -> None:
    bench = Bench(MemoryJournal())
    bench.engine.submit(ChargerConnected("S4-0000"))
    bench.turn()
    assert bench.engine.unsound() is None
    bench.engine.site.ledger.total_w += 1
    assert "recount" in str(bench.engine.unsound())


def test_a_lost_journal_and_a_wake_up_that_never_comes_do_not_feed_the_watchdog() -> None:
    journal = FailingJournal()
    bench = Bench(journal)
    bench.engine.submit(ChargerConnected("S4-0000"))
    bench.turn()
    assert bench.engine.next_deadline() is not None
    bench.now_ms += 400_000 + OVERDUE_MS
    assert "overdue" in str(bench.engine.unsound())
    journal.broken = True
    bench.engine.submit(setpoint(1, 20_000))
    bench.turn()
    assert "journal" in str(bench.engine.unsound())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze: apt-get install systemd")
def test_the_unit_is_well_formed_and_shut_in(tmp_path: Path) -> None:
    words = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", str(UNIT)]
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-300:] + run.stderr
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/gridlimit/bin/gridlimit", "/bin/true"))
    verified = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stderr
    assert str(unit) not in verified.stderr
