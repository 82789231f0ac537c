"""The model against the real thing: the same links, delays and messages in the simulator of whole nodes.

Real nodes (`NodeCore`) link up; then a few of them have news. The model gets their very links and
delays. Counts that laws fix must be equal; what the random intake delay decides must lie within the
range of many runs of the model.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable

import msgspec
import pytest
import trio

from trionode.config.tree import Settings
from trionode.sim.clock import IDLE_HOOK, IdleHook, sim_clock
from trionode.sim.conditions import Conditions
from trionode.sim.link import VirtualLink
from trionode.sim.message import VirtualMessage
from trionode.sim.network import Monitor
from trionode.sim.scale.sizes import MASK_BYTES, running_message, sizes_of
from trionode.sim.scale.spread import Network, Spread, Way, spread
from trionode.sim.scale.topology import discover
from trionode.sim.scenario import deterministic_scheduling
from trionode.sim.world import World, WorldPlan, app
from trionode.wire.envelope import decode_envelope
from trionode.wire.jsjson import parse

NODES = 30
MESSAGES = 5
SEED = 11
MODEL_RUNS = 400
"""So many that what the simulator shows once in hundreds of messages is among them, too."""
ROUNDING_S = 0.006
"""The simulator rounds arrivals up to whole milliseconds, some of them at each hop."""

HASH_PRESENT, HASH_REQUEST = 1, 2


class Watcher:
    """Counts what nodes send of one message and when each of them passes it on."""

    def __init__(self, below: Monitor | None) -> None:
        self._below = below
        self.digest: bytes | None = None
        self.began_s = 0.0
        self.texts = self.announcements = self.requests = 0
        self.relayed_s: dict[str, float] = {}
        self.told: dict[str, set[str]] = {}

    def watch(self) -> None:
        """Take the next message that is sent as full text for the one to follow."""
        self.__init__(self._below)  # type: ignore[misc]
        self.began_s = trio.current_time()

    def sent(self, sender: VirtualLink, message: VirtualMessage) -> None:
        if self._below is not None:
            self._below.sent(sender, message)
        payload = message.payload
        if isinstance(payload, str):
            text = payload[payload.find("|") + 1 :]
            if '"fluxapprunning"' in text:
                digest = bytes.fromhex(decode_envelope(parse(text)).data_hash)
                self.digest = self.digest or digest
                self.texts += digest == self.digest
        elif payload[1:21] == self.digest:
            self.requests += payload[0] == HASH_REQUEST
            if payload[0] == HASH_PRESENT:
                self.announcements += 1
                self.relayed_s.setdefault(sender.local_ip, trio.current_time() - self.began_s)
                self.told.setdefault(sender.local_ip, set()).add(sender.remote_ip)

    def closed(self, link_id: int) -> None:
        if self._below is not None:
            self._below.closed(link_id)


class Seen(msgspec.Struct):
    """What the simulator did with one message; `at_s` and `hops` without its origin."""

    origin: int
    texts: int
    announcements: int
    requests: int
    at_s: list[float]
    hops: list[int]


class Reality(msgspec.Struct, eq=False):
    """The network the nodes made, and what became of their messages."""

    network: Network
    links: int
    seen: list[Seen]


def sparse() -> Settings:
    """Settings with fewer links than usual, so that 30 nodes are several hops across."""
    settings = Settings()
    peers = msgspec.structs.replace(
        settings.peers,
        min_outbound=2,
        random_outbound=4,
        random_outbound_ips=3,
        random_inbound=3,
        random_inbound_ips=2,
        threshold_reached=5,
        threshold_below=1,
    )
    return msgspec.structs.replace(settings, peers=peers)


async def live(plan: WorldPlan) -> Reality:
    async with World.open(plan, seed=SEED) as world:
        await world.stand_up()
        await world.sleep(300)
        watcher = Watcher(world.network.monitor)
        world.network.monitor = watcher
        network, links = network_of(world)
        seen = []
        for number in world.rng.sample(range(NODES), MESSAGES):
            node = world.nodes[number]
            watcher.watch()
            node.apps.replace((*node.apps.apps(), app(f"news{number}")))
            await world.until(world.knows_all, 30, "all know the news")
            await world.sleep(5)
            seen.append(seen_by(world, watcher, number))
        assert network_of(world)[0].outbound == network.outbound, "links changed meanwhile"
        return Reality(network, links, seen)


def network_of(world: World) -> tuple[Network, int]:
    number = {node.ip: node.number for node in world.nodes}

    def ways(node_ip: str, ips: list[str], mask_bytes: int) -> dict[int, Way]:
        delays_s = {ip: world.network.base_latency_ms(node_ip, ip) / 1000 for ip in ips}
        return {number[ip]: (number[ip], delay_s, mask_bytes) for ip, delay_s in delays_s.items()}

    tables = [(node.ip, node.running.peers.table) for node in world.nodes]
    outbound = [ways(ip, [peer.ip for peer in table.peers("outbound")], MASK_BYTES) for ip, table in tables]
    inbound = [ways(ip, [peer.ip for peer in table.peers("inbound")], 0) for ip, table in tables]
    network = Network(
        names=[node.name for node in world.nodes],
        outbound=outbound,
        inbound=inbound,
        seconds_per_byte=[0.0] * NODES,
        jitter_s=0.0,
        commit_s=0.0,
    )
    return network, sum(map(len, outbound))


def seen_by(world: World, watcher: Watcher, origin: int) -> Seen:
    """Hops by following bearers: who relays tells everybody but the one it has the message from."""
    bearer = {}
    for node in world.nodes:
        others = {peer.ip for peer in node.running.peers.table} - watcher.told.get(node.ip, set())
        if node.number != origin:
            assert len(others) == 1, f"{node.name} has one bearer, not {others}"
            bearer[node.ip] = others.pop()

    def hops(ip: str) -> int:
        return 1 + hops(bearer[ip]) if ip in bearer else 0

    return Seen(
        origin=origin,
        texts=watcher.texts,
        announcements=watcher.announcements,
        requests=watcher.requests,
        at_s=sorted(watcher.relayed_s.values()),
        hops=sorted(hops(node.ip) for node in world.nodes if node.number != origin),
    )


@pytest.fixture(scope="module")
def reality() -> Reality:
    """One run of the simulator for all tests of this file."""
    plan = WorldPlan(nodes=NODES, conditions=Conditions(jitter_ms=0), settings=sparse())
    hook = IdleHook()

    async def main() -> Reality:
        IDLE_HOOK.set(hook)
        return await live(plan)

    with deterministic_scheduling(SEED):
        return trio.run(main, clock=sim_clock(hook), strict_exception_groups=True)


@functools.cache
def modelled(reality: Reality, origin: int) -> list[Spread]:
    sizes = sizes_of(running_message(2, random.Random(1)))
    return [spread(reality.network, origin, "hash", sizes, random.Random(seed)) for seed in range(MODEL_RUNS)]


def test_counts_that_laws_fix_are_equal(reality: Reality) -> None:
    for seen in reality.seen:
        peers = len(reality.network.outbound[seen.origin]) + len(reality.network.inbound[seen.origin])
        for run in modelled(reality, seen.origin):
            assert run.reached == NODES == len(seen.at_s) + 1
            assert run.announcements == seen.announcements == 2 * reality.links - peers - (NODES - 1)
            assert run.texts - run.requests == seen.texts - seen.requests == peers


@pytest.mark.parametrize(
    ("what", "of_seen", "of_run", "slack"),
    [
        ("requests", lambda seen: seen.requests, lambda run: run.requests, 1),
        ("longest path", lambda seen: max(seen.hops), lambda run: max(run.hops), 0),
        ("mean hops", lambda seen: mean(seen.hops), lambda run: sum(run.hops) / (NODES - 1), 0.1),
        ("half have it", lambda seen: half(seen.at_s), lambda run: half(heard(run)), ROUNDING_S),
        ("all have it", lambda seen: max(seen.at_s), lambda run: max(run.heard_s), ROUNDING_S),
    ],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else "",
)
def test_what_chance_decides_lies_within_the_range_of_the_model(
    reality: Reality,
    what: str,
    of_seen: Callable[[Seen], float],
    of_run: Callable[[Spread], float],
    slack: float,
) -> None:
    for seen in reality.seen:
        values = [of_run(run) for run in modelled(reality, seen.origin)]
        assert min(values) - slack <= of_seen(seen) <= max(values) + slack, (what, seen.origin)


def test_the_mean_over_all_messages_agrees_within_a_tenth(reality: Reality) -> None:
    pairs = [(seen, modelled(reality, seen.origin)) for seen in reality.seen]
    for of_seen, of_run in (
        (lambda seen: mean(seen.hops), lambda run: sum(run.hops) / (NODES - 1)),
        (lambda seen: half(seen.at_s), lambda run: half(heard(run))),
    ):
        real = mean([of_seen(seen) for seen, _ in pairs])
        model = mean([of_run(run) for _, runs in pairs for run in runs])
        assert real == pytest.approx(model, rel=0.10)


def test_real_discovery_makes_about_as_many_links_as_the_model_of_it(reality: Reality) -> None:
    addresses = [f"{20 + number // 200}.{1 + number % 200}.10.1" for number in range(NODES)]
    made = [discover(addresses, random.Random(seed), settings=sparse().peers).count for seed in range(20)]
    assert min(made) * 0.9 <= reality.links <= max(made) * 1.1


def heard(run: Spread) -> list[float]:
    return sorted(at_s for node, at_s in enumerate(run.heard_s) if node != run.origin)


def half(ordered: list[float]) -> float:
    return ordered[len(ordered) // 2]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)
