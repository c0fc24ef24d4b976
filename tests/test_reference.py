"""The reference of docs/ is what the code says: every key has a meaning, every page is as it would be made anew."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge import reference
from bridge.core.points import Signal
from bridge.dso_profile import DsoProfile
from bridge.settings import ChargerProfile, Settings, load

ROOT = Path(__file__).parent.parent
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
CONFIGURATIONS = [
    pytest.param(block, id=f"{path.name}-{number}")
    for path in TEXTS
    for number, block in enumerate(BLOCK.findall(path.read_text(encoding="utf-8")))
    if re.search(r"^site:", block, re.MULTILINE)
]


@pytest.mark.parametrize("page", reference.PAGES)
def test_a_page_that_is_made_from_the_code_is_as_the_code_says(page: str) -> None:
    said = (reference.DOCS / page).read_text(encoding="utf-8")
    assert said == reference.PAGES[page](), "stale: write it anew with `make pages`"


@pytest.mark.parametrize("model", [Settings, ChargerProfile, DsoProfile])
def test_every_key_says_what_it_means(model: Any) -> None:
    for name, field in reference.keys(model):
        assert field.description, f"{model.__name__}.{name}: write a docstring below it"
        if (inner := reference.section(field.annotation)) is not None:
            test_every_key_says_what_it_means(inner)


def test_every_signal_has_a_meaning() -> None:
    assert list(reference.MEANINGS) == list(Signal)


def test_no_cell_of_a_table_is_torn() -> None:
    for path in TEXTS:
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            if line.startswith("|"):
                assert line.endswith("|"), f"{path.name}:{number}"


@pytest.mark.parametrize("block", CONFIGURATIONS)
def test_a_configuration_shown_in_the_documents_loads(tmp_path: Path, block: str) -> None:
    shown = yaml.safe_load(block)
    for name in ("password", "secret"):
        assert f'"{name}":' not in json.dumps(shown)
    path = tmp_path / "site.yaml"
    path.write_text(block, encoding="utf-8")
    load(path, {})
