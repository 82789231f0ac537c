"""Whom to connect to: the choices of one discovery pass (wire.md §3), pure.

The pass itself (spacing, dialling, inviting) is `peers.dialer`; everything here takes the present
state and a random source and returns targets.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from trionode.errors import WireError
from trionode.wire.address import peer_key, provider, same_address, split_address

MAX_RECONNECT_ATTEMPTS = 3
MAX_RECONNECT_ENTRIES = 256

Source = Literal["deterministic", "random", "reconnect", "manual"]


class Target(msgspec.Struct, frozen=True):
    """A node to dial, or to invite to dial us."""

    ip: str
    port: int
    source: Source
    reconnects: int = 0

    @property
    def key(self) -> str:
        return peer_key(self.ip, self.port)


def target_of(address: str, source: Source) -> Target | None:
    """The target at a node-list address, None if the text is no address."""
    try:
        ip, port = split_address(address)
    except WireError:
        return None
    return Target(ip, port, source)


def own_index(addresses: Sequence[str], own_address: str) -> int:
    """Position of our own address in the sorted list, -1 if it is not there."""
    for index, address in enumerate(addresses):
        if same_address(address, own_address):
            return index
    return -1


def deterministic_outbound(addresses: Sequence[str], own_address: str, count: int = 8) -> list[Target]:
    """Step 2: the nodes after us in the sorted list, wrapping at its end; never our own host."""
    me, length = own_index(addresses, own_address), len(addresses)
    indexes = [(me + step) % length for step in range(1, min(length, count) + 1)]
    return _neighbours(addresses, own_address, indexes)


def deterministic_inbound(addresses: Sequence[str], own_address: str, count: int = 8) -> list[Target]:
    """Step 3: the nodes before us. Where an unlisted node's walk would leave the list: skipped."""
    me, length = own_index(addresses, own_address), len(addresses)
    indexes = []
    for step in range(1, min(length, count) + 1):
        index = me - step if me >= step else length + me - step
        if index >= 0:
            indexes.append(index)
    return _neighbours(addresses, own_address, indexes)


def _neighbours(addresses: Sequence[str], own_address: str, indexes: Iterable[int]) -> list[Target]:
    own = target_of(own_address, "deterministic")
    targets = (target_of(addresses[index], "deterministic") for index in indexes)
    return [target for target in targets if target is not None and (own is None or target.ip != own.ip)]


def enough_links(links: int, distinct_ips: int, *, wanted: int, wanted_ips: int) -> bool:
    """Steps 5 and 6 end when there are enough links of the direction, to enough addresses."""
    return links >= wanted and distinct_ips >= wanted_ips


class RandomWalk:
    """Steps 5 and 6: random nodes from foreign /16s; what was tried is shared by both steps.

    `taken` is the present set of /16s of the direction wanted; `connected` tells live keys. Each
    call of `draw` uses up one of the draws of `budget`, also when its node is rejected.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        own_address: str,
        rng: random.Random,
        *,
        allowed: Callable[[str], bool],
    ) -> None:
        self._addresses = addresses
        self._own = target_of(own_address, "random")
        self._rng = rng
        self._allowed = allowed
        self._tried_ips: dict[str, None] = {}
        self._tried_providers: dict[str, None] = {}

    def draw(self, connected: Callable[[str], bool], taken: Iterable[str]) -> Target | None:
        """One uniform draw; None if the node drawn may not be used."""
        if not self._addresses:
            return None
        target = target_of(self._rng.choice(self._addresses), "random")
        if target is None or connected(target.key):
            return None
        prefix = provider(target.ip)
        is_near = self._own is not None and prefix == provider(self._own.ip)
        if is_near or prefix in taken or not self._allowed(target.ip):
            return None
        if target.ip in self._tried_ips or prefix in self._tried_providers:
            return None
        self._tried_ips[target.ip] = None
        self._tried_providers[prefix] = None
        return target


class ReconnectQueue:
    """Step 4: outbound peers lost for a reason that a new dial may cure, with their disconnects."""

    def __init__(self) -> None:
        self._lost: dict[str, Target] = {}

    def __len__(self) -> int:
        return len(self._lost)

    def __contains__(self, key: str) -> bool:
        return key in self._lost

    def lost(self, ip: str, port: int) -> None:
        """An outbound link ended with a code after which the dialler re-dials."""
        key = peer_key(ip, port)
        before = self._lost.pop(key, None)
        self._lost[key] = Target(ip, port, "reconnect", (before.reconnects if before else 0) + 1)
        if len(self._lost) > MAX_RECONNECT_ENTRIES:
            del self._lost[next(iter(self._lost))]

    def clear(self) -> None:
        self._lost.clear()

    def due(
        self,
        connected: Callable[[str], bool],
        unstable: Callable[[str], bool],
        listed: Callable[[str], bool],
    ) -> list[Target]:
        """The targets of this pass; drops those connected, unstable, tried too often or unlisted.

        The original dials an entry whose dials fail for ever; ours stops when the node has left
        the node list.
        """
        for key, target in list(self._lost.items()):
            worn_out = target.reconnects > MAX_RECONNECT_ATTEMPTS
            if connected(key) or unstable(key) or worn_out or not listed(key):
                del self._lost[key]
        return list(self._lost.values())


class InviteBackoff:
    """Pauses after failed invitations of a deterministic neighbour, by number of failures."""

    def __init__(self, pauses_s: Sequence[float]) -> None:
        self._pauses_s = pauses_s
        self._failures: dict[str, tuple[int, float]] = {}

    def failed(self, key: str, now_s: float) -> None:
        """One more failure; the key is left alone for the pause of that number."""
        failures = self._failures.get(key, (0, 0.0))[0] + 1
        pause_s = self._pauses_s[min(failures, len(self._pauses_s)) - 1]
        self._failures[key] = (failures, now_s + pause_s)

    def connected(self, key: str) -> None:
        self._failures.pop(key, None)

    def waits(self, key: str, now_s: float) -> bool:
        """Whether the key is still in its pause."""
        return self._failures.get(key, (0, float("-inf")))[1] > now_s

    def keep_only(self, listed: Callable[[str], bool]) -> None:
        """Forget nodes that left the node list, which bounds the memory by the list."""
        for key in [key for key in self._failures if not listed(key)]:
            del self._failures[key]
