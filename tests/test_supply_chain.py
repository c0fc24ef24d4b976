"""What the service is made of: pinned with hashes, under licences it may have, listed, and built the same each time."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge import licences
from bridge.settings import ConfigError, load

ROOT = Path(__file__).parent.parent
LOCKS = ["requirements.txt", "requirements-lab.txt", "requirements-dev.txt"]
SECRET = re.compile(r"(password|passphrase|secret|token|pin|credential)s?$")
SITE = "site: {capacity_w: 100000, min_limit_w: 6000}\nfallback: {limit_w: 10000}\n"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_is_pinned_with_hashes_and_no_host_is_named(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    pins = re.findall(r"^\S.*$", re.sub(r"^( *#| {4}).*\n", "", text, flags=re.MULTILINE), re.MULTILINE)
    assert pins
    assert all(re.fullmatch(r"[a-z0-9._-]+==[^ ]+( ;[^\\]*)? \\", pin) for pin in pins), pins
    assert text.count("--hash=sha256:") >= len(pins)
    assert "://" not in text


def test_every_package_of_the_service_has_a_licence_that_it_may_have() -> None:
    for name in licences.names("requirements.txt"):
        named = licences.identifiers(licences.licence(name))
        assert named, name
        assert named <= licences.ALLOWED, f"{name}: {named}"


def test_the_gpl_is_in_the_lab_alone() -> None:
    of_lab = set(licences.names("requirements-lab.txt")) - set(licences.names("requirements.txt"))
    assert of_lab == {"c104"}
    assert licences.licence("c104") == "GPL-3.0"


def test_the_sbom_lists_every_package_of_the_lock_with_its_licence() -> None:
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--no-validate", "--of", "JSON"]
    made = subprocess.run([*command, sys.executable], cwd=ROOT, check=True, capture_output=True, text=True, timeout=300)
    sbom = json.loads(made.stdout)
    assert sbom["bomFormat"] == "CycloneDX"
    listed = {re.sub(r"[._-]+", "-", each["name"]).lower(): each for each in sbom["components"]}
    for name, version in re.findall(r"^([a-z0-9._-]+)==([^ ]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE):
        assert listed[re.sub(r"[._-]+", "-", name)]["version"] == version, name
        assert listed[re.sub(r"[._-]+", "-", name)].get("licenses"), name


def test_the_wheel_is_the_same_wherever_and_whenever_it_is_built(tmp_path: Path) -> None:
    digests = set()
    for place, mtime in (("here", 1_000_000_000), ("a/longer/path/elsewhere", 1_700_000_000)):
        source, out = tmp_path / place, tmp_path / f"wheel-{mtime}"
        source.mkdir(parents=True)
        for name in ("pyproject.toml", "LICENSE", "README.md"):
            shutil.copy(ROOT / name, source / name)
        ignore = shutil.ignore_patterns("__pycache__")
        for name in ("bridge", "profiles"):
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignore)
        for path in source.rglob("*"):
            os.utime(path, (mtime, mtime))
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
        environment = os.environ | {"SOURCE_DATE_EPOCH": "1760000000"}
        built = subprocess.run(
            [*command, "--wheel-dir", str(out), str(source)],
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert built.returncode == 0, built.stdout + built.stderr
        (wheel,) = out.glob("*.whl")
        digests.add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_no_key_of_the_configuration_takes_a_secret() -> None:
    from bridge.reference import keys, section  # noqa: PLC0415  brings the whole command line
    from bridge.settings import Settings  # noqa: PLC0415

    def names(model: Any) -> list[str]:
        found = []
        for name, field in keys(model):
            inner = section(field.annotation)
            found += [name] if inner is None else names(inner)
        return found

    assert not [name for name in names(Settings) if SECRET.search(name)]


@pytest.mark.parametrize("said", ["csms: {password: canary-1}", "ocpp: {passwords: {S4-1: canary-1}}"])
def test_a_secret_in_the_configuration_is_refused_without_being_shown(tmp_path: Path, said: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(SITE + said, encoding="utf-8")
    assert "canary-1" in str(yaml.safe_load(path.read_text()))
    with pytest.raises(ConfigError) as refused:
        load(path, {})
    assert "canary-1" not in str(refused.value)
