"""What a process is to its peers: a node of the network, or somebody who only listens.

One value, handed to the peer service, decides everything in which the two differ; whatever is sent
to a peer passes `may_send` (peers.outgoing), so that a listener stays silent by construction.
"""

from __future__ import annotations

import msgspec

from trionode.peers.facts import NetworkFacts
from trionode.peers.link import CAPABILITIES
from trionode.wire.frames import Frame, HashRequest


class Role(msgspec.Struct, frozen=True):
    """`is_member`: stands in the node list, so it waits for its confirmation, takes links, invites, re-dials.

    `capabilities` are told at the opening of a link. `says`: the frames it sends; None stands for
    every frame and every text. `max_links`: links dialled at most, 0 for no limit but the settings'.
    """

    is_member: bool = True
    capabilities: tuple[str, ...] = CAPABILITIES
    says: tuple[type[Frame], ...] | None = None
    max_links: int = 0

    def may_link(self, facts: NetworkFacts) -> bool:
        """Whether links may be held now: members only while the chain confirms them (wire.md §2)."""
        return facts.confirmed or not self.is_member

    def may_send(self, frame: Frame | None) -> bool:
        """Whether this frame (None: a text) may go out."""
        return self.says is None or isinstance(frame, self.says)

    def has_room(self, links: int) -> bool:
        """Whether one more link may be dialled beside so many."""
        return not self.max_links or links < self.max_links


MEMBER = Role()
"""A node."""


def listener(max_links: int) -> Role:
    """Somebody who asks for announced messages and says nothing else.

    Without `peerExchange` nobody tells it of links, without `appStateSync` nobody asks it for state.
    """
    return Role(
        is_member=False,
        capabilities=("transmissionTimestamps", "binaryMessages"),
        says=(HashRequest,),
        max_links=max_links,
    )
