"""Claims about what the dashboard says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import bridge.dashboard
from bridge.core.fallback import LinkState
from bridge.core.limit import Source
from bridge.core.messages import Reason
from bridge.dashboard import page, words
from bridge.dashboard.words import Words, language_of

FOLDER = Path(bridge.dashboard.__file__).parent


def said() -> set[str]:
    """Every text that the modules of the dashboard hand to `words(...)` or to a card, as written."""
    found = set()
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if name in ("words", "_words", "_card") and isinstance(node.args[0].value, str):
                    found.add(node.args[0].value)
    return found


def test_everything_the_page_says_is_known_in_german() -> None:
    assert len(said()) > 60
    assert not said() - words._GERMAN.keys()


def test_everything_the_service_says_is_known_in_german() -> None:
    assert not {reason.value for reason in Reason} - words._GERMAN.keys()
    assert not {source.value for source in Source} - words._GERMAN.keys()
    assert {source.value for source in Source} == page._SOURCES.keys()
    assert {state.value for state in LinkState} == page._LINKS.keys()
    told = {*page._SOURCES.values(), *(text for each in page._LINKS.values() for text in each[:2] if text)}
    assert not told - words._GERMAN.keys()


def test_gaps_are_the_same_in_both_languages() -> None:
    assert not {text for text, german in words._GERMAN.items() if text.count("{}") != german.count("{}")}


@pytest.mark.parametrize(
    ("language", "power_w", "written"),
    [
        ("en", 0, "0.0 kW"),
        ("en", 7_249, "7.2 kW"),
        ("de", 7_249, "7,2 kW"),
        ("en", 132_400, "132 kW"),
        ("de", 1_132_400, "1.132 kW"),
        ("en", 12_345_678, "12.35 MW"),
        ("en", None, "–"),
    ],
)
def test_a_power_is_written_as_its_language_writes_it(language: str, power_w: int | None, written: str) -> None:
    assert Words(language).power(power_w) == written


def test_the_time_left_is_told_to_the_second() -> None:
    assert Words("en")("fallback in {}", Words("en").countdown(192.4)) == "fallback in 3:12"
    assert Words("en").countdown(3_723) == "1:02:03"
    assert [Words("en").span(span_s) for span_s in (59.9, 60, 3_700, 90_000)] == [
        "59 s",
        "1 min",
        "1 h 1 min",
        "1 d 1 h",
    ]


def test_the_browser_is_answered_in_its_language_or_in_english() -> None:
    assert language_of("de-AT,de;q=0.9,en;q=0.8") == "de"
    assert language_of("fr,de;q=0.5") == "de"
    assert language_of("fr") == language_of("") == "en"
