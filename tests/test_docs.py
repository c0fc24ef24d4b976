"""The documents: the tutorial is typed as it stands, the site has no broken link, the page for the night is whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bridge.ocpp201.intruders import ALARMS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TUTORIAL = (DOCS / "tutorial.md").read_text(encoding="utf-8")
PATIENCE_S = 90
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("GRIDLIMIT_")} | {
    "PYTHONPATH": str(ROOT)
}
SOONER = {f"GRIDLIMIT_{name}__PORT": "0" for name in ("IEC104", "OCPP", "HTTP")} | {
    "GRIDLIMIT_HTTP__DASHBOARD_PORT": "null",
    "GRIDLIMIT_FALLBACK__HOLD_S": "1",
}
BY_HAND = ("git ", "cd ", "make ", ". ")  # what installs: walked through from a fresh clone, not here


def test_the_site_is_built_without_a_broken_link_and_needs_no_other_host(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"?(https?:[^\" >]*)", page.read_text("utf-8"))
        assert not loaded, page.name


def test_every_alarm_has_its_line_for_the_night() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "bridge").glob("**/*.py"))
    raised = set(re.findall(r"(?:_alarm\(site, |self\._alarm\(|ShellAlarm\(\s*)\"(\w+)\"", code))
    raised |= set(ALARMS.values())
    assert len(raised) > 5
    night = (DOCS / "night.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", night, re.MULTILINE)) == raised


@dataclass
class Asked:
    """What the tutorial types, `$` to a shell or `>` to the control centre, and the lines it shows for it."""

    typed: str
    shown: list[str] = field(default_factory=list)


def asked() -> Iterator[Asked]:
    for block in re.findall(r"^```console[^\n]*\n(.*?)^```", TUTORIAL, re.MULTILINE | re.DOTALL):
        one = Asked("")
        for line in block.splitlines():
            if line.startswith(("$ ", "> ")):
                one = Asked(line)
                yield one
            else:
                one.shown.append(line)


def steady(text: str) -> str:
    """The text without what is another each time."""
    return re.sub(r"after \d+ ms", "after some ms", text)


class Reader:
    """Types what the tutorial says, each command that stays in a terminal of its own; the line is given up sooner."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports: dict[str, str] = {}
        self.terminals: list[subprocess.Popen[str]] = []

    def type(self, one: Asked) -> None:
        words = one.typed[2:].split()
        if one.typed.startswith("> "):
            self._see(one, lambda: self._prompt(one.typed[2:]))
        elif words[1] == "run":
            self._stay(words, SOONER)
            self._wait(lambda: " ready " in self._said())
            self.ports = dict(re.findall(r"(iec104|ocpp|http)=127\.0\.0\.1:(\d+)", self._said()))
        elif words[1:3] == ["simulate", "units"] or words[-1] == "control-centre":
            self._stay(words, {})
        else:
            self._see(one, lambda: self._run(words))

    def _command(self, words: list[str]) -> list[str]:
        assert words[0] == "gridlimit"
        own = [sys.executable, "-m", "bridge", *words[1:]]
        if "units" in words:
            own += ["--url", f"ws://127.0.0.1:{self.ports['ocpp']}/"]
        if "control-centre" in words:
            place = own.index("control-centre") + 1
            own[place:place] = ["--port", self.ports["iec104"]]
        return own

    def _stay(self, words: list[str], environment: dict[str, str]) -> None:
        self.log = self.folder / f"terminal-{len(self.terminals)}.log"
        with self.log.open("w", encoding="utf-8") as out:
            terminal = subprocess.Popen(
                self._command(words),
                cwd=self.folder,
                env=ENVIRONMENT | environment,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                text=True,
            )
        self.terminals.append(terminal)

    def _said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def _run(self, words: list[str]) -> str:
        done = subprocess.run(
            self._command(words),
            cwd=self.folder,
            env=ENVIRONMENT,
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        return done.stdout

    def _prompt(self, line: str) -> str:
        """Type a line to the control centre, and read what it says until it asks again, or ends."""
        terminal = self.terminals[-1]
        assert terminal.stdin is not None
        self._wait(lambda: self._said().endswith("> "))
        before = self._said()
        terminal.stdin.write(line + "\n")
        terminal.stdin.flush()
        self._wait(
            lambda: terminal.poll() is not None or (self._said() != before and self._said().endswith("> ")),
        )
        return self._said().removeprefix(before)

    def _see(self, one: Asked, act: Callable[[], str]) -> None:
        """Do it until everything is seen that the tutorial shows."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            seen = steady(act())
            missing = [line for line in one.shown if steady(line) not in seen]
            if not missing:
                return
            assert time.monotonic() < deadline_s, f"{one.typed}: no {missing} in {seen}"
            time.sleep(0.2)

    def _wait(self, holds: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline_s, self._said()
            time.sleep(0.05)

    def close(self) -> None:
        for terminal in self.terminals:
            terminal.kill()
            terminal.communicate()


def test_what_the_tutorial_types_does_what_the_tutorial_shows(tmp_path: Path) -> None:
    (configuration,) = re.findall(r"^```yaml\n(.*?)^```", TUTORIAL, re.MULTILINE | re.DOTALL)
    (tmp_path / "first-site.yaml").write_text(configuration, encoding="utf-8")
    typed = [one for one in asked() if not one.typed[2:].startswith(BY_HAND)]
    assert sum(len(one.shown) for one in typed) > 15
    reader = Reader(tmp_path)
    try:
        for one in typed:
            reader.type(one)
    finally:
        reader.close()
