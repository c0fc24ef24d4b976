"""`gridlimit doctor`: what is wrong on a new site or with a running service; each finding says what to do."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import shutil
import socket
import ssl
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from bridge.service_client import ConfigOption, ask_service, out, read_settings
from bridge.settings import Settings, warnings

OK, WARNING, WRONG = "ok", "warning", "WRONG"
CONNECT_WITHIN_S: Final = 5.0
EXPIRY_WARNING_DAYS: Final = 30
ENOUGH_BYTES, TOO_FEW_BYTES = 2 << 30, 200 << 20
SYNCS: Final = 20
SLOW_SYNC_S, TOO_SLOW_SYNC_S = 0.02, 0.2
FILES_BESIDE_CONNECTIONS: Final = 200
FORGETFUL: Final = {"tmpfs", "ramfs", "overlay"}
EARLIEST_YEAR: Final = 2026
_UNSYNCHRONIZED: Final = 0x40  # STA_UNSYNC of adjtimex(2)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: how it is, where, what was found and, unless it is well, what to do."""

    level: str
    where: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.level:<8} {self.where}: {self.what}" + (f" – {self.remedy}" if self.remedy else "")


def doctor(config: ConfigOption = None) -> None:
    """Look at ports, clock, certificates, the CSMS, disk and file descriptors, and at the units if the service runs."""
    settings = read_settings(config)
    status = ask_service(settings, "GET", "/status")
    found = list(findings(settings, status))
    styles = {OK: None, WARNING: "yellow", WRONG: "red"}
    for finding in found:
        out.print(str(finding), style=styles[finding.level], markup=False, highlight=False)
    wrong = sum(finding.level == WRONG for finding in found)
    warned = sum(finding.level == WARNING for finding in found)
    out.print(f"{len(found)} looked at: {wrong} wrong, {warned} warnings", markup=False, highlight=False)
    if wrong:
        raise typer.Exit(1)


def findings(settings: Settings, status: dict[str, Any] | None) -> Iterator[Finding]:
    """Everything that was looked at; `status` is what the running service says, None where none runs."""
    for text in warnings(settings):
        where, _, what = text.partition(": ")
        yield Finding(WARNING, where, what, "see docs/configuration.md")
    yield from _ports(settings, status is not None)
    yield from _clock()
    yield from _certificates(settings)
    yield from _csms(settings)
    yield from _disk(settings.data_dir)
    yield from _descriptors(settings)
    if status is None:
        yield Finding(OK, "service", "does not run: what only a running one knows was not looked at")
    else:
        yield from _site(status)


def _ports(settings: Settings, runs: bool) -> Iterator[Finding]:
    places = [
        ("iec104", settings.iec104.host, settings.iec104.port),
        ("ocpp", settings.ocpp.host, settings.ocpp.port),
        ("http", settings.http.host, settings.http.port),
    ]
    if settings.http.dashboard_port is not None:
        places.append(("http.dashboard_port", settings.http.host, settings.http.dashboard_port))
    if settings.ocpp.legacy is not None:
        places.append(("ocpp.legacy", settings.ocpp.legacy.host, settings.ocpp.legacy.port))
    for name, host, port in places:
        where = f"{name} {host}:{port}"
        if not port:
            yield Finding(OK, where, "any free port")
        elif runs:
            yield _answers(where, "127.0.0.1" if host == "0.0.0.0" else host, port)  # noqa: S104  read, not listened at
        else:
            yield _free(where, host, port)


def _answers(where: str, host: str, port: int) -> Finding:
    try:
        with socket.create_connection((host, port), CONNECT_WITHIN_S):
            return Finding(OK, where, "listens")
    except OSError as error:
        return Finding(
            WRONG, where, f"does not answer: {error}", "see the log of the service for why it does not listen"
        )


def _free(where: str, host: str, port: int) -> Finding:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.create_server((host, port), family=family):
            return Finding(OK, where, "free")
    except OSError as error:
        remedies = {
            errno.EADDRINUSE: f"`ss -ltnp 'sport = :{port}'` says whose it is: stop that, or choose another port",
            errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one",
            errno.EADDRNOTAVAIL: "no interface has this address: `ip address` lists those there are",
        }
        return Finding(
            WRONG, where, f"cannot be listened at: {error.strerror or error}", remedies.get(error.errno or 0, "")
        )


