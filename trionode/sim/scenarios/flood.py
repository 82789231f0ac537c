"""A hostile peer floods: frames beyond the rate limit, garbage, forged signatures, endless announcements.

It costs the flooder its links, and nobody else anything: the others keep every link among themselves,
store nothing of it, and go on agreeing (docs/spec/wire.md §5, §9).
"""

from __future__ import annotations

import random

import trio

from trionode.peers.link import CAPABILITIES, DialError, Hello, Link, LinkClosed
from trionode.sim.scenario import Scenario, ScenarioError
from trionode.sim.transport import VirtualTransport
from trionode.sim.world import World, WorldPlan, app
from trionode.wire.envelope import seal
from trionode.wire.keys import NodeKey

ATTACKER_IP = "200.1.10.1"
FLOOD_S = 120.0
FRAMES_PER_BURST = 400
BURST_S = 0.25


async def story(world: World) -> None:
    await world.stand_up()
    await world.sleep(120)
    honest = _links(world)
    victims = world.nodes[:4]
    async with trio.open_nursery() as nursery:
        for node in victims:
            nursery.start_soon(_flood, world, node.ip)
        await world.sleep(FLOOD_S / 2)
        # The network goes on working in the middle of the flood.
        world.nodes[-1].apps.replace((*world.nodes[-1].apps.apps(), app("duringtheflood")))
        await world.until(world.knows_all, 60, "an announcement gets through during the flood")
        await world.sleep(FLOOD_S / 2)
        nursery.cancel_scope.cancel(reason="the flood is over")
    lost = honest - _links(world)
    if lost:
        raise ScenarioError(f"the flood cost honest nodes {len(lost)} links, e.g. {min(lost)}")
    for node in victims:
        counters = node.running.counters
        if not counters["peers.rate_limited"]:
            raise ScenarioError(f"{node.name} let the whole flood in")
    await world.until(world.knows_all, 60, "all nodes agree after the flood")


def _links(world: World) -> frozenset[tuple[str, str]]:
    """The links among honest nodes."""
    return frozenset(
        (node.name, peer.key)
        for node in world.up()
        for peer in node.running.peers.table
        if peer.ip != ATTACKER_IP
    )


async def _flood(world: World, target: str) -> None:
    """Dial again whenever the link is closed."""
    rng = random.Random(f"{world.seed}/flood {target}")
    key = NodeKey.generate(rng)
    transport = VirtualTransport(world.network, ATTACKER_IP)
    hello = Hello(capabilities=frozenset(CAPABILITIES), version="8.13.0", uptime_s=10_000)
    while True:
        try:
            async with (
                transport.dial(target, 16127, hello, own_port=16127) as link,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(_drain, link)
                await _pour(world, link, transport, rng, key)
        except* (LinkClosed, DialError):
            world.note(f"the flooder lost its link to {target}")
        await trio.sleep(1)


async def _drain(link: Link) -> None:
    while True:
        await link.receive()


async def _pour(
    world: World, link: Link, transport: VirtualTransport, rng: random.Random, key: NodeKey
) -> None:
    """Mostly frames that are cheap to make; now and then something that must be verified."""
    victim = world.nodes[-1]
    while True:
        for _ in range(FRAMES_PER_BURST):
            kind = rng.randrange(100)
            if kind < 60:
                payload: str | bytes = b"\x01" + rng.randbytes(20)
            elif kind < 80:
                payload = b"\x02" + rng.randbytes(20)
            elif kind < 97:
                payload = rng.randbytes(rng.randrange(1, 200))
            else:
                payload = _forged(world, rng, key, victim.address)
            await link.send(transport.prepare(payload))
        await trio.sleep(BURST_S)


def _forged(world: World, rng: random.Random, key: NodeKey, address: str) -> str:
    """A running message in the name of an honest node, signed by a key that is not its own."""
    at_ms = world.nodes[0].clock.now_ms()
    name = f"forged{rng.randrange(1 << 30)}"
    return seal(
        {
            "type": "fluxapprunning",
            "version": 2,
            "apps": [{"name": name, "hash": "0" * 64, "runningSince": "2026-01-01T00:00:00.000Z"}],
            "ip": address,
            "broadcastedAt": at_ms,
            "osUptime": 1,
            "staticIp": False,
        },
        key,
        at_ms,
    ).text


FLOOD = Scenario(
    name="flood",
    summary="a flooding peer (floods, garbage, forged signatures) does not disturb the others",
    story=story,
    plan=WorldPlan(nodes=16),
    min_nodes=6,
)
