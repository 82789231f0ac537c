"""Acceptance suites 04, 06, 10, 17, 25 with the times of the real network: what the chain says of a node.

Facts: docs/spec/testnet.md §8, docs/spec/lifecycle.md §6, §10.
"""

from __future__ import annotations

from trionode.sim.scenario import Scenario
from trionode.sim.scenarios.watching import Journal, check
from trionode.sim.world import World, WorldPlan

POLL_S = 31.0
"""The daemons are polled every 30 s."""

CLOSED_S = 5.0
BLOCK_S = 5.0
ALONE = WorldPlan(nodes=1, block_interval_s=BLOCK_S)
LISTED = WorldPlan(nodes=2, block_interval_s=BLOCK_S)
"""One node runs; the other is only listed, since an empty list would not be believed."""
CONFIRMED, CAPABLE = "confirmation:changed", "messageCapability:changed"


async def confirmation_state(world: World) -> None:
    """04: a node that is not confirmed at its start says so, looks for nobody and is looked for in vain."""
    journal = Journal(world)
    node, *others = world.nodes
    world.chain.unconfirm(node.address)
    await world.start_all()
    await journal.next(node, CONFIRMED, POLL_S, after=0, confirmed=False)
    await world.sleep(600)
    check(not world.peers(node), f"{node.name} has peers without a confirmation")
    check(not node.running.counters["peers.dial.started"], f"{node.name} dialled without a confirmation")
    check(all(world.peers(other) == len(others) - 1 for other in others), "the others found each other")
    mark = journal.mark()
    world.chain.confirm(node.address)
    await journal.next(node, CONFIRMED, POLL_S, after=mark, confirmed=True)
    await world.until(lambda: world.peers(node) == len(others), 120, f"{node.name} finds all others")
    mark = journal.mark()
    world.chain.unconfirm(node.address)
    await journal.next(node, CONFIRMED, POLL_S, after=mark, confirmed=False)
    await world.until(lambda: not world.peers(node), CLOSED_S, f"{node.name} has lost its links")


async def daemon_interaction(world: World) -> None:
    """06: a daemon that fails is noticed, its return as well, and so are changes of the node list."""
    journal = Journal(world)
    node = world.nodes[0]
    await world.start(node)
    await journal.next(node, "daemon:recovered", POLL_S, after=0)
    await world.sleep(60)
    check(node.running.chain.height > 0, "the height is known")
    check(node.running.chain.headers == node.running.chain.height, "headers and height agree")
    mark = journal.mark()
    world.chain.fail(node.address)
    await journal.next(node, "daemon:unreachable", POLL_S, after=mark)
    world.chain.recover(node.address)
    await journal.next(node, "daemon:recovered", POLL_S, after=mark)
    world.chain.remove_node(node.address)
    chain = node.running.chain
    await world.until(
        lambda: chain.nodes.by_address(node.address) is None, 3 * POLL_S, "it has left the list"
    )
    world.chain.restore_node(node.address)
    await world.until(lambda: chain.nodes.by_address(node.address) is not None, 3 * POLL_S, "it is back")


async def loss_of_confirmation(world: World) -> None:
    """10: READY is left after the confirmation is lost, in this order; penalties are told as they change."""
    journal = Journal(world)
    (node,) = world.nodes
    await world.start(node)
    await journal.phase(node, "READY", 252 * BLOCK_S + 60, after=0)
    mark = journal.mark()
    world.chain.unconfirm(node.address)
    lost = await journal.next(node, CONFIRMED, POLL_S, after=mark, confirmed=False)
    paused = await journal.next(node, "spawner:paused", CLOSED_S, after=mark)
    left = await journal.phase(node, "SYNCING", CLOSED_S, after=mark)
    check(lost < min(paused, left), "the confirmation is lost first, then READY is left")
    for amount in (10, 11, 100, 0):
        mark = journal.mark()
        node.running.dos.set(amount, "for a test")
        await journal.next(node, "dos:changed", 1, after=mark, dosState=amount)


async def silent_daemon(world: World) -> None:
    """17: nothing is lost for 125 minutes of silence; then apps go, and after 320 the confirmation."""
    journal = Journal(world)
    node = world.nodes[0]
    await world.start(node)
    await journal.next(node, CONFIRMED, POLL_S, after=0, confirmed=True)
    await journal.next(node, CAPABLE, 2 * POLL_S, after=0, capable=True)
    world.start_apps(node)
    chain = world.plan.settings.chain
    mark = journal.mark()
    world.chain.fail(node.address)
    began_s = world.now_s
    await world.sleep(chain.confirmation_stale_s - POLL_S)
    check(bool(node.apps.apps()), "apps went before their time")
    check(not journal.found(node, CONFIRMED, mark), "the confirmation was lost before its time")
    await journal.next(node, "chain:stale", 3 * POLL_S, after=mark)
    await world.until(lambda: not node.apps.installed(), 200, "apps go when the daemon is silent for 125 min")
    await world.sleep(began_s + chain.confirmation_expired_s - POLL_S - world.now_s)
    check(not journal.found(node, CONFIRMED, mark), "the confirmation was lost before 320 minutes")
    await journal.next(node, CONFIRMED, 3 * POLL_S, after=mark, confirmed=False)
    mark = journal.mark()
    world.chain.recover(node.address)
    await journal.next(node, CONFIRMED, POLL_S, after=mark, confirmed=True)
    mark = journal.mark()
    world.chain.remove_node(node.address)
    await journal.next(node, CAPABLE, 3 * POLL_S, after=mark, capable=False)


async def peers_and_confirmation(world: World) -> None:
    """25: without a confirmation no peers in either direction; with it again at least four outbound."""
    journal = Journal(world)
    outsider, victim, *_ = world.nodes
    world.chain.unconfirm(outsider.address)
    await world.start_all()
    await world.sleep(300)
    check(not world.peers(outsider), f"{outsider.name} has peers, but was never confirmed")
    mark = journal.mark()
    world.chain.unconfirm(victim.address)
    await journal.next(victim, CONFIRMED, POLL_S, after=mark, confirmed=False)
    await world.until(lambda: not world.peers(victim), CLOSED_S, f"{victim.name} has lost its links")
    await world.sleep(300)
    check(not world.peers(victim), f"{victim.name} has links again without a confirmation")
    world.chain.confirm(victim.address)
    await world.until(
        lambda: victim.running.peers.table.outbound >= 4,
        POLL_S + 120,
        f"{victim.name} has four outbound links",
    )


SUITES = (
    Scenario(
        name="suite-04",
        summary="a node without a confirmation has no peers, at its start and later",
        story=confirmation_state,
        plan=WorldPlan(nodes=4),
    ),
    Scenario(
        name="suite-06",
        summary="a failing daemon and changes of the node list are noticed",
        story=daemon_interaction,
        plan=LISTED,
        min_nodes=2,
    ),
    Scenario(
        name="suite-10",
        summary="READY is left when the confirmation is lost; penalties are told",
        story=loss_of_confirmation,
        plan=ALONE,
        min_nodes=1,
    ),
    Scenario(
        name="suite-17",
        summary="a silent daemon: apps go after 125 minutes, the confirmation after 320",
        story=silent_daemon,
        plan=WorldPlan(nodes=2),
        min_nodes=2,
    ),
    Scenario(
        name="suite-25",
        summary="links follow the confirmation",
        story=peers_and_confirmation,
        plan=WorldPlan(nodes=14),
        min_nodes=6,
    ),
)