def _clock() -> Iterator[Finding]:
    now = datetime.now(UTC)
    if now.year < EARLIEST_YEAR:
        yield Finding(
            WRONG, "clock", f"says {now:%Y-%m-%d %H:%M} UTC", "set it: time tags of commands would be refused"
        )
        return
    kernel = ctypes.create_string_buffer(512)
    ctypes.CDLL(None).adjtimex(kernel)
    status = int.from_bytes(kernel.raw[40:44], "little")  # struct timex on 64 bit: status follows five longs
    if status & _UNSYNCHRONIZED:
        yield Finding(
            *(WARNING, "clock", f"says {now:%Y-%m-%d %H:%M:%S} UTC, and nothing keeps it right"),
            "run chrony or systemd-timesyncd: commands with a time tag outside the window are refused",
        )
    else:
        error_us = int.from_bytes(kernel.raw[24:32], "little")
        yield Finding(OK, "clock", f"says {now:%Y-%m-%d %H:%M:%S} UTC, kept right to {error_us / 1000:.0f} ms")


def _certificates(settings: Settings) -> Iterator[Finding]:
    for name, tls in (("iec104.tls", settings.iec104.tls), ("ocpp.tls", settings.ocpp.tls)):
        if tls is not None:
            yield from _pair(f"{name}.certificate", tls.certificate, tls.key)
    if settings.iec104.tls is not None:
        yield from _authorities("iec104.tls.authorities", settings.iec104.tls.authorities)
    if settings.ocpp.tls is not None and settings.ocpp.tls.client_ca is not None:
        yield from _authorities("ocpp.tls.client_ca", settings.ocpp.tls.client_ca)
    if settings.csms.ca is not None:
        yield from _authorities("csms.ca", settings.csms.ca)
    folder = settings.csms.certificates_dir
    for entry in settings.chargers if folder is not None and settings.csms.url is not None else ():
        assert folder is not None  # noqa: S101  for the type checker
        yield from _pair(
            f"csms.certificates_dir {entry.serial}", folder / f"{entry.serial}.pem", folder / f"{entry.serial}.key"
        )


