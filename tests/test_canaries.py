"""Secrets stay where they were put: canaries in every password, token and key turn up nowhere else."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from bridge.web.people import HOST_TOKEN_FILE, Person, Role, digest_of, write_tokens
from tests.test_service import Bridge

CHARGER = "canary-password-of-a-charger"
WRONG = "canary-password-that-is-wrong"
CSMS = "canary-password-for-the-csms"
NEW = "canary-password-that-is-to-come"
TOKEN = "gl_canary-token-of-an-operator"
UNKNOWN = "gl_canary-token-nobody-has"
BOOT = {"reason": "PowerUp", "chargingStation": {"model": "M", "vendorName": "V", "serialNumber": "CS-0001"}}


@pytest.fixture
async def bridge(tmp_path: Path) -> AsyncIterator[Bridge]:
    """A service with a secret in every place that one can be put, and a CSMS that hears the one meant for it."""
    (tmp_path / "passwords").mkdir()
    (tmp_path / "passwords" / "CS-0001").write_text(CHARGER)
    (tmp_path / "csms-password").write_text(CSMS)
    write_tokens(tmp_path / "tokens", {digest_of(TOKEN): Person("Weber", Role.OPERATE)})
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        running = Bridge(tmp_path)
        said = yaml.safe_load(running.config.read_text())
        said["ocpp"]["passwords_dir"] = "passwords"
        said["chargers"] = [{"serial": "CS-0001", "charger_profile": "native-201"}]
        said["csms"] = {"url": f"ws://127.0.0.1:{deaf.getsockname()[1]}/ocpp", "password_file": "csms-password"}
        said["http"]["tokens_file"] = "tokens"
        running.config.write_text(yaml.safe_dump(said))
        await running.start()
        yield running
    if running.process is not None and running.process.poll() is None:
        running.end(signal.SIGKILL)


def basic(password: str) -> dict[str, str]:
    said = base64.b64encode(f"CS-0001:{password}".encode()).decode()
    return {"Authorization": f"Basic {said}"}


def canaries(bridge: Bridge) -> Iterator[bytes]:
    of_host = (bridge.folder / "data" / HOST_TOKEN_FILE).read_text()
    of_records = (bridge.folder / "data" / "audit" / "key.pem").read_text().splitlines()[1]
    for secret in (CHARGER, WRONG, CSMS, NEW, TOKEN, UNKNOWN, of_host, of_records):
        yield secret.encode()
        yield base64.b64encode(f"CS-0001:{secret}".encode())


async def play(bridge: Bridge) -> None:
    """Use every secret, rightly and wrongly."""
    url = f"ws://127.0.0.1:{bridge.ocpp_port}/CS-0001"
    with pytest.raises(InvalidStatus):
        await connect(url, subprotocols=["ocpp2.0.1"], additional_headers=basic(WRONG))  # type: ignore[list-item]
    async with connect(url, subprotocols=["ocpp2.0.1"], additional_headers=basic(CHARGER)) as station:  # type: ignore[list-item]
        await station.send(json.dumps([2, "1", "BootNotification", BOOT]))
        async with asyncio.timeout(20):
            await station.recv()
        variable = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}
        report = {
            "requestId": 1,
            "generatedAt": "2026-11-23T06:00:00Z",
            "seqNo": 0,
            "reportData": [{**variable, "variableAttribute": [{"value": NEW}]}],
        }
        await station.send(json.dumps([2, "2", "NotifyReport", report]))
        async with asyncio.timeout(20):
            await station.recv()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{bridge.http_port}", timeout=20) as client:
        for token in (TOKEN, UNKNOWN):
            headers = {"Authorization": f"Bearer {token}"}
            body = {"limit_w": 15_000, "reason": "canary", "duration_s": 60}
            await client.post("/api/v1/manual-limit", headers=headers, json=body)


async def test_no_secret_is_in_the_log_the_answers_the_trace_the_journal_or_the_records(bridge: Bridge) -> None:
    await play(bridge)
    seen = {}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{bridge.http_port}", timeout=20) as client:
        for path in ("/status", "/metrics", "/trace", "/outbox", "/records/head", "/openapi.json"):
            answer = await client.get(path, headers={"Authorization": f"Bearer {TOKEN}"})
            assert answer.status_code == httpx.codes.OK, path
            seen[path] = answer.content
    secrets = list(canaries(bridge))
    assert bridge.end() == 0
    seen["log"] = bridge.log.read_bytes()
    kept = [path for path in (bridge.folder / "data").rglob("*") if path.is_file()]
    kept = [path for path in kept if path.name not in (HOST_TOKEN_FILE, "key.pem")]  # where they were put
    assert {"bridge.db", "events.db", "trace.db"} <= {path.name for path in kept}
    seen |= {str(path): path.read_bytes() for path in kept}
    assert b"manual_limit_set" in b"".join(text for place, text in seen.items() if place.endswith(".jsonl"))
    assert b"NotifyReport" in seen[str(bridge.folder / "data" / "trace.db")]
    found = [(place, secret) for place, text in seen.items() for secret in secrets if secret in text]
    assert found == []
