"""`gridlimit audit`: are the records what they were, and papers of them for whoever asks two years later."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bridge import record_pages as pages
from bridge.service_client import ConfigOption, ask_service, read_settings, say, say_wrong
from bridge.settings import Settings
from bridge.store.audit import PUBLIC_KEY_FILE, kept_head, read_public_key
from bridge.store.chain import Head, Verdict, lines, record_of, segments, verify
from bridge.store.database import Database, StoreError
from bridge.store.shelf import Shelf

LIVE_AGAIN_AFTER_S = 2.0

FolderOption = Annotated[
    Path | None, typer.Option("--folder", help="Records in this folder, a copy say; ask no service.")
]
KeyOption = Annotated[Path | None, typer.Option("--key", help="The public key (PEM) that was given out before.")]
HeadOption = Annotated[list[str] | None, typer.Option("--head", help="A head known from before, NUMBER:HASH.")]


class PaperFormat(Enum):
    """What records can be written as."""

    CSV = "csv"
    HTML = "html"
    PDF = "pdf"


audit_app = typer.Typer(help="The records: are they what they were, and papers of them.", no_args_is_help=True)


@audit_app.command("verify")
def verify_records(
    config: ConfigOption = None, folder: FolderOption = None, key: KeyOption = None, head: HeadOption = None
) -> None:
    """Check every record against the one before, every signature, and the end against what the journal knows."""
    verdict, anchors = _verified(config, folder, key, head)
    for sentence in _in_words(verdict, anchors):
        say(sentence)
    if verdict.problem is not None:
        say_wrong(f"NOT WHAT IT WAS: {verdict.problem}")
        raise typer.Exit(1)


@audit_app.command()
def export(
    config: ConfigOption = None,
    folder: FolderOption = None,
    key: KeyOption = None,
    head: HeadOption = None,
    begin: Annotated[str, typer.Option("--from", help="Date or time, ISO 8601; UTC unless it says otherwise.")] = "",
    end: Annotated[str, typer.Option("--to", help="The same; a date is the end of that day.")] = "",
    form: Annotated[PaperFormat, typer.Option("--format", help="csv, html or pdf.")] = PaperFormat.HTML,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file; else standard output.")] = None,
) -> None:
    """Write the records of a period: CSV has every record, HTML and PDF a page for each limitation event."""
    from_ms, to_ms = _utc_ms(begin, 0), _utc_ms(end, 1) if end else time.time_ns() // 1_000_000
    verdict, anchors = _verified(config, folder, key, head)
    where = folder if folder is not None else read_settings(config).data_dir / "audit"
    title = f"Grid-limit records {_day(max(from_ms, 0)) if begin else 'from their beginning'} to {_day(to_ms)}"
    preface = _in_words(verdict, anchors)
    if verdict.problem is not None:
        preface.insert(0, f"THE RECORDS ARE NOT WHAT THEY WERE: {verdict.problem}")
    log = pages.log_of(_records(where), from_ms, to_ms)
    found = pages.events(_records(where), from_ms, to_ms)
    try:
        if form is PaperFormat.CSV:
            written = "".join(pages.csv_text(_records(where), from_ms, to_ms)).encode()
        elif form is PaperFormat.HTML:
            written = pages.html(title, preface, log, found).encode()
        else:
            written = pages.pdf(title, preface, log, found)
    except ImportError:
        say_wrong("PDF needs the extra `pdf`: pip install 'grid-limit-bridge[pdf]', or take --format html")
        raise typer.Exit(1) from None
    if output is not None:
        output.write_bytes(written)
    else:
        sys.stdout.buffer.write(written)
    if verdict.problem is not None:
        say_wrong(f"NOT WHAT IT WAS: {verdict.problem}")
        raise typer.Exit(1)


@audit_app.command()
def key(config: ConfigOption = None, folder: FolderOption = None) -> None:
    """Print the public key that checkpoints are verified with: give it to whoever will check the records later."""
    where = folder if folder is not None else read_settings(config).data_dir / "audit"
    try:
        public = read_public_key(where / PUBLIC_KEY_FILE)
    except (OSError, ValueError) as error:
        say_wrong(f"no key: {error}: the service makes it at its first start")
        raise typer.Exit(1) from None
    say(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode().strip())


def _verified(
    config: Path | None, folder: Path | None, key_file: Path | None, heads: list[str] | None
) -> tuple[Verdict, list[Head]]:
    where, anchors, is_live = folder, [_head(text) for text in heads or ()], False
    if where is None:
        settings = read_settings(config)
        where = settings.data_dir / "audit"
        kept, is_live = _known_head(settings)
        anchors.append(kept)
    try:
        public = read_public_key(where / PUBLIC_KEY_FILE if key_file is None else key_file)
        verdict = verify(lines(segments(where)), public, anchors)
        if verdict.problem is not None and is_live:
            time.sleep(LIVE_AGAIN_AFTER_S)  # a line may just have been under way
            verdict = verify(lines(segments(where)), public, anchors)
    except (OSError, ValueError) as error:
        say_wrong(f"cannot be checked: {error}")
        raise typer.Exit(1) from None
    return verdict, anchors


def _known_head(settings: Settings) -> tuple[Head, bool]:
    """The head of the newest checkpoint, from the running service or its database, and whether the service runs."""
    said = ask_service(settings, "GET", "/records/head")
    if said is not None:
        return Head(said["number"], said["digest"]), True
    path = settings.data_dir / "bridge.db"
    if not path.is_file():
        return Head(), False
    try:
        database = Database(path)
        head = kept_head(Shelf(database))
        database.close()
    except StoreError as error:
        say_wrong(f"the journal does not say where the records end: {error}")
        raise typer.Exit(1) from None
    return head, False


def _in_words(verdict: Verdict, anchors: list[Head]) -> list[str]:
    if not verdict.first:
        return ["There are no records."]
    said = [f"Records {verdict.first} to {verdict.head.number} are each what was written, in their order."]
    if verdict.problem is not None:
        said = [f"Up to record {verdict.head.number} everything is what was written."]
    unsigned = verdict.head.number - verdict.signed
    said.append(
        f"{verdict.checkpoints} checkpoints bear the signature of the key, the newest is record {verdict.signed}."
        + (f" The {unsigned} records since then are proven by their hashes alone." if unsigned else "")
    )
    if not any(anchor.number for anchor in anchors):
        said.append("No head was known from elsewhere: whether the newest records were cut off cannot be told.")
    return [*said, f"Head {verdict.head}"]


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    """Every record that can be read; the others are the business of `verify`."""
    for _place, line in lines(segments(folder)):
        try:
            record = record_of(line)
        except ValueError:
            continue
        yield record


def _head(text: str) -> Head:
    number, _, digest = text.partition(":")
    if not number.isdecimal() or not digest:
        say_wrong(f"--head {text!r}: must be NUMBER:HASH, as a checkpoint in the log or `verify` gives it")
        raise typer.Exit(2)
    return Head(int(number), digest)


def _utc_ms(text: str, days_after: int) -> int:
    if not text:
        return 0
    try:
        said = datetime.fromisoformat(text)
    except ValueError:
        say_wrong(f"{text!r} is no date or time: write it as 2026-11-23 or 2026-11-23T08:00")
        raise typer.Exit(2) from None
    said = said if said.tzinfo is not None else said.replace(tzinfo=UTC)
    whole_day = len(text) <= len("2026-11-23")
    return int(said.timestamp() * 1000) + (days_after * 86_400_000 - 1 if whole_day and days_after else 0)


def _day(utc_ms: int) -> str:
    return f"{datetime.fromtimestamp(utc_ms / 1000, UTC):%Y-%m-%d}"
