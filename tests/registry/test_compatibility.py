"""What an update may change (docs/spec/registry.md §6, update compatibility)."""

from __future__ import annotations

from typing import Any

import pytest
from appspecs import component, spec

from trionode.registry.compatibility import check_update_compatible, may_change_version
from trionode.registry.reasons import Rejected


def app(version: int, *names: str, **changes: Any) -> dict[str, Any]:
    found = spec(version, **changes)
    if names:
        found["compose"] = [component(version, name=name) for name in names]
    return found


@pytest.mark.parametrize(
    ("new", "previous", "code"),
    [
        (app(3), app(1), None),
        (app(3, repotag="a:2"), app(3), "UPDATE_REPOTAG"),
        (app(4), app(3, repotag="a:2"), None),
        (app(3), app(4), "UPDATE_DOWNGRADE"),
        (app(1), app(8), "UPDATE_DOWNGRADE"),
        (app(5, "a", "b"), app(5, "b", "a"), None),
        (app(5, "a", "b"), app(4, "a"), "UPDATE_COMPONENT_COUNT"),
        (app(8, "a", "b"), app(7, "a"), "UPDATE_COMPONENT_COUNT"),
        (app(7, "a"), app(8, "a", "b"), "UPDATE_COMPONENT_COUNT"),
        (app(7, "A"), app(7, "a"), "UPDATE_COMPONENT_NAME"),
        (app(8, "x", "y"), app(8, "a"), None),
    ],
)
def test_updates(new: dict[str, Any], previous: dict[str, Any], code: str | None) -> None:
    if code is None:
        check_update_compatible(new, previous)
        return
    with pytest.raises(Rejected) as caught:
        check_update_compatible(new, previous)
    assert caught.value.code == code
    assert str(caught.value)


def test_a_refusal_names_what_is_gone() -> None:
    with pytest.raises(Rejected, match='"web"'):
        check_update_compatible(app(7, "db"), app(7, "web"))


@pytest.mark.parametrize(("new", "previous", "may"), [(7, 7, True), (8, 4, True), (7, 6, False)])
def test_our_users_only_move_to_the_latest_version(new: int, previous: int, may: bool) -> None:
    assert may_change_version(app(new), app(previous)) is may
