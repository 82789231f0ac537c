"""Uninstaller: an app goes whole, components last first (docs/spec/lifecycle.md §15).

Without force a step that fails before the first container is gone ends it: the app stays installed. From then
on, and by force from the beginning, the other steps are done all the same; what failed is told and noted,
so that it is tried again. File sync has no port here yet: there are no folders of it to remove.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress

import msgspec
import trio

from trionode.containers.actions import Outcome, Progress
from trionode.containers.engine import Conflict, NotFound
from trionode.containers.install.app_steps import guard
from trionode.containers.install.part_steps import drop_image, forget_ports
from trionode.containers.install.records import AppRecord
from trionode.containers.install.steps import in_limit
from trionode.containers.install.traces import Trace, record_of, traces_of
from trionode.containers.install.workbench import Workbench
from trionode.errors import TrionodeError
from trionode.plans.networks import network_name
from trionode.runtime.logs import get_logger

VOLUME = "volume"
NOT_HERE = "look for it"
"""The step of a removal that finds nothing to remove."""

log = get_logger("containers.removal")


class Attempts:
    """Steps that take something away. A failed one ends everything if `strict`, else it is noted and the rest
    goes on. `goes_on`: strict only as long as no container is gone."""

    def __init__(self, *, strict: bool, limit_s: float, goes_on: bool = False) -> None:
        self.strict = strict
        self.goes_on = goes_on
        self._limit_s = limit_s
        self.at = ""
        self.problems: list[str] = []
        self.has_taken = False
        """A container is gone: there is no way back by doing nothing more."""

    async def make(self, step: str, call: Awaitable[object]) -> bool:
        """Whether it went well; what is not there counts as done. Raises TrionodeError when strict."""
        self.at = step
        try:
            await in_limit(call, self._limit_s, step)
        except NotFound:
            return True
        except TrionodeError as error:
            if self.strict and not (self.goes_on and self.has_taken):
                raise
            log.warning("removal step failed", step=step, problem=error.one_line())
            self.problems.append(f"{step}: {error.message}")
            return False
        return True


class Uninstaller:
    """Removes apps; nothing else is being done meanwhile, unless by force (`operations`)."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench

    async def remove(
        self, app: str, *, reason: str, force: bool, tell_peers: bool, progress: Progress
    ) -> Outcome:
        """Remove an app and everything there is of it."""
        bench = self._bench
        attempts = Attempts(strict=not force, limit_s=bench.settings.step_limit_s, goes_on=True)
        before = bench.records.get(app)
        was_here = bench.installed.get(app) is not None
        try:
            attempts.at = "look"
            traces = await traces_of(bench, app, anywhere=force)
            if not (was_here or before is not None or traces.parts or traces.has_network):
                return Outcome(False, f"{app} is not installed here", NOT_HERE)
            if traces.problems and not force:
                return Outcome(False, "; ".join(traces.problems), "look")
            attempts.problems.extend(traces.problems)
            log.warning("removing app", app=app, reason=reason, force=force)
            await attempts.make("record", self._begin(app))
            for trace in reversed(traces.parts):
                progress.tell({"status": f"Removing {trace.container}..."})
                await self._part(attempts, app, trace, force=force)
            await attempts.make("network", self._network(app, force=force))
            await attempts.make("local row", bench.installed.delete(app))
        except TrionodeError as error:
            await self._stay(app, before)
            log.error("app not removed", app=app, step=attempts.at, problem=error.one_line())
            return Outcome(False, f"{attempts.at}: {error.message}", attempts.at)
        except BaseException:
            if not (force or attempts.has_taken):
                await self._stay(app, before)
            log.warning("removal broken off", app=app, step=attempts.at)
            raise
        attempts.strict = False
        if attempts.problems:
            await attempts.make("record", self._begin(app))
        else:
            await attempts.make("record", bench.records.forget(app))
        if was_here:
            bench.news.app_removed(app, tell_peers=tell_peers)
        bench.news.removal(app, reason=reason, problem="; ".join(attempts.problems))
        return _told(attempts)

    async def take_down(
        self, attempts: Attempts, app: str, trace: Trace, *, keeps_volume: bool, force: bool = False
    ) -> bool:
        """Container and ports of one component, and its volume unless that is kept; the image stays.
        Whether its container is gone."""
        bench, name = self._bench, trace.container
        gone = True
        if trace.is_container:
            if force:
                await attempts.make(f"kill {name}", bench.engine.kill(name))
            else:
                grace_s = bench.settings.removal_stop_s
                await attempts.make(f"stop {name}", bench.engine.stop(name, grace_s))
            # anonymous volumes belong to the container alone
            removal = bench.engine.remove(name, force=force, volumes=True)
            gone = await attempts.make(f"container {name}", removal)
            attempts.has_taken = attempts.has_taken or gone
        ports = [port for port in trace.ports if port not in self._ports_of_others(app)]
        await attempts.make(f"ports {name}", forget_ports(bench, ports, app))
        if not keeps_volume:
            await attempts.make(f"{VOLUME} {name}", bench.disk.remove_volume(name))
        return gone

    async def _part(self, attempts: Attempts, app: str, trace: Trace, *, force: bool) -> None:
        """One component; its image, by tag and by id, only when its container is gone."""
        if not await self.take_down(attempts, app, trace, keeps_volume=False, force=force):
            return
        for image in dict.fromkeys((trace.image, trace.image_id)):
            if image:
                await attempts.make(f"image {trace.container}", drop_image(self._bench, image, of=app))

    async def _begin(self, app: str) -> None:
        """Note that it is being removed: whoever finds the record later goes on."""
        record = await record_of(self._bench, app) or AppRecord(app, "removing")
        await self._bench.records.put(msgspec.structs.replace(record, phase="removing"))

    async def _stay(self, app: str, before: AppRecord | None) -> None:
        with trio.CancelScope(shield=True):
            try:
                if before is not None:
                    await self._bench.records.put(before)
                elif self._bench.installed.get(app) is not None:
                    await self._bench.records.enter(app, "installed")
                else:
                    await self._bench.records.forget(app)
            except TrionodeError as error:
                log.error("install record not put back", app=app, problem=error.one_line())

    async def _network(self, app: str, *, force: bool) -> None:
        """Its network, and the rules for its bridge. Without force one that linked apps are attached to
        stays, until they go and it is pruned."""
        name = network_name(app)
        with suppress(NotFound):
            if force:
                await self._take_apart(name)
            else:
                try:
                    await self._bench.engine.remove_network(name)
                except Conflict as error:
                    log.warning("network stays, others are attached to it", network=name, why=error.message)
        await guard(self._bench)

    async def _take_apart(self, name: str) -> None:
        """Remove a network whoever is attached to it; tried twice."""
        settings = self._bench.settings
        if (await self._bench.engine.network(name)).endpoints:
            await trio.sleep(settings.network_release_s)
        try:
            await self._dissolve(name)
        except NotFound:
            raise
        except TrionodeError as error:
            log.info("network tried once more", network=name, problem=error.one_line())
            await trio.sleep(settings.network_retry_s)
            await self._dissolve(name)

    async def _dissolve(self, name: str) -> None:
        """Disconnect everyone, then remove it."""
        engine = self._bench.engine
        for container in (await engine.network(name)).endpoints:
            await engine.disconnect(container, name, force=True)
        await engine.remove_network(name)

    def _ports_of_others(self, app: str) -> frozenset[int]:
        bench = self._bench
        noted = {
            port
            for record in bench.records.all()
            if record.app != app
            for part in record.parts
            for port in part.ports
        }
        rows = [row.name for row in bench.installed.rows() if row.name != app]
        return frozenset(noted).union(*(part.ports for name in rows for part in bench.installed.parts(name)))


def _told(attempts: Attempts) -> Outcome:
    if not attempts.problems:
        return Outcome(True)
    return Outcome(False, "; ".join(attempts.problems), attempts.problems[0].partition(":")[0])
