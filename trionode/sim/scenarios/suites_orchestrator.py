"""Acceptance suites 13, 14, 16, 18, 19 with the constants of the real network: the phases of a node.

Facts: docs/spec/testnet.md §7, §8, docs/spec/lifecycle.md §8. Blocks come every 5 s, so that 250 of them
pass in 21 minutes; everything else has its real length.
"""

from __future__ import annotations

from typing import Any

from trionode.errors import StoreError
from trionode.sim.node import SimNode
from trionode.sim.scenario import Scenario
from trionode.sim.scenarios.watching import Journal, check
from trionode.sim.world import World, WorldPlan

BLOCK_S = 5.0
WAIVED_S = 252 * BLOCK_S + 60
"""250 blocks, and the time to see the last of them."""
CUT_S = 100.0
"""Three missed pongs of 15 s each, and a little more until the last link is given up."""
REJOIN_S = 400.0
"""Discovery that failed while cut off tries again after two minutes, invitations after five."""
POLL_S = 31.0
NODES = 14
NETWORK = WorldPlan(nodes=NODES, block_interval_s=BLOCK_S, start_spacing_s=0.1)
ALONE = WorldPlan(nodes=1, block_interval_s=BLOCK_S)
LIVE_BLOCKS = 1_000
"""A node reads so many blocks one by one; longer stretches pass while it is down."""
PAUSED, RESUMED = "spawner:paused", "spawner:resumed"


async def ready(world: World, journal: Journal) -> None:
    """All nodes up and READY."""
    await world.start_all()
    for node in world.nodes:
        await journal.phase(node, "READY", WAIVED_S, after=0)


def cut(world: World, node: SimNode) -> None:
    world.partition([node], [other for other in world.nodes if other is not node])


async def phases(world: World) -> None:
    """13: the phases in their order; losing all peers degrades, having them again leads back."""
    journal = Journal(world)
    await ready(world, journal)
    for node in world.nodes:
        check(
            journal.phases(node) == [("INITIALIZING", "SYNCING"), ("SYNCING", "READY")],
            f"{node.name} went {journal.phases(node)}",
        )
        check(len(journal.found(node, RESUMED, 0)) == 1, f"{node.name}: the spawner resumes once")
    victim = world.nodes[5]
    mark = journal.mark()
    cut(world, victim)
    await journal.phase(victim, "DEGRADED", CUT_S, after=mark)
    check(len(journal.found(victim, PAUSED, mark)) == 1, "the spawner pauses once")
    mark = journal.mark()
    world.heal()
    await journal.phase(victim, "RESYNCING", REJOIN_S, after=mark)
    await journal.phase(victim, "READY", WAIVED_S, after=mark)
    check(len(journal.found(victim, RESUMED, mark)) == 1, "the spawner resumes once")
    mark = journal.mark()
    world.chain.unconfirm(victim.address)
    await journal.phase(victim, "SYNCING", POLL_S, after=mark)
    await journal.phase(victim, "DEGRADED", 5, after=mark)
    world.chain.confirm(victim.address)
    await journal.phase(victim, "RESYNCING", REJOIN_S, after=mark)
    await journal.phase(victim, "READY", WAIVED_S, after=mark)


async def hash_retries(world: World) -> None:
    """14: three failing hash syncs five minutes apart, then only the blocks help; a new start counts anew."""
    journal = Journal(world)
    (node,) = world.nodes
    failures = _fail_reads(node, 3)
    await world.start(node)
    for attempt, again in ((1, True), (2, True), (3, False)):
        place = await journal.next(node, "hashSync:failed", 700, after=0, attempt=attempt, willRetry=again)
        if attempt > 1:
            before = journal.found(node, "hashSync:failed", 0, attempt=attempt - 1)[0]
            pause_s = journal.entries[place].at_s - journal.entries[before].at_s
            check(abs(pause_s - 300) < 1, f"tries are {pause_s:.1f} s apart")
    await journal.phase(node, "READY", WAIVED_S, after=0)
    check(not failures, "all failures were used up")
    await world.stop(node)
    mark = journal.mark()
    _fail_reads(node, 1)
    await world.start(node)
    await journal.next(node, "hashSync:failed", 400, after=mark, attempt=1, willRetry=True)
    await journal.next(node, "hashSync:complete", 310, after=mark, attempt=2)


