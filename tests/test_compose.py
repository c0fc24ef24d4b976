"""The compose lab: what its files say, and, where a Docker engine answers and is asked to, the lab brought up."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from bridge.lab.scenario import scenario_app
from bridge.lab.simulate import serials, simulate_app
from bridge.settings import load

ROOT = Path(__file__).parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SITE = load(ROOT / "deploy" / "lab" / "site.yaml", {})
COMMANDS = {"scenario": scenario_app, "simulate": simulate_app}

WANTED = "COMPOSE_LAB"  # "1": build the images and bring the lab up; "built": bring it up from images that are there
BUILD_S = 1200
START_S = 180
PLAY_S = 300


def parsed(service: str) -> dict[str, Any]:
    """What the command line understands of the command of a service; a wrong option fails here."""
    app, name, *words = SERVICES[service]["command"].split()
    commands: dict[str, Any] = getattr(typer.main.get_command(COMMANDS[app]), "commands")  # noqa: B009  typer hides it
    params: dict[str, Any] = commands[name].make_context(name, words).params
    return params


def stages() -> dict[str, tuple[str, str]]:
    """Base and text of every stage of the Dockerfile by name, in order."""
    found = re.findall(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    return {name: (base, text) for base, name, text in found}


def test_every_service_is_bounded_and_without_privileges() -> None:
    for name, service in SERVICES.items():
        assert service["init"] is True, name
        assert service["mem_limit"], name
        assert service["dns_opt"] == ["timeout:1", "attempts:1"], name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert not {"privileged", "user", "network_mode", "container_name"} & set(service), name


def test_old_and_new_compose_read_the_same_file() -> None:
    assert "version" not in COMPOSE
    assert set(COMPOSE) - {"services", "volumes"} == {key for key in COMPOSE if key.startswith("x-")}
    assert not any("deploy" in service for service in SERVICES.values())


def test_ports_are_published_on_this_machine_alone() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_services_wait_for_what_they_need() -> None:
    assert f"http://127.0.0.1:{SITE.http.port}/health" in SERVICES["bridge"]["healthcheck"]["test"][-1]
    healthy = {"condition": "service_healthy"}
    assert SERVICES["units"]["depends_on"] == SERVICES["station"]["depends_on"] == {"bridge": healthy}
    assert SERVICES["scenarios"]["depends_on"] == {"units": healthy, "station": healthy}


def test_the_bridge_is_the_service_image_and_its_peers_the_lab_image() -> None:
    targets = {name: service["build"]["target"] for name, service in SERVICES.items()}
    assert targets.pop("bridge") == "service"
    assert set(targets.values()) == {"lab"}
    assert "command" not in SERVICES["bridge"]


def test_the_configuration_and_the_commands_of_the_peers_agree() -> None:
    units, station, scenarios = parsed("units"), parsed("station"), parsed("scenarios")
    assert units["url"] == f"ws://bridge:{SITE.ocpp.port}/"
    assert station["url"] == f"ws://bridge:{SITE.ocpp.port}"
    peers = [*serials(units["first_serial"], units["count"]), station["identity"]]
    assert [entry.serial for entry in SITE.chargers] == peers
    assert scenarios["target"] == f"bridge:{SITE.iec104.port}"
    controls = [f"http://units:{units['control_port']}", f"http://station:{station['control_port']}"]
    assert list(scenarios["chargers_url"]) == controls


def test_the_pace_of_the_scenarios_is_that_of_the_bridge() -> None:
    scenarios, timers = parsed("scenarios"), SITE.iec104.profile.timers
    assert SITE.fallback.hold_s == 5 * scenarios["minute_s"]
    assert scenarios["silence_s"] == timers.t3_s + timers.t1_s


def test_every_image_begins_with_the_base_that_is_asked_for() -> None:
    assert DOCKERFILE.index("ARG BASE_IMAGE=python:") < DOCKERFILE.index("\nFROM ")
    names = stages()
    assert len(names) == DOCKERFILE.count("\nFROM ")
    assert all(base == "${BASE_IMAGE}" or base in names for base, _ in names.values())
    assert "syntax=" not in DOCKERFILE
    assert all(service["build"]["args"].keys() == {"BASE_IMAGE"} for service in SERVICES.values())


def test_whatever_is_installed_is_pinned_with_hashes_or_our_own_wheel() -> None:
    for command in re.findall(r"pip (?:install|wheel) .*", DOCKERFILE):
        assert "--require-hashes -r " in command or "--no-deps" in command, command


def test_the_service_image_is_built_without_the_lab() -> None:
    names = stages()

    def sources(name: str) -> set[str]:
        base, text = names.get(name, ("", ""))
        return {name}.union(*(sources(each) for each in [base, *re.findall(r"--from=(\S+)", text)] if each in names))

    assert not any("requirements-lab.txt" in names[each][1] for each in sources("service"))
    assert any("requirements-lab.txt" in names[each][1] for each in sources("lab"))
    assert "c104" not in re.findall(r"^[a-z0-9-]+", (ROOT / "requirements.txt").read_text(), re.MULTILINE)


def test_no_image_runs_as_root() -> None:
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["10001:10001"]
    names = stages()
    assert names["service"][0] == names["lab"][0] == "base"
    assert "USER" in names["base"][1]


def test_what_the_images_are_made_of_is_let_into_the_build_and_nothing_else() -> None:
    first, *rest = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert first == "*"
    let_in = {line[1:] for line in rest if line.startswith("!")}
    copied = {
        word for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()
    }
    assert copied == let_in
    assert all((ROOT / name).exists() for name in let_in)


@dataclass(frozen=True)
class Lab:
    """One compose project; `compose` is the command with its files and name."""

    compose: tuple[str, ...]

    def ask(self, *words: str, timeout_s: float = 60) -> str:
        done = subprocess.run(
            [*self.compose, *words], cwd=ROOT, check=False, capture_output=True, text=True, timeout=timeout_s
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout

    def exit_code(self, service: str, timeout_s: float) -> int:
        (container,) = self.ask("ps", "-a", "-q", service).split()
        return int(subprocess.check_output(["docker", "wait", container], text=True, timeout=timeout_s))


def compose_command() -> tuple[str, ...]:
    """Compose v2 where it is, else docker-compose; skips where neither is or no engine answers."""
    if not os.environ.get(WANTED):
        pytest.skip("takes minutes and a Docker engine: `make test-compose` brings the compose lab up")
    for command in (("docker", "compose"), ("docker-compose",)):
        if (
            shutil.which(command[0])
            and not subprocess.run([*command, "version"], check=False, capture_output=True).returncode
        ):
            break
    else:
        pytest.skip("neither `docker compose` nor docker-compose is installed: the compose lab was not brought up")
    try:
        engine = subprocess.run(["docker", "version"], check=False, capture_output=True, timeout=20).returncode
    except (OSError, subprocess.TimeoutExpired):
        engine = 1
    if engine:
        pytest.skip("no Docker engine answers to `docker version`: the compose lab was not brought up")
    return command


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    compose = (*compose_command(), "--project-name", f"gridlimit-test-{os.getpid()}")
    lab = Lab(compose)
    if os.environ[WANTED] != "built":
        lab.ask("build", timeout_s=BUILD_S)
    try:
        lab.ask("up", "-d", "--no-build", timeout_s=START_S)
        yield lab
    finally:
        logs = subprocess.run([*compose, "logs", "--no-color"], cwd=ROOT, check=False, capture_output=True, text=True)
        sys.stdout.write(logs.stdout)  # pytest shows it where a test failed
        subprocess.run([*compose, "down", "--volumes", "--timeout", "10"], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.slow
def test_the_compose_lab_passes_t1_to_t4_and_stops_when_asked(lab: Lab) -> None:
    verdict = lab.exit_code("scenarios", PLAY_S)
    said = lab.ask("logs", "--no-color", "scenarios")
    assert verdict == 0
    assert all(f"{test} – " in said for test in ("T1", "T2", "T3", "T4"))
    assert "failed" not in said
    lab.ask("stop", "--timeout", "10")
    assert [lab.exit_code(service, 10) for service in ("bridge", "units", "station")] == [0, 0, 0]


@pytest.mark.slow
def test_the_service_image_has_no_c104_and_no_rights(lab: Lab) -> None:
    tell = (
        "import importlib.util as u, os; print(u.find_spec('c104'), os.getuid(), os.access('/opt/gridlimit', os.W_OK))"
    )
    said = lab.ask("run", "--rm", "-T", "--no-deps", "--entrypoint", "python3", "bridge", "-c", tell)
    assert said.split() == ["None", "10001", "False"]
