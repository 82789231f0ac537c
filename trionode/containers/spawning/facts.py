"""What a node knows of itself when a round of the spawner begins (docs/spec/lifecycle.md §11, steps 1, 2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from trionode.errors import HostError
from trionode.plans.deferrals import Kind
from trionode.plans.requirements import Place
from trionode.plans.spawnchoice import SpawnFacts
from trionode.runtime.dosstate import STICKY_STATE
from trionode.runtime.gate import Gate
from trionode.runtime.logs import get_logger

BLOCKS_BEHIND = 5
"""The explorer may be this far behind the daemon."""

log = get_logger("containers.spawner")


class ChainSide(Protocol):
    """`chain.facts.ChainFacts`."""

    @property
    def height(self) -> int: ...
    @property
    def confirmed(self) -> bool: ...


class ExplorerSide(Protocol):
    """`chain.explorer.Explorer`."""

    @property
    def scanned_height(self) -> int: ...


class Penalties(Protocol):
    """`runtime.dosstate.DosState`."""

    @property
    def state(self) -> float: ...


class NodeSide(Protocol):
    """`containers.node.view.NodeView`."""

    @property
    def is_enterprise(self) -> bool: ...
    async def kind(self) -> Kind | None: ...
    async def place(self) -> Place | None: ...
    async def running_containers(self) -> int: ...


class _Asked(msgspec.Struct, frozen=True):
    """What benchmark, engine and others said of this node. `answers`: all of them did."""

    kind: Kind | None
    place: Place | None
    running: int
    answers: bool


class SpawnFactSource:
    """Gathers the facts. `installed`: names of the apps that are here or being worked on."""

    def __init__(
        self,
        *,
        chain: ChainSide,
        explorer: ExplorerSide,
        db_ready: Gate,
        dos: Penalties,
        node: NodeSide,
        installed: Callable[[], frozenset[str]],
    ) -> None:
        self._chain = chain
        self._explorer = explorer
        self._db_ready = db_ready
        self._dos = dos
        self._node = node
        self._installed = installed
        self._asked: _Asked | None = None

    async def spawn_facts(self) -> SpawnFacts:
        """What does not answer is a fact, too: nothing is raised for it."""
        kind, place, running, answers = None, None, 0, True
        try:
            kind = await self._node.kind()
            place = await self._node.place()
            running = await self._node.running_containers()
        except HostError as error:
            log.warning("this node does not know itself", problem=error.one_line())
            answers = False
        self._asked = _Asked(kind, place, running, answers)
        return self._facts(self._asked)

    def known(self) -> SpawnFacts | None:
        """The facts as of now, with what had to be asked for as of the last round; None before the first."""
        return None if self._asked is None else self._facts(self._asked)

    def _facts(self, asked: _Asked) -> SpawnFacts:
        chain, place = self._chain, asked.place
        return SpawnFacts(
            kind=asked.kind,
            enterprise=self._node.is_enterprise,
            synced=chain.height > 0 and self._explorer.scanned_height >= chain.height - BLOCKS_BEHIND,
            db_ready=self._db_ready.is_open,
            dos=self._dos.state >= STICKY_STATE,
            confirmed=chain.confirmed,
            benchmark_ok=asked.answers,
            containers=asked.running,
            place="" if place is None else place.names[2],
            installed=self._installed(),
        )