async def backoff(world: World) -> None:
    """14: nobody has a message; it is looked for ever more rarely, at last every 35 days' worth of blocks."""
    (node,) = world.nodes
    world.chain.stop_ticker()
    await world.start(node)
    await world.sleep(60)
    paid = "ab" * 32
    world.chain.blocks.app_queue.append(paid)
    await _reads_up_to(world, node, world.chain.height + 1)
    await _reads_up_to(world, node, world.chain.height + 1)
    tries, due = await _tries(node, paid)
    check(tries == 1, f"the first try is made at the next block, not {tries}")
    for rung in world.plan.settings.hash_sync.retry_ladder_blocks[1:]:
        check(due == world.chain.height + rung, f"the next try is due at {due}, not {rung} blocks from now")
        await _reads_up_to(world, node, due - 1)
        check((await _tries(node, paid))[0] == tries, f"a try before the {rung} blocks were over")
        await _reads_up_to(world, node, due)
        if (await _tries(node, paid))[0] == tries and rung > LIVE_BLOCKS:
            # A run that finds nothing due looks again after 100 blocks (docs/spec/registry.md §12).
            await _reads_up_to(world, node, due - 1 + 100)
        before, (tries, due) = tries, await _tries(node, paid)
        check(tries == before + 1, f"no try after {rung} blocks")


async def _tries(node: SimNode, paid: str) -> tuple[int, int]:
    """How often the message of a payment was looked for in vain, and when it will be again."""
    row = (await node.registry_store.hash_rows([paid]))[paid]
    return row.sync_attempts or 0, row.next_retry_height or 0


async def _reads_up_to(world: World, node: SimNode, height: int) -> None:
    """Many blocks pass while the node is down, the last few while it looks."""
    ahead = height - world.chain.height
    if ahead > LIVE_BLOCKS:
        await world.stop(node)
        world.chain.mine(ahead - 10)
        await world.start(node)
        await world.sleep(200)
    world.chain.mine(height - world.chain.height)
    await world.until(lambda: node.running.explorer.scanned_height == height, 600, f"block {height} is read")
    await world.sleep(60)


def _fail_reads(node: SimNode, times: int) -> list[int]:
    """Let the next reads of unresolved payments fail; the list empties as they do."""
    store = node.registry_store
    hashes = type(store).hashes
    left = list(range(times))

    async def failing(**wanted: Any) -> Any:
        if left and wanted.get("missing"):
            left.pop()
            raise StoreError("the disk was told to fail", remedy="none, this is a simulation")
        return await hashes(store, **wanted)

    store.hashes = failing  # type: ignore[method-assign]
    return left


async def gates(world: World) -> None:
    """16: the spawner pauses without peers and without a confirmation, and resumes with both."""
    journal = Journal(world)
    await ready(world, journal)
    victim, expired = world.nodes[2], world.nodes[7]
    mark = journal.mark()
    cut(world, victim)
    world.chain.unconfirm(expired.address)
    await journal.next(expired, PAUSED, POLL_S, after=mark)
    await journal.next(victim, PAUSED, CUT_S, after=mark)
    world.heal()
    world.chain.confirm(expired.address)
    for node in (victim, expired):
        await journal.next(node, RESUMED, REJOIN_S + WAIVED_S, after=mark)
        check(len(journal.found(node, PAUSED, mark)) == 1, f"{node.name}: the spawner pauses once")


