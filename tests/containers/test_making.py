"""What new containers are made of: logs, addresses, environment, spare CPU (lifecycle.md §13, §14)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
from appworld import ADDRESS, OWNER, AppWorld, Life, app, part

from trionode.containers.install.appactions import AppLifecycle
from trionode.plans.createoptions import CreateOptions
from trionode.plans.logs import LogFile, LogShipping

pytestmark = pytest.mark.trio

COLLECT: dict[str, Any] = {"image": "library/db:1", "environmentParameters": ["LOG=COLLECT"]}
SEND: dict[str, Any] = {"image": "library/web:1", "environmentParameters": ["LOG=SEND"]}


async def installed(world: AppWorld, *specs: dict[str, Any]) -> Life:
    life = await world.life()
    for spec in specs:
        outcome = await life.actions.install(spec, reason="the test")
        assert outcome.ok, outcome
    return life


def options(world: AppWorld, container: str) -> CreateOptions:
    return world.engine._find(container).options


def sink(world: AppWorld, container: str) -> str | None:
    """Where a container logs to; None: a file."""
    log = options(world, container).log
    if isinstance(log, LogFile):
        return None
    assert isinstance(log, LogShipping)
    assert dict(log.labels) == {
        "app_name": options(world, container).app,
        "host_id": f"{'c' * 64}0",
        "host_ip": ADDRESS,
    }
    return log.address


async def address(world: AppWorld, container: str, app: str) -> str:
    return (await world.engine.inspect(container)).addresses[f"fluxDockerNetwork_{app}"]


async def test_components_ship_to_their_own_collector(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    await installed(world, app("logs", part("sink", **COLLECT), part("web", **SEND), part("db")))
    collector = await address(world, "fluxsink_logs", "logs")
    assert sink(world, "fluxsink_logs") == collector  # its own next free address
    assert sink(world, "fluxweb_logs") == collector
    assert sink(world, "fluxdb_logs") is None


async def test_a_collector_that_is_not_there_yet_means_a_file(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    await installed(world, app("logs", part("web", **SEND), part("sink", **COLLECT)))
    assert sink(world, "fluxweb_logs") is None


async def test_the_collector_of_a_linked_app(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    sender = app("shop", part("web", **SEND), description="networkWith=[logs]")
    life = await installed(world, app("logs", part("sink", **COLLECT)), sender)
    assert sink(world, "fluxweb_shop") == await address(world, "fluxsink_logs", "logs")
    world.engine.vanish("fluxsink_logs")
    assert (await life.actions.redeploy("shop", hard=False, reason="the test")).ok
    assert sink(world, "fluxweb_shop") is None


async def test_a_name_that_gets_no_prefix_is_found_as_collector(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    await installed(world, app("logs", part("fluxsink", **COLLECT), part("web", **SEND)))  # D-1
    assert sink(world, "fluxweb_logs") == await address(world, "fluxsink_logs", "logs")


async def test_without_an_identity_logs_cannot_be_sent(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    world.node.facts_now = msgspec.structs.replace(world.node.facts_now, collateral="")
    life = await world.life()
    outcome = await life.actions.install(app("logs", part("sink", **COLLECT)), reason="the test")
    assert not outcome.ok
    assert outcome.step == "container sink_logs"
    assert "collateral" in outcome.problem


@pytest.mark.parametrize(
    ("owners", "cpu", "burst"), [((OWNER,), 0.5, 50_000), ((OWNER,), 6.0, 100_000), ((), 0.5, None)]
)
async def test_spare_cpu_of_enterprise_owners(
    owners: tuple[str, ...], cpu: float, burst: int | None, autojump_clock: trio.abc.Clock
) -> None:
    world = AppWorld()  # an engine with 8 processors, one of them kept
    life = await world.life()
    bench = msgspec.structs.replace(life.bench, enterprise_owners=owners)
    for failing in (False, True):
        if failing:
            world.disk.failing["burst"] = None
        actions = AppLifecycle(bench, life.operations)
        assert (await actions.install(app("fast", part("web", cpu=cpu)), reason="the test")).ok
        labels = dict(options(world, "fluxweb_fast").labels)
        assert labels.get("flux.burst.eligible") == ("true" if burst is not None else None)
        if not failing:
            assert list(world.disk.bursts.values()) == ([] if burst is None else [burst])
        assert (await actions.remove("fast", reason="the test")).ok


async def test_small_roots_where_the_engine_can_limit_them(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    for quota in (False, True):
        world.engine.about = msgspec.structs.replace(world.engine.about, disk_quota=quota)
        life = await installed(world, app("small", part("web")))
        assert options(world, "fluxweb_small").disk_limit_gb == (10 if quota else None)
        assert (await life.actions.remove("small", reason="the test")).ok


async def test_commands_come_with_the_containers(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    world.storage.answer = ["--fast", "--privileged"]
    words = ["serve", "F_S_CMD=https://storage.test/cmd", "--privileged"]
    await installed(world, app("words", part("web", commands=words)))
    assert options(world, "fluxweb_words").command == ("serve", "--fast")
