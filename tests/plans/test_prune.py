"""Nothing of an installed app is ever cleared away."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trionode.lifecycle.local import Component, Container, InstalledApp
from trionode.lifecycle.names import container_name
from trionode.plans.prune import EngineObject, Keep, Kind, Prune, plan_orphans, plan_prune

APPS = st.sets(st.sampled_from(["a", "b", "enc", "fluxcloud", "my-app", "KadenaChainWebNode"]))
OBJECTS = st.lists(
    st.builds(
        EngineObject,
        kind=st.sampled_from(Kind),
        name=st.sampled_from(["fluxweb_a", "fluxweb_enc", "fluxcloud", "x", "fluxDockerNetwork_b", "img:1"]),
        apps=st.frozensets(st.sampled_from(["a", "b", "enc", "gone", "fluxcloud"]), max_size=3),
        in_use=st.booleans(),
    ),
    max_size=20,
)


@given(OBJECTS, APPS, APPS, st.booleans())
def test_what_belongs_to_an_installed_app_stays(
    objects: list[EngineObject], installed: set[str], installing: set[str], busy: bool
) -> None:
    steps = plan_prune(objects, installed, installing, busy=busy)
    assert len(steps) == len(objects)
    here = installed | installing
    pruned = {(step.kind, step.name) for step in steps if isinstance(step, Prune)}
    if busy:
        assert not pruned
    for item in objects:
        twins = [o for o in objects if (o.kind, o.name) == (item.kind, item.name)]
        if all(not twin.apps or twin.apps & here for twin in twins):
            assert (item.kind, item.name) not in pruned
    order = [list(Kind).index(step.kind) for step in steps]
    assert order == sorted(order)
    assert all(step.reason for step in steps)


def test_a_stopped_g_container_of_an_encrypted_app_stays() -> None:
    # its stored specification names no components, and its container does not run: only its row tells
    objects = [
        EngineObject(Kind.CONTAINER, "fluxdb_enc", frozenset({"enc"})),
        EngineObject(Kind.NETWORK, "fluxDockerNetwork_enc", frozenset({"enc"})),
        EngineObject(Kind.VOLUME, "v", frozenset({"enc"})),
        EngineObject(Kind.IMAGE, "r/i:1", frozenset({"enc", "gone"})),
    ]
    assert all(isinstance(step, Keep) for step in plan_prune(objects, ["enc"]))
    assert all(isinstance(step, Prune) for step in plan_prune(objects, ["other"]))


def test_foreign_things_and_things_in_use_stay() -> None:
    foreign = EngineObject(Kind.VOLUME, "database of the operator")
    used = EngineObject(Kind.IMAGE, "r/i:1", frozenset({"gone"}), in_use=True)
    assert [type(step) for step in plan_prune([foreign, used], [])] == [Keep, Keep]


@given(APPS, st.lists(st.sampled_from(["web", "db", "fluxx"]), min_size=1, max_size=3, unique=True))
def test_no_container_of_an_installed_app_is_an_orphan(installed: set[str], parts: list[str]) -> None:
    rows, containers = [], []
    for name in sorted(installed):
        components = tuple(Component(f"{part}_{name}") for part in parts)
        # an encrypted app that cannot be opened has a row without components
        rows.append(InstalledApp(name, "", () if name == "enc" else components))
        containers += [Container(container_name(c.identifier), "exited") for c in components]
        containers.append(Container(container_name(name), "exited"))
    orphans = plan_orphans(rows, containers, is_app=lambda name: True, listed=lambda name: True)
    assert orphans == ()


def test_orphans_are_told_to_the_network_if_it_lists_them() -> None:
    containers = [
        Container("/fluxweb_gone", "running"),
        Container("/fluxdb_gone", "exited"),
        Container("/fluxtool", "running"),
        Container("/postgres", "running"),
    ]
    found = plan_orphans([], containers, is_app=lambda n: n == "gone", listed=lambda n: True)
    (orphan,) = found
    assert (orphan.app, orphan.containers, orphan.tell) == ("gone", ("fluxweb_gone", "fluxdb_gone"), True)
    assert plan_orphans([], containers, is_app=bool, listed=bool, busy=True) == ()