async def compound_failures(world: World) -> None:
    """18: a failing daemon and lost peers at once; 260 blocks do not help while nobody can read them."""
    journal = Journal(world)
    await ready(world, journal)
    victim = world.nodes[4]
    mark = journal.mark()
    world.chain.fail(victim.address)
    cut(world, victim)
    await journal.phase(victim, "DEGRADED", CUT_S, after=mark)
    check(len(journal.found(victim, PAUSED, mark)) == 1, "the spawner pauses once")
    world.heal()
    await world.sleep(260 * BLOCK_S)
    check("READY" not in [to for _, to in journal.phases(victim, mark)], "READY without a daemon")
    world.chain.recover(victim.address)
    await journal.phase(victim, "READY", REJOIN_S + WAIVED_S, after=mark)
    mark = journal.mark()
    others = world.nodes[:3]
    for _ in range(3):
        world.partition(others, [node for node in world.nodes if node not in others])
        await world.sleep(2)
        world.heal()
    await world.sleep(REJOIN_S)
    for node in world.nodes:
        check(
            node.running.orchestrator.phase.value in ("READY", "RESYNCING"),
            f"{node.name} is {node.running.orchestrator.phase.value} after short cuts",
        )


async def block_boundary(world: World) -> None:
    """19: 249 counted blocks do not waive what is missing, the 250th does."""
    journal = Journal(world)
    (node,) = world.nodes
    world.chain.stop_ticker()
    await world.start(node)
    await journal.phase(node, "SYNCING", 60, after=0)
    await world.sleep(60)
    state = node.running.orchestrator.state
    world.chain.mine(249 - state.blocks)
    await world.until(lambda: node.running.orchestrator.state.blocks == 249, 120, "249 blocks are counted")
    await world.sleep(600)
    check(journal.phases(node) == [("INITIALIZING", "SYNCING")], "READY before the 250th block")
    world.chain.mine(1)
    await journal.phase(node, "READY", 40, after=0)


async def peer_boundary(world: World) -> None:
    """19: the threshold is reached with twelve peers, and given up with fewer than four."""
    journal = Journal(world)
    await world.start_all()
    victim = world.nodes[9]
    await journal.next(victim, "peers:thresholdReached", 300, after=0)
    reached = journal.entries[journal.found(victim, "peers:thresholdReached", 0)[0]]
    check(reached.data["count"] >= 12, f"the threshold was reached with {reached.data['count']} peers")
    rest = [node for node in world.nodes if node is not victim]
    mark = journal.mark()
    world.partition([victim, *rest[:4]], rest[4:])
    await world.until(lambda: world.peers(victim) == 4, CUT_S, "four peers are left")
    await world.sleep(60)
    check(not journal.found(victim, "peers:belowThreshold", mark), "four peers are enough")
    world.network.kill_links(victim.ip, rest[0].ip)
    world.partition([victim, *rest[1:4]], [rest[0], *rest[4:]])
    await journal.next(victim, "peers:belowThreshold", CUT_S, after=mark)
    await journal.phase(victim, "DEGRADED", 5, after=mark)


SUITES = (
    Scenario(
        name="suite-13",
        summary="the phases of a node, their order, and the way back from DEGRADED",
        story=phases,
        plan=NETWORK,
        min_nodes=NODES,
    ),
    Scenario(
        name="suite-14",
        summary="failing hash syncs: three tries five minutes apart, then the blocks",
        story=hash_retries,
        plan=ALONE,
        min_nodes=1,
    ),
    Scenario(
        name="suite-14-backoff",
        summary="a message nobody has is looked for after 100 blocks, at last after 100,000 (35 days)",
        story=backoff,
        plan=ALONE,
        min_nodes=1,
    ),
    Scenario(
        name="suite-16",
        summary="the spawner pauses and resumes with peers and confirmation",
        story=gates,
        plan=NETWORK,
        min_nodes=NODES,
    ),
    Scenario(
        name="suite-18",
        summary="peers and daemon lost at once, and short cuts",
        story=compound_failures,
        plan=NETWORK,
        min_nodes=NODES,
    ),
    Scenario(
        name="suite-19-blocks",
        summary="the 250th block waives what is missing, the 249th does not",
        story=block_boundary,
        plan=ALONE,
        min_nodes=1,
    ),
    Scenario(
        name="suite-19-peers",
        summary="twelve peers are enough, fewer than four are too few",
        story=peer_boundary,
        plan=NETWORK,
        min_nodes=NODES,
    ),
)
