"""The tables of phrases, sessions and signatures stay bounded (api.md §2.2)."""

from __future__ import annotations

import random

import pytest

from trionode.api import sessions
from trionode.config.tree import ApiSettings


def test_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        def now_ms(self) -> int:
            return 1_760_000_000_000

    monkeypatch.setattr(sessions, "MAX_PHRASES", 3)
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)
    monkeypatch.setattr(sessions, "MAX_SIGNATURES", 2)
    table = sessions.Sessions(ApiSettings(), Clock(), random.Random(1))
    phrases = [table.new_phrase() for _ in range(5)]
    assert [table.knows_phrase(phrase) for phrase in phrases] == [False, False, True, True, True]
    for number in range(4):
        table.open("1abc", f"phrase{number}", 1_760_000_000_000)
        table.leave_signature(f"id{number}", "s")
    assert [session.login_phrase for session in table.all()] == ["phrase2", "phrase3"]
    assert table.take_signature("id1") is None
    assert table.take_signature("id3") is not None
    assert table.take_signature("id3") is None
