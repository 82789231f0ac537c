"""The availability loop: ports of this node, one at a time, tested by another node (lifecycle.md §18).

A node whose ports are shut is no use to anybody: with too many of them it earns a penalty until they open.
What follows from a test is `plans.ports`.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Protocol

import msgspec
import trio

from trionode.config.tree import BootSettings
from trionode.containers.spawning.porttest import ChainSide, InstalledSide, PortDoor, Witness, Witnesses
from trionode.errors import HostError
from trionode.lifecycle.dos import Knock
from trionode.plans.ports import (
    BLOCKED_S,
    ERROR_S,
    SHORT_S,
    PortVerdict,
    PortWatch,
    after_test,
    next_port,
    pass_over,
    ports_of,
)
from trionode.registry.constants import MAINNET, Constants
from trionode.runtime.counters import Counters
from trionode.runtime.dosstate import DosState
from trionode.runtime.logs import get_logger
from trionode.wire.address import peer_key, split_address

SOURCE = "ports"
TEST_TIMEOUT_S = 10.0
SILENT_MOST = 100
"""So many nodes that did not answer are remembered and not asked again (D-17: the original never forgets)."""

log = get_logger("containers.ports")


class WatchFacts(ChainSide, Protocol):
    """What the loop must know from the chain (`chain.facts.ChainFacts`)."""

    @property
    def synced(self) -> bool: ...
    @property
    def confirmed(self) -> bool: ...


class PortStatus(msgspec.Struct, frozen=True):
    """For API and status: ports found shut, what the last test said, the penalty."""

    shut: tuple[int, ...]
    last_port: int | None
    last: str
    penalty: float


class PortAvailability:
    """Service "port-availability". `blocked`: ports the operator keeps from apps."""

    name = "port-availability"

    def __init__(
        self,
        boot: BootSettings,
        *,
        chain: WatchFacts,
        installed: InstalledSide,
        witness: Witness,
        door: PortDoor,
        dos: DosState,
        counters: Counters,
        rng: random.Random,
        blocked: Collection[int] = (),
        constants: Constants = MAINNET,
    ) -> None:
        self._first_delay_s = boot.availability_delay_s * boot.delay_factor
        self._chain = chain
        self._installed = installed
        self._witness = witness
        self._door = door
        self._dos = dos
        self._counters = counters
        self._rng = rng
        self._blocked = frozenset(blocked)
        self._constants = constants
        self._testers = Witnesses(chain, rng)
        self._watch = PortWatch()
        self._silent: dict[tuple[str, int], None] = {}
        self._last_port: int | None = None
        self._last = ""

    @property
    def status(self) -> PortStatus:
        watch = self._watch
        return PortStatus(tuple(sorted(watch.bad)), self._last_port, self._last, watch.penalty)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Test until cancelled."""
        task_status.started()
        await trio.sleep(self._first_delay_s)
        while True:
            pause_s = await self._round()
            await trio.sleep(pause_s)

    async def _round(self) -> float:
        """Test one port; seconds until the next."""
        chain, address = self._chain, self._chain.own_address
        if address is None or not (chain.synced and chain.confirmed):
            return BLOCKED_S
        port = self._last_port = next_port(self._watch, self._rng, self._constants, chain.height)
        if port in self._constants.banned_ports or port in self._blocked or port in self._used():
            return self._take(pass_over(self._watch, port))
        tester = next((found for found in self._testers.draw() if found not in self._silent), None)
        if tester is None:
            self._silent.clear()
            return SHORT_S
        return await self._test(port, address, tester)

    async def _test(self, port: int, address: str, tester: tuple[str, int]) -> float:
        own_ip, own_port = split_address(address)
        try:
            async with self._door.opened((port,)):
                word = await self._witness.reaches_ports(
                    *tester, own_ip=own_ip, own_port=own_port, ports=(port,), timeout_s=TEST_TIMEOUT_S
                )
        except HostError as error:
            log.info("port not tested", port=port, problem=error.one_line())
            self._take(pass_over(self._watch, port))
            return ERROR_S
        self._counters.add(f"ports.{word.knock.value}")
        if word.knock is Knock.SILENT:
            self._remember(tester)
            self._last = f"{peer_key(*tester)} did not answer"
            return SHORT_S
        reachable = word.knock is Knock.REACHED
        return self._take(after_test(self._watch, port, reachable=reachable, rng=self._rng))

    def _take(self, verdict: PortVerdict) -> float:
        """Keep what a test changed; the penalty is all that there is at present."""
        self._watch, self._last = verdict.watch, verdict.reason
        self._dos.put(SOURCE, self._watch.penalty, verdict.message)
        return verdict.pause_s

    def _remember(self, tester: tuple[str, int]) -> None:
        while len(self._silent) >= SILENT_MOST:
            del self._silent[next(iter(self._silent))]
        self._silent[tester] = None

    def _used(self) -> set[int]:
        installed = self._installed
        return {port for name in installed.names() for port in ports_of(installed.parts(name))}
