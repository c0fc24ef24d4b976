"""The licences of what the service is made of, as each package states it: the page docs/licences.md."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent

ALLOWED: Final = frozenset(
    {
        *("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "PSF-2.0", "any-OSI"),
        "MPL-2.0",  # used as it is: only changed files would have to be published
    }
)
"""SPDX identifiers of licences that an Apache-2.0 service may be made of."""

STATED: Final[dict[str, str]] = {
    "docutils": "BSD-2-Clause",  # its classifiers also name the GPL: of an Emacs mode that no wheel contains
}
"""Where the metadata of a package say more than one thing."""

_SPDX: Final = {
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
_INTRODUCTION: Final = """# Licences

The bridge is Apache-2.0. What it is made of, from the hashed lock, as each package states it; a test refuses whatever
is not on its list. c104 is GPL-3.0: it is in the extra `lab` alone, no image or wheel of the service contains it, and
`gridlimit run` needs it only with `iec104.stack: c104`. What develops and tests the bridge is not listed.

| Package | Licence |
|---|---|
"""


def names(lock: str) -> list[str]:
    """The packages of a lock, such as `requirements.txt`."""
    return re.findall(r"^([a-z0-9._-]+)==", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE)


def licence(name: str) -> str:
    """The licence of an installed package, as an SPDX expression where it can be had."""
    if name in STATED:
        return STATED[name]
    said = metadata.metadata(name).json
    stated = [line.split(" :: ")[-1] for line in said.get("classifier", []) if line.startswith("License ::")]
    words = str(said.get("license_expression") or (stated[0] if len(stated) == 1 else said.get("license", "")))
    return _SPDX.get(words, words)


def identifiers(expression: str) -> set[str]:
    """The licences named in an SPDX expression."""
    return set(re.findall(r"[A-Za-z0-9.-]+", expression)) - {"AND", "OR", "WITH"}


def page() -> str:
    """The page docs/licences.md."""
    return _INTRODUCTION + "".join(f"| {name} | {licence(name)} |\n" for name in names("requirements.txt"))
