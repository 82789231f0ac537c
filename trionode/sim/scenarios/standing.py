"""Two nodes lose their standing: one is expired on the chain, the daemon of the other falls silent
(docs/spec/lifecycle.md §6, §10; production times).

The first loses its links and lets its apps go one by one, but may not tell; it does when it has links
again. The second hears nothing of its daemons and may not speak without knowing its address; its apps stay
until the silence has lasted for 125 minutes.
"""

from __future__ import annotations

from trionode.sim.node import SimNode
from trionode.sim.scenario import Scenario, ScenarioError
from trionode.sim.world import World, WorldPlan

POLL_S = 70.0
"""Two polls of the daemon and the way of the news."""


async def story(world: World) -> None:
    await world.stand_up()
    expired, silent = world.rng.sample([node for node in world.nodes if len(node.apps.apps()) > 1], 2)
    chain, monitors = world.plan.settings.chain, world.plan.settings.monitors
    removal_s = monitors.node_removal_spacing_s * world.plan.apps_per_node
    world.chain.fail(silent.ip)
    world.note(f"the daemon of {silent.name} falls silent")
    world.chain.unconfirm(expired.address)
    world.note(f"{expired.name} is expired")
    await world.until(lambda: not world.peers(expired), POLL_S, "an expired node has no links")
    await world.sleep(1)
    if len(expired.apps.apps()) != len(world.apps_of(expired.number)) - 1:
        raise ScenarioError(f"{expired.name} did not let its first app go at once")
    await world.sleep(removal_s)
    if expired.apps.apps():
        raise ScenarioError(f"{expired.name} kept apps although it is not confirmed")
    world.chain.confirm(expired.address)
    await world.until(
        lambda: world.peers(expired) > 0 and world.agreed() and not _listed(world, expired),
        3600,
        f"everybody knows that nothing runs on {expired.name} any more",
    )
    await world.sleep(chain.confirmation_stale_s - world.now_s)
    if silent.apps.apps() != world.apps_of(silent.number):
        raise ScenarioError(f"{silent.name} gave up although its daemon was silent for less than 125 minutes")
    await world.until(lambda: not silent.apps.apps(), 1200 + removal_s, f"{silent.name} lets its apps go")
    await world.sleep(60)
    if _listed(world, silent):
        raise ScenarioError(f"{silent.name} is listed 125 minutes after its last word")
    world.chain.recover(silent.ip)
    world.start_apps(expired, silent)
    await world.until(world.knows_all, 3600, "both host apps again, and everybody knows")


def _listed(world: World, node: SimNode) -> bool:
    return any(ip == node.address for other in world.up() for _, ip in world.locations(other))


STANDING = Scenario(
    name="standing",
    summary="an expired node and one with a silent daemon let their apps go, each in its time",
    story=story,
    plan=WorldPlan(nodes=16),
)
