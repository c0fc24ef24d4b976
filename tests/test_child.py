"""Claims about the process that belongs to the service."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from bridge import child as children
from bridge.child import Child

PATIENCE_S = 30
NOTES_ITS_START = "import os, sys; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n'); "


def child(folder: Path, then: str) -> tuple[Child, Path]:
    starts = folder / "starts"
    return Child([sys.executable, "-c", NOTES_ITS_START + then, str(starts)]), starts


def pids(starts: Path) -> list[int]:
    return [int(line) for line in starts.read_text().splitlines()] if starts.exists() else []


async def started(starts: Path, times: int) -> list[int]:
    async with asyncio.timeout(PATIENCE_S):
        while len(pids(starts)) < times:  # noqa: ASYNC110  it announces itself in no other way
            await asyncio.sleep(0.02)
    return pids(starts)


async def test_a_child_that_ends_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "FIRST_WAIT_S", 0.01)
    kept, starts = child(tmp_path, "sys.exit(3)")
    kept.start()
    await started(starts, 3)
    await kept.stop()


@pytest.mark.parametrize("then", ["sys.stdin.read()", "import time; time.sleep(600)"])
async def test_a_stopped_child_is_gone_however_it_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    monkeypatch.setattr(children, "GRACE_S", 0.2)
    kept, starts = child(tmp_path, then)
    kept.start()
    (pid,) = await started(starts, 1)
    await kept.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_what_cannot_be_started_is_tried_again_and_troubles_nobody(tmp_path: Path) -> None:
    kept = Child([str(tmp_path / "there is none")])
    kept.start()
    await asyncio.sleep(0)
    await kept.stop()
