"""A small public key infrastructure made by OpenSSL's command: authorities, certificates and revocation lists."""

from __future__ import annotations

import hashlib
import ssl
import subprocess
from pathlib import Path

CONFIGURATION = """
[ca]
default_ca = ours
[ours]
database = index
serial = serial
new_certs_dir = .
default_md = sha256
policy = any
default_crl_days = 30
crlnumber = crlnumber
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
"""


class Authority:
    """A certificate authority in a folder of its own."""

    def __init__(self, folder: Path, name: str = "Grid CA") -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "configuration").write_text(CONFIGURATION, encoding="ascii")
        (folder / "index").touch()
        (folder / "serial").write_text("1000\n", encoding="ascii")
        (folder / "crlnumber").write_text("01\n", encoding="ascii")
        self._openssl(
            "req", "-x509", "-new", "-config", "configuration", "-extensions", "authority", "-newkey", "ec",
            "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
            "-subj", f"/CN={name}", "-days", "365",
        )  # fmt: skip
        self.certificate = folder / "ca.pem"

    def issue(
        self,
        name: str,
        days: int = 365,
        start: str | None = None,
        end: str | None = None,
        *,
        rsa_bits: int | None = None,
        digest: str = "sha256",
    ) -> tuple[Path, Path]:
        """Certificate and key of `name`, valid for so many days or between two times YYYYMMDDHHMMSSZ."""
        curve = ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        self._openssl(
            "req", "-new", "-config", "configuration", "-newkey", *(curve if rsa_bits is None else [f"rsa:{rsa_bits}"]),
            "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}",
        )  # fmt: skip
        dates = ["-days", str(days)] if start is None or end is None else ["-startdate", start, "-enddate", end]
        self._openssl(
            "ca", "-batch", "-config", "configuration", "-cert", "ca.pem", "-keyfile", "ca.key", "-notext",
            "-md", digest, "-in", f"{name}.csr", "-out", f"{name}.pem", *dates,
        )  # fmt: skip
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def revoke(self, certificate: Path) -> None:
        """Revoke one; it shows with the next revocation list."""
        self._openssl(
            "ca", "-config", "configuration", "-cert", "ca.pem", "-keyfile", "ca.key", "-revoke", str(certificate)
        )

    def revocation_list(self, into: Path, seconds: int = 30 * 86_400) -> Path:
        """A new revocation list, valid for so long."""
        self._openssl(
            "ca", "-config", "configuration", "-cert", "ca.pem", "-keyfile", "ca.key", "-gencrl",
            "-crlsec", str(seconds), "-out", "new.crl",
        )  # fmt: skip
        (self.folder / "new.crl").replace(into)
        return into

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True, timeout=60)


def fingerprint(certificate: Path) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text(encoding="ascii"))).hexdigest()


def client(
    authority: Authority, certificate: tuple[Path, Path] | None, version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """What a control centre connects with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(authority.certificate)
    if certificate is not None:
        context.load_cert_chain(*certificate)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context
