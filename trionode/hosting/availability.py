"""Whether other nodes can reach this one: asked of one of them every minute (docs/spec/lifecycle.md §10).

Facts: docs/spec/daemon-rpc.md §7. Each node that does not, or that is silent itself, adds to the penalty,
up to eight in a row; one that reaches us takes all of it away. In a network of few nodes, or soon after a
start, nobody is asked (`lifecycle.dos.may_be_asked`).
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from trionode.config.tree import MonitorSettings, PeerSettings
from trionode.errors import TrionodeError
from trionode.lifecycle.dos import (
    ADDRESS_UNCLEAR,
    NOTICE_ABOVE,
    UNREACHABLE,
    Knock,
    Penalty,
    grown,
    may_be_asked,
    message_of,
)
from trionode.runtime.dosstate import DosState
from trionode.runtime.logs import get_logger
from trionode.wire.address import is_ipv4, split_address
from trionode.wire.nodelist import NodeList

TRIES = 8
ADDRESS_AT_TRY = 5
"""With this failed try in a row the node doubts its own address."""

log = get_logger("hosting.availability")


class ReachFacts(Protocol):
    """What the check must know from the chain (`chain.facts.ChainFacts`)."""

    @property
    def synced(self) -> bool: ...
    @property
    def confirmed(self) -> bool: ...
    @property
    def own_address(self) -> str | None: ...
    @property
    def nodes(self) -> NodeList: ...


class Witness(Protocol):
    """Another node that knocks at our ports (`sync.witness.ReachWitness`)."""

    async def reaches_us(self, ip: str, port: int, own_ip: str, own_port: int) -> Knock:
        """What the node at ip:port says of us; never raises for what it does."""
        ...


class Availability:
    """Service "availability".

    `public_ip`: asks the benchmark for our address (getpublicip); it may raise TrionodeError. None: there
    is nobody to ask.
    """

    name = "availability"

    def __init__(
        self,
        settings: MonitorSettings,
        peers: PeerSettings,
        *,
        facts: ReachFacts,
        witness: Witness,
        dos: DosState,
        rng: random.Random,
        public_ip: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._settings = settings
        self._links_wanted = peers.min_outbound + peers.min_inbound
        self._facts = facts
        self._witness = witness
        self._dos = dos
        self._rng = rng
        self._public_ip = public_ip
        self._started_s = 0.0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask every `availability_interval_s` until cancelled; half as often while the daemon is behind."""
        self._started_s = trio.current_time()
        task_status.started()
        while True:
            factor = 1 if self._facts.synced else 2
            await trio.sleep(self._settings.availability_interval_s * factor)
            address = self._facts.own_address
            if address is not None and self._may_ask(address):
                await self._ask(address)

    def _may_ask(self, address: str) -> bool:
        facts = self._facts
        if not (facts.synced and facts.confirmed) or facts.nodes.by_address(address) is None:
            return False
        uptime_s = trio.current_time() - self._started_s
        return may_be_asked(len(facts.nodes), self._links_wanted, uptime_s, self._settings.min_uptime_s)

    async def _ask(self, address: str) -> None:
        own_ip, own_port = split_address(address)
        for number in range(1, TRIES + 1):
            witness = self._draw(own_ip)
            if witness is None:
                return
            said = await self._witness.reaches_us(*split_address(witness), own_ip, own_port)
            if said is Knock.REACHED:
                self._put(UNREACHABLE, fails=False)
                self._put(ADDRESS_UNCLEAR, fails=False)
                return
            log.info("not reached by another node", witness=witness, said=said.value)
            self._put(UNREACHABLE, fails=True)
            over = self._dos.of(UNREACHABLE.source) > NOTICE_ABOVE
            if number == ADDRESS_AT_TRY or over:
                await self._doubt_address(own_ip)
            if over:
                return

    def _draw(self, own_ip: str) -> str | None:
        """Any listed node; when that is nobody else, the nearest before it."""
        entries = self._facts.nodes.entries
        start = int(self._rng.random() * len(entries))
        for number in range(start, start - len(entries), -1):
            address = entries[number].ip
            if address and split_address(address)[0] != own_ip:
                return address
        return None

    async def _doubt_address(self, own_ip: str) -> None:
        """Perhaps nobody reaches us because we are elsewhere: a change is followed by the address watch."""
        if self._public_ip is None:
            return
        try:
            answer = await self._public_ip()
        except TrionodeError as error:
            log.warning("the public address was not told", problem=error.one_line())
            answer = None
        known = isinstance(answer, str) and is_ipv4(answer)
        if known and answer != own_ip:
            log.warning("the benchmark sees another public address", ours=own_ip, seen=answer)
        self._put(ADDRESS_UNCLEAR, fails=not known)

    def _put(self, penalty: Penalty, *, fails: bool) -> None:
        amount = grown(penalty, self._dos.of(penalty.source)) if fails else 0
        self._dos.put(penalty.source, amount, message_of(penalty, amount), name=penalty.name)
