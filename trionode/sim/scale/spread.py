"""One message on its way through the whole network, event by event (wire.md §9).

Each node does with it what the node's own code does: the texts of its origin and of flooding leave by
`peers.relay.paced_offsets_s`, relays go to `relay_targets`, announcements are judged by a real
`peers.inventory.Inventory`, texts wait the random intake delay before they are looked at. Bytes queue
for the uplink of their sender; lines back, and a node's computing, take no time but `commit_ms`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import Literal

import msgspec

from trionode.config.tree import GossipSettings, PeerSettings
from trionode.peers.inventory import Inventory
from trionode.peers.relay import paced_offsets_s, relay_targets
from trionode.sim.scale.delays import Delays
from trionode.sim.scale.sites import Site
from trionode.sim.scale.sizes import MASK_BYTES, Load, Sizes
from trionode.sim.scale.topology import Links

Mode = Literal["flood", "flood at once", "hash, ask all", "hash"]
MODES: tuple[Mode, ...] = ("flood", "flood at once", "hash, ask all", "hash")
"""How a message goes on.

- `flood`: as full text, paced, as below the hash height.
- `flood at once`: as full text to everybody in the same moment; no node does this, it shows what the
  pacing costs.
- `hash, ask all`: announced by its hash; every announcer is asked until the text is here, as the
  original does.
- `hash`: announced; one announcer is asked, the next after a time-out. What this node does.
"""

HASH = bytes(20).hex()
_JUDGE, _PRESENT, _REQUEST, _OVERDUE, _RELAY = range(5)

Way = tuple[int, float, int]
"""A peer, the delay to it in seconds, and the bytes our masking adds on the link to it."""


class Network(msgspec.Struct, frozen=True):
    """All that does not change between messages; `outbound` and `inbound`: each node's ways by peer."""

    names: Sequence[str]
    outbound: Sequence[dict[int, Way]]
    inbound: Sequence[dict[int, Way]]
    seconds_per_byte: Sequence[float]
    jitter_s: float = 0.010
    commit_s: float = 0.002

    def __len__(self) -> int:
        return len(self.names)


def lay_out(
    sites: Sequence[Site], links: Links, delays: Delays, *, jitter_ms: float = 10.0, commit_ms: float = 2.0
) -> Network:
    """The network of these nodes and links; `delays` has one for each link."""
    return Network(
        names=[f"{site.ip}:{site.port}" for site in sites],
        outbound=[
            {peer: (peer, delays[node, peer] / 1000, MASK_BYTES) for peer in peers}
            for node, peers in enumerate(links.outbound)
        ],
        inbound=[
            {peer: (peer, delays[peer, node] / 1000, 0) for peer in peers}
            for node, peers in enumerate(links.inbound)
        ],
        seconds_per_byte=[8 / site.uplink_bits_s for site in sites],
        jitter_s=jitter_ms / 1000,
        commit_s=commit_ms / 1000,
    )


class Spread(msgspec.Struct):
    """What one message did. Lists are by node; `heard_s` is infinite where it never came."""

    mode: Mode
    origin: int
    heard_s: list[float]
    hops: list[int]
    texts_received: list[int]
    bytes_out: list[int]
    bytes_in: list[int]
    texts: int = 0
    announcements: int = 0
    requests: int = 0

    @property
    def reached(self) -> int:
        """How many nodes have it, its origin included."""
        return sum(1 for at_s in self.heard_s if at_s != float("inf"))

    @property
    def duplicates(self) -> int:
        """Full texts that came to a node that had one already."""
        return sum(self.texts_received) - (self.reached - 1)


def spread(network: Network, origin: int, mode: Mode, sizes: Sizes, rng: random.Random) -> Spread:
    """Send one message from `origin` and follow it to its end."""
    run = _Run(network, origin, mode, sizes, rng)
    run.finish()
    return run.result


