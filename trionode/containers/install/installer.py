"""Installer: an app whole, or nothing of it (docs/spec/lifecycle.md §12).

The order is that of the specification: gates, clean-up, network, local row, then each component with ports,
image, volume, container, links and start. Whatever fails or is cancelled in between, every step begun is
undone, last first; what a dead process leaves has a record (`records`) by which it is found again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator, Sequence

import msgspec
import trio

from trionode.containers.actions import NotNow, Outcome, Progress, Spec
from trionode.containers.install.app_steps import ImagesStep, NetworkStep, RowStep
from trionode.containers.install.making import Job, container_options, gather
from trionode.containers.install.part_steps import (
    ContainerStep,
    ImageStep,
    LinkStep,
    MountStep,
    PartStep,
    PortsStep,
    PullStep,
    StartStep,
    VolumeStep,
    is_needed,
    local_image,
)
from trionode.containers.install.records import AppRecord, Phase, records_of
from trionode.containers.install.selftests import SelfTestStep
from trionode.containers.install.steps import Ladder, Step, in_limit
from trionode.containers.install.troubles import is_far, is_passing, told_to_all
from trionode.containers.install.workbench import Workbench
from trionode.errors import HostError, TrionodeError
from trionode.plans.networkwith import refused_link
from trionode.plans.partcheck import check_parts
from trionode.plans.parts import Part, parts_of
from trionode.plans.problem import refuse
from trionode.plans.requirements import NodeFacts, refusal
from trionode.registry.images import find_block
from trionode.runtime.logs import get_logger

TEST_CPU, TEST_RAM_MB, TEST_HDD_GB = 0.2, 300, 2
"""What a component gets in a test install."""

log = get_logger("containers.install")


class Installer:
    """Installs apps; nothing else is being done meanwhile (`operations`)."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench

    async def prepare(self, spec: Spec, progress: Progress, *, test: bool = False) -> Job:
        """What the app is on this node. Raises PlanError, or HostError when the node cannot tell."""
        facts = await self._bench.node.facts()
        parts = parts_of(spec, facts.tier)
        if not parts:
            refuse(f"The specification of {spec.get('name')} cannot be opened here.")
        check_parts(parts)
        if test:
            parts = tuple(_small(part) for part in parts)
        info = await self._bench.engine.info()
        return Job(spec=spec, parts=parts, facts=facts, info=info, progress=progress, test=test)

    async def check(self, job: Job) -> None:
        """The gates before any side effect. Raises PlanError, or HostError when one cannot be asked."""
        job.tell(f"Checking what {job.app} requires...")
        link = refused_link(job.spec, self._bench.installed.owners())
        if link is not None:
            refuse(link.sentence, remedy="install the app it links to first")
        block = find_block(dict(job.spec), job.hash, await self._bench.lists.lists())
        if block is not None:
            refuse(f"It must not run here: {block.sentence}", remedy="use another image")
        if job.test:
            return
        resources = self._bench.resources
        locked = self._bench.installed.locked(resources, job.facts.tier, without=job.app)
        facts = msgspec.structs.replace(job.facts, locked=locked)
        unmet = refusal(job.spec, facts, resources)
        if unmet is not None and unmet.code in _unknown(facts):
            raise HostError(f"{unmet.sentence} What this node is is not known yet.", remedy="try again later")
        if unmet is not None:
            refuse(unmet.sentence, remedy="choose another node, or a smaller app")

    async def install(self, spec: Spec, *, progress: Progress, test: bool, tell_failure: bool) -> Outcome:
        """Install an app that is not here; on failure nothing of it is left."""
        app = str(spec.get("name"))
        ladder = Ladder(undo_within_s=self._bench.settings.undo_limit_s)
        ladder.at = "check"
        is_noted = False
        try:
            if self._bench.installed.get(app) is not None:
                return Outcome(False, f"{app} is installed already", "check")
            job = await self.prepare(spec, progress, test=test)
            await self.check(job)
            job = msgspec.structs.replace(job, foreign=await self._foreign(job))
            ladder.at, is_noted = "record", True
            await self._note(job)
            await self._prune(job)
            await self.climb(ladder, self._app_steps(job))
            for part in job.parts:
                await self.climb(ladder, self._new_part(job, part))
            for part in job.parts if test else ():
                await self.climb(ladder, [SelfTestStep(self._bench, job, part)])
            ladder.at = "record"
            if not test:
                await self._bench.records.enter(app, "installed")
        except TrionodeError as error:
            left = await self._give_up(app, ladder) if is_noted else ()
            return await self._failed(spec, ladder, error, left, tell=tell_failure and not test)
        except BaseException:
            if is_noted:
                log.warning("install broken off", app=app, step=ladder.at)
                await self._give_up(app, ladder)
            raise
        return Outcome(True)

    async def recreate(self, job: Job, part: Part, *, start: bool) -> Outcome:
        """Make one container again; what is there of it is kept, and a container that fails goes again.

        The image is only asked for when it is not here, so that a registry that is away does not keep an
        app down. Raises NotNow.
        """
        ladder = Ladder(undo_within_s=self._bench.settings.undo_limit_s)
        try:
            has_volume = any(v.name == part.container for v in await self._bench.disk.volumes())
            has_image = await local_image(self._bench, part.repotag)
            await self.climb(ladder, [NetworkStep(self._bench, job)])
            steps = self.part_steps(
                job, part, fetch=not has_image, keeps_volume=has_volume, start=start and not job.test
            )
            await self.climb(ladder, steps)
        except TrionodeError as error:
            left = await ladder.down(ContainerStep)
            log.error("container not made again", container=part.container, problem=error.one_line())
            if is_passing(error):
                far = is_far(error)
                raise NotNow(_sentence(error, left), remedy=error.remedy, far=far) from error
            return Outcome(False, _sentence(error, left), ladder.at)
        except BaseException:
            await ladder.down(ContainerStep)
            raise
        return Outcome(True)

    def part_steps(
        self, job: Job, part: Part, *, fetch: bool, keeps_volume: bool, start: bool
    ) -> Iterator[PartStep]:
        """The steps of one component. `fetch`: its image too; `keeps_volume`: it has its volume."""
        bench = self._bench
        if not job.test:
            yield PortsStep(bench, job, part)
        if fetch:
            yield ImageStep(bench, job, part)
            yield PullStep(bench, job, part)
        if not keeps_volume:
            yield VolumeStep(bench, job, part)
        yield MountStep(bench, job, part, again=keeps_volume)
        yield ContainerStep(bench, job, part)
        yield LinkStep(bench, job, part)
        if start:
            yield StartStep(bench, job, part)

    async def fetch(self, job: Job) -> dict[str, str]:
        """Check and pull all images of an app that stays as it is if that fails: identifier -> id of the
        image that had the tag before. Raises HostError or PlanError."""
        replaced: dict[str, str] = {}
        for part in job.parts:
            pull = PullStep(self._bench, job, part)
            ladder = Ladder(undo_within_s=self._bench.settings.undo_limit_s)
            try:
                await self.climb(ladder, [ImageStep(self._bench, job, part), pull])
            except TrionodeError:
                await ladder.down()
                raise
            replaced[part.identifier] = pull.replaced
        return replaced

    async def gather(self, job: Job, parts: Sequence[Part]) -> Job:
        """The job with all that has to be fetched for the containers of these parts, and a look whether they
        can be made: nothing of an app is touched before. Raises PlanError or HostError."""
        gathered = {part.identifier: await gather(self._bench, job, part) for part in parts}
        job = msgspec.structs.replace(job, gathered=gathered)
        for part in parts:
            await container_options(self._bench, job, part)
        return job

    def _app_steps(self, job: Job) -> Sequence[Step]:
        steps: list[Step] = [ImagesStep(self._bench, job), NetworkStep(self._bench, job)]
        if not job.test:
            # A test has no row: nobody announces it, nobody heals it, and its record removes it.
            steps.append(RowStep(self._bench, job))
        return steps

    def _new_part(self, job: Job, part: Part) -> Iterator[PartStep]:
        start = job.test or not part.flags & {"r", "g"}
        return self.part_steps(job, part, fetch=True, keeps_volume=False, start=start)

    async def _foreign(self, job: Job) -> frozenset[str]:
        """Looked at before the record is written: who removes another app meanwhile keeps what we need, and
        it must not look as if it had been somebody else's."""
        found = set()
        for image in {part.repotag for part in job.parts}:
            known = await local_image(self._bench, image)
            if known and not await is_needed(self._bench, known, job.app, leaving=True):
                found.add(image)
        return frozenset(found)

    async def _note(self, job: Job) -> None:
        phase: Phase = "testing" if job.test else "installing"
        await self._bench.records.put(AppRecord(job.app, phase, records_of(job.parts)))

    async def _prune(self, job: Job) -> None:
        """Clear away leftovers. A clean-up that fails is no reason not to install."""
        try:
            await in_limit(
                self._bench.pruner.prune(job.app), self._bench.settings.step_limit_s, "clear away leftovers"
            )
        except TrionodeError as error:
            log.warning("nothing pruned", problem=error.one_line())

    async def climb(self, ladder: Ladder, steps: Iterable[Step]) -> None:
        """Do steps one after the other, each within its time."""
        settings = self._bench.settings
        for step in steps:
            limit_s = settings.pull_limit_s if isinstance(step, PullStep) else settings.step_limit_s
            await ladder.up(step, limit_s)

    async def _give_up(self, app: str, ladder: Ladder) -> tuple[str, ...]:
        """Undo everything, and the record with it; it stays while something could not be undone."""
        records = self._bench.records
        await self._settle(app, records.enter(app, "removing"))
        left = await ladder.down()
        if not left:
            await self._settle(app, records.forget(app))
        return left

    async def _settle(self, app: str, change: Awaitable[None]) -> None:
        """Change the record, also when cancelled. If that fails the next start finds it as it was."""
        with trio.CancelScope(shield=True):
            try:
                await change
            except TrionodeError as error:
                log.error("install record not settled", app=app, problem=error.one_line())

    async def _failed(
        self, spec: Spec, ladder: Ladder, error: TrionodeError, left: Sequence[str], *, tell: bool
    ) -> Outcome:
        app, hash_ = str(spec.get("name")), str(spec.get("hash", ""))
        outcome = Outcome(False, _sentence(error, left), ladder.at)
        log.error("install failed", app=app, step=outcome.step, problem=outcome.problem)
        if tell and outcome.step not in ("check", "record", "network", "local row"):
            try:
                await self._bench.announcements.install_error(app, hash_, told_to_all(error, outcome.step))
            except TrionodeError as problem:
                log.error("install error not announced", app=app, problem=problem.one_line())
        return outcome


def _unknown(facts: NodeFacts) -> frozenset[str]:
    """Refusals that may only mean that the node does not know itself: no app dies of them."""
    known = {"geolocation": facts.place, "nodes": facts.address, "disk": facts.machine.ssd_gb}
    return frozenset(code for code, value in known.items() if not value)


def _small(part: Part) -> Part:
    return msgspec.structs.replace(part, cpu=TEST_CPU, ram_mb=TEST_RAM_MB, hdd_gb=TEST_HDD_GB)


def _sentence(error: TrionodeError, left: Sequence[str]) -> str:
    return f"{error.message}; not undone: {'; '.join(left)}" if left else error.message
