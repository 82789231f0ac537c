"""`trionode status` says where the data is and, while it cannot be written, since when and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from trionode.cli.status_life import overview

STORE = {
    "kind": "SQLite",
    "server": "/var/lib/trionode",
    "connected": True,
    "readable": True,
    "lostForS": None,
    "problem": None,
    "remedy": None,
}


def test_where_the_data_is(capsys: Any) -> None:
    overview({"store": STORE})
    assert capsys.readouterr().out.split(maxsplit=1) == ["store", "SQLite in /var/lib/trionode\n"]
    overview({"store": None})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "SQLite in /var/lib/trionode cannot be written, for 2 h 5 min: database or disk is full"),
        (
            {"kind": "MongoDB", "server": "db:27017"},
            "MongoDB at db:27017 cannot be written, for 2 h 5 min: database or disk is full",
        ),
        (
            {"kind": "MongoDB", "server": "db:27017", "readable": False, "problem": "connection refused"},
            "MongoDB at db:27017 does not answer, for 2 h 5 min: connection refused",
        ),
    ],
)
def test_a_store_that_is_away(changes: dict[str, Any], told: str, capsys: Any) -> None:
    away = {
        **STORE,
        "connected": False,
        "lostForS": 7500.0,
        "problem": "database or disk is full",
        "remedy": "free some space",
    }
    overview({"store": {**away, **changes}})
    first, second = capsys.readouterr().out.splitlines()
    assert first.split(maxsplit=1) == ["store", told]
    assert second.strip() == "free some space"
