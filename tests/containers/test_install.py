"""Installing an app: what is there afterwards, in which order, what is refused (lifecycle.md §12)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import trio
from appworld import ADDRESS, OWNER, SECRET, AppWorld, app, base, part, settled, shop

from trionode.containers.engine import Credentials, EngineError
from trionode.containers.images.registry import ImageFault
from trionode.containers.install.records import PartRecord
from trionode.containers.memory.objects import RegistryImage
from trionode.containers.operations import Busy, Work
from trionode.plans.createoptions import CreateOptions
from trionode.registry.images import BlockLists

pytestmark = pytest.mark.trio


class Told:
    """Keeps what is told."""

    def __init__(self) -> None:
        self.messages: list[Mapping[str, Any]] = []

    def tell(self, message: Mapping[str, Any]) -> None:
        self.messages.append(message)


async def test_an_app_is_installed_whole_in_order(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    world.engine.actions.clear()
    told = Told()
    outcome = await life.actions.install(shop(), reason="the test", progress=told)
    assert outcome.ok, outcome
    assert list(world.engine.actions) == [
        ("create_network", "fluxDockerNetwork_shop"),
        ("pull", "library/web:1"),
        ("create", "fluxweb_shop"),
        ("connect", "fluxweb_shop"),
        ("start", "fluxweb_shop"),
        ("pull", "library/db:1"),
        ("create", "fluxdb_shop"),
        ("connect", "fluxdb_shop"),
        ("pull", "library/worker:1"),
        ("create", "fluxworker_shop"),
        ("connect", "fluxworker_shop"),
    ]
    states = {row.name: row.state for row in await world.engine.containers()}
    assert states["fluxweb_shop"] == "running"
    assert states["fluxdb_shop"] == states["fluxworker_shop"] == "created"  # g: and r: are started later
    assert world.firewall.open == {31100: "base", 31001: "shop", 31002: "shop", 31003: "shop"}
    assert sorted(world.disk.held) == ["fluxcore_base", "fluxdb_shop", "fluxweb_shop", "fluxworker_shop"]
    assert "config" in world.disk.held["fluxdb_shop"].entries
    assert world.news.told == [("installed", "base"), ("installed", "shop")]
    assert {"status": "shop is installed"} in told.messages
    assert any("progressDetail" in message for message in told.messages)
    assert world.engine.reaches("fluxweb_shop", "fluxcore_base")
    row = life.installed.get("shop")
    assert row is not None
    assert row.hash == shop()["hash"]
    assert row.height == 2_100_000
    record = life.records.get("shop")
    assert record is not None
    assert record.phase == "installed"


async def test_containers_get_what_the_specification_says(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    assert (await life.actions.install(shop(), reason="the test")).ok
    details = await world.engine.inspect("fluxdb_shop")
    environment = details.document["Config"]["Env"]
    assert f"FETCHED={SECRET}" in environment
    assert "FLUX_APP_NAME=shop" in environment
    assert f"FLUX_NODE_HOST_IP={ADDRESS.partition(':')[0]}" in environment
    assert not any(entry.startswith("F_S_ENV") for entry in environment)
    assert details.nano_cpus == 500_000_000
    assert "fluxDockerNetwork_base" in (await world.engine.inspect("fluxweb_shop")).addresses


async def test_addresses_of_containers_that_do_not_run_are_not_given_twice(
    autojump_clock: trio.abc.Clock,
) -> None:
    world = AppWorld()
    life = await settled(world)
    assert (await life.actions.install(shop(), reason="the test")).ok
    wanted = []
    for name in ("fluxweb_shop", "fluxdb_shop", "fluxworker_shop"):
        await world.engine.start(name)
        wanted.append((await world.engine.inspect(name)).addresses["fluxDockerNetwork_shop"])
    assert len(set(wanted)) == 3


async def test_an_app_that_is_here_stays_as_it_is(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    before = await world.everything()
    for test in (False, True):
        outcome = await life.actions.install(base(), reason="again", test=test)
        assert not outcome.ok
        assert outcome.step == "check"
    assert await world.everything() == before


async def test_a_second_operation_is_refused_while_one_runs(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    with life.operations.doing(Work.INSTALL, "other"):
        with pytest.raises(Busy, match="other"):
            await life.actions.install(shop(), reason="the test")
        with pytest.raises(Busy):
            await life.actions.remove("base", reason="the test")
        assert (await life.actions.remove("base", reason="the test", force=True)).ok


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"description": "networkWith:[gone]"}, "gone"),
        ({"owner": "1SomebodyElse"}, "another owner"),
        ({"geolocation": ["a!cEU"]}, "region"),
        ({"compose": []}, "opened"),
    ],
)
async def test_gates_come_before_any_side_effect(
    change: dict[str, Any], words: str, autojump_clock: trio.abc.Clock
) -> None:
    world = AppWorld()
    life = await settled(world)
    before = await world.everything()
    outcome = await life.actions.install(shop(**change), reason="the test")
    assert not outcome.ok
    assert outcome.step == "check"
    assert words in outcome.problem
    assert await world.everything() == before
    assert world.news.errors == []


async def test_blocked_images_are_not_installed(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    world.lists.now = BlockLists(blocked=("library/db:1",))
    outcome = await life.actions.install(shop(), reason="the test")
    assert not outcome.ok
    assert "must not run here" in outcome.problem
    assert life.installed.get("shop") is None


async def test_what_installed_apps_take_counts(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    big = app("big", part("web", cpu=15.0))  # 16 cores, one kept, half of one taken by base
    outcome = await life.actions.install(big, reason="the test")
    assert not outcome.ok
    assert "cpu" in outcome.problem


async def test_tests_are_small_and_leave_nothing(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    before = await world.everything()
    outcome = await life.actions.install(shop(), reason="the test", test=True)
    assert outcome.ok, outcome
    assert await world.everything() == before
    assert ("start", "fluxdb_shop") in world.engine.actions  # a test starts everything
    assert 31001 not in world.firewall.open
    assert world.news.told == [("installed", "base")]


async def test_a_failed_install_is_told_once_the_row_was_there(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    world.refuse_image("library/db:1", ImageFault.MISSING)
    outcome = await life.actions.install(shop(), reason="the test")
    assert not outcome.ok
    assert outcome.step == "image check db_shop"
    assert [(name, hash_) for name, hash_, _ in world.news.errors] == [("shop", shop()["hash"])]
    await life.actions.install(shop(), reason="the test", tell_failure=False)
    await life.actions.install(shop(), reason="the test", test=True)
    assert len(world.news.errors) == 1


async def test_secrets_are_in_no_outcome(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    for operation in ("create", "pull"):
        error = EngineError(f"bad thing TOKEN={SECRET} near {SECRET}", status=500)
        world.engine.fail_next(operation, error, target="fluxweb_shop" if operation == "create" else "")
        spec = shop()
        spec["compose"][0]["repoauth"] = f"user:{SECRET}"
        outcome = await life.actions.install(spec, reason="the test")
        assert not outcome.ok
        assert outcome.step.startswith("container" if operation == "create" else "pull")
        assert SECRET not in outcome.problem
        assert "bad thing" in outcome.problem
        assert SECRET not in repr(world.news.errors)


async def test_private_images_are_fetched_with_their_login(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    login = Credentials("user", "pass:word")
    world.images.push("library/db:1", login=login)
    world.engine.registry["library/db:1"] = RegistryImage(credentials=login)
    private = app("private", part("db", repoauth="user:pass:word"), enterprise="closed", version=8)
    assert (await life.actions.install(private, reason="the test")).ok
    refused = await life.actions.install(app("open", part("db", repoauth="nonsense")), reason="the test")
    assert not refused.ok
    assert "nonsense" not in refused.problem


async def test_encrypted_apps_are_stored_closed(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    hidden = app("hidden", part("db"), enterprise="sealed", contacts=["x@example.org"])
    world.opener.inside["hidden"] = {"compose": hidden["compose"], "contacts": hidden["contacts"]}
    assert (await life.actions.install(hidden, reason="the test")).ok
    stored = next(row for row in await world.store.rows() if row.name == "hidden").spec()
    assert stored["compose"] == []
    assert stored["contacts"] == []
    assert stored["enterprise"] == "sealed"
    assert SECRET not in str(stored)
    again = await world.life()
    assert [one.identifier for one in again.installed.parts("hidden")] == ["db_hidden"]
    assert next(row for row in again.installed.installed() if row.name == "hidden").components


async def test_an_image_of_another_app_survives_a_rollback(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    world.engine.fail_next("start", target="fluxweb_shop")
    assert not (await life.actions.install(shop(), reason="the test")).ok
    assert [tag for image in await world.engine.images() for tag in image.tags] != []
    assert (await life.actions.remove("base", reason="the test")).ok
    assert await world.engine.images() == ()


async def test_a_volume_that_is_there_is_neither_used_nor_removed(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    assert (await life.actions.install(shop(), reason="the test")).ok
    assert (await life.actions.remove("shop", reason="the test")).ok
    donor = await world.life()
    assert (await donor.actions.install(shop(), reason="the test")).ok
    kept = world.disk.held["fluxweb_shop"]
    await world.store.delete("shop")
    await world.store.put_meta("installRecords", "[]")
    for name in ("fluxweb_shop", "fluxdb_shop", "fluxworker_shop"):
        await world.engine.remove(name, force=True)
    stranger = await world.life()
    outcome = await stranger.actions.install(shop(), reason="the test")
    assert not outcome.ok
    assert "already" in outcome.problem
    assert world.disk.held["fluxweb_shop"] is kept


async def test_a_single_container_app_of_version_3(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    before = await world.everything()
    single = {
        "version": 3,
        "name": "solo",
        "description": "",
        "owner": OWNER,
        "repotag": "library/db:1",
        "ports": [31050],
        "domains": [""],
        "enviromentParameters": ["A=1"],
        "commands": [],
        "containerPorts": [80],
        "containerData": "/data",
        "cpu": 0.1,
        "ram": 100,
        "hdd": 1,
        "tiered": True,
        "cpubamf": 2.0,
        "hash": "aa" * 32,
        "height": 900_000,
    }
    assert (await life.actions.install(single, reason="the test")).ok
    assert (await world.engine.inspect("fluxsolo")).nano_cpus == 2_000_000_000  # the value of this tier
    assert (await life.actions.remove("solo", reason="the test")).ok
    assert await world.everything() == before


async def test_an_image_that_was_here_before_stays_after_a_rollback(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    async with world.engine.pull("library/db:1") as messages:
        async for _ in messages:
            pass
    before = await world.everything()
    world.engine.fail_next("start")
    assert not (await life.actions.install(app("late", part("db")), reason="the test")).ok
    assert await world.everything() == before


THEIRS = CreateOptions(
    name="fluxdb_shop", app="", identifier="", image="library/web:1", hostname="", network="bridge"
)


async def test_a_container_of_that_name_is_let_alone(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    await world.engine.create(THEIRS)
    before = await world.everything()
    outcome = await life.actions.install(shop(), reason="the test")
    assert outcome.step == "container db_shop"
    assert await world.everything() == before


async def test_so_is_one_that_comes_while_we_look(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.abc.Clock
) -> None:
    world = AppWorld()
    life = await settled(world)
    create = world.engine.create

    async def too_late(options: CreateOptions) -> str:
        if options.name == THEIRS.name:
            await create(THEIRS)
        return await create(options)

    monkeypatch.setattr(world.engine, "create", too_late)
    outcome = await life.actions.install(shop(), reason="the test")
    assert outcome.step == "container db_shop"
    assert world.engine.everything()["container"] == ("fluxcore_base", "fluxdb_shop")


async def test_leftovers_of_an_earlier_attempt_are_removed_first(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await settled(world)
    world.engine.fail_next("start", target="fluxweb_shop")
    world.engine.fail_next("remove", target="fluxweb_shop")
    world.engine.fail_next("remove_network")
    outcome = await life.actions.install(shop(), reason="the test")
    assert "not undone" in outcome.problem
    assert [record.phase for record in life.records.unfinished()] == ["removing"]
    outcome = await life.actions.install(shop(), reason="once more")
    assert outcome.ok, outcome
    assert life.records.unfinished() == ()
    world.engine.unreachable = True
    assert not (await life.actions.remove("shop", reason="the test", force=True)).ok
    outcome = await life.actions.install(shop(), reason="too early")
    assert outcome.step == "leftovers"


async def test_apps_of_another_node_get_a_record(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    await settled(world)
    await world.store.put_meta("installRecords", '[{"app":"gone","phase":"installed"}]')
    life = await world.life()
    assert [record.app for record in life.records.all()] == ["base"]
    record = life.records.get("base")
    assert record is not None
    assert record.parts == (PartRecord("core_base", "library/web:1", (31100,)),)
