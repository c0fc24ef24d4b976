"""The compose lab: what its files say, and, where a Docker engine answers and is asked to, the lab brought up."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
import yaml

from bridge.lab.scenario import scenario_app
from bridge.lab.simulate import serials, simulate_app
from bridge.settings import load

ROOT = Path(__file__).parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SITE = load(ROOT / "deploy" / "lab" / "site.yaml", {})
COMMANDS = {"scenario": scenario_app, "simulate": simulate_app}

WANTED = "COMPOSE_LAB"  # "1": build the images and bring the lab up; "built": bring it up from images that are there
BUILD_S = 1200
START_S = 600
PLAY_S = 300
LINK_S = 120  # t3 + t1, the hold, and a control centre that dials again


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
        assert service["pids_limit"], name
        assert service["dns_opt"] == ["timeout:1", "attempts:1"], name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "user", "network_mode", "container_name", "devices"} & set(service), name
        assert all(mount.endswith(":ro") for mount in service.get("volumes", []) if mount.startswith(".")), name


def test_old_and_new_compose_read_the_same_file() -> None:
    assert "version" not in COMPOSE
    assert set(COMPOSE) - {"services", "volumes", "networks"} == {key for key in COMPOSE if key.startswith("x-")}
    assert not any({"deploy", "develop", "configs"} & set(service) for service in SERVICES.values())


@pytest.mark.parametrize("command", [("docker", "compose"), ("docker-compose",)], ids=" ".join)
def test_compose_understands_the_file(command: tuple[str, ...]) -> None:
    if not has(command):
        pytest.skip(f"`{' '.join(command)}` is not installed")
    told = subprocess.run([*command, "config"], cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    assert set(yaml.safe_load(told.stdout)["services"]) <= set(SERVICES)


def test_the_two_sides_do_not_see_each_other() -> None:
    assert {name for name, network in COMPOSE["networks"].items() if network.get("internal")} == {"dso", "chargers"}
    on = {
        side: {name for name, service in SERVICES.items() if side in service["networks"]}
        for side in COMPOSE["networks"]
    }
    assert on["dso"] == {"bridge", "fault-proxy", "scenarios", "control-centre"}
    assert on["chargers"] == {"bridge", "units", "station", "scenarios"}
    assert on["office"] == {"bridge", "csms", "prometheus", "grafana"}
    assert all(set(service["networks"]) <= set(COMPOSE["networks"]) for service in SERVICES.values())


def test_ports_are_published_on_this_machine_alone() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_services_wait_for_what_they_need() -> None:
    asked = SERVICES["bridge"]["healthcheck"]["test"][-1]
    assert f"('127.0.0.1', {SITE.http.port})" in asked
    assert "GET /health " in asked
    healthy = {"condition": "service_healthy"}
    assert SERVICES["bridge"]["depends_on"] == {"csms": healthy}
    assert SERVICES["units"]["depends_on"] == SERVICES["station"]["depends_on"] == {"bridge": healthy}
    assert SERVICES["scenarios"]["depends_on"] == {"units": healthy, "station": healthy, "fault-proxy": healthy}


def test_the_bridge_is_the_service_image_and_its_peers_the_lab_image() -> None:
    targets = {name: service["build"]["target"] for name, service in OURS.items()}
    assert targets.pop("bridge") == "service"
    assert set(targets.values()) == {"lab"}
    assert "command" not in SERVICES["bridge"]


def test_the_configuration_and_the_commands_of_the_peers_agree() -> None:
    units, station, csms, scenarios = parsed("units"), parsed("station"), parsed("csms"), parsed("scenarios")
    assert units["url"] == f"ws://bridge:{SITE.ocpp.port}/"
    assert station["url"] == f"ws://bridge:{SITE.ocpp.port}"
    assert units["replica"]
    peers = [*serials(units["first_serial"], units["count"] * SERVICES["units"]["scale"]), station["identity"]]
    assert [entry.serial for entry in SITE.chargers] == peers
    assert urlsplit(SITE.csms.url).netloc == f"csms:{csms['port']}"
    proxy = parsed("fault-proxy")
    assert proxy["target"] == f"bridge:{SITE.iec104.port}"
    assert scenarios["target"] == f"fault-proxy:{proxy['port']}"
    assert scenarios["proxy_url"] == f"http://fault-proxy:{proxy['control_port']}"
    controls = [f"http://units:{units['control_port']}", f"http://station:{station['control_port']}"]
    assert list(scenarios["chargers_url"]) == controls


def test_the_pace_of_the_scenarios_is_that_of_the_bridge() -> None:
    scenarios, timers = parsed("scenarios"), SITE.iec104.profile.timers
    assert SITE.fallback.hold_s == 5 * scenarios["minute_s"]
    assert scenarios["silence_s"] == timers.t3_s + timers.t1_s


def test_more_units_are_told_to_the_bridge_as_they_name_themselves() -> None:
    for units in (3, 12):
        command = ["make", "--silent", "--no-print-directory", "lab-chargers", f"UNITS={units}"]
        said = subprocess.check_output(command, cwd=ROOT, text=True).strip()
        told = load(ROOT / "deploy" / "lab" / "site.yaml", {"GRIDLIMIT_CHARGERS": said})
        assert [entry.serial for entry in told.chargers] == [*serials("S4-0001", units), "CS-0001"]
        assert told.chargers == SITE.chargers or units != SERVICES["units"]["scale"]


def test_prometheus_asks_the_bridge_and_grafana_shows_prometheus() -> None:
    deploy = ROOT / "deploy"
    asks = yaml.safe_load((deploy / "prometheus" / "prometheus.yml").read_text())
    (job,) = asks["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"bridge:{SITE.http.port}"]}]
    assert all((deploy / "prometheus" / name).is_file() for name in asks["rule_files"])
    (source,) = yaml.safe_load((deploy / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((deploy / "grafana/provisioning/dashboards/gridlimit.yaml").read_text())["providers"]
    mounts = dict(mount.split(":")[:2] for mount in SERVICES["grafana"]["volumes"])
    assert all((ROOT / place).exists() for place in mounts)
    assert mounts["./deploy/grafana/gridlimit.json"].startswith(f"{provider['options']['path']}/")


def test_every_image_begins_with_the_base_that_is_asked_for() -> None:
    assert DOCKERFILE.index("ARG BASE_IMAGE=python:") < DOCKERFILE.index("\nFROM ")
    names = stages()
    assert len(names) == DOCKERFILE.count("\nFROM ")
    assert all(base == "${BASE_IMAGE}" or base in names for base, _ in names.values())
    assert "syntax=" not in DOCKERFILE
    assert all(service["build"]["args"].keys() == {"BASE_IMAGE"} for service in OURS.values())


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
    project: str

    def ask(self, *words: str, timeout_s: float = 60) -> str:
        done = subprocess.run(
            [*self.compose, *words], cwd=ROOT, check=False, capture_output=True, text=True, timeout=timeout_s
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout

    def exit_code(self, service: str, timeout_s: float) -> int:
        (container,) = self.ask("ps", "-a", "-q", service).split()
        return int(subprocess.check_output(["docker", "wait", container], text=True, timeout=timeout_s))

    def status(self) -> dict[str, Any]:
        """What the bridge says, its chargers by serial."""
        tell = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:8080/status').read().decode())"
        status: dict[str, Any] = json.loads(self.ask("exec", "-T", "bridge", "python3", "-c", tell))
        return status | {"chargers": {charger["serial"]: charger for charger in status["chargers"]}}

    def until(self, state: str) -> dict[str, Any]:
        """The status as soon as the link is in that state."""
        deadline_s = time.monotonic() + LINK_S
        while (status := self.status())["link"]["state"] != state:
            assert time.monotonic() < deadline_s, status["link"]
            time.sleep(0.5)
        return status


def has(command: tuple[str, ...]) -> bool:
    """Whether that Compose is installed."""
    return (
        bool(shutil.which(command[0]))
        and not subprocess.run([*command, "version"], check=False, capture_output=True).returncode
    )


def compose_command() -> tuple[str, ...]:
    """Compose v2 where it is, else docker-compose; skips where neither is or no engine answers."""
    if not os.environ.get(WANTED):
        pytest.skip("takes minutes and a Docker engine: `make test-compose` brings the compose lab up")
    for command in (("docker", "compose"), ("docker-compose",)):
        if has(command):
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
    project = f"gridlimit-test-{os.getpid()}"
    compose = (*compose_command(), "--project-name", project)
    lab = Lab(compose, project)
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
def test_the_compose_lab_passes_t1_to_t4(lab: Lab) -> None:
    verdict = lab.exit_code("scenarios", PLAY_S)
    said = lab.ask("logs", "--no-color", "scenarios")
    sys.stdout.write(said)
    assert verdict == 0
    assert all(f"{test} – " in said for test in ("T1", "T2", "T3", "T4"))
    assert "failed" not in said
    assert sorted(lab.status()["chargers"]) == [
        entry.serial for entry in sorted(SITE.chargers, key=lambda one: one.serial)
    ]


@pytest.mark.slow
def test_the_dashboard_is_served_beside_the_bridge(lab: Lab) -> None:
    tell = f"from urllib.request import urlopen; print(urlopen('http://127.0.0.1:{SITE.http.dashboard_port}/').status)"
    ask = [*lab.compose, "exec", "-T", "bridge", "python3", "-c", tell]
    deadline_s = time.monotonic() + START_S
    while (said := subprocess.run(ask, cwd=ROOT, check=False, capture_output=True, text=True)).returncode:
        assert time.monotonic() < deadline_s, said.stderr
        time.sleep(1)
    assert said.stdout.strip() == "200"


@pytest.mark.slow
def test_a_network_that_is_disconnected_is_a_lost_link_and_no_more(lab: Lab) -> None:
    lab.ask("run", "-d", "-T", "control-centre", "watch", "--seconds", "600")
    lab.until("RECOVERY")
    lab.ask("run", "--rm", "-T", "control-centre", "setpoint", "30000")
    assert lab.until("CONNECTED")["limit"]["power_w"] == 30_000
    (bridge,) = lab.ask("ps", "-q", "bridge").split()
    network = f"{lab.project}_dso"
    subprocess.run(["docker", "network", "disconnect", network, bridge], check=True)
    assert lab.until("FALLBACK")["limit"] == {"power_w": SITE.fallback.limit_w, "source": "fallback"}
    assert all(charger["connected"] for charger in lab.status()["chargers"].values())
    subprocess.run(["docker", "network", "connect", "--alias", "bridge", network, bridge], check=True)
    assert lab.until("RECOVERY")["limit"]["source"] == "fallback"
    lab.ask("run", "--rm", "-T", "control-centre", "setpoint", "40000")
    assert lab.until("CONNECTED")["limit"]["power_w"] == 40_000


@pytest.mark.slow
def test_the_service_image_has_no_c104_and_no_rights(lab: Lab) -> None:
    tell = (
        "import importlib.util as u, os; print(u.find_spec('c104'), os.getuid(), os.access('/opt/gridlimit', os.W_OK))"
    )
    said = lab.ask("run", "--rm", "-T", "--no-deps", "--entrypoint", "python3", "bridge", "-c", tell)
    assert said.split() == ["None", "10001", "False"]


@pytest.mark.slow
def test_the_lab_stops_when_it_is_asked(lab: Lab) -> None:
    lab.ask("stop", "--timeout", "30", timeout_s=START_S)
    assert [lab.exit_code(service, 10) for service in ("bridge", "station", "csms", "fault-proxy")] == [0] * 4
