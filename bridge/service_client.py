"""What every command needs: the configuration read, the running service asked over HTTP, and a word to who asked."""

from __future__ import annotations

import contextlib
import http.client
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bridge.settings import ConfigError, Settings, load
from bridge.web.people import HOST_TOKEN_FILE

HTTP_TIMEOUT_S = 10.0
EXIT_CONFIG = 78  # EX_CONFIG: a supervisor need not try again

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="The configuration file (YAML); GRIDLIMIT_* overrides it.")
]

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


def say(text: str) -> None:
    """Print a line as it is."""
    out.print(text, markup=False, highlight=False)


def say_wrong(text: str) -> None:
    """Print a line in red to standard error, as it is."""
    err.print(text, style="red", markup=False, highlight=False)


def read_settings(config: Path | None) -> Settings:
    """The configuration; ends the command with every problem said if it makes no sense."""
    try:
        return load(config)
    except ConfigError as error:
        for problem in error.problems:
            say_wrong(problem)
        raise typer.Exit(EXIT_CONFIG) from None


def ask_service(settings: Settings, method: str, path: str, body: object = None) -> Any:
    """Ask the running service, JSON data in and out; None where none runs."""
    connection = http.client.HTTPConnection(settings.http.host, settings.http.port, timeout=HTTP_TIMEOUT_S)
    try:
        headers = {"Content-Type": "application/json"}
        with contextlib.suppress(OSError):  # who may not read it may look, as everybody on this machine
            token = (settings.data_dir / HOST_TOKEN_FILE).read_text(encoding="ascii")
            headers["Authorization"] = f"Bearer {token}"
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read()
    except ConnectionRefusedError:
        return None
    except (OSError, http.client.HTTPException) as error:
        say_wrong(f"the service does not answer: {error}")
        raise typer.Exit(1) from None
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        say_wrong(f"the service says {response.status}: {text[:200]!r}")
        raise typer.Exit(1)
    return json.loads(text)
