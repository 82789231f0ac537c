"""Which message an update follows, and who owned the app before (docs/spec/registry.md §10)."""

from __future__ import annotations

import pytest

from trionode.registry.predecessor import previous_owner, previous_spec
from trionode.registry.rows import PermanentRow


def row(
    hash_: str, height: int, at_ms: float, owner: str = "me", kind: str = "fluxappupdate"
) -> PermanentRow:
    return PermanentRow(hash_, kind, 1, "{}", "App", owner, at_ms, "s", "t", height, 0)


def previous(rows: list[PermanentRow], at_ms: float) -> str | None:
    found = previous_spec(rows, at_ms)
    return None if found is None else found.hash


def test_nothing_before_gives_nothing() -> None:
    assert previous([], 5) is None
    assert previous([row("a", 1, 6)], 5) is None


def test_a_later_walked_row_wins_only_if_neither_is_lower() -> None:
    assert previous([row("a", 1, 1), row("b", 1, 2)], 9) == "b"
    assert previous([row("a", 1, 1), row("b", 1, 1)], 9) == "a"
    assert previous([row("a", 2, 1), row("b", 1, 2)], 9) == "a"
    assert previous([row("a", 1, 2), row("b", 2, 1)], 9) == "a"
    assert previous([row("a", 1, 2), row("b", 2, 9.5), row("c", 3, 9)], 9) == "c"


@pytest.mark.parametrize("kind", ["fluxappregister", "zelappregister", "fluxappupdate", "zelappupdate"])
def test_only_the_four_types_count(kind: str) -> None:
    assert previous([row("a", 1, 1, kind=kind), row("b", 2, 2, kind="fluxapprequest")], 9) == "a"


def test_the_owner_before() -> None:
    rows = [
        row("a", 3, 1, "first"),
        row("b", 9, 1, "second"),
        row("c", 5, 1, "third"),
        row("d", 12, 1, "now"),
    ]
    assert previous_owner(rows, "now") == "second"
    assert previous_owner(rows[-1:], "now") is None
