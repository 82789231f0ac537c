"""Acceptance suites 15, 19 (shutdown) and 24 with the times of the real network: boot, goodbye, removal.

Facts: docs/spec/testnet.md §8, docs/spec/lifecycle.md §4, §5, §10.
"""

from __future__ import annotations

import trio

from trionode.lifecycle.boot import BootAction, BootDecision
from trionode.sim.node import SimNode
from trionode.sim.runs.goodbyes import Goodbyes
from trionode.sim.scenario import Scenario
from trionode.sim.scenarios.watching import Journal, check
from trionode.sim.world import World, WorldPlan

SETTLED = "boot:settled"
REMOVAL_S = 65.0
"""Apps go one a minute after a lost confirmation."""


async def boot(world: World) -> None:
    """15: what becomes of the apps of one machine at a start, case by case."""
    journal = Journal(world)
    node = world.nodes[0]
    node.apps.replace(world.apps_of(0))
    timeouts = world.plan.settings.system

    # the first boot of all: nothing is known, data must be complete first
    decision = await _boots(world, journal, node, timeouts.boot_sync_timeout_s + 60)
    check(node.running.boot.context.first_boot, "the first start is not seen as one")
    check(decision.rule in (6, 7), f"a first boot went by rule {decision.rule}")
    _told(journal, firstBoot=True, machineRebooted=True)

    # only the process starts again
    node.apps.replace(world.apps_of(0))
    await world.kill(node)
    await world.sleep(9_000)
    decision = await _boots(world, journal, node, 5)
    check(decision.action is BootAction.NOTHING, f"a restart of the process went by rule {decision.rule}")
    check(node.apps.apps() == world.apps_of(0), "a restart of the process touched the apps")
    _told(journal, firstBoot=False, machineRebooted=False)

    # the machine was rebooted, and its daemon is silent
    await world.power_cut(node)
    world.chain.fail(node.address)
    decision = await _boots(world, journal, node, timeouts.boot_daemon_timeout_s + 5)
    check(decision.rule == 3, f"a silent daemon: rule {decision.rule}")
    check(not node.apps.installed(), "a silent daemon: apps stayed")
    _told(journal, cleanShutdown=False, machineRebooted=True)
    world.chain.recover(node.address)

    # it was rebooted in order, and is not confirmed any more
    node.apps.replace(world.apps_of(0))
    world.chain.unconfirm(node.address)
    await world.sigterm(node)
    decision = await _boots(world, journal, node, 120)
    check(decision.rule == 4, f"not confirmed: rule {decision.rule}")
    check(not node.apps.installed(), "not confirmed: apps stayed")
    _told(journal, cleanShutdown=True, machineRebooted=True)
    world.chain.confirm(node.address)


async def _boots(world: World, journal: Journal, node: SimNode, within_s: float) -> BootDecision:
    mark = journal.mark()
    await world.start(node)
    await journal.next(node, SETTLED, within_s, after=mark)
    decision = node.running.boot.decision
    check(decision is not None, "settled without a decision")
    assert decision is not None
    return decision


def _told(journal: Journal, **context: bool) -> None:
    """What the last `orchestrator:started` says of the time before."""
    entries = [entry for entry in journal.entries if entry.name == "orchestrator:started"]
    told = entries[-1].data["bootContext"]
    for name, value in context.items():
        check(told[name] is value, f"orchestrator:started says {name} {told[name]}")


async def goodbyes(world: World) -> None:
    """19: five minutes after a goodbye apps are still theirs, after eight they are not."""
    journal = Journal(world)
    await world.stand_up()
    quick, slow = world.nodes[3], world.nodes[8]
    async with trio.open_nursery() as nursery:
        watcher = Goodbyes(world, nursery)
        await world.sigterm(slow)
        nursery.start_soon(watcher.watch, slow)
        await world.sleep(10)
        await world.sigterm(quick)
        await world.sleep(300)
        decision = await _boots(world, journal, quick, 300)
        check(decision.action is BootAction.RECONCILE, f"away for 300 s: rule {decision.rule}")
        check(quick.apps.apps() == world.apps_of(quick.number), "away for 300 s: apps are gone")
        await world.sleep(200)
        decision = await _boots(world, journal, slow, 5)
        check(decision.rule == 2, f"away for more than 500 s: rule {decision.rule}")
        check(not slow.apps.installed(), "away for more than 500 s: apps stayed")
    check(watcher.count >= len(world.nodes) - 2, f"only {watcher.count} saw the end of the grace")
    others = [node for node in world.up() if node is not slow]  # which has missed what was said meanwhile
    wanted = {(app.name, quick.address) for app in quick.apps.apps()}
    await world.until(
        lambda: all(wanted <= world.locations(node).keys() for node in others),
        60,
        "everybody lists who came back in time",
    )


async def removal(world: World) -> None:
    """24: who loses the confirmation lets its apps go, and tells it nobody until it may speak again."""
    await world.stand_up()
    host = next(node for node in world.nodes if len(node.apps.apps()) > 1)
    world.chain.unconfirm(host.address)
    await world.until(lambda: not host.apps.installed(), 40 + REMOVAL_S, f"{host.name} lets its apps go")
    world.chain.confirm(host.address)
    await world.until(
        lambda: not any(ip == host.address for node in world.up() for _, ip in world.locations(node)),
        3_700,
        f"nobody lists {host.name} any more",
    )


SUITES = (
    Scenario(
        name="suite-15",
        summary="boot decisions: first boot, restart, silent daemon, no confirmation",
        story=boot,
        plan=WorldPlan(nodes=2),
        min_nodes=2,
    ),
    Scenario(
        name="suite-19-grace",
        summary="away for 300 s: apps come back; for 500 s: gone, everywhere in the same millisecond",
        story=goodbyes,
        plan=WorldPlan(nodes=14, clock_skew_ms=20_000),
        min_nodes=14,
    ),
    Scenario(
        name="suite-24",
        summary="a node that loses its confirmation lets its apps go",
        story=removal,
        plan=WorldPlan(nodes=14),
        min_nodes=14,
    ),
)
