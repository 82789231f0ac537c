"""Whether a registration may have its name (docs/spec/registry.md §10)."""

from __future__ import annotations

from typing import Any

import pytest

from trionode.registry.names import find_named, name_conflict
from trionode.registry.reasons import Reason, Rejected
from trionode.registry.rows import CurrentSpec, HashRow


def spec(name: str = "App", height: int = 2_100_000, expire: int = 100) -> CurrentSpec:
    return CurrentSpec(name, f'{{"name":"{name}","expire":{expire}}}', "old", height)


def refused(name: str, existing: CurrentSpec | None, **facts: Any) -> Reason | None:
    try:
        name_conflict(name, existing, **facts)
    except Rejected as error:
        return error.reason
    return None


def paid(height: int) -> dict[str, Any]:
    return {"hash": "h", "payment": HashRow.found("t", height, "h", 1)}


def test_a_name_nobody_has_is_free() -> None:
    assert refused("App", None) is None
    assert refused("App", None, hash="h", builtin_names=["Other"]) is None


def test_who_asks_without_a_hash_hears_that_it_is_taken() -> None:
    assert refused("App", spec()) is Reason.NAME_TAKEN


def test_without_a_payment_nobody_knows_who_was_first() -> None:
    assert refused("App", spec(), hash="h") is Reason.NAME_TAKEN_HASH_UNKNOWN


@pytest.mark.parametrize(
    ("height", "reason"),
    [
        (2_100_000, Reason.NAME_TAKEN_ACTIVE),
        (2_100_100, Reason.NAME_TAKEN_ACTIVE),
        (2_100_101, None),
        (2_099_999, None),
    ],
)
def test_a_name_is_held_for_the_life_of_its_app(height: int, reason: Reason | None) -> None:
    assert refused("App", spec(), **paid(height)) is reason


def test_the_sentence_says_until_when() -> None:
    with pytest.raises(Rejected, match="2100100"):
        name_conflict("App", spec(), **paid(2_100_050))


def test_builtin_and_reserved_names() -> None:
    assert refused("FoldingAtHome", None, builtin_names=["foldingathome"]) is Reason.NAME_TAKEN_LOCAL_LIST
    assert refused("SHARE", None) is Reason.NAME_RESERVED_SHARE
    assert refused("SHARE", None, builtin_names=["share"]) is Reason.NAME_TAKEN_LOCAL_LIST


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("app", "App"),
        ("my-app", "My-App"),
        ("ap", None),
        ("a.p", "App"),
        ("ap+", "App"),
        ("[", None),
        ("(a|b)pp", None),
        ("a{1,9}pp", None),
        ("app\n", None),
    ],
)
def test_names_are_found_ignoring_case(name: str, found: str | None) -> None:
    rows = {row.name.lower(): row for row in (spec("App"), spec("My-App"))}
    row = find_named(name, rows)
    assert (None if row is None else row.name) == found


@pytest.mark.timeout(60)
def test_a_name_made_to_take_forever_does_not() -> None:
    rows = {"a" * 63: spec("a" * 63)}
    assert find_named("(a+)+$b", rows) is None
    assert find_named("a*" * 30 + "b", rows) is None
