"""The steps of an install that concern one component, in their order (docs/spec/lifecycle.md §12, §13).

Ports, look at the image, pull, volume, mount, container, links, start. Each undoes only what it made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import trio

from trionode.containers.disk import DiskError, VolumeRequest
from trionode.containers.engine import (
    Conflict,
    Credentials,
    EngineError,
    EngineFull,
    EngineUnreachable,
    NotFound,
)
from trionode.containers.hiding import cleared, start_container
from trionode.containers.install.making import Job, bursts, container_options, credentials_of
from trionode.containers.install.steps import to_the_end
from trionode.containers.install.troubles import PullFailed
from trionode.containers.install.workbench import Workbench
from trionode.containers.memory.objects import familiar, repository_of
from trionode.containers.progress import of_pull
from trionode.errors import HostError
from trionode.plans.containerdata import parse_container_data
from trionode.plans.createoptions import CreateOptions
from trionode.plans.networkwith import refused_link
from trionode.plans.parts import SWITCHES, Part
from trionode.plans.problem import refuse
from trionode.plans.requirements import locked_by
from trionode.plans.texts import odd_in
from trionode.plans.volumes import allotment_problem
from trionode.runtime.logs import get_logger

PULL_END_S = 3.0
"""So long after nobody listens to it any more a pull has ended, one way or the other."""

log = get_logger("containers.install")


class PartStep(ABC):
    """What all steps of a component have."""

    what = ""

    def __init__(self, bench: Workbench, job: Job, part: Part) -> None:
        self._bench = bench
        self._job = job
        self._part = part
        self.name = f"{self.what} {part.identifier}"

    @abstractmethod
    async def do(self) -> None:
        """See `Step.do`."""

    async def undo(self) -> None:
        """Nothing to undo, unless a step says so."""
        await trio.lowlevel.checkpoint()


class PortsStep(PartStep):
    """Its ports at the firewall."""

    what = "ports"

    def __init__(self, bench: Workbench, job: Job, part: Part) -> None:
        super().__init__(bench, job, part)
        self._begun: list[int] = []

    async def do(self) -> None:
        for port in self._part.ports:
            self._job.tell(f"Allowing port {port}...")
            self._begun.append(port)
            await self._bench.firewall.allow(port, app=self._job.app)

    async def undo(self) -> None:
        await forget_ports(self._bench, self._begun, self._job.app)


async def forget_ports(bench: Workbench, ports: Sequence[int], app: str) -> None:
    """Close all of them; the first problem is raised at the end."""
    problem: HostError | None = None
    for port in ports:
        try:
            await bench.firewall.forget(port, app=app)
        except HostError as error:
            problem = problem or error
    if problem is not None:
        raise problem


class ImageStep(PartStep):
    """Asks its registry whether the image can run here."""

    what = "image check"

    async def do(self) -> None:
        self._job.tell(f"Checking the image {self._part.repotag}...")
        credentials = await credentials_of(self._bench, self._job, self._part)
        await self._bench.images.verify(self._part.repotag, self._job.info.architecture, credentials)


class PullStep(PartStep):
    """Fetches the image. `replaced`: the id of the image that had the tag before, "" if none or the same."""

    what = "pull"

    def __init__(self, bench: Workbench, job: Job, part: Part) -> None:
        super().__init__(bench, job, part)
        self.replaced = ""
        self._begun = False
        self._is_through = False
        self._before = ""
        self._there: frozenset[str] = frozenset()

    async def do(self) -> None:
        repotag = self._part.repotag
        self._before = await local_image(self._bench, repotag)
        self._there = frozenset(image.id for image in await self._bench.engine.images())
        credentials = await credentials_of(self._bench, self._job, self._part)
        self._begun = True
        try:
            async with self._bench.engine.pull(repotag, credentials) as messages:
                async for message in messages:
                    self._job.progress.tell(of_pull(message))
        except EngineError as error:
            known = cleared(error, _texts(credentials))
            if isinstance(known, EngineUnreachable | EngineFull | NotFound):
                raise known from None
            raise PullFailed(known.message, remedy=known.remedy, status=known.status) from None
        self._is_through = True
        after = (await self._bench.engine.image(repotag)).id
        self.replaced = self._before if self._before != after else ""

    async def undo(self) -> None:
        foreign = self._job.foreign
        was_here = bool(self._before) if foreign is None else self._part.repotag in foreign
        if not self._begun or was_here:
            return
        if not self._is_through:
            await trio.sleep(PULL_END_S)
        await drop_image(self._bench, self._part.repotag, of=self._job.app)
        if not self._is_through:
            await self._drop_nameless()

    async def _drop_nameless(self) -> None:
        """An engine that is told to stop just as it names an image may keep it by its digest alone."""
        repository = repository_of(familiar(self._part.repotag))
        for image in await self._bench.engine.images():
            is_ours = any(digest.startswith(f"{repository}@") for digest in image.digests)
            if is_ours and not image.tags and image.id not in self._there:
                await drop_image(self._bench, image.id, of=self._job.app)


async def local_image(bench: Workbench, image: str) -> str:
    """The id of an image that is here, else ""."""
    if odd_in(image):
        return ""  # what some other app calls its image must be no error of this one
    try:
        return (await bench.engine.image(image)).id
    except NotFound:
        return ""


async def drop_image(bench: Workbench, image: str, *, of: str) -> None:
    """Remove an image unless another app is here with it, under whatever name, or a container uses it."""
    found = await local_image(bench, image)
    if not found or await is_needed(bench, found, of):
        return
    try:
        await bench.engine.remove_image(image)
    except NotFound:
        return
    except Conflict as error:
        log.info("image stays", image=image, why=error.message)


async def is_needed(bench: Workbench, image_id: str, app: str, *, leaving: bool = False) -> bool:
    """Whether another app than this is made of an image, under whatever name. `leaving`: or was, and is on
    its way out."""
    for name in images_of_others(bench, app, leaving=leaving):
        if await local_image(bench, name) == image_id:
            return True
    return False


def images_of_others(bench: Workbench, app: str, *, leaving: bool) -> frozenset[str]:
    """The images all other apps are made of, by their records, else by their rows. Apps on their way out
    need none: of two that go at a time each would keep the image for the other."""
    found: set[str] = set()
    for record in bench.records.all():
        if record.app != app and (leaving or record.phase != "removing"):
            found.update(part.image for part in record.parts)
    for row in bench.installed.rows():
        if row.name != app and bench.records.get(row.name) is None:
            found.update(part.repotag for part in bench.installed.parts(row.name))
    return frozenset(found - {""})


def _texts(credentials: Credentials | None) -> tuple[str, ...]:
    return () if credentials is None else (credentials.password,)


class VolumeStep(PartStep):
    """A new volume. One that is there already is not ours to format, nor to remove."""

    what = "volume"

    def __init__(self, bench: Workbench, job: Job, part: Part) -> None:
        super().__init__(bench, job, part)
        self._begun = False

    async def do(self) -> None:
        name = self._part.container
        if any(volume.name == name for volume in await self._bench.disk.volumes()):
            raise DiskError(
                f"there is a volume {name} already",
                remedy=f"look what is in it, then remove {self._job.app} by force",
            )
        if (problem := self._no_room()) is not None:
            raise DiskError(problem, remedy="remove an app, or install a smaller one")
        self._job.tell(f"Creating a volume of {self._part.hdd_gb:g} GB for {self._part.identifier}...")
        data = parse_container_data(self._part.container_data)
        own = tuple(mount for mount in data.mounts if mount.component is None)
        self._begun = True
        syncs = bool(data.flags & SWITCHES)
        await self._bench.disk.create_volume(VolumeRequest(name, self._part.hdd_gb, own, syncs))

    def _no_room(self) -> str | None:
        """Apps get only so much of the disk the node was measured with, however much is free right now."""
        bench, facts = self._bench, self._job.facts
        if not facts.machine.ssd_gb:
            return None  # nobody tells: an app that lost its volume does not die of that
        others = bench.installed.locked(bench.resources, facts.tier, without=self._job.app)
        locked_gb = others.hdd_gb + locked_by([self._job.parts], bench.resources).hdd_gb
        ssd_gb, hdd_gb = facts.machine.ssd_gb, self._part.hdd_gb
        return allotment_problem(hdd_gb, ssd_gb=ssd_gb, locked_gb=locked_gb, settings=bench.resources)

    async def undo(self) -> None:
        if self._begun:
            await self._bench.disk.remove_volume(self._part.container)


class MountStep(PartStep):
    """Its volume has to be a live mount. `again`: one that is kept may have to be mounted anew."""

    what = "mount"

    def __init__(self, bench: Workbench, job: Job, part: Part, *, again: bool = False) -> None:
        super().__init__(bench, job, part)
        self._again = again

    async def do(self) -> None:
        name = self._part.container
        if self._again and not await self._bench.disk.is_mounted(name):
            await self._bench.disk.mount(name)
        if not await self._bench.disk.is_mounted(name):
            raise DiskError(f"the volume {name} is not mounted", remedy="look at the kernel log of the disk")


class ContainerStep(PartStep):
    """The container, not started."""

    what = "container"

    def __init__(self, bench: Workbench, job: Job, part: Part) -> None:
        super().__init__(bench, job, part)
        self._begun = False

    async def do(self) -> None:
        name = self._part.container
        if any(row.name == name for row in await self._bench.engine.containers()):
            raise Conflict(f"there is a container {name} already", remedy="remove the app by force")
        options = await container_options(self._bench, self._job, self._part)
        self._job.tell(f"Creating the container of {self._part.identifier}...")
        self._begun = True
        await self._create(options)

    async def _create(self, options: CreateOptions) -> None:
        try:
            await to_the_end(self._bench.engine.create(options), self._bench.settings.call_grace_s)
        except EngineError as error:
            if isinstance(error, Conflict):
                self._begun = False  # somebody was faster: what is there is not ours
            raise cleared(error, (*options.environment, *options.command)) from None

    async def undo(self) -> None:
        if not self._begun:
            return
        try:
            await self._bench.engine.remove(self._part.container, force=True, volumes=True)
        except NotFound:
            return


class LinkStep(PartStep):
    """The networks of the apps it links to, before it is started."""

    what = "links"

    async def do(self) -> None:
        # asked again: the description may be another one than at the install
        link = refused_link(self._job.spec, self._bench.installed.owners())
        if link is not None:
            refuse(link.sentence, remedy="install the app it links to first")
        call = self._bench.links.forward(self._part.container, self._job.spec)
        await to_the_end(call, self._bench.settings.call_grace_s)


class StartStep(PartStep):
    """Start it, with spare CPU where its owner has that."""

    what = "start"

    async def do(self) -> None:
        self._job.tell(f"Starting {self._part.identifier}...")
        call = start_container(self._bench.engine, self._part.container)
        await to_the_end(call, self._bench.settings.call_grace_s)
        await allow_burst(self._bench, self._job, self._part)


async def allow_burst(bench: Workbench, job: Job, part: Part) -> None:
    """Let it use spare CPU, best effort: it runs as well without."""
    burst_us = burst_of(bench, job, part) if bursts(bench, job) else 0
    if burst_us <= 0:
        return
    try:
        details = await bench.engine.inspect(part.container)
        await bench.disk.burst(details.id, burst_us)
    except HostError as error:
        log.info("no CPU burst", container=part.container, problem=error.message)


def burst_of(bench: Workbench, job: Job, part: Part) -> int:
    """Microseconds per period beyond its quota, at most as much again, and what the host keeps is kept."""
    period_us = bench.resources.cpu_burst_period_us
    quota_us = part.cpu * period_us
    spare_us = (job.info.cpus - bench.resources.cpu_burst_reserved_cores) * period_us - quota_us
    return int(min(quota_us, spare_us))
