"""What several tests of the lab share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def outstation_port() -> Iterator[int]:
    """An outstation on c104's server with one charger, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("outstation_of_c104.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield int(process.stdout.readline())
    process.communicate("", timeout=10)
