"""The steps of an install that concern the app as a whole: its network and its row (lifecycle.md §12)."""

from __future__ import annotations

from contextlib import suppress

import trio

from trionode.containers.engine import Conflict, EngineError, NotFound
from trionode.containers.health.privateguard import guard_bridges
from trionode.containers.install.making import Job
from trionode.containers.install.part_steps import drop_image
from trionode.containers.install.steps import to_the_end
from trionode.containers.install.workbench import Workbench
from trionode.errors import StoreError
from trionode.plans.networks import CreateNetwork, network_name, plan_network


class NetworkStep:
    """The app's own network, unless it is there; containers on it reach no private addresses."""

    name = "network"

    def __init__(self, bench: Workbench, job: Job) -> None:
        self._bench = bench
        self._job = job
        self._made = False

    async def do(self) -> None:
        engine, app = self._bench.engine, self._job.app
        networks = {network.name: (network.subnet,) for network in await engine.networks()}
        plan = plan_network(app, networks, self._bench.rng, tries=self._bench.settings.network_tries)
        if isinstance(plan, CreateNetwork):
            self._job.tell(f"Creating the network of {app}...")
            await self._create(plan)
        await guard(self._bench)

    async def _create(self, plan: CreateNetwork) -> None:
        for subnet in plan.subnets:
            self._made = True
            try:
                call = self._bench.engine.create_network(plan.network, subnet, self._job.app)
                await to_the_end(call, self._bench.settings.call_grace_s)
            except Conflict:
                self._made = False
                continue  # somebody has that range: the next one
            return
        raise EngineError(
            f"no free range for the network of {self._job.app}",
            remedy="remove networks nobody uses from 172.23.0.0/16",
        )

    async def undo(self) -> None:
        if not self._made:
            return
        with suppress(NotFound):
            await self._bench.engine.remove_network(network_name(self._job.app))
        await guard(self._bench)


async def guard(bench: Workbench) -> None:
    """Apply the private range rules to the bridges of all app networks."""
    await guard_bridges(bench.engine, bench.firewall)


class ImagesStep:
    """Nothing to do, but to undo: from its record on, an app keeps its images from others that leave. If it
    does not come after all, they go, pulled by it or not."""

    name = "images"

    def __init__(self, bench: Workbench, job: Job) -> None:
        self._bench = bench
        self._job = job

    async def do(self) -> None:
        await trio.lowlevel.checkpoint()

    async def undo(self) -> None:
        for image in {part.repotag for part in self._job.parts} - (self._job.foreign or frozenset()):
            await drop_image(self._bench, image, of=self._job.app)


class RowStep:
    """The local row, before any container: from now on the app counts as installed here."""

    name = "local row"

    def __init__(self, bench: Workbench, job: Job) -> None:
        self._bench = bench
        self._job = job

    async def do(self) -> None:
        await self._bench.installed.put(self._job.spec)
        if self._bench.installed.get(self._job.app) is None:
            raise StoreError(
                f"the row of {self._job.app} was not kept", remedy="look at the log of the database"
            )

    async def undo(self) -> None:
        await self._bench.installed.delete(self._job.app)
