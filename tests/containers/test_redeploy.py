"""Apps and components made anew: what stays, what goes, what a failure costs (docs/spec/lifecycle.md §16)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
from appworld import ADDRESS, AppWorld, Life, app, part, settled, shop

from trionode.containers.images.registry import ImageFault
from trionode.containers.install.appactions import HELD
from trionode.containers.install.troubles import StorageAway, StorageError
from trionode.lifecycle.limits import Machine
from trionode.plans.redeploy import Depth, PartChange, UpdatePlan, plan_update

pytestmark = pytest.mark.trio

CONTAINERS = ("fluxweb_shop", "fluxdb_shop", "fluxworker_shop")


async def with_shop(world: AppWorld) -> Life:
    life = await settled(world)
    assert (await life.actions.install(shop(), reason="the test")).ok
    return life


async def ids(world: AppWorld) -> dict[str, str]:
    return {row.name: row.id for row in await world.engine.containers()}


def mark(world: AppWorld) -> None:
    """Something in each volume that a new volume would not have."""
    for held in world.disk.held.values():
        held.used_bytes = 4711


async def test_soft_keeps_volumes_and_starts_all_but_elected(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    before, old = await world.everything(), await ids(world)
    mark(world)
    world.specs.known["shop"] = {**shop(), "hash": "ff" * 32}
    seen: set[frozenset[str]] = set()
    life.installed.on_change(lambda: seen.add(life.installed.names() | life.operations.names()))
    started_s = trio.current_time()
    outcome = await life.actions.redeploy("shop", hard=False, reason="the test")
    assert outcome.ok, outcome
    assert trio.current_time() - started_s == pytest.approx(30.0)
    after, new = await world.everything(), await ids(world)
    assert all(new[name] != old[name] for name in CONTAINERS)
    assert new["fluxcore_base"] == old["fluxcore_base"]
    states = after.pop("states")
    # its files are there already, so the r: component is started this time
    assert (states["fluxweb_shop"], states["fluxdb_shop"], states["fluxworker_shop"]) == (
        "running",
        "created",
        "running",
    )
    for kind in ("states", "endpoints"):
        before.pop(kind)
        after.pop(kind, None)
    assert after == before
    assert {held.used_bytes for held in world.disk.held.values()} == {4711}
    assert seen == {frozenset({"base", "shop"})}  # it is here all the time
    row = life.installed.get("shop")
    assert row is not None
    assert row.hash == "ff" * 32


async def test_hard_makes_volumes_anew(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    before = await world.everything()
    mark(world)
    assert (await life.actions.redeploy("shop", hard=True, reason="the test")).ok
    assert await world.everything() == before
    assert {name: held.used_bytes for name, held in world.disk.held.items()} == {
        "fluxcore_base": 4711,
        **dict.fromkeys(CONTAINERS, 0),
    }
    assert ("removed", "shop") not in world.news.told


async def test_linked_apps_are_connected_again(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    assert (await life.actions.redeploy("base", hard=True, reason="the test")).ok
    assert world.engine.reaches("fluxweb_shop", "fluxcore_base")
    assert (await life.actions.redeploy("shop", hard=False, reason="the test")).ok
    assert world.engine.reaches("fluxweb_shop", "fluxcore_base")


@pytest.mark.parametrize("fault", [ImageFault.UNREACHABLE, ImageFault.MISSING, ImageFault.RATE_LIMITED])
async def test_a_registry_that_fails_costs_nothing(fault: ImageFault, autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    before, old = await world.everything(), await ids(world)
    world.refuse_image("library/worker:1", fault)
    outcome = await life.actions.redeploy("shop", hard=True, reason="the test")
    assert not outcome.ok
    assert outcome.step == "images"
    assert await world.everything() == before
    assert await ids(world) == old


async def test_a_container_that_cannot_be_stopped_costs_nothing(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    before = await world.everything()
    world.engine.fail_next("stop")
    assert not (await life.actions.redeploy("shop", hard=True, reason="the test")).ok
    assert await world.everything() == before


@pytest.mark.parametrize("operation", ["create", "connect", "start", "remove"])
async def test_a_failure_afterwards_is_left_to_health(operation: str, autojump_clock: trio.abc.Clock) -> None:
    """A port that is taken, an engine that refuses once: the app and its data are worth more tries."""
    world = AppWorld()
    life = await with_shop(world)
    mark(world)
    world.engine.fail_next(operation, target="fluxweb_shop")
    outcome = await life.actions.redeploy("shop", hard=False, reason="the test")
    assert not outcome.ok
    assert life.installed.get("shop") is not None
    assert world.disk.held["fluxweb_shop"].used_bytes == 4711
    assert "removed" not in outcome.problem
    assert ("removed", "shop") not in world.news.told


TROUBLES = {
    "storage away": StorageAway("the storage at storage.test did not answer within 20 s"),
    "storage wrong": StorageError("the storage at storage.test answered 404"),
}


@pytest.mark.parametrize("trouble", [*TROUBLES, "storage answers nonsense", "identity not known"])
@pytest.mark.parametrize("hard", [False, True])
async def test_what_is_to_be_fetched_is_fetched_before_anything_is_touched(
    trouble: str, hard: bool, autojump_clock: trio.abc.Clock
) -> None:
    world = AppWorld()
    life = await settled(world)
    shipping = shop()
    shipping["compose"][0]["environmentParameters"].append("LOG=COLLECT")
    shipping["compose"][2]["environmentParameters"].append("LOG=SEND")
    assert (await life.actions.install(shipping, reason="the test")).ok
    mark(world)
    before = await world.everything()
    if trouble in TROUBLES:
        world.storage.fails = TROUBLES[trouble]
    elif trouble == "identity not known":
        world.node.facts_now = msgspec.structs.replace(world.node.facts_now, collateral="")
    else:
        world.storage.answer = {"no": "list"}
    outcome = await life.actions.redeploy("shop", hard=hard, reason="a new image was pushed under its tag")
    assert not outcome.ok
    assert outcome.step == "options"
    assert await world.everything() == before
    assert world.disk.held["fluxweb_shop"].used_bytes == 4711


async def test_a_storage_is_asked_once_for_a_redeploy(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    world.storage.asked = 0
    assert (await life.actions.redeploy("shop", hard=False, reason="the test")).ok
    assert world.storage.asked == 1


async def test_a_new_specification_no_container_can_be_made_of_takes_the_app_away(
    autojump_clock: trio.abc.Clock,
) -> None:
    """That is the app itself: nobody else is to blame, and nothing will change."""
    world = AppWorld()
    life = await with_shop(world)
    spec = shop(hash="ff" * 32)
    spec["compose"][0]["containerData"] = "/data|m:\0:/x"
    world.specs.known["shop"] = spec
    outcome = await life.actions.redeploy("shop", hard=False, reason="the test")
    assert not outcome.ok
    assert "containerData of web_shop has a NUL character" in outcome.problem
    assert life.installed.get("shop") is None


async def test_an_app_that_does_not_fit_any_more_leaves(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    bigger = shop(hash="ff" * 32)
    bigger["compose"][0]["cpu"] = 20.0
    world.specs.known["shop"] = bigger
    outcome = await life.actions.redeploy("shop", hard=False, reason="the test")
    assert not outcome.ok
    assert life.installed.get("shop") is None


@pytest.mark.parametrize(
    ("spec", "unknown"),
    [
        ({"geolocation": ["acEU"]}, {"place": None}),
        ({"version": 7, "nodes": [ADDRESS]}, {"address": "", "collateral": ""}),
        ({}, {"machine": Machine(16, 64_000, 0)}),
    ],
)
async def test_a_node_that_does_not_know_itself_removes_nothing(
    spec: dict[str, Any], unknown: dict[str, Any], autojump_clock: trio.abc.Clock
) -> None:
    world = AppWorld()
    life = await settled(world)
    assert (await life.actions.install(shop(**spec), reason="the test")).ok
    before = await world.everything()
    world.node.facts_now = msgspec.structs.replace(world.node.facts_now, **unknown)
    outcome = await life.actions.redeploy("shop", hard=False, reason="the test")
    assert (outcome.ok, outcome.step) == (False, "check")
    assert "not known yet" in outcome.problem
    assert await world.everything() == before


async def test_its_own_share_is_free_for_itself(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    wide = app("wide", part("db", cpu=10.0))
    assert (await life.actions.install(wide, reason="the test")).ok
    assert (await life.actions.redeploy("wide", hard=False, reason="the test")).ok


async def test_other_components_make_it_hard(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    mark(world)
    other = shop(hash="ff" * 32)
    other["compose"] = [other["compose"][0], part("extra", image="library/db:1")]
    world.specs.known["shop"] = other
    assert (await life.actions.redeploy("shop", hard=False, reason="the test")).ok
    assert sorted(world.disk.held) == ["fluxcore_base", "fluxextra_shop", "fluxweb_shop"]
    assert world.disk.held["fluxweb_shop"].used_bytes == 0
    assert sorted(await ids(world)) == ["fluxcore_base", "fluxextra_shop", "fluxweb_shop"]
    assert (await life.actions.remove("shop", reason="the test")).ok
    assert sorted(world.disk.held) == ["fluxcore_base"]


async def test_the_replaced_image_goes(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    world.push("library/db:1")
    world.push("library/web:1")
    assert (await life.actions.redeploy("shop", hard=False, reason="the test")).ok
    # the old image of web:1 stays, because the container of base is made of it
    assert len(await world.engine.images()) == 4
    assert (await life.actions.redeploy("base", hard=False, reason="the test")).ok
    assert len(await world.engine.images()) == 3


async def test_one_component_alone(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    before, old = await world.everything(), await ids(world)
    mark(world)
    assert (await life.actions.redeploy_component("web_shop", hard=True, reason="the test")).ok
    new = await ids(world)
    assert [name for name in CONTAINERS if new[name] != old[name]] == ["fluxweb_shop"]
    assert world.disk.held["fluxweb_shop"].used_bytes == 0
    assert world.disk.held["fluxdb_shop"].used_bytes == 4711
    assert await world.everything() == before
    unknown = await life.actions.redeploy_component("nothing_shop", hard=True, reason="the test")
    assert not unknown.ok


async def test_a_component_that_fails_is_left_to_health(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    world.engine.fail_next("create")
    outcome = await life.actions.redeploy_component("web_shop", hard=False, reason="the test")
    assert not outcome.ok
    assert life.installed.get("shop") is not None  # D-10
    assert sorted(await ids(world)) == ["fluxcore_base", "fluxdb_shop", "fluxworker_shop"]
    again = await life.actions.recreate("shop", "web_shop", keeps_volume=True, start=True)
    assert again.ok, again
    assert world.engine.reaches("fluxweb_shop", "fluxcore_base")


async def test_backups_are_not_disturbed(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    before = await world.everything()
    with life.operations.holding("shop"):
        outcome = await life.actions.redeploy("shop", hard=False, reason="the test")
    assert (outcome.ok, outcome.step) == (False, HELD)
    with life.operations.holding("web_shop"):
        whole = await life.actions.redeploy("shop", hard=False, reason="the test")
        outcome = await life.actions.redeploy_component("web_shop", hard=False, reason="the test")
    assert (whole.step, outcome.step) == (HELD, HELD)
    assert await world.everything() == before


@pytest.mark.parametrize("at_s", [5.0, 30.5])
async def test_a_redeploy_broken_off_leaves_the_rest_to_health(
    at_s: float, autojump_clock: trio.abc.Clock
) -> None:
    world = AppWorld()
    life = await with_shop(world)
    before = await world.everything()
    world.engine.takes_s["create"] = 1.0
    with trio.move_on_after(at_s) as scope:
        await life.actions.redeploy("shop", hard=True, reason="the test")
    assert scope.cancelled_caught
    world.engine.takes_s.clear()
    later = await world.life()
    assert later.installed.get("shop") is not None
    for name in ("web_shop", "db_shop", "worker_shop"):
        if f"flux{name}" not in await ids(world):
            start = name == "web_shop"
            made = await later.actions.recreate("shop", name, keeps_volume=False, start=start)
            assert made.ok, made
    assert await world.everything() == before


# --- recreate -----------------------------------------------------------------------------------------


async def test_a_vanished_container_is_made_again_from_what_is_here(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    before = await world.everything()
    mark(world)
    world.engine.vanish("fluxweb_shop")
    world.disk.lose_mount("fluxweb_shop")
    world.refuse_image("*", ImageFault.UNREACHABLE)
    outcome = await life.actions.recreate("shop", "web_shop", keeps_volume=False, start=True)
    assert outcome.ok, outcome
    assert world.disk.held["fluxweb_shop"].used_bytes == 4711  # a volume that is there is never made anew
    assert await world.everything() == before


async def test_network_volume_and_image_are_made_again_too(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    assert (await life.actions.install(app("solo", part("db")), reason="the test")).ok
    before = await world.everything()
    world.engine.vanish("fluxdb_solo")
    await world.engine.remove_network("fluxDockerNetwork_solo")
    await world.engine.remove_image("library/db:1")
    await world.disk.remove_volume("fluxdb_solo")
    assert (await life.actions.recreate("solo", "db_solo", keeps_volume=False, start=True)).ok
    after = await world.everything()
    before.pop("guarded")
    after.pop("guarded")
    assert after == before


@pytest.mark.parametrize("operation", ["create", "connect", "start"])
async def test_a_failed_recreation_removes_nothing(operation: str, autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    world.engine.vanish("fluxweb_shop")
    before = await world.everything()
    world.engine.fail_next(operation)
    outcome = await life.actions.recreate("shop", "web_shop", keeps_volume=True, start=True)
    assert not outcome.ok
    after = await world.everything()
    for state in (before, after):  # its ports are closed until it is there again
        state.pop("open ports")
    assert after == before


# --- updates ------------------------------------------------------------------------------------------


def changed(**members: Any) -> dict[str, Any]:
    return shop(hash="ff" * 32, height=2_200_000, **members)


async def test_an_update_of_the_row_only_wires_new_links(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    assert (await life.actions.install(shop(description=""), reason="the test")).ok
    old = await ids(world)
    assert not world.engine.reaches("fluxweb_shop", "fluxcore_base")
    spec = changed()
    installed = await life.installed.opened("shop")
    assert installed is not None
    plan = plan_update(installed, spec)
    assert plan.depth is Depth.ROW
    assert (await life.actions.update(spec, plan, reason="the test")).ok
    assert await ids(world) == old
    assert world.engine.reaches("fluxweb_shop", "fluxcore_base")
    row = life.installed.get("shop")
    assert row is not None
    assert (row.hash, row.height) == ("ff" * 32, 2_200_000)


async def test_the_row_of_an_encrypted_app_is_stored_closed_by_every_way(
    autojump_clock: trio.abc.Clock,
) -> None:
    """D-11: what was opened to compare it must not end in the database."""
    world = AppWorld()
    life = await world.life()
    secret = app("hidden", part("db", environmentParameters=["TOKEN=open sesame"]), enterprise="sealed")
    world.opener.inside["hidden"] = {"compose": secret["compose"]}
    assert (await life.actions.install(secret, reason="the test")).ok
    later = {**secret, "hash": "ff" * 32, "height": 2_200_000}
    await life.actions.update_row(later)
    plan = UpdatePlan(Depth.ROW, "its contacts changed")
    assert (await life.actions.update({**later, "hash": "ee" * 32}, plan, reason="the test")).ok
    for row in await world.store.rows():
        assert "open sesame" not in row.spec_text
        assert row.spec()["compose"] == []
    opened = life.installed.opened_now("hidden")
    assert opened is not None
    assert (opened["hash"], opened["compose"]) == ("ee" * 32, secret["compose"])


async def test_changed_components_alone_are_made_anew(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    old = await ids(world)
    mark(world)
    spec = changed()
    spec["compose"][0]["ram"] = 600
    spec["compose"][2]["hdd"] = 7
    installed = await life.installed.opened("shop")
    assert installed is not None
    plan = plan_update(installed, spec)
    assert [(one.identifier, one.depth) for one in plan.parts] == [
        ("web_shop", Depth.SOFT),
        ("worker_shop", Depth.HARD),
    ]
    assert (await life.actions.update(spec, plan, reason="the test")).ok
    new = await ids(world)
    assert [name for name in CONTAINERS if new[name] != old[name]] == ["fluxweb_shop", "fluxworker_shop"]
    used = {name: held.used_bytes for name, held in world.disk.held.items()}
    assert (used["fluxweb_shop"], used["fluxworker_shop"]) == (4711, 0)


async def test_a_component_no_longer_wanted_goes_with_the_update(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    spec = app("old", part("web", ports=(31050,)), part("db", ports=(31051,)), version=6)
    assert (await life.actions.install(spec, reason="the test")).ok
    fewer = {**spec, "compose": [{**spec["compose"][0], "ram": 600}], "hash": "ff" * 32}
    plan = UpdatePlan(Depth.SOFT, "the test", (PartChange("web_old", Depth.SOFT, "the test"),))
    assert (await life.actions.update(fewer, plan, reason="the test")).ok
    assert sorted(await ids(world)) == ["fluxcore_base", "fluxweb_old"]
    assert sorted(world.disk.held) == ["fluxcore_base", "fluxweb_old"]
    assert 31051 not in world.firewall.open


async def test_an_app_that_cannot_be_opened_here_leaves(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    outcome = await life.actions.update(changed(), UpdatePlan(Depth.LEAVE, "closed"), reason="the test")
    assert outcome.ok
    assert life.installed.get("shop") is None
    assert world.news.told[-1] == ("removed", "shop")
