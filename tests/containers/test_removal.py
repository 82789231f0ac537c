"""Removing apps: whole, in order, by force, after a death in the middle (docs/spec/lifecycle.md §15)."""

from __future__ import annotations

import pytest
import trio
from appworld import AppWorld, Life, app, part, settled, shop

from trionode.containers.install.records import AppRecord, PartRecord
from trionode.containers.operations import Work
from trionode.plans import labels

pytestmark = pytest.mark.trio


async def with_shop(world: AppWorld) -> Life:
    life = await settled(world)
    assert (await life.actions.install(shop(), reason="the test")).ok
    return life


async def test_an_app_goes_whole_last_component_first(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    before = await world.everything()
    assert (await life.actions.install(shop(), reason="the test")).ok
    world.engine.actions.clear()
    outcome = await life.actions.remove("shop", reason="the test")
    assert outcome.ok, outcome
    assert await world.everything() == before
    removed = [name for call, name in world.engine.actions if call == "remove"]
    assert removed == ["fluxworker_shop", "fluxdb_shop", "fluxweb_shop"]
    assert world.news.told[-1] == ("removed", "shop")


async def test_what_is_not_here_is_told(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    for force in (False, True):
        outcome = await life.actions.remove("nobody", reason="the test", force=force)
        assert not outcome.ok
        assert "not installed" in outcome.problem
    assert world.news.told == [("installed", "base")]


async def test_silent_removals(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    assert (await life.actions.remove("shop", reason="the test", tell_peers=False)).ok
    assert world.news.told[-1] == ("removed silently", "shop")


@pytest.mark.parametrize("operation", ["stop", "remove"])
async def test_without_force_a_failing_first_step_leaves_the_app(
    operation: str, autojump_clock: trio.abc.Clock
) -> None:
    world = AppWorld()
    life = await with_shop(world)
    record = life.records.get("shop")
    world.engine.fail_next(operation)
    outcome = await life.actions.remove("shop", reason="the test")
    assert not outcome.ok
    assert outcome.step.endswith("fluxworker_shop")
    assert life.installed.get("shop") is not None
    assert life.records.get("shop") == record
    assert sorted(world.disk.held) == ["fluxcore_base", "fluxdb_shop", "fluxweb_shop", "fluxworker_shop"]
    assert (await life.actions.remove("shop", reason="again")).ok


@pytest.mark.parametrize("force", [False, True])
async def test_what_fails_later_is_told_and_tried_again(force: bool, autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    before = await world.everything()
    assert (await life.actions.install(shop(), reason="the test")).ok
    world.disk.failing["delete fluxdb_shop"] = 1
    world.firewall.failing["forget 31001"] = 1
    outcome = await life.actions.remove("shop", reason="the test", force=force)
    assert not outcome.ok
    assert "fluxdb_shop" in outcome.problem
    assert "31001" in outcome.problem
    assert life.installed.get("shop") is None
    assert "fluxdb_shop" in world.disk.held
    record = life.records.get("shop")
    assert record is not None
    assert record.phase == "removing"
    assert [again.ok for again in await life.actions.recover()] == [True]
    assert await world.everything() == before


async def test_an_engine_that_is_gone_is_waited_for(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    before = await world.everything()
    assert (await life.actions.install(shop(), reason="the test")).ok
    world.engine.unreachable = True
    refused = await life.actions.remove("shop", reason="the test")
    assert not refused.ok
    assert life.installed.get("shop") is not None
    forced = await life.actions.remove("shop", reason="the test", force=True)
    assert not forced.ok
    assert life.installed.get("shop") is None
    world.engine.unreachable = False
    again = await world.life()
    assert again.records.unfinished() == ()
    assert await world.everything() == before


async def test_linked_apps_keep_a_network_unless_by_force(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    assert (await life.actions.remove("base", reason="the test")).ok
    assert "fluxDockerNetwork_base" in world.engine.everything()["network"]
    world = AppWorld()
    life = await with_shop(world)
    started_s = trio.current_time()
    assert (await life.actions.remove("base", reason="the test", force=True)).ok
    assert "fluxDockerNetwork_base" not in world.engine.everything()["network"]
    assert trio.current_time() - started_s == pytest.approx(2.0)


async def test_a_network_that_cannot_be_removed_is_tried_twice(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    world.engine.fail_next("remove_network")
    assert (await life.actions.remove("shop", reason="the test", force=True)).ok
    assert "fluxDockerNetwork_shop" not in world.engine.everything()["network"]


async def test_an_app_that_cannot_be_opened_any_more_goes_whole(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    before = await world.everything()
    hidden = app("hidden", part("db", ports=(31050,)), enterprise="sealed")
    world.opener.inside["hidden"] = {"compose": hidden["compose"]}
    assert (await life.actions.install(hidden, reason="the test")).ok
    world.opener.inside.clear()
    later = await world.life()
    assert later.installed.parts("hidden") == ()
    assert (await later.actions.remove("hidden", reason="the test")).ok  # D-14
    assert await world.everything() == before


async def test_an_app_without_row_and_record_is_found_by_its_containers(
    autojump_clock: trio.abc.Clock,
) -> None:
    world = AppWorld()
    life = await settled(world)
    before = await world.everything()
    assert (await life.actions.install(shop(), reason="the test")).ok
    await world.store.delete("shop")
    await world.store.put_meta("installRecords", before["records"])
    later = await world.life()
    outcome = await later.actions.remove("shop", reason="an orphan", force=True)
    assert outcome.ok, outcome
    after = await world.everything()
    # ports of containers that do not run are known to nobody any more
    assert after.pop("open ports").items() >= before.pop("open ports").items()
    assert after == before


async def test_containers_of_apps_with_similar_names_stay(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    assert (await life.actions.install(app("shop2", part("web")), reason="the test")).ok
    assert (await life.actions.install(app("hop", part("web")), reason="the test")).ok
    assert (await life.actions.install(shop(), reason="the test")).ok
    assert (await life.actions.remove("shop", reason="the test")).ok
    names = {row.name: row.labels[labels.OWNER] for row in await world.engine.containers()}
    assert names == {"fluxcore_base": "base", "fluxweb_shop2": "shop2", "fluxweb_hop": "hop"}


async def test_a_port_another_app_has_stays_open(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    await life.records.put(AppRecord("ghost", "removing", (PartRecord("x_ghost", "", (31100, 31900)),)))
    world.firewall.open[31900] = "ghost"
    assert (await life.actions.remove("ghost", reason="the test", force=True)).ok
    assert world.firewall.open == {31100: "base"}


async def test_old_and_new_image_of_a_tag_go(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    assert (await life.actions.install(app("late", part("db")), reason="the test")).ok
    world.push("library/db:1")
    async with world.engine.pull("library/db:1") as messages:
        async for _ in messages:
            pass
    assert len(await world.engine.images()) == 3
    assert (await life.actions.remove("late", reason="the test")).ok
    assert len(await world.engine.images()) == 1


async def test_force_breaks_off_the_install_of_the_app(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    before = await world.everything()
    world.engine.takes_s["pull"] = 1000.0
    told = []

    async def install() -> None:
        told.append(await life.actions.install(shop(), reason="the test"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(install)
        await trio.sleep(10)
        assert life.operations.names() == {"shop"}
        outcome = await life.actions.remove("shop", reason="the operator", force=True)
    assert outcome.ok
    assert [one.step for one in told] == ["broken off"]
    assert await world.everything() == before
    assert not life.operations.is_busy


async def test_force_goes_ahead_beside_another_app(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    with life.operations.doing(Work.SOFT_REDEPLOY, "other"):
        assert (await life.actions.remove("shop", reason="the test", force=True)).ok


@pytest.mark.parametrize("call", ["stop", "remove", "remove_network", "remove_image"])
async def test_a_removal_that_was_killed_is_finished(call: str, autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    before = await world.everything()
    assert (await life.actions.install(shop(), reason="the test")).ok
    world.engine.takes_s[call] = 250.0
    with trio.move_on_after(600 if call == "remove" else 20):
        await life.actions.remove("shop", reason="the test")
    world.engine.takes_s.clear()
    record = life.records.get("shop")
    assert record is not None
    assert record.phase == "removing"
    later = await world.life()
    assert later.installed.get("shop") is None
    assert await world.everything() == before


async def test_an_image_stays_for_an_app_whose_container_is_missing(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    world.engine.vanish("fluxcore_base")
    assert (await life.actions.remove("shop", reason="the test")).ok
    assert [image.tags for image in await world.engine.images()] != []
    assert (await life.actions.recreate("base", "core_base", keeps_volume=True, start=True)).ok
    assert ("pull", "library/web:1") not in list(world.engine.actions)[-3:]


async def test_an_image_without_a_record_stays_for_the_row(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    world.engine.vanish("fluxcore_base")
    await life.records.forget("base")
    assert (await life.actions.remove("shop", reason="the test")).ok
    assert len(await world.engine.images()) == 1


async def test_volumes_alone_are_found_by_their_names(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    for name in ("fluxweb_shop", "fluxdb_shop", "fluxworker_shop"):
        world.engine.vanish(name)
    await life.records.forget("shop")
    await life.installed.delete("shop")
    assert (await life.actions.remove("shop", reason="an orphan", force=True)).ok
    assert sorted(world.disk.held) == ["fluxcore_base"]


async def test_a_record_that_cannot_be_deleted_is_told(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    before = await world.everything()
    assert (await life.actions.install(app("bare", part("web")), reason="the test")).ok
    world.engine.vanish("fluxweb_bare")
    forget = world.store.delete

    async def deleting(name: str) -> None:
        await forget(name)
        world.store.failing.add("put_meta")

    world.store.delete = deleting  # type: ignore[method-assign]
    outcome = await life.actions.remove("bare", reason="the test")
    assert (outcome.ok, outcome.step) == (False, "record")
    world.store.failing.clear()
    world.store.delete = forget  # type: ignore[method-assign]
    await world.life()
    assert await world.everything() == before


async def test_a_network_alone_is_found(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await with_shop(world)
    assert (await life.actions.remove("base", reason="the test")).ok
    assert (await life.actions.remove("shop", reason="the test")).ok
    assert "fluxDockerNetwork_base" in world.engine.everything()["network"]
    assert (await life.actions.remove("base", reason="what is left", force=True)).ok
    assert "fluxDockerNetwork_base" not in world.engine.everything()["network"]


async def test_rules_of_a_bridge_that_is_gone_are_taken_away(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    world.firewall.failing["guard"] = 1
    assert not (await life.actions.remove("base", reason="the test")).ok
    assert world.firewall.guarded != ()
    await life.actions.recover()
    assert world.firewall.guarded == ()
