"""How the processes of a benchmark talk: JSON lines on standard input and output, one answer to each command."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import uvloop

Reply = dict[str, Any]
Do = Callable[[str, dict[str, Any]], Awaitable[Reply]]

READY_S = 30.0
ROOT = Path(__file__).resolve().parent.parent


def cpu_s() -> float:
    """CPU seconds this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def say(reply: Reply) -> None:
    """Answer the command at hand."""
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


async def obey(do: Do) -> None:
    """Carry out commands until standard input ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)
        say(await do(command.pop("do"), command) | {"cpu_s": cpu_s()})


def run(main: Callable[[], Awaitable[None]], *, fast: bool = True) -> None:
    """Run a helper process to its end; `fast` is uvloop, otherwise asyncio as it comes."""
    coroutine: Any = main()
    if fast:
        uvloop.run(coroutine)
    else:
        asyncio.run(coroutine)


class Helper:
    """A helper process of this package, by module name."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self.process: asyncio.subprocess.Process | None = None
        self.hello: Reply = {}

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(*self._command, stdin=pipe, stdout=pipe, cwd=ROOT)
        self.hello = await self._answer(READY_S)
        return self

    async def __aexit__(self, *_: object) -> None:
        process = self.process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def ask(self, do: str, patience_s: float = 300.0, **arguments: Any) -> Reply:
        """Give a command and wait for its answer."""
        process = self.process
        assert process is not None
        assert process.stdin is not None
        process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        return await self._answer(patience_s)

    async def _answer(self, within_s: float) -> Reply:
        process = self.process
        assert process is not None
        assert process.stdout is not None
        async with asyncio.timeout(within_s):
            line = await process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self._command)} has ended")
        reply: Reply = json.loads(line)
        return reply
