"""What the peers need to know of the chain, as a port this room owns.

`chain.facts.ChainFacts` and the simulator's chain satisfy it structurally. All members are cheap
to read and always current; news arrive on the bus (`chain:nodes`, `chain:address`,
`daemon:polled`, `confirmation:changed`).
"""

from __future__ import annotations

from typing import Protocol

from trionode.wire.nodelist import NodeList

WAKE_EVENTS = ("daemon:polled", "chain:nodes", "chain:address", "confirmation:changed")
"""Bus events after which a fact of `NetworkFacts` may have changed."""


class NetworkFacts(Protocol):
    """Present facts of the network as this node sees them."""

    @property
    def nodes(self) -> NodeList:
        """The node list; a new object for every new list, empty before the first."""
        ...

    @property
    def own_address(self) -> str | None:
        """Our address as the network lists it (`ip` or `ip:port`), None while unknown."""
        ...

    @property
    def height(self) -> int:
        """Block height of the chain daemon, 0 before its first answer."""
        ...

    @property
    def synced(self) -> bool:
        """The daemon answered lately and follows the chain's tip (wire.md §3)."""
        ...

    @property
    def confirmed(self) -> bool:
        """Our own node is CONFIRMED on the chain."""
        ...

    @property
    def can_send(self) -> bool:
        """Confirmed, and listed with our own key at our own address."""
        ...
