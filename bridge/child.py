"""A process that belongs to the service: started with it, started again when it ends, and gone when the service is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

import structlog

log = structlog.get_logger()

FIRST_WAIT_S: Final = 2.0
LONGEST_WAIT_S: Final = 60.0
RAN_WELL_S: Final = 60.0
GRACE_S: Final = 5.0


class Child:
    """Keeps `command` running. It is to end when its standard input does, so that even a kill leaves none behind."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start it, now and whenever it has ended."""
        self._task = asyncio.get_running_loop().create_task(self._keep_running())

    async def stop(self) -> None:
        """End it, by force if it takes too long."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_running(self) -> None:
        loop, wait_s = asyncio.get_running_loop(), FIRST_WAIT_S
        while True:
            began_s = loop.time()
            try:
                code = await self._run_once()
            except OSError as error:
                log.error("cannot be started", command=self._command, why=str(error))  # noqa: TRY400  that is all
            else:
                log.warning("has ended and is started again", command=self._command, code=code, wait_s=wait_s)
            wait_s = FIRST_WAIT_S if loop.time() - began_s > RAN_WELL_S else wait_s
            await asyncio.sleep(wait_s)
            wait_s = min(LONGEST_WAIT_S, 2 * wait_s)

    async def _run_once(self) -> int:
        process = await asyncio.create_subprocess_exec(*self._command, stdin=asyncio.subprocess.PIPE)
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                if process.stdin is not None:
                    process.stdin.close()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), GRACE_S)
            if process.returncode is None:
                process.kill()
                await process.wait()
