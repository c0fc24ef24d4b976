"""`gridlimit backup` and `restore`: everything that must outlive a machine, in one file, and back on another."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, Any, Final

import typer

from bridge import __version__
from bridge.service_client import ConfigOption, ask_service, read_settings, say, say_wrong
from bridge.settings import Settings
from bridge.store.audit import KEY_FILE, PUBLIC_KEY_FILE, Audit, kept_head
from bridge.store.chain import lines, segments, verify
from bridge.store.copy import copy
from bridge.store.database import Database, StoreError
from bridge.store.shelf import Shelf

DATABASES: Final = ("bridge.db", "events.db")
MANIFEST: Final = "manifest.json"
COPIED_WITHIN_S: Final = 600.0
POLL_S: Final = 0.1
READ_AT_ONCE: Final = 1 << 20
MAX_MEMBERS: Final = 10_000
MAX_MANIFEST_BYTES: Final = 16 << 20
RESTORING, BEFORE = "restoring", "before-"
OURS: Final = re.compile(r"bridge\.db|events\.db|tokens|audit/(key\.pem|public\.pem|\d{4}-\d{2}\.jsonl)")


class BackupError(Exception):
    """It cannot be made, or not be put back; the text says what, where and what to do."""


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write, a .tar; only its owner may read it.")],
    config: ConfigOption = None,
) -> None:
    """Copy journal, events, records, their key and the configuration into one file; the service may run or not."""
    settings = read_settings(config)
    try:
        names = make(settings, config, file)
    except (BackupError, StoreError, OSError) as error:
        say_wrong(f"no backup: {error}")
        raise typer.Exit(1) from None
    say(f"{file}: {len(names)} files, {file.stat().st_size >> 10} KiB. It holds the key of the records: keep it safe.")


def restore(
    file: Annotated[Path, typer.Argument(help="What `gridlimit backup` wrote.", exists=True)],
    config: ConfigOption = None,
) -> None:
    """Put a backup in place of `data_dir`; the service must be down. What is there is moved aside, not deleted."""
    settings = read_settings(config)
    if ask_service(settings, "GET", "/health") is not None:
        say_wrong("the service runs: stop it first")
        raise typer.Exit(1)
    try:
        aside = put_back(settings, file)
    except (BackupError, StoreError, OSError, tarfile.TarError, ValueError, KeyError) as error:
        say_wrong(f"not restored: {error}")
        raise typer.Exit(1) from None
    say(f"{settings.data_dir}: restored" + ("" if aside is None else f"; what was there is now {aside}"))
    say("The limit of that time holds until the hold has elapsed, then the fallback limit, until a fresh setpoint.")


def make(settings: Settings, config: Path | None, file: Path) -> list[str]:
    """Write the backup and say what is in it. Raises BackupError, StoreError, OSError."""
    said = ask_service(settings, "POST", "/backup")
    folder = settings.data_dir / f"backup-{time.time_ns()}" if said is None else Path(said["folder"])
    try:
        if said is None:
            _copy_alone(settings, folder)
        else:
            _wait_for_service(folder)
        names = dict(_members(settings, config, folder))
        _write(file, names)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return list(names)


def _copy_alone(settings: Settings, folder: Path) -> None:
    """Copy the databases of a service that is down."""
    if not (settings.data_dir / DATABASES[0]).is_file():
        raise BackupError(f"{settings.data_dir}: nothing is there yet")
    folder.mkdir(mode=0o700)
    for name in DATABASES:
        if (settings.data_dir / name).is_file():
            database = Database(settings.data_dir / name)
            for _ in copy(database, folder / name):
                pass
            database.close()


def _wait_for_service(folder: Path) -> None:
    deadline = time.monotonic() + COPIED_WITHIN_S
    while not (folder / "done").is_file():
        if (folder / "failed").is_file():
            raise BackupError(f"the service says: {(folder / 'failed').read_text(encoding='utf-8')}")
        if not folder.is_dir():
            raise BackupError(f"{folder} cannot be seen: run this on the machine of the service, as its user or root")
        if time.monotonic() > deadline:
            raise BackupError(f"{folder}: not whole after {COPIED_WITHIN_S:.0f} s")
        time.sleep(POLL_S)


def _members(settings: Settings, config: Path | None, folder: Path) -> Iterator[tuple[str, Path]]:
    """Names in the backup and the files they are of. Records come after the database that knows where they end."""
    for name in DATABASES:
        if (folder / name).is_file():
            yield f"data/{name}", folder / name
    records = settings.data_dir / "audit"
    for path in (*segments(records), records / KEY_FILE, records / PUBLIC_KEY_FILE):
        yield f"data/audit/{path.name}", path
    if settings.http.tokens_file is not None and settings.http.tokens_file.is_file():
        yield "data/tokens", settings.http.tokens_file
    if config is not None:
        yield "configuration/site.yaml", config
        for path in sorted((config.parent / "profiles").glob("*/*.yaml")):
            yield f"configuration/profiles/{path.parent.name}/{path.name}", path


def _write(file: Path, members: dict[str, Path]) -> None:
    """Write the archive; a file that grows meanwhile is taken as long as it was."""
    beside = file.with_name(f".{file.name}.new")
    beside.unlink(missing_ok=True)
    beside.touch(0o600)
    hashes = {}
    try:
        with tarfile.open(beside, "w") as archive:
            for name, path in members.items():
                with path.open("rb") as source:
                    size = source.seek(0, io.SEEK_END)
                    source.seek(0)
                    hashes[name] = _digest_of(source, size)
                    source.seek(0)
                    _add(archive, name, source, size)
            made_utc = datetime.now(UTC).isoformat(timespec="seconds")
            manifest = json.dumps({"version": __version__, "made_utc": made_utc, "sha256": hashes}, indent=1).encode()
            _add(archive, MANIFEST, io.BytesIO(manifest), len(manifest))
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def _add(archive: tarfile.TarFile, name: str, source: IO[bytes], size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o600, int(time.time())
    archive.addfile(member, source)


def _digest_of(source: IO[bytes], size: int, into: IO[bytes] | None = None) -> str:
    """SHA-256 of so many bytes, which are also written where one says."""
    digest, left = hashlib.sha256(), size
    while left and (part := source.read(min(left, READ_AT_ONCE))):
        digest.update(part)
        left -= len(part)
        if into is not None:
            into.write(part)
    return digest.hexdigest()


def put_back(settings: Settings, file: Path) -> Path | None:
    """Replace what is in `data_dir`; where that is now, None if nothing was. Raises what `restore` catches.

    The folder itself stays: it may be a volume.
    """
    there = settings.data_dir
    there.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = there / RESTORING
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    try:
        _check(fresh, _unpack(file, fresh))
        old = [path for path in there.iterdir() if path != fresh and not path.name.startswith(BEFORE)]
        aside = there / f"{BEFORE}{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
        for path in old:
            aside.mkdir(mode=0o700, exist_ok=True)
            path.replace(aside / path.name)
        for path in list(fresh.iterdir()):
            path.replace(there / path.name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    if os.geteuid() == 0:
        owner = there.stat()
        for path in there.rglob("*"):
            os.chown(path, owner.st_uid, owner.st_gid)
    return aside if old else None


def _unpack(file: Path, folder: Path) -> dict[str, Any]:
    """Write what belongs into `data_dir`; only names that we write ourselves, each with the hash in the manifest."""
    with tarfile.open(file, "r:") as archive:
        members = {member.name: member for member in archive if member.isreg()}
        if len(members) > MAX_MEMBERS or MANIFEST not in members or members[MANIFEST].size > MAX_MANIFEST_BYTES:
            raise BackupError(f"{file}: is no backup of gridlimit")
        manifest: dict[str, Any] = json.loads(_stream(archive, members[MANIFEST]).read())
        for name, digest in manifest["sha256"].items():
            room, _, rest = name.partition("/")
            if room != "data":
                continue
            if OURS.fullmatch(rest) is None:
                raise BackupError(f"{file}: {name!r} is no name of ours")
            path = folder / rest
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.touch(0o600)
            with path.open("wb") as into:
                if _digest_of(_stream(archive, members[name]), members[name].size, into) != digest:
                    raise BackupError(f"{file}: {name} is damaged: take another backup")
    return manifest


def _stream(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(member)
    if stream is None:
        raise BackupError(f"{member.name}: cannot be read")
    return stream


def _check(folder: Path, manifest: dict[str, Any]) -> None:
    """Open everything as the service would, hold the records against the database, and record the restoration."""
    for name in DATABASES[1:]:
        if (folder / name).is_file():
            Database(folder / name).close()
    database = Database(folder / DATABASES[0])
    try:
        shelf, problems = Shelf(database), list[str]()
        records = folder / "audit"
        audit = Audit(records, shelf, lambda _delay_s, _call: None, problems.append)
        verdict = verify(lines(segments(records)), audit.public_key, [kept_head(shelf)])
        if problems or verdict.problem is not None:
            raise BackupError(f"the records in it are not what they were: {problems or verdict.problem}")
        audit.note("restored", {"made_utc": manifest["made_utc"], "version": manifest["version"]})
    finally:
        database.close()
