"""Decoders that are not ours: what scapy, icspacket and tshark read in our frames, in one shape to compare."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, NamedTuple

from icspacket.proto.iec104.apci import APCI, APCIFormat
from icspacket.proto.iec104.asdu import ASDU
from scapy.contrib.scada.iec104 import IEC104_APDU
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import wrpcap

TSHARK = shutil.which("tshark")
WITHOUT_TSHARK = "tshark is not installed: apt install tshark, and it judges our frames too"
PORT = 2404  # by which all of them know the protocol


class Judged(NamedTuple):
    """An I-frame as somebody reads it: N(S), N(R), type, P/N, T, cause, originator, common address, objects."""

    sent: int
    received: int
    type_id: int
    cause: int
    negative: bool
    test: bool
    originator: int
    common_address: int
    addresses: list[int]


def is_information(frame: bytes) -> bool:
    return not frame[2] & 1


def by_scapy(frame: bytes) -> Judged | None:
    """What scapy reads, None for S- and U-frames; it writes the same octets and leaves none without a meaning."""
    decoder: Any = IEC104_APDU
    packet = decoder.dispatch_hook(frame)(frame)
    assert bytes(packet) == frame
    if not is_information(frame):
        return None
    assert not packet.haslayer("Raw"), frame.hex()
    assert len(packet.io) == packet.num_io > 0
    if packet.sq:
        addresses = [packet.information_object_address + place for place in range(packet.num_io)]
    else:
        addresses = [each.information_object_address for each in packet.io]
    return Judged(
        packet.tx_seq_num, packet.rx_seq_num, packet.type_id, packet.cot, bool(packet.ack), bool(packet.test),
        packet.origin_address, packet.common_asdu_address, addresses,
    )  # fmt: skip


def by_icspacket(frame: bytes) -> Judged | None:
    """What icspacket reads, None for S- and U-frames."""
    apci: Any = APCI.from_bytes(frame)
    if apci.format is not APCIFormat.I_FORMAT:
        return None
    asdu: Any = ASDU.from_bytes(apci.asdu)
    header = asdu.header
    addresses = [each.ioa for each in asdu.decode_objects()]
    return Judged(
        apci.control.send_seq, apci.control.recv_seq, int(header.type_id), header.cot.cause, header.cot.negative,
        header.cot.test, header.originator_address, header.common_address, addresses,
    )  # fmt: skip


class Dissected(NamedTuple):
    """A frame as tshark reads it: I, S or U, its fields by name, and those of each object."""

    form: str
    fields: dict[str, str]
    objects: list[dict[str, str]]

    def judged(self) -> Judged:
        """The same as the others give it."""
        number = {name: int(text, 0) for name, text in self.fields.items() if name in _NUMBERS}
        return Judged(
            number["tx"], number["rx"], number["typeid"], number["causetx"], bool(number["nega"]), bool(number["test"]),
            number["oa"], number["addr"], [int(each["ioa"]) for each in self.objects],
        )  # fmt: skip


_NUMBERS = {"tx", "rx", "typeid", "causetx", "nega", "test", "oa", "addr"}
_FORMS = {0: "I", 1: "S", 3: "U"}


def by_tshark(frames: list[bytes]) -> list[Dissected]:
    """What tshark reads in a capture of these frames, each in a TCP segment of its own; nothing may be malformed."""
    assert TSHARK is not None, WITHOUT_TSHARK
    with tempfile.TemporaryDirectory() as folder:
        path, at = Path(folder) / "frames.pcap", 1
        segments = []
        for frame in frames:
            head = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="10.0.0.1", dst="10.0.0.2")
            segments.append(head / TCP(sport=PORT, dport=40_000, seq=at, ack=1, flags="PA") / Raw(frame))
            at += len(frame)
        wrpcap(str(path), segments)
        asked = [TSHARK, "-r", str(path), "-d", f"tcp.port=={PORT},iec60870_104", "-T", "pdml"]
        told = subprocess.run(asked, capture_output=True, check=True, timeout=120).stdout
    packets = ET.fromstring(told).findall("packet")  # noqa: S314  of our own tshark
    assert len(packets) == len(frames)
    return [_dissected(packet) for packet in packets]


def _dissected(packet: ET.Element) -> Dissected:
    protocols = {str(each.get("name")): each for each in packet.findall("proto")}
    assert not protocols.keys() & {"_ws.malformed", "_ws.expert"}, ET.tostring(packet)
    fields = _fields(protocols["iec60870_104"])
    inner = protocols.get("iec60870_asdu")
    objects: list[dict[str, str]] = []
    if inner is not None:
        objects = [_fields(each) for each in inner.findall("field") if str(each.get("show")).startswith("IOA:")]
        fields |= {name: text for name, text in _fields(inner).items() if name not in fields}
    return Dissected(_FORMS[int(fields["type"], 0) & 3], fields, objects)


def _fields(of: ET.Element) -> dict[str, str]:
    """Every field below, by the last part or parts of its name."""
    named = [(str(each.get("name")).split(".", 1), str(each.get("show"))) for each in of.iter("field")]
    return {name[1]: show for name, show in named if len(name) > 1}
