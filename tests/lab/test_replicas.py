"""A container of a service finds its number where the engine's name server says it, and its likes by their name."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bridge.lab import replicas


@contextmanager
def name_server(name: bytes) -> Iterator[tuple[str, int]]:
    """Answers one question for the name of an address as an engine does: with a pointer to the question's name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def answer() -> None:
            question, asker = server.recvfrom(512)
            labels = b"".join(bytes([len(part)]) + part for part in (name, b"lab_chargers")) + b"\0"
            asked = b"\xc0\x0c" if name.startswith(b"lab-") else question[12:-4]  # a pointer to it, or written out
            record = asked + struct.pack("!2HIH", 12, 1, 600, len(labels)) + labels
            server.sendto(question + (record if name else b""), asker)

        answering = threading.Thread(target=answer, daemon=True)
        answering.start()
        yield server.getsockname()


@pytest.mark.parametrize(("name", "number"), [(b"lab-units-2", 2), (b"lab_units_12", 12)])
def test_the_number_is_that_in_the_name_of_the_container(name: bytes, number: int) -> None:
    with name_server(name) as server:
        assert replicas.number("172.20.0.3", server) == number


@pytest.mark.parametrize("name", [b"unit", b""])
def test_a_name_without_a_number_is_refused_with_a_reason(name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "TRIES", 1)
    with name_server(name) as server, pytest.raises(replicas.ReplicaError, match="compose"):
        replicas.number("172.20.0.3", server)


async def test_a_host_with_one_address_is_asked_by_its_name() -> None:
    assert await replicas.addresses("http://127.0.0.1:8091") == ["http://127.0.0.1:8091"]
