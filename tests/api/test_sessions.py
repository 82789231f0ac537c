"""The tables of phrases, sessions and signatures stay bounded (api.md §2.2)."""

from __future__ import annotations

import random

import pytest

from trionode.api import sessions
from trionode.config.tree import ApiSettings

NOW_MS = 1_760_000_000_000


class Clock:
    def now_ms(self) -> int:
        return NOW_MS


def test_throw_away_identities_do_not_sign_the_operator_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)
    table = sessions.Sessions(ApiSettings(), Clock(), random.Random(1), operator_id="1operator")
    table.open("1operator", "first", NOW_MS)
    for number in range(5):
        table.open(f"1stranger{number}", "phrase", NOW_MS)
    assert [session.flux_id for session in table.all()] == ["1operator", "1stranger4"]
    for number in range(3):
        table.open("1operator", f"again{number}", NOW_MS)
    assert [session.login_phrase for session in table.all()] == ["again1", "again2"]


def test_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_PHRASES", 3)
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)
    monkeypatch.setattr(sessions, "MAX_SIGNATURES", 2)
    table = sessions.Sessions(ApiSettings(), Clock(), random.Random(1))
    phrases = [table.new_phrase() for _ in range(5)]
    assert [table.knows_phrase(phrase) for phrase in phrases] == [False, False, True, True, True]
    for number in range(4):
        table.open("1abc", f"phrase{number}", NOW_MS)
        table.leave_signature(f"id{number}", "s")
    assert [session.login_phrase for session in table.all()] == ["phrase2", "phrase3"]
    assert table.take_signature("id1") is None
    assert table.take_signature("id3") is not None
    assert table.take_signature("id3") is None
