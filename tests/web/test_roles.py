"""Claims about who may look and who may act, and that no token is ever said again."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.core.messages import Acted, ManualLimitLifted, ManualLimitSet, RetryAsked
from bridge.web.people import (
    HOST_TOKEN_FILE,
    Person,
    Role,
    TokenFileError,
    Tokens,
    digest_of,
    new_token,
    read_tokens,
    write_tokens,
)
from tests.test_service import Bridge
from tests.web.site_at_hand import SiteAtHand

VIEWS = ("me", "status", "chargers", "points", "events", "commands", "alarms", "history")
ACTS: list[tuple[str, str, Any]] = [
    ("POST", "manual-limit", {"limit_w": 20_000, "reason": "work on the transformer"}),
    ("DELETE", "manual-limit", None),
    ("POST", "alarms/acknowledge", {"alarm": "charger_offline", "subject": "S4-0001"}),
    ("POST", "chargers/S4-0000/retry", None),
    ("POST", "outbox/resend", {"numbers": [3]}),
]


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_without_tokens_this_machine_may_look_and_nobody_may_act(
    at_hand: SiteAtHand, api: httpx.AsyncClient
) -> None:
    before = len(at_hand.events)
    assert {(await api.get(f"/api/v1/{view}")).status_code for view in VIEWS} == {200}
    for method, path, body in ACTS:
        answer = await api.request(method, f"/api/v1/{path}", json=body)
        assert answer.status_code == 401
        assert "gridlimit token add NAME --role operate" in answer.json()["detail"]
    assert len(at_hand.events) == before


def test_others_may_look_without_a_token_only_where_the_settings_say_so(tmp_path: Path) -> None:
    closed, opened = Tokens(tmp_path / "tokens"), Tokens(tmp_path / "tokens", anyone_may_view=True)
    for address, host in (("192.0.2.1", "192.0.2.2"), ("127.0.0.1", "rebound.example"), ("", "localhost")):
        assert not closed.may_look_unnamed(address, host)
        assert opened.may_look_unnamed(address, host)
    for host in ("127.0.0.1", "::1", "localhost"):
        assert closed.may_look_unnamed("127.0.0.1", host)


async def test_with_tokens_nobody_looks_without_one(at_hand: SiteAtHand, api: httpx.AsyncClient) -> None:
    token = at_hand.token("ada", Role.VIEW)
    for path in (*(f"/api/v1/{view}" for view in VIEWS), "/api/v1/stream", "/status"):
        assert (await api.get(path)).status_code == 401
        assert (await api.get(path, headers=bearing(new_token()))).status_code == 401
        if path != "/api/v1/stream":
            assert (await api.get(path, headers=bearing(token))).status_code == 200
    assert (await api.get("/api/v1/me", headers=bearing(token))).json() == {"name": "ada", "role": "view"}
    assert (await api.get("/health")).status_code == 200


async def test_who_may_look_may_not_act(at_hand: SiteAtHand, api: httpx.AsyncClient) -> None:
    token, before = at_hand.token("ada", Role.VIEW), len(at_hand.events)
    for method, path, body in ACTS:
        answer = await api.request(method, f"/api/v1/{path}", json=body, headers=bearing(token))
        assert (answer.status_code, "may only look" in answer.text) == (403, True)
    assert len(at_hand.events) == before


async def test_every_act_is_an_event_with_the_name_of_who_did_it(at_hand: SiteAtHand, api: httpx.AsyncClient) -> None:
    token, before = at_hand.token("grace", Role.OPERATE), len(at_hand.events)
    for method, path, body in ACTS:
        answer = await api.request(method, f"/api/v1/{path}", json=body, headers=bearing(token))
        assert answer.status_code == 200, answer.text
    assert at_hand.events[before:] == [
        ManualLimitSet(20_000, "grace", "work on the transformer"),
        ManualLimitLifted("grace"),
        Acted("grace", "acknowledged charger_offline", "S4-0001"),
        RetryAsked("S4-0000", "grace"),
        Acted("grace", "resent dead letters", "1 letters"),
    ]
    assert at_hand.resent == [[3]]
    told = (await api.get("/api/v1/events", headers=bearing(token))).json()["events"]
    assert [event["about"]["name"] for event in told if "name" in event["about"]] == ["grace"] * 5
    alarms = (await api.get("/api/v1/alarms", headers=bearing(token))).json()["alarms"]
    assert {alarm["subject"]: alarm["acknowledged_by"] for alarm in alarms}["S4-0001"] == "grace"


async def test_nothing_is_done_that_makes_no_sense_as_things_stand(at_hand: SiteAtHand, api: httpx.AsyncClient) -> None:
    token, before = at_hand.token("grace", Role.OPERATE), len(at_hand.events)
    for method, path, body, status in (
        ("DELETE", "manual-limit", None, 409),
        ("POST", "manual-limit", {"limit_w": -1, "reason": "below nothing"}, 422),
        ("POST", "manual-limit", {"limit_w": 1_000.5, "reason": "half a watt"}, 422),
        ("POST", "manual-limit", {"limit_w": 1_000, "reason": ""}, 422),
        ("POST", "alarms/acknowledge", {"alarm": "charger_offline", "subject": "S4-0000"}, 404),
        ("POST", "chargers/S4-9999/retry", None, 404),
        ("POST", "chargers/S4-0001/retry", None, 409),
    ):
        answer = await api.request(method, f"/api/v1/{path}", json=body, headers=bearing(token))
        assert answer.status_code == status, (path, answer.text)
    assert len(at_hand.events) == before


async def test_nothing_is_done_that_cannot_be_journalled(at_hand: SiteAtHand, api: httpx.AsyncClient) -> None:
    token, before = at_hand.token("grace", Role.OPERATE), len(at_hand.events)
    at_hand.site.journal_lost = True
    answer = await api.post(
        "/api/v1/manual-limit", json={"limit_w": 9_000, "reason": "in vain"}, headers=bearing(token)
    )
    assert answer.status_code == 503
    assert len(at_hand.events) == before


def test_a_token_taken_out_of_the_file_counts_no_more_and_a_slip_of_the_pen_changes_nothing(tmp_path: Path) -> None:
    at_hand = SiteAtHand(tmp_path)
    token = at_hand.token("ada", Role.VIEW)
    assert at_hand.tokens.person(token) is not None
    good = at_hand.tokens_file.read_text()
    at_hand.tokens_file.write_text(f"{good}ada may view\n")
    with pytest.raises(TokenFileError, match="tokens:4: must be a name"):
        read_tokens(at_hand.tokens_file)
    assert at_hand.tokens.person(token) is not None
    at_hand.tokens_file.write_text(good.replace(digest_of(token), digest_of(new_token())) + "# gone\n")
    assert at_hand.tokens.person(token) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for somebody else")
def test_a_token_that_root_makes_can_be_read_by_whom_the_folder_belongs_to(tmp_path: Path) -> None:
    os.chown(tmp_path, 12_345, 12_346)
    write_tokens(tmp_path / "tokens", {digest_of(new_token()): Person("ada", Role.VIEW)})
    written = (tmp_path / "tokens").stat()
    assert (written.st_uid, written.st_gid, stat.S_IMODE(written.st_mode)) == (12_345, 12_346, 0o600)


def gridlimit(bridge: Bridge, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bridge", *words, "--config", str(bridge.config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


async def test_an_operator_gets_a_token_on_the_host_and_no_secret_is_ever_said_again(tmp_path: Path) -> None:
    bridge = Bridge(tmp_path)
    await bridge.start()
    try:
        token = gridlimit(bridge, "token", "add", "ada", "--role", "operate").stdout.strip()
        host_file = tmp_path / "data" / HOST_TOKEN_FILE
        secrets = [token, host_file.read_text()]
        assert stat.S_IMODE(host_file.stat().st_mode) == 0o600
        said = [gridlimit(bridge, "token", "list").stdout, (tmp_path / "data" / "tokens").read_text()]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{bridge.http_port}", trust_env=False) as api:
            assert (await api.get("/api/v1/status")).status_code == 401
            for secret in (*secrets, new_token()):
                wanted = {"limit_w": 20_000, "reason": "a test of who may"}
                said.append((await api.post("/api/v1/manual-limit", json=wanted, headers=bearing(secret))).text)
                said += [(await api.get(f"/api/v1/{view}", headers=bearing(secret))).text for view in VIEWS]
        assert "a test of who may" in said[-4] + "".join(said)
        assert gridlimit(bridge, "outbox", "list").returncode == 0  # the host proves itself
        assert "1 removed" in gridlimit(bridge, "token", "remove", "ada").stdout
    finally:
        bridge.end()
    said += [bridge.log.read_text()]
    assert not [secret for secret in secrets for text in said if secret in text]
    assert "manual limit set" in bridge.log.read_text()
