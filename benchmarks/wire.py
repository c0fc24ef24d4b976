"""The bytes of the benchmarks: least WebSocket framing of a client, and the messages all three servers exchange."""

from __future__ import annotations

LIMIT_KEY = b"MaxChargingPowerW"
INTERVAL_KEY = b"MeterValueSampleInterval"
MEASURANDS_KEY = b"MeterValuesSampledData"
MEASURANDS = b"Energy.Active.Import.Register,Power.Active.Import,Voltage,Current.Import"
SAMPLE_INTERVAL_S = 3_600  # nothing comes between: telemetry is sent when a benchmark asks for it
LEGACY_MAXIMUM_W = 50_000
NATIVE_MAXIMUM_W = 22_000
VALUES_PER_MESSAGE = 4

CALL_LIMIT = (
    b'[2,"0123456789abcdef-%d","SetChargingProfile",{"evseId":0,"chargingProfile":{"id":104001,"stackLevel":1,'
    b'"chargingProfilePurpose":"ChargingStationMaxProfile","chargingProfileKind":"Absolute","chargingSchedule":'
    b'[{"id":%d,"startSchedule":"2030-01-01T00:00:00.000Z","chargingRateUnit":"W","chargingSchedulePeriod":'
    b'[{"startPeriod":0,"limit":%d}]}],"validTo":"2030-01-01T01:00:00.000Z"}}]'
)
CALL_WRITE = b'[2,"0123456789abcdef-%d","ChangeConfiguration",{"key":"MaxChargingPowerW","value":"%d"}]'
CALL_READ = b'[2,"0123456789abcdef-%d","GetConfiguration",{"key":["MaxChargingPowerW"]}]'

NATIVE_BOOT = (
    b'[2,"boot","BootNotification",{"reason":"PowerUp","chargingStation":{"model":"Bench","vendorName":"Bench",'
    b'"serialNumber":"%s"}}]'
)
LEGACY_BOOT = (
    b'[2,"boot","BootNotification",{"chargePointVendor":"Voltex","chargePointModel":"S4-ULTRA",'
    b'"chargePointSerialNumber":"%s","firmwareVersion":"4.2.16"}]'
)
NATIVE_SAMPLE = (
    b'[2,"s%d","MeterValues",{"evseId":1,"meterValue":[{"timestamp":"%s","sampledValue":['
    b'{"value":%d,"measurand":"Energy.Active.Import.Register","unitOfMeasure":{"unit":"Wh"}},'
    b'{"value":%d,"measurand":"Power.Active.Import","unitOfMeasure":{"unit":"W"}},'
    b'{"value":%d.5,"measurand":"Voltage","unitOfMeasure":{"unit":"V"}},'
    b'{"value":%d.25,"measurand":"Current.Import","unitOfMeasure":{"unit":"A"}}]}]}]'
)
LEGACY_SAMPLE = (
    b'[2,"s%d","MeterValues",{"connectorId":1,"meterValue":[{"timestamp":"%s","sampledValue":['
    b'{"value":"%d","measurand":"Energy.Active.Import.Register","unit":"Wh"},'
    b'{"value":"%d","measurand":"Power.Active.Import","unit":"W"},'
    b'{"value":"%d.5","measurand":"Voltage","unit":"V"},'
    b'{"value":"%d.25","measurand":"Current.Import","unit":"A"}]}]}]'
)


def serial_of(place: int, *, legacy: bool) -> str:
    """The serial of the charger at a place of the fleet: even places are Series 4 units, odd ones native stations."""
    return f"S4-{place:05d}" if legacy else f"CS-{place:05d}"


def text_frame(payload: bytes) -> bytes:
    """One masked text frame (RFC 6455 §5.2) whose masking key is zero: the server unmasks as ever, we need not mask."""
    return _frame(0x81, payload)


def pong_frame(payload: bytes) -> bytes:
    """The answer to a ping."""
    return _frame(0x8A, payload)


def _frame(first: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        return bytes((first, 0x80 | length)) + b"\0\0\0\0" + payload
    return bytes((first, 0xFE)) + length.to_bytes(2, "big") + b"\0\0\0\0" + payload


def opening(serial: str, *, legacy: bool, hello: bool, protocol: str) -> bytes:
    """What a charger says first: its hello, if it is an old unit and the server knows one, and the handshake."""
    said = b"S4HELLO SN=%s FW=4.2.16\r\n" % serial.encode() if legacy and hello else b""
    path = "/" if said else f"/{serial}"
    return (
        said
        + (
            f"GET {path} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
        ).encode()
    )
