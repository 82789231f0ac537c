"""Whether an app can have its ports here: free, allowed, and reachable from outside (lifecycle.md §11, §18).

Before an install the ports are opened at firewall and router, something listens on them, and other nodes
are asked to knock; afterwards everything is closed again.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from trionode.appstate.source import LocationView
from trionode.config.tree import PortTestSettings
from trionode.containers.actions import Spec
from trionode.containers.disk import Firewall
from trionode.containers.machine.listeners import Listeners
from trionode.containers.spawning.testedports import TestedPorts
from trionode.errors import HostError
from trionode.lifecycle.dos import Knock
from trionode.plans.parts import Part, parts_of
from trionode.plans.ports import ports_of, unusable_port
from trionode.registry.constants import MAINNET, Constants
from trionode.runtime.logs import get_logger
from trionode.sync.witness import PortWord
from trionode.wire.address import bare, peer_key, split_address
from trionode.wire.nodelist import NodeList

UNDO_LIMIT_S = 60.0
TEST_APP = "appPortsTest"

log = get_logger("containers.ports")


class ChainSide(Protocol):
    """`chain.facts.ChainFacts`."""

    @property
    def own_address(self) -> str | None: ...
    @property
    def nodes(self) -> NodeList: ...
    @property
    def height(self) -> int: ...


class Witness(Protocol):
    """Another node that knocks at our ports (`sync.witness.PortWitness`)."""

    async def reaches_ports(
        self, ip: str, port: int, *, own_ip: str, own_port: int, ports: Sequence[int], timeout_s: float
    ) -> PortWord: ...


class InstalledSide(Protocol):
    """What is installed here (`containers.installedapps.InstalledApps`)."""

    def names(self) -> frozenset[str]: ...
    def parts(self, name: str) -> Sequence[Part]: ...


class Locations(Protocol):
    """Who runs what (`store.eventlog.EventLog`)."""

    def locations(self, name: str | None = None, ip: str | None = None) -> Sequence[LocationView]: ...


class KnownSpecs(Protocol):
    """Specifications in force."""

    async def in_force(self, app: str) -> Spec | None: ...


class PortDoor:
    """Opens ports for a test and closes them again. `notes`: of ports that are open meanwhile."""

    def __init__(
        self,
        settings: PortTestSettings,
        firewall: Firewall,
        listeners: Listeners,
        notes: TestedPorts | None = None,
    ) -> None:
        self._settings = settings
        self._notes = notes
        self._firewall = firewall
        self._listeners = listeners

    @asynccontextmanager
    async def opened(self, ports: Sequence[int]) -> AsyncIterator[None]:
        """Reachable while the block is open, as far as it lies with us. Raises FirewallError, PortTaken."""
        # Listening comes first: a port somebody else listens on is never opened to the world.
        async with self._listeners.listening(ports):
            await self._clear_left()
            begun: list[int] = []
            try:
                if self._notes is not None:
                    await self._notes.begin(ports)
                for port in ports:
                    begun.append(port)
                    await self._firewall.allow(port, app=TEST_APP)
                await trio.sleep(self._settings.bind_delay_s)
                yield
            finally:
                with trio.move_on_after(UNDO_LIMIT_S, shield=True):
                    closed = await self._close(begun)
                    if self._notes is not None:
                        unopened = [port for port in ports if port not in begun]
                        await self._notes.end(ports, closed=[*closed, *unopened])

    async def _clear_left(self) -> None:
        """Close what an earlier test could not."""
        if self._notes is not None and (left := await self._notes.left()):
            await self._notes.end((), closed=await self._close(left))

    async def _close(self, ports: Sequence[int]) -> list[int]:
        """Those that are closed now."""
        closed = []
        for port in ports:
            try:
                await self._firewall.forget(port, app=TEST_APP)
            except HostError as error:
                log.error("a tested port stays open", port=port, problem=error.one_line())
            else:
                closed.append(port)
        return closed


class Witnesses:
    """Draws nodes to be asked: random ones of the list that are not behind our own address."""

    def __init__(self, chain: ChainSide, rng: random.Random) -> None:
        self._chain = chain
        self._rng = rng

    def draw(self) -> Iterator[tuple[str, int]]:
        """(ip, port) of listed nodes in random order, each once, as long as anybody asks for more."""
        own = self._chain.own_address
        own_ip = "" if own is None else split_address(own)[0]
        entries = self._chain.nodes.entries
        seen: set[int] = set()
        while len(seen) < len(entries):
            number = int(self._rng.random() * len(entries))
            while number in seen:
                number = (number + 1) % len(entries)
            seen.add(number)
            if not entries[number].ip:
                continue
            ip, port = split_address(entries[number].ip)
            if ip != own_ip:
                yield ip, port


class PortTest:
    """Asks other nodes whether they reach ports of this one."""

    def __init__(
        self,
        settings: PortTestSettings,
        *,
        chain: ChainSide,
        witness: Witness,
        door: PortDoor,
        rng: random.Random,
    ) -> None:
        self._settings = settings
        self._chain = chain
        self._witness = witness
        self._door = door
        self._testers = Witnesses(chain, rng)

    async def problem(self, ports: Sequence[int]) -> str | None:
        """Why the ports cannot be had, in a sentence; None when another node reached them all."""
        address = self._chain.own_address
        if not ports:
            return None
        if address is None:
            return "The own address is not known, so nobody can test the ports."
        try:
            async with self._door.opened(ports):
                await trio.sleep(self._settings.propagation_delay_s)
                return await self._ask(address, ports)
        except HostError as error:
            return f"Its ports cannot be opened: {error.message}"

    async def _ask(self, address: str, ports: Sequence[int]) -> str | None:
        own_ip, own_port = split_address(address)
        testers = self._testers.draw()
        for _ in range(self._settings.max_attempts):
            tester = next(testers, None)
            if tester is None:
                break
            word = await self._witness.reaches_ports(
                *tester,
                own_ip=own_ip,
                own_port=own_port,
                ports=ports,
                timeout_s=self._settings.peer_timeout_s,
            )
            if word.knock is Knock.REACHED:
                return None
            log.info("ports tested", tester=peer_key(*tester), said=word.knock.value, shut=word.failed)
            if word.knock is Knock.SHUT:
                return f"Port {word.failed} cannot be reached from outside."
        return "No other node tested its ports."


class PortCheck:
    """Whether an app can have its ports here. `api_ports`: those nodes may use, to find our neighbours."""

    def __init__(
        self,
        *,
        test: PortTest,
        chain: ChainSide,
        installed: InstalledSide,
        locations: Locations,
        specs: KnownSpecs,
        api_ports: Sequence[int],
        constants: Constants = MAINNET,
    ) -> None:
        self._test = test
        self._chain = chain
        self._installed = installed
        self._locations = locations
        self._specs = specs
        self._api_ports = api_ports
        self._constants = constants

    async def problem(self, spec: Spec) -> str | None:
        """Why not, in a sentence."""
        ports = ports_of(parts_of(spec) or ())
        taken = unusable_port(
            ports,
            local={name: ports_of(self._installed.parts(name)) for name in self._installed.names()},
            on_this_ip=await self._of_neighbours(),
            app=str(spec.get("name", "")),
            height=self._chain.height,
            constants=self._constants,
        )
        return taken if taken is not None else await self._test.problem(ports)

    async def _of_neighbours(self) -> dict[str, tuple[int, ...]]:
        """Ports of the apps on other nodes behind our address, as far as they can be read."""
        address = self._chain.own_address
        if address is None:
            return {}
        own_ip, own_port = split_address(address)
        found: dict[str, tuple[int, ...]] = {}
        for port in self._api_ports:
            if port == own_port:
                continue
            for form in dict.fromkeys((bare(own_ip, port), peer_key(own_ip, port))):
                for row in self._locations.locations(ip=form):
                    spec = await self._specs.in_force(row.name)
                    found[row.name] = ports_of((parts_of(spec) if spec is not None else None) or ())
        return found
