"""Linker: connects apps of one owner that share a network (docs/spec/lifecycle.md §14).

What is connected to what is decided by `plans.networkwith`. Each connection looks first, so that doing it
again changes nothing; being connected already is success. A container that does not run keeps the id of a
network: when that network has gone, or was made anew, it cannot start until it has left or is connected
again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from trionode.containers.actions import Spec
from trionode.containers.engine import Conflict, ContainerDetails, ContainerRow, Engine, EngineError, NotFound
from trionode.lifecycle.names import containers_of, parse_name
from trionode.plans import labels
from trionode.plans.networks import is_already_connected, network_name
from trionode.plans.networkwith import Connect, LinkPlan, plan_forward, plan_links, plan_reverse
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger

log = get_logger("containers.linking")


class LinkedRow(Protocol):
    """A local row; of an encrypted specification too the description can be read."""

    @property
    def spec(self) -> Spec: ...


class LinkedApps(Protocol):
    """The local table (`containers.installedapps.InstalledApps`)."""

    def rows(self) -> Sequence[LinkedRow]: ...


class Linker:
    """The three ways in which links come about: a new container, an app that is back, everything."""

    def __init__(self, engine: Engine, installed: LinkedApps, counters: Counters) -> None:
        self._engine = engine
        self._installed = installed
        self._counters = counters

    async def forward(self, container: str, spec: Spec) -> None:
        """A container just made, before its start: to all networks its app links to.

        Raises EngineError, and then the install is off.
        """
        for connect in plan_forward(container, spec).connects:
            await self.connect(connect)

    async def reverse(self, app: str) -> None:
        """`app` is back with a new network: whoever links to it is connected again."""
        try:
            plan = plan_reverse(app, self._specs(), await self._containers())
        except EngineError as error:
            self._counters.add("containers.linking.failed")
            log.error("who links to an app is not connected again", app=app, problem=error.one_line())
            return
        await self._carry_out(plan)

    async def sweep(self) -> None:
        """All links of all apps. Raises EngineError when the engine does not list its containers."""
        await self._carry_out(plan_links(self._specs(), await self._containers()))

    async def planned(self) -> tuple[Connect, ...]:
        """What a sweep would connect that is not connected now."""
        plan = plan_links(self._specs(), await self._containers())
        return tuple([connect for connect in plan.connects if await self._is_missing(connect)])

    async def repair(self, container: str) -> bool:
        """Whether a container that cannot start may do so now. Raises EngineError.

        It leaves the networks of others that have gone; those made anew it is connected to again if its app
        still links to them. A container without its own network goes itself: health makes both again.
        """
        details = await self._engine.inspect(container)
        stale = [name for name in details.network_ids if await self._is_stale(details, name)]
        if not stale:
            return False
        if network_name(details.labels.get(labels.OWNER) or parse_name(details.name)[1]) in stale:
            log.error("its network is gone, both are made again", container=details.name)
            await self._engine.remove(details.name)
            return False
        wanted = plan_links(self._specs(), await self._containers()).connects
        for network in stale:
            log.warning("a network it shared is gone", container=details.name, network=network)
            await self._engine.disconnect(details.name, network, force=True)
        for connect in wanted:
            if connect.container == details.name and connect.network in stale:
                with suppress(NotFound):  # its app is connected again when that network is back
                    await self.connect(connect)
        self._counters.add("containers.linking.repaired")
        return True

    async def _is_stale(self, details: ContainerDetails, network: str) -> bool:
        try:
            current = await self._engine.network(network)
        except NotFound:
            return True
        known = details.network_ids[network]
        return bool(known) and known != current.id

    async def connect(self, connect: Connect) -> bool:
        """Make one connection; False when it is there already. Raises EngineError."""
        if await self._is_connected(connect):
            return False
        try:
            await self._engine.connect(connect.container, connect.network)
        except Conflict as error:
            if not is_already_connected(error.message):
                raise
            return False
        self._counters.add("containers.linking.connected")
        log.info("connected", container=connect.container, network=connect.network, why=connect.reason)
        return True

    async def _is_missing(self, connect: Connect) -> bool:
        try:
            return not await self._is_connected(connect)
        except NotFound:
            return False  # there is nothing to connect it to

    async def _is_connected(self, connect: Connect) -> bool:
        # asked first: an engine says nothing of a missing network while the container does not run
        network = await self._engine.network(connect.network)
        details = await self._engine.inspect(connect.container)
        return details.network_ids.get(network.name) in ("", network.id)

    async def _carry_out(self, plan: LinkPlan) -> None:
        """What fails is logged; what depends on it is left out, the rest goes on."""
        left = list(plan.connects)
        while left:
            connect = left.pop(0)
            try:
                await self.connect(connect)
            except EngineError as error:
                self._counters.add("containers.linking.failed")
                log.error(
                    "not connected",
                    container=connect.container,
                    network=connect.network,
                    problem=error.one_line(),
                )
                left = list(LinkPlan((connect, *left), plan.on_failure).rest_after(connect))

    def _specs(self) -> list[Spec]:
        return [row.spec for row in self._installed.rows()]

    async def _containers(self) -> Callable[[str], Sequence[str]]:
        """The containers of an app by one list call: those that carry its label, else by their names."""
        rows = await self._engine.containers()
        return lambda app: _of_app(app, rows)


def _of_app(app: str, rows: Sequence[ContainerRow]) -> list[str]:
    unlabelled = [row.name for row in rows if labels.OWNER not in row.labels]
    named = containers_of(app, unlabelled)
    return [row.name for row in rows if row.labels.get(labels.OWNER) == app] + named
