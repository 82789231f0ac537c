"""The decisions of passing a message on: to whom, in which form, when (wire.md §9 Relay), pure.

`peers.broadcast` and `peers.dispatch` carry them out on live links, `sim.scale` on a model of the
whole network.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

Peer = TypeVar("Peer")


def goes_by_hash(height: int, hash_relay_height: int) -> bool:
    """Whether relays are announced by their hash; below that height they go as full texts."""
    return height >= hash_relay_height


def relay_targets(peers: Iterable[Peer], bearer: Peer | None) -> list[Peer]:
    """Everybody but the peer that brought the message; of own messages, everybody."""
    return [peer for peer in peers if peer != bearer]


def paced_offsets_s(groups: Sequence[int], spacing_s: float, gap_s: float) -> Iterator[float]:
    """When each full text of a fan-out leaves, counted from its beginning.

    `groups`: how many peers there are of each direction, outbound first. There is a pause before
    each send and a longer one after each group, also after an empty one.
    """
    due_s = 0.0
    for size in groups:
        for _ in range(size):
            due_s += spacing_s
            yield due_s
        due_s += gap_s
