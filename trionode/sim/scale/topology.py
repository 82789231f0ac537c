"""Who is linked to whom: the passes of discovery (wire.md §3) carried out on lists of numbers.

Every choice and refusal is the node's own (`peers.discovery`, `peers.admission`); dials succeed at
once and links do not break. A pass of one node is one step, nodes come in random order.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from trionode.config.tree import PeerSettings
from trionode.peers.admission import (
    Duplicate,
    address_allowed,
    check_duplicate,
    check_inbound,
    max_inbound,
)
from trionode.peers.discovery import (
    RandomWalk,
    Target,
    deterministic_inbound,
    deterministic_outbound,
    enough_links,
    target_of,
)
from trionode.wire.address import peer_key, provider, split_address

MAX_PASSES = 10
"""Nearly all links come from everybody's first pass; then passes go on until one adds nothing."""


class Links(msgspec.Struct, frozen=True):
    """`outbound[n]`: the nodes that node n dialled, `inbound[n]`: those that dialled it, oldest first."""

    outbound: list[list[int]]
    inbound: list[list[int]]

    @property
    def count(self) -> int:
        return sum(map(len, self.outbound))


def discover(
    addresses: Sequence[str],
    rng: random.Random,
    *,
    settings: PeerSettings | None = None,
) -> Links:
    """Let the nodes at these addresses (in the order of the node list) find each other."""
    discovery = _Discovery(addresses, rng, settings if settings is not None else PeerSettings())
    order = list(range(len(addresses)))
    for _ in range(MAX_PASSES):
        before = discovery.links
        rng.shuffle(order)
        for node in order:
            discovery.run_pass(node)
        if discovery.links == before:
            break
    return Links(discovery.outbound, discovery.inbound)


class _Discovery:
    def __init__(self, addresses: Sequence[str], rng: random.Random, settings: PeerSettings) -> None:
        self._addresses = addresses
        self._rng = rng
        self._settings = settings
        where = [split_address(address) for address in addresses]
        self._ips = [ip for ip, _ in where]
        self._keys = [peer_key(ip, port) for ip, port in where]
        self._providers = [provider(ip) for ip in self._ips]
        self._number = {key: number for number, key in enumerate(self._keys)}
        self._linked: list[dict[str, None]] = [{} for _ in addresses]
        self._max_inbound = max_inbound(len(addresses), settings.min_inbound)
        self.outbound: list[list[int]] = [[] for _ in addresses]
        self.inbound: list[list[int]] = [[] for _ in addresses]
        self.links = 0

    def run_pass(self, node: int) -> None:
        """Steps 2, 3, 5 and 6 of one node."""
        settings = self._settings
        own = self._addresses[node]
        around = self._neighbourhood(node, settings.min_outbound)
        for target in deterministic_outbound(around, own, settings.min_outbound):
            self._dial(node, target)
        for target in deterministic_inbound(around, own, settings.min_outbound):
            self._invite(node, target)
        walk = RandomWalk(self._addresses, own, self._rng, allowed=_allowed)
        connected = self._linked[node].__contains__
        for _ in range(settings.random_draws):
            if self._enough(self.outbound[node], settings.random_outbound, settings.random_outbound_ips):
                break
            drawn = walk.draw(connected, {self._providers[peer] for peer in self.outbound[node]})
            if drawn is not None:
                self._dial(node, drawn)
        for _ in range(settings.random_draws):
            if self._enough(self.inbound[node], settings.random_inbound, settings.random_inbound_ips):
                break
            drawn = walk.draw(connected, {self._providers[peer] for peer in self.inbound[node]})
            if drawn is not None:
                self._invite(node, drawn)

    def _neighbourhood(self, node: int, size: int) -> Sequence[str]:
        """The part of the list in which the deterministic walks move; the whole list gives the same."""
        if len(self._addresses) <= 2 * size + 1:
            return self._addresses
        wrapped = len(self._addresses)
        return [self._addresses[(node + step) % wrapped] for step in range(-size, size + 1)]

    def _enough(self, peers: list[int], wanted: int, wanted_ips: int) -> bool:
        distinct = len({self._ips[peer] for peer in peers})
        return enough_links(len(peers), distinct, wanted=wanted, wanted_ips=wanted_ips)

    def _invite(self, node: int, target: Target) -> None:
        """Ask a node to dial us, which it does unless we are connected already."""
        own = target_of(self._addresses[node], "deterministic")
        if own is not None:
            self._dial(self._number[target.key], own)

    def _dial(self, node: int, target: Target) -> None:
        there = self._number[target.key]
        linked = target.key in self._linked[node]
        refusal = check_inbound(
            accepting=True,
            inbound_count=len(self.inbound[there]),
            max_connections=self._max_inbound,
            remote_ip=self._ips[node],
            allow_private=False,
        )
        duplicate = check_duplicate(connected=linked, alive=True, reconnecting=False)
        if refusal is not None or duplicate is not Duplicate.ACCEPT:
            return
        self._linked[node][target.key] = None
        self._linked[there][self._keys[node]] = None
        self.outbound[node].append(there)
        self.inbound[there].append(node)
        self.links += 1


def _allowed(ip: str) -> bool:
    return address_allowed(ip, allow_private=False)
