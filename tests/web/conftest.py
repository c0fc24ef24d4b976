"""The site at hand, and a client that speaks with its API over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.web.site_at_hand import SiteAtHand


@pytest.fixture
async def at_hand(tmp_path: Path) -> AsyncIterator[SiteAtHand]:
    at_hand = SiteAtHand(tmp_path)
    await at_hand.web.open()
    yield at_hand
    await at_hand.stream.close()
    await at_hand.web.close()


@pytest.fixture
async def api(at_hand: SiteAtHand) -> AsyncIterator[httpx.AsyncClient]:
    address = f"http://127.0.0.1:{at_hand.web.port}"
    async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=20) as client:
        yield client