def _pair(name: str, certificate: Path, key: Path) -> Iterator[Finding]:
    try:
        own = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
        secret = load_pem_private_key(key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        yield Finding(
            WRONG, name, f"{certificate} and {key}: {error}", "both must be PEM, readable, the key without password"
        )
        return
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if own.public_key().public_bytes(*form) != secret.public_key().public_bytes(*form):
        yield Finding(
            WRONG, name, f"{key} is not the key of {certificate}", "put the key beside it that it was made with"
        )
    if key.stat().st_mode & 0o077:
        yield Finding(WARNING, name, f"{key}: others may read it", f"chmod 0600 {key}")
    yield _validity(name, certificate, own)


def _authorities(name: str, path: Path) -> Iterator[Finding]:
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        yield Finding(WRONG, name, f"{path}: {error}", "must be PEM and readable")
        return
    for authority in found:
        yield _validity(name, path, authority)


def _validity(name: str, path: Path, certificate: x509.Certificate) -> Finding:
    now, ends = datetime.now(UTC), certificate.not_valid_after_utc
    if ends < now:
        return Finding(WRONG, name, f"{path} ended on {ends:%Y-%m-%d}", "renew it; a changed file is read at once")
    if certificate.not_valid_before_utc > now:
        begins = certificate.not_valid_before_utc
        return Finding(WRONG, name, f"{path} is valid from {begins:%Y-%m-%d %H:%M} only", "is the clock right?")
    if ends < now + timedelta(days=EXPIRY_WARNING_DAYS):
        return Finding(WARNING, name, f"{path} ends on {ends:%Y-%m-%d}", "renew it; a changed file is read at once")
    return Finding(OK, name, f"{path} is valid until {ends:%Y-%m-%d}")


def _csms(settings: Settings) -> Iterator[Finding]:
    if settings.csms.url is None:
        return
    parts = urlsplit(settings.csms.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "wss" else 80)
    where = f"csms {host}:{port}"
    try:
        with socket.create_connection((host, port), CONNECT_WITHIN_S) as connection:
            if parts.scheme == "wss":
                ca = None if settings.csms.ca is None else str(settings.csms.ca)
                with ssl.create_default_context(cafile=ca).wrap_socket(connection, server_hostname=host) as secured:
                    yield Finding(OK, where, f"answers, {secured.version()}")
            else:
                yield Finding(OK, where, "answers")
    except socket.gaierror as error:
        yield Finding(WRONG, where, f"the name is not known: {error.strerror}", "check csms.url and the name servers")
    except ssl.SSLCertVerificationError as error:
        yield Finding(
            WRONG, where, f"its certificate is not trusted: {error.verify_message}", "set csms.ca to who signed it"
        )
    except ssl.SSLError as error:
        yield Finding(WARNING, where, f"TLS: {error.reason}", "it may ask for a client certificate; the log says more")
    except OSError as error:
        yield Finding(WRONG, where, f"is not reached: {error}", "check csms.url, routes and the firewall")


def _disk(folder: Path) -> Iterator[Finding]:
    where = f"data_dir {folder}"
    there = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    free_bytes = shutil.disk_usage(there).free
    if free_bytes < ENOUGH_BYTES:
        level = WRONG if free_bytes < TOO_FEW_BYTES else WARNING
        yield Finding(
            level,
            where,
            f"{free_bytes >> 20} MiB are free",
            "2 GiB last for two years of records and 30 days of events",
        )
    else:
        yield Finding(OK, where, f"{free_bytes >> 30} GiB are free")
    if (kind := _file_system(there.resolve())) in FORGETFUL:
        yield Finding(
            WARNING, where, f"is on {kind}", "what is there may not outlive a restart: choose a disk, or a volume"
        )
    try:
        took_s = _syncs(there)
    except OSError as error:
        yield Finding(
            WRONG,
            where,
            f"cannot be written: {error.strerror}",
            "run this as the user of the service, then check its rights",
        )
        return
    median_ms, longest_ms = 1000 * statistics.median(took_s), 1000 * max(took_s)
    said = f"a write is on disk after {median_ms:.1f} ms, at worst {longest_ms:.1f} ms"
    if median_ms > 1000 * SLOW_SYNC_S:
        level = WRONG if median_ms > 1000 * TOO_SLOW_SYNC_S else WARNING
        yield Finding(level, where, said, "every setpoint waits for one: choose a disk that is quicker, no SD card")
    else:
        yield Finding(OK, where, said)


def _syncs(folder: Path) -> list[float]:
    """How many seconds each of some small writes takes to be on disk."""
    took_s = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(SYNCS):
            began = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fdatasync(file.fileno())
            took_s.append(time.perf_counter() - began)
    return took_s


def _file_system(path: Path) -> str:
    """The type of the file system that a path is on."""
    best, kind = "", "?"
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _device, mounted, found, *_ = line.split(" ")
        if path.is_relative_to(mounted) and len(mounted) >= len(best):
            best, kind = mounted, found
    return kind


def _descriptors(settings: Settings) -> Iterator[Finding]:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    each = 1 if settings.csms.url is None else 2
    needed = each * len(settings.chargers) + settings.iec104.limits.connections + FILES_BESIDE_CONNECTIONS
    said = f"{soft} allowed here, {needed} needed at most"
    if soft < needed:
        yield Finding(WRONG, "file descriptors", said, "set LimitNOFILE in the unit file, or `ulimit -n`")
    else:
        yield Finding(OK, "file descriptors", said)


def _site(status: dict[str, Any]) -> Iterator[Finding]:
    """What the running service knows: the link, the limit, and which units do not obey."""
    link, limit = status["link"], status["limit"]
    if not link["connections"]:
        state = f"no control centre is connected, {link['state']} for {link['since_s']:.0f} s"
        yield Finding(WARNING, "link", state, "see the log for refused connections, then the line and the firewall")
    else:
        yield Finding(OK, "link", f"{link['state']}, {link['connections']} connections")
    reached = "is kept by" if status["limit_reached"] else "is not yet proven to be kept by"
    level = OK if status["limit_reached"] else WARNING
    what = f"{limit['power_w']} W ({limit['source']}) {reached} a worst case of {status['worst_case_w']} W"
    yield Finding(level, "limit", what, "" if level == OK else "what frees it stands at the chargers below")
    for burden in status["counted_at_worst"]:
        refuses = burden["why"] in ("draws more than granted", "refused its limit", "did not answer")
        what = f"{burden['why']}, counted at {burden['worst_case_w']} W; the others pay {burden['costs_w']} W"
        yield Finding(
            WRONG if refuses else WARNING, f"charger {burden['serial']}", what, f"frees it: {burden['frees']}"
        )
    for alarm in status["alarms"]:
        if alarm["alarm"] != "charger_offline":
            yield Finding(WARNING, f"alarm {alarm['alarm']}", f"open: {alarm['subject']}", "see docs/night.md")
    if not status["counted_at_worst"]:
        yield Finding(OK, "chargers", f"all {len(status['chargers'])} obey as far as is proven")
