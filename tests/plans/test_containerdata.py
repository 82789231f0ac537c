"""Reading containerData, and where its mounts end up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.lifecycle.names import true_flags
from trionode.plans.containerdata import Bind, MountKind, binds, parse_container_data
from trionode.plans.problem import PlanError

ENTRIES = st.text(alphabet="grsmfc0123:/|.ab-* ", max_size=40)


@given(ENTRIES | st.text(max_size=60))
def test_any_text_is_refused_or_safe(text: str) -> None:
    try:
        data = parse_container_data(text)
    except PlanError:
        return
    assert data.mounts[0].kind is MountKind.PRIMARY
    assert data.flags == true_flags(text)
    targets = [mount.target for mount in data.mounts]
    assert len(set(targets)) == len(targets)
    for mount in data.mounts:
        assert mount.target.startswith("/")
        assert ".." not in mount.target
        assert "/" not in mount.name
        assert mount.name not in ("", ".", "..")


@given(ENTRIES, st.integers(0, 3))
def test_binds_stay_in_the_volumes_of_components_listed_before(text: str, own: int) -> None:
    identifiers = [f"c{number}_app" for number in range(4)]
    try:
        found = binds(parse_container_data(text), identifiers, own, "/apps")
    except PlanError:
        return
    allowed = {f"/apps/fluxc{number}_app" for number in range(own + 1)}
    assert all(bind.source.rpartition("/")[0] in allowed for bind in found)


def test_every_form() -> None:
    data = parse_container_data("gs:/d|0:/a|m:logs:/b|f:c.yml:/c|c:1:sub:/e|cf:1:x:/f")
    assert data.flags == {"g", "s"}
    assert [mount.kind.value for mount in data.mounts] == [
        "primary",
        "component_primary",
        "directory",
        "file",
        "component_directory",
        "component_file",
    ]
    assert binds(data, ["a_x", "b_x", "c_x"], 2, "/apps/")[4] == Bind("/apps/fluxb_x/sub", "/e")


@pytest.mark.parametrize("text", ["/d|2:/x", "/d|c:2:s:/x", "/d|9:/x"])
def test_a_component_listed_later_cannot_be_named(text: str) -> None:
    with pytest.raises(PlanError, match="not listed before"):
        binds(parse_container_data(text), ["a_x", "b_x", "c_x"], 2, "/apps")


@pytest.mark.parametrize("text", ["/d|m:config:/etc", "/d|m:logs:/var/log", "/d|m:var:/v", "/cfg"])
def test_flags_are_not_letters_somewhere(text: str) -> None:
    assert parse_container_data(text).flags == frozenset()
