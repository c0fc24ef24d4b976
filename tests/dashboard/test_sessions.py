"""Claims about who is logged in at the dashboard."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.dashboard import sessions as logins
from bridge.dashboard.sessions import Sessions
from bridge.web.people import Person, Role, Tokens, digest_of, new_token, write_tokens


def with_tokens(folder: Path) -> tuple[Sessions, str, str]:
    ada, grace = new_token(), new_token()
    people = {digest_of(ada): Person("ada", Role.OPERATE), digest_of(grace): Person("grace", Role.VIEW)}
    write_tokens(folder / "tokens", people)
    return Sessions(Tokens(folder / "tokens")), ada, grace


def test_a_session_is_a_word_of_its_own_with_the_role_of_the_token(tmp_path: Path) -> None:
    sessions, ada, grace = with_tokens(tmp_path)
    of_ada, of_grace = sessions.log_in(ada), sessions.log_in(grace)
    assert of_ada is not None
    assert of_grace is not None
    assert ada not in of_ada
    assert (sessions.person(of_ada), sessions.may_act(of_ada)) == (Person("ada", Role.OPERATE), True)
    assert (sessions.person(of_grace), sessions.may_act(of_grace)) == (Person("grace", Role.VIEW), False)
    sessions.log_out(of_ada)
    assert sessions.person(of_ada) is None


def test_nobody_is_logged_in_without_a_token_that_counts(tmp_path: Path) -> None:
    sessions, ada, _ = with_tokens(tmp_path)
    assert sessions.log_in(new_token()) is None
    word = sessions.log_in(ada)
    assert word is not None
    (tmp_path / "tokens").unlink()
    assert sessions.token(word) is None
    assert not sessions.may_act("")


def test_a_session_ends_by_itself_and_the_oldest_go_where_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions, ada, _ = with_tokens(tmp_path)
    monkeypatch.setattr(logins, "MAX_SESSIONS", 2)
    words = [sessions.log_in(ada) or "" for _ in range(3)]
    assert [sessions.person(word) is None for word in words] == [True, False, False]
    monkeypatch.setattr(logins, "SESSION_S", -1)
    assert sessions.person(sessions.log_in(ada) or "") is None
