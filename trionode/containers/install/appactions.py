"""AppLifecycle: everything that can be done to an app, one operation at a time (`actions.AppActions`).

`load` reads the local table, `recover` ends what a dead process left half done: what was being installed,
tested or removed is removed; of an installed app health makes again what is missing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import msgspec
import trio

from trionode.containers.actions import NoProgress, NotNow, Outcome, Progress, Spec
from trionode.containers.install.installer import Installer
from trionode.containers.install.records import AppRecord, records_of
from trionode.containers.install.redeployer import Redeployer
from trionode.containers.install.uninstaller import NOT_HERE, Uninstaller
from trionode.containers.install.workbench import Workbench
from trionode.containers.operations import Operations, Work
from trionode.errors import HostError, TrionodeError
from trionode.plans.networkwith import refused_link
from trionode.plans.problem import PlanError
from trionode.plans.redeploy import STRUCTURE_VERSION, Depth, UpdatePlan
from trionode.runtime.appturns import AppTurns
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger

SILENT = NoProgress()
HELD = "held"
"""The step of a redeploy that a backup or restore does not allow."""
BROKEN_OFF = Outcome(False, "it was broken off: the app is being removed by force", "broken off")

log = get_logger("containers.actions")


class _Running(msgspec.Struct, frozen=True, eq=False):
    """An operation that a removal by force may break off."""

    app: str
    scope: trio.CancelScope
    over: trio.Event


class AppLifecycle:
    """`AppActions` on a workbench."""

    def __init__(self, bench: Workbench, operations: Operations, counters: Counters | None = None) -> None:
        self._bench = bench
        self._operations = operations
        self._turns = AppTurns("local", counters if counters is not None else Counters())
        self._installer = Installer(bench)
        self._uninstaller = Uninstaller(bench)
        self._redeployer = Redeployer(bench, self._installer, self._uninstaller)
        self._running: list[_Running] = []

    async def load(self) -> None:
        """Read rows and records; apps another node installed get a record. Raises StoreError."""
        bench = self._bench
        await bench.installed.load()
        await bench.records.load()
        for row in bench.installed.rows():
            if bench.records.get(row.name) is None:
                parts = records_of(bench.installed.parts(row.name))
                await bench.records.put(AppRecord(row.name, "installed", parts))
        for record in bench.records.all():
            if not record.is_unfinished and bench.installed.get(record.app) is None:
                # its row went and the record could not be written, or another node removed it meanwhile
                await bench.records.enter(record.app, "removing")

    async def recover(self) -> tuple[Outcome, ...]:
        """Remove what was left half done, unless something is being done to the app right now.

        To be called after `load`, and again when engine or disk are back.
        """
        outcomes = []
        for app, reason in self.half_done():
            if app in self._operations.names():  # something has begun meanwhile
                continue
            with self._turns.of(app) as turn:
                outcomes.append(await self.remove(app, reason=reason, force=True))
            if turn.failed:
                outcomes.append(Outcome(False, f"{app}: {turn.problem}"))
        return tuple(outcomes)

    def half_done(self) -> tuple[tuple[str, str], ...]:
        """The apps `recover` removes, each with the reason."""
        left = (rec for rec in self._bench.records.unfinished() if rec.app not in self._operations.names())
        return tuple((rec.app, f"what was being done to it was interrupted ({rec.phase})") for rec in left)

    @property
    def has_unfinished(self) -> bool:
        """Whether something is under way, or was left half done."""
        return bool(self._bench.records.unfinished())

    async def some_unfinished(self) -> None:
        """Wait until that is so."""
        await self._bench.records.some_unfinished()

    # AppActions

    async def install(
        self,
        spec: Spec,
        *,
        reason: str,
        test: bool = False,
        tell_failure: bool = True,
        progress: Progress = SILENT,
    ) -> Outcome:
        """See `AppActions.install`."""
        app = str(spec["name"])
        with self._operations.doing(Work.INSTALL, app):
            log.info("installing app", app=app, reason=reason, test=test)
            outcome = await self._breakable(app, lambda: self._install(spec, progress, test, tell_failure))
        if outcome.ok and not test:
            self._bench.news.app_installed(app, str(spec.get("hash", "")))
            await self._bench.links.reverse(app)
        return _said(outcome, progress, f"{app} is installed")

    async def _install(self, spec: Spec, progress: Progress, test: bool, tell_failure: bool) -> Outcome:
        app = str(spec["name"])
        record = self._bench.records.get(app)
        if record is not None and (record.is_unfinished or self._bench.installed.get(app) is None):
            left = await self._remove_now(app, "leftovers of an earlier attempt", progress)
            if not left.ok:
                return Outcome(False, f"leftovers could not be removed: {left.problem}", "leftovers")
        outcome = await self._installer.install(spec, progress=progress, test=test, tell_failure=tell_failure)
        if test and outcome.ok:
            left = await self._remove_now(app, "it was a test", progress)
            return outcome if left.ok else Outcome(False, f"after the test: {left.problem}", left.step)
        return outcome

    async def remove(
        self,
        app: str,
        *,
        reason: str,
        force: bool = False,
        tell_peers: bool = True,
        progress: Progress = SILENT,
    ) -> Outcome:
        """See `AppActions.remove`."""
        broken_off = force and await self._break_off(app)
        with self._operations.doing(Work.REMOVE, app, beside=force):
            outcome = await self._uninstaller.remove(
                app, reason=reason, force=force, tell_peers=tell_peers, progress=progress
            )
        if broken_off and outcome.step == NOT_HERE:
            outcome = Outcome(True)  # the install that was broken off has left nothing
        return _said(outcome, progress, f"{app} is removed")

    async def redeploy(self, app: str, *, hard: bool, reason: str, progress: Progress = SILENT) -> Outcome:
        """See `AppActions.redeploy`."""
        if (held := self._held(app)) is not None:
            return held
        installed = await self._bench.installed.opened(app)
        current = await self._bench.specs.in_force(app) or installed
        if self._bench.installed.get(app) is None or current is None:
            return Outcome(False, f"{app} is not installed here, or cannot be opened", "check")
        hard = hard or (installed is not None and _has_other_parts(installed, current))
        work = Work.HARD_REDEPLOY if hard else Work.SOFT_REDEPLOY
        with self._operations.doing(work, app):
            log.info("redeploying app", app=app, reason=reason, hard=hard)
            outcome = await self._breakable(
                app,
                lambda: self._redeployer.redeploy(current, hard=hard, reason=reason, progress=progress),
            )
        return _said(outcome, progress, f"{app} is redeployed")

    async def redeploy_component(
        self, identifier: str, *, hard: bool, reason: str, progress: Progress = SILENT
    ) -> Outcome:
        """See `AppActions.redeploy_component`; a failure leaves the component to health (D-10)."""
        app = self._app_of(identifier)
        spec = None if app is None else await self._bench.installed.opened(app)
        if app is None or spec is None:
            return Outcome(False, f"there is no component {identifier} here", "check")
        if (held := self._held(app, identifier)) is not None:
            return held
        with self._operations.doing(Work.HARD_REDEPLOY if hard else Work.SOFT_REDEPLOY, app):
            log.info("redeploying component", component=identifier, reason=reason, hard=hard)
            outcome = await self._breakable(
                app,
                lambda: self._redeployer.redeploy(
                    spec,
                    hard=hard,
                    reason=reason,
                    progress=progress,
                    parts={identifier: hard},
                    keeps_app=True,
                ),
            )
        return _said(outcome, progress, f"{identifier} is redeployed")

    async def recreate(self, app: str, identifier: str, *, keeps_volume: bool, start: bool) -> Outcome:
        """See `AppActions.recreate`. A volume that is there is kept whatever `keeps_volume` says."""
        spec = await self._bench.installed.opened(app)
        if spec is None:
            return Outcome(False, f"{app} is not installed here, or cannot be opened", "check")
        with self._operations.doing(Work.RECREATE, app):
            return await self._breakable(app, lambda: self._recreate(spec, identifier, start))

    async def _recreate(self, spec: Spec, identifier: str, start: bool) -> Outcome:
        try:
            job = await self._installer.prepare(spec, SILENT)
        except PlanError as error:
            return Outcome(False, error.message, "check")
        except HostError as error:
            raise NotNow(error.message, remedy=error.remedy) from error
        part = next((part for part in job.parts if part.identifier == identifier), None)
        if part is None:
            return Outcome(False, f"{job.app} has no component {identifier}", "check")
        return await self._installer.recreate(job, part, start=start)

    async def update_row(self, spec: Spec) -> None:
        """See `AppActions.update_row`."""
        await self._bench.installed.put(spec)

    async def update(
        self, spec: Spec, plan: UpdatePlan, *, reason: str, progress: Progress = SILENT
    ) -> Outcome:
        """Bring an installed app to a newer specification as planned. On failure nothing of it is left."""
        app = str(spec["name"])
        match plan.depth:
            case Depth.NOTHING:
                return Outcome(True)
            case Depth.LEAVE:
                return await self.remove(app, reason=reason, force=True, progress=progress)
            case Depth.ROW:
                return await self._update_row(spec, plan)
        if (held := self._held(app)) is not None:
            return held
        hard = plan.depth is Depth.HARD
        parts = {change.identifier: change.depth is Depth.HARD for change in plan.parts} or None
        with self._operations.doing(Work.HARD_REDEPLOY if hard else Work.SOFT_REDEPLOY, app):
            return await self._breakable(
                app,
                lambda: self._redeployer.redeploy(
                    spec, hard=hard, reason=reason, progress=progress, parts=parts
                ),
            )

    async def _update_row(self, spec: Spec, plan: UpdatePlan) -> Outcome:
        app = str(spec["name"])
        try:
            await self.update_row(spec)
            refused = refused_link(spec, self._bench.installed.owners()) if plan.links_changed else None
            if refused is not None:
                log.warning("not linked", app=app, why=refused.sentence)
            elif plan.links_changed:
                for part in self._bench.installed.parts(app):
                    await self._bench.links.forward(part.container, spec)
        except TrionodeError as error:
            return Outcome(False, error.message, "local row")
        return Outcome(True)

    # Inside

    async def _breakable(self, app: str, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Do it; a removal by force of the app breaks it off."""
        with self._noted(app) as running, running.scope:
            return await work()
        return BROKEN_OFF

    @contextmanager
    def _noted(self, app: str) -> Iterator[_Running]:
        running = _Running(app, trio.CancelScope(), trio.Event())
        self._running.append(running)
        try:
            yield running
        finally:
            self._running.remove(running)
            running.over.set()

    async def _break_off(self, app: str) -> bool:
        """End what is being done to the app, and wait until that has undone its steps; was there any?"""
        under_way = [running for running in self._running if running.app == app]
        for running in under_way:
            running.scope.cancel()
            await running.over.wait()
        return bool(under_way)

    async def _remove_now(self, app: str, reason: str, progress: Progress) -> Outcome:
        return await self._uninstaller.remove(
            app, reason=reason, force=True, tell_peers=False, progress=progress
        )

    def _app_of(self, identifier: str) -> str | None:
        rows = self._bench.installed.rows()
        return next(
            (
                row.name
                for row in rows
                if any(part.identifier == identifier for part in self._bench.installed.parts(row.name))
            ),
            None,
        )

    def _held(self, app: str, identifier: str | None = None) -> Outcome | None:
        """Why it has to be let alone: a backup or restore works on the app, or on (this) part of it."""
        held = self._operations.held
        parts = {name for name in held if name.partition("_")[2] == app}
        wanted = parts if identifier is None else parts & {identifier}
        name = app if app in held else min(wanted, default=None)
        return None if name is None else Outcome(False, f"{name} is being backed up or restored", HELD)


def _has_other_parts(installed: Spec, current: Spec) -> bool:
    """Whether components came or went: their volumes have to follow."""
    if current.get("version", 0) < STRUCTURE_VERSION:
        return False
    before, after = ([part["name"] for part in spec.get("compose") or ()] for spec in (installed, current))
    return before != after


def _said(outcome: Outcome, progress: Progress, done: str) -> Outcome:
    progress.tell({"status": done if outcome.ok else f"Failed at {outcome.step}: {outcome.problem}"})
    return outcome