class _Run:
    def __init__(self, network: Network, origin: int, mode: Mode, sizes: Sizes, rng: random.Random) -> None:
        nodes = len(network)
        peers, gossip = PeerSettings(), GossipSettings()
        self._network = network
        self._sizes = sizes
        self._rng = rng
        self._random = rng.random
        self._spacing_s = peers.own_broadcast_outbound_delay_ms / 1000
        self._gap_s = peers.own_broadcast_inbound_gap_ms / 1000
        self._delays_ms = (gossip.intake_delay_min_ms, gossip.intake_delay_max_ms)
        self._timeout_s = gossip.hash_request_timeout_s
        self._number = {name: number for number, name in enumerate(network.names)}
        self._inventories: dict[int, Inventory] = {}
        self._uplink_free_s = [0.0] * nodes
        self._events: list[tuple[float, int, int, int, Way, int]] = []
        self._sequence = 0
        self.result = Spread(
            mode, origin, [float("inf")] * nodes, [0] * nodes, [0] * nodes, [0] * nodes, [0] * nodes
        )
        self.result.heard_s[origin] = 0.0
        self._send_paced(0.0, origin, None, hop=1)

    def finish(self) -> None:
        events = self._events
        handlers = (self._judge, self._present, self._request, self._overdue, self._relay)
        while events:
            now_s, _, kind, node, way, hop = heappop(events)
            handlers[kind](now_s, node, way, hop)

    def _later(self, at_s: float, kind: int, node: int, way: Way, hop: int) -> None:
        self._sequence += 1
        heappush(self._events, (at_s, self._sequence, kind, node, way, hop))

    # --- sending ----------------------------------------------------------------------------

    def _send(self, now_s: float, node: int, ways: Iterable[Way], load: Load, kind: int, hop: int) -> None:
        """Put one message for each of these peers on the line, one after the other.

        Counts their bytes; those that find the message there already change nothing and end here.
        """
        result, network, draw, events = self.result, self._network, self._random, self._events
        heard_s, bytes_in, bytes_out = result.heard_s, result.bytes_in, result.bytes_out
        sent_bytes, ack_bytes, jitter_s = load.sent_bytes, load.ack_bytes, network.jitter_s
        second_per_byte, free_s, sent = network.seconds_per_byte[node], self._uplink_free_s[node], 0
        if free_s < now_s:
            free_s = now_s
        for peer, delay_s, mask_bytes in ways:
            size = sent_bytes + mask_bytes
            sent += size
            bytes_in[peer] += size
            bytes_out[peer] += ack_bytes
            bytes_in[node] += ack_bytes
            free_s += size * second_per_byte
            if kind != _REQUEST and heard_s[peer] <= now_s:
                continue
            at_s = free_s + delay_s + draw() * jitter_s
            if kind == _JUDGE:
                at_s += self._intake_delay_s()
            self._sequence += 1
            way_back = (node, delay_s, MASK_BYTES - mask_bytes)
            heappush(events, (at_s, self._sequence, kind, peer, way_back, hop))
        bytes_out[node] += sent
        self._uplink_free_s[node] = free_s

    def _send_texts(self, now_s: float, node: int, ways: Sequence[Way], hop: int) -> None:
        received = self.result.texts_received
        for way in ways:
            received[way[0]] += 1
        self.result.texts += len(ways)
        self._send(now_s, node, ways, self._sizes.text, _JUDGE, hop)

    def _send_paced(self, now_s: float, node: int, bearer: int | None, hop: int) -> None:
        network = self._network
        groups = [_targets(ways[node], bearer) for ways in (network.outbound, network.inbound)]
        offsets_s = paced_offsets_s([len(group) for group in groups], self._spacing_s, self._gap_s)
        for way in (*groups[0], *groups[1]):
            self._send_texts(now_s + next(offsets_s), node, (way,), hop)

    def _announce(self, now_s: float, node: int, bearer: int, hop: int) -> None:
        targets = self._all_targets(node, bearer)
        self.result.announcements += len(targets)
        self._send(now_s, node, targets, self._sizes.present, _PRESENT, hop)

    def _ask(self, now_s: float, node: int, way: Way, hop: int) -> None:
        self.result.requests += 1
        self._send(now_s, node, (way,), self._sizes.request, _REQUEST, hop)

    def _all_targets(self, node: int, bearer: int) -> list[Way]:
        network = self._network
        return [*_targets(network.outbound[node], bearer), *_targets(network.inbound[node], bearer)]

    def _intake_delay_s(self) -> float:
        return self._rng.randint(*self._delays_ms) / 1000

    # --- receiving --------------------------------------------------------------------------

    def _judge(self, now_s: float, node: int, way: Way, hop: int) -> None:
        """A text after its intake delay: a duplicate, or news that is stored and then relayed."""
        result = self.result
        if result.heard_s[node] <= now_s:
            return
        result.heard_s[node] = now_s
        result.hops[node] = hop
        inventory = self._inventories.get(node)
        if inventory is not None:
            inventory.resolved(HASH)
        self._later(now_s + self._network.commit_s, _RELAY, node, way, hop)

    def _relay(self, now_s: float, node: int, way: Way, hop: int) -> None:
        bearer, mode = way[0], self.result.mode
        if mode == "flood":
            self._send_paced(now_s, node, bearer, hop + 1)
        elif mode == "flood at once":
            self._send_texts(now_s, node, self._all_targets(node, bearer), hop + 1)
        else:
            self._announce(now_s, node, bearer, hop + 1)

    def _present(self, now_s: float, node: int, way: Way, hop: int) -> None:
        if self.result.heard_s[node] <= now_s:
            return
        if self.result.mode == "hash, ask all":
            self._ask(now_s, node, way, hop)
            return
        inventory = self._inventories.get(node)
        if inventory is None:
            inventory = self._inventories[node] = Inventory(self._timeout_s)
        if inventory.announced(HASH, self._network.names[way[0]], now_s) is not None:
            self._ask(now_s, node, way, hop)
            self._later(now_s + self._timeout_s, _OVERDUE, node, way, hop)

    def _overdue(self, now_s: float, node: int, way: Way, hop: int) -> None:
        inventory, network = self._inventories[node], self._network
        for ask in inventory.overdue(now_s):
            peer = self._number[ask.peer]
            other = network.outbound[node].get(peer) or network.inbound[node][peer]
            self._ask(now_s, node, other, hop)
            self._later(now_s + self._timeout_s, _OVERDUE, node, other, hop)

    def _request(self, now_s: float, node: int, way: Way, hop: int) -> None:
        self._send_texts(now_s, node, (way,), hop)


def _targets(ways: dict[int, Way], bearer: int | None) -> list[Way]:
    return [ways[peer] for peer in relay_targets(ways, bearer)]
