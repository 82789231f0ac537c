"""The minute check of the node on itself: penalties for what it can see without asking anybody
(docs/spec/daemon-rpc.md §7, lifecycle.md §10; the table is `lifecycle.dos`).

Own address unknown, another node at our address, too few peers. Each source grows while it lasts and
is gone when it is mended.
"""

from __future__ import annotations

from typing import Protocol

import trio

from trionode.config.tree import MonitorSettings, PeerSettings
from trionode.lifecycle.dos import (
    ADDRESS_UNKNOWN,
    COLLISION,
    FEW_PEERS,
    Penalty,
    collides,
    grown,
    may_be_asked,
    message_of,
)
from trionode.runtime.dosstate import DosState
from trionode.wire.nodelist import NodeList


class SelfFacts(Protocol):
    """What the check must know from the chain (`chain.facts.ChainFacts`)."""

    @property
    def synced(self) -> bool: ...
    @property
    def confirmed(self) -> bool: ...
    @property
    def own_address(self) -> str | None: ...
    @property
    def nodes(self) -> NodeList: ...


class Connectedness(Protocol):
    """What the check must know of the peers (`peers.table.PeerTable`)."""

    @property
    def well_connected(self) -> bool: ...


class SelfCheck:
    """Service "selfcheck"."""

    name = "selfcheck"

    def __init__(
        self,
        settings: MonitorSettings,
        peers: PeerSettings,
        *,
        facts: SelfFacts,
        table: Connectedness,
        dos: DosState,
        public_key: str,
    ) -> None:
        self._settings = settings
        self._links_wanted = peers.min_outbound + peers.min_inbound
        self._facts = facts
        self._table = table
        self._dos = dos
        self._public_key = public_key
        self._started_s = 0.0
        self._collisions = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Check every `availability_interval_s`; half as often while the daemon is behind."""
        self._started_s = trio.current_time()
        task_status.started()
        while True:
            factor = 1 if self._facts.synced else 2
            await trio.sleep(self._settings.availability_interval_s * factor)
            if self._facts.synced:
                self._check()

    def _check(self) -> None:
        address = self._facts.own_address
        self._judge(ADDRESS_UNKNOWN, address is None)
        if address is None or not self._facts.confirmed:
            return
        collides_now = collides(self._facts.nodes, address, self._public_key)
        self._collisions = self._collisions + 1 if collides_now else 0
        # once may be a list from the middle of a change of address
        self._judge(COLLISION, self._collisions > 1)
        self._judge(FEW_PEERS, self._peers_count() and not self._table.well_connected)

    def _peers_count(self) -> bool:
        """Whether the number of our links may be held against us."""
        uptime_s, least_s = trio.current_time() - self._started_s, self._settings.min_uptime_s
        return uptime_s > least_s and may_be_asked(
            len(self._facts.nodes), self._links_wanted, uptime_s, least_s
        )

    def _judge(self, penalty: Penalty, fails: bool) -> None:
        amount = grown(penalty, self._dos.of(penalty.source)) if fails else 0
        self._dos.put(penalty.source, amount, message_of(penalty, amount), name=penalty.name)
