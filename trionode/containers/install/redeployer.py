"""Redeployer: an app or some of its components made anew (docs/spec/lifecycle.md §16).

First everything that may fail far away: requirements, image checks, pulls, what the owner keeps elsewhere.
Until then the app runs on, and whoever is away costs nothing. Then the old containers go and the new ones
come. The local row stays throughout: the app is here all the time, and what fails or is broken off from then
on is made again by health, with its patience.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import trio

from trionode.containers.actions import Outcome, Progress, Spec
from trionode.containers.install.app_steps import NetworkStep
from trionode.containers.install.installer import Installer
from trionode.containers.install.making import Job
from trionode.containers.install.part_steps import ContainerStep, drop_image, local_image
from trionode.containers.install.records import AppRecord, records_of
from trionode.containers.install.steps import Ladder, in_limit
from trionode.containers.install.traces import traces_of
from trionode.containers.install.uninstaller import VOLUME, Attempts, Uninstaller
from trionode.containers.install.workbench import Workbench
from trionode.errors import HostError, TrionodeError
from trionode.lifecycle.names import container_name
from trionode.plans.problem import PlanError, WrongAnswer
from trionode.runtime.logs import get_logger

log = get_logger("containers.redeploy")

Hardness = Mapping[str, bool]
"""Identifier -> whether its volume goes too; components not in it stay as they are."""


class Redeployer:
    """Makes anew what is installed; nothing else is being done meanwhile (`operations`)."""

    def __init__(self, bench: Workbench, installer: Installer, uninstaller: Uninstaller) -> None:
        self._bench = bench
        self._installer = installer
        self._uninstaller = uninstaller

    async def redeploy(
        self,
        spec: Spec,
        *,
        hard: bool,
        reason: str,
        progress: Progress,
        parts: Hardness | None = None,
        keeps_app: bool = False,
    ) -> Outcome:
        """By this specification. `parts`: only these components, else all of them, `hard` or not.

        `keeps_app`: a failure leaves the app to health, else it is removed by force and the peers are told.
        """
        app, settings = str(spec["name"]), self._bench.settings
        at = "check"
        try:
            job = await self._installer.prepare(spec, progress)
            await self._installer.check(job)
            hardness = parts if parts is not None else {part.identifier: hard for part in job.parts}
            at = "images"
            chosen = tuple(part for part in job.parts if part.identifier in hardness)
            replaced = await self._installer.fetch(msgspec.structs.replace(job, parts=chosen))
            at = "options"
            job = await self._installer.gather(job, chosen)
        except WrongAnswer as error:
            return self._untouched(app, at, error)
        except PlanError as error:
            return await self._failed(app, at, error, reason, progress, keeps_app=keeps_app)
        except TrionodeError as error:
            return self._untouched(app, at, error)
        attempts = Attempts(strict=True, limit_s=settings.step_limit_s)
        ladder = Ladder(undo_within_s=settings.undo_limit_s)
        try:
            old = await self._take_down(attempts, job, hardness)
            ladder.at = "local row"
            await self._keep(job)
            pause_s = settings.redeploy_delay_s if parts is None else settings.redeploy_component_delay_s
            await trio.sleep(pause_s)
            await self._build(ladder, job, hardness, whole=parts is None)
        except TrionodeError as error:
            await ladder.down(ContainerStep)
            at = ladder.at or attempts.at
            if not ladder.at and attempts.at.startswith(VOLUME):
                keeps_app = False  # nobody knows what is left of that volume
            elif not isinstance(error, PlanError):
                keeps_app = True  # health starts what is there, and makes what is not
            return await self._failed(app, at, error, reason, progress, keeps_app=keeps_app)
        except BaseException:
            log.warning("redeploy broken off, health makes the rest", app=app, step=ladder.at or attempts.at)
            await ladder.down(ContainerStep)
            raise
        await self._drop_images(job, {*replaced.values(), *old})
        self._bench.news.app_installed(app, job.hash)
        await self._bench.links.reverse(app)
        return Outcome(True)

    def _untouched(self, app: str, at: str, error: TrionodeError) -> Outcome:
        """It runs on, and whoever wants it anew asks again."""
        log.error("not redeployed", app=app, step=at, problem=error.one_line())
        return Outcome(False, error.message, at)

    async def _take_down(self, attempts: Attempts, job: Job, hardness: Hardness) -> set[str]:
        """The old components that are made anew or no longer wanted, last first; the images they had."""
        traces = await traces_of(self._bench, job.app)
        if traces.problems:
            raise HostError("; ".join(traces.problems), remedy="see whether engine and disk are well")
        wanted = {part.container for part in job.parts}
        hard = {container_name(identifier): is_hard for identifier, is_hard in hardness.items()}
        images: set[str] = set()
        for trace in reversed(traces.parts):
            stays = trace.container in wanted
            if stays and trace.container not in hard:
                continue
            job.tell(f"Taking down {trace.container}...")
            keeps_volume = stays and not hard[trace.container]
            await self._uninstaller.take_down(attempts, job.app, trace, keeps_volume=keeps_volume)
            images |= {trace.image, trace.image_id}
        return images

    async def _keep(self, job: Job) -> None:
        await self._bench.records.put(AppRecord(job.app, "installed", records_of(job.parts)))
        await self._bench.installed.put(job.spec)

    async def _build(self, ladder: Ladder, job: Job, hardness: Hardness, *, whole: bool) -> None:
        bench = self._bench
        await self._installer.climb(ladder, [NetworkStep(bench, job)])
        ladder.stay()
        volumes = {volume.name for volume in await bench.disk.volumes()}
        for number, part in enumerate(part for part in job.parts if part.identifier in hardness):
            if number and not whole:
                await trio.sleep(bench.settings.redeploy_component_delay_s)
            keeps_volume = not hardness[part.identifier] and part.container in volumes
            # the files of an r: component are there already, unless its volume is new
            waits = {"g"} if keeps_volume else {"g", "r"}
            steps = self._installer.part_steps(
                job, part, fetch=False, keeps_volume=keeps_volume, start=not part.flags & waits
            )
            await self._installer.climb(ladder, steps)
            ladder.stay()  # only the container that fails, or is broken off, goes again

    async def _drop_images(self, job: Job, old: set[str]) -> None:
        """The images it had, by tag and by id, except those it has; they stay while anything uses them."""
        bench, limit_s = self._bench, self._bench.settings.step_limit_s
        tags = {part.repotag for part in job.parts}
        try:
            current = {await local_image(bench, tag) for tag in tags}
            for image in old - tags - current - {""}:
                await in_limit(drop_image(bench, image, of=job.app), limit_s, "old image")
        except TrionodeError as error:
            log.warning("old images stay", app=job.app, problem=error.one_line())

    async def _failed(
        self, app: str, at: str, error: TrionodeError, reason: str, progress: Progress, *, keeps_app: bool
    ) -> Outcome:
        log.error("redeploy failed", app=app, step=at, problem=error.one_line())
        if keeps_app:
            return Outcome(False, error.message, at)
        why = f"its redeploy failed ({reason}): {error.message}"
        removal = await self._uninstaller.remove(
            app, reason=why, force=True, tell_peers=True, progress=progress
        )
        left = f"; removal: {removal.problem}" if removal.problem else ""
        return Outcome(False, f"{error.message}; the app was removed{left}", at)
