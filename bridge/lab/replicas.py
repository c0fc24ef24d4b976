"""Containers of one service: which of them this one is, and where all of them are, as the engine's name server says.

Compose numbers the containers of a service from 1 and gives each a name that ends in its number, `lab-units-2` (or
`lab_units_2`), which stands in no variable inside it. The engine's name server knows it, asked for the name of an
address (PTR, RFC 1035 §3.5); /etc/hosts, which a resolver asks first, says only the container's id.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from ipaddress import ip_address
from urllib.parse import urlsplit

NAME_SERVER = ("127.0.0.11", 53)
TIMEOUT_S = 2.0
TRIES = 5
RECORD_BYTES = 10  # of a record between its name and its data: type, class, time to live, length
POINTER = 0xC0
TYPE_PTR, CLASS_IN, RECURSION_DESIRED = 12, 1, 0x0100
MAX_DATAGRAM_BYTES = 512


class ReplicaError(Exception):
    """This container's number cannot be known; the text says why."""


def own_number() -> int:
    """The number of this container among those of its service, from 1. Raises ReplicaError."""
    return number(socket.gethostbyname(socket.gethostname()), NAME_SERVER)


def number(address: str, server: tuple[str, int]) -> int:
    """The number of the container with this address. Raises ReplicaError."""
    name = _name_of(address, server)
    found = re.fullmatch(r".*[_-](\d+)", name)
    if found is None:
        raise ReplicaError(f"{address} is called {name!r}, which ends in no number: was it started by compose up?")
    return int(found[1])


def _name_of(address: str, server: tuple[str, int]) -> str:
    """The first label of the name of an address."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in ip_address(address).reverse_pointer.split("."))
    question = struct.pack("!6H", 1, RECURSION_DESIRED, 1, 0, 0, 0) + labels + struct.pack("!x2H", TYPE_PTR, CLASS_IN)
    for _ in range(TRIES):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(TIMEOUT_S)
            try:
                asking.connect(server)
                asking.send(question)
                answer = asking.recv(MAX_DATAGRAM_BYTES)
            except OSError:
                continue
        label = _after_name(answer, len(question)) + RECORD_BYTES
        if answer[:2] == question[:2] and len(answer) > label:
            return answer[label + 1 : label + 1 + answer[label]].decode(errors="replace")
    raise ReplicaError(f"{server[0]}:{server[1]} does not say what {address} is called: is this compose?")


def _after_name(message: bytes, at: int) -> int:
    """Where the name that begins there ends: written out, or as a pointer to where it stands already."""
    while at < len(message) and message[at]:
        if message[at] >= POINTER:
            return at + 2
        at += 1 + message[at]
    return at + 1


async def addresses(url: str) -> list[str]:
    """The URL once for each address that its host stands for; as it is where that cannot be known."""
    parts = urlsplit(url)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    except OSError:
        return [url]
    hosts = sorted({info[4][0] for info in found if info[0] is socket.AF_INET})
    return [parts._replace(netloc=f"{host}:{parts.port}").geturl() for host in hosts] if len(hosts) > 1 else [url]
