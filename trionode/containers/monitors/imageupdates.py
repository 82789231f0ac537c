"""Redeploys apps whose image was pushed anew under the same tag (docs/spec/lifecycle.md §16, image updater).

The digest of the image a container was made from is held against what its registry offers now. Registries
limit how often they are asked: there are pauses between questions, and a limit that is hit ends the cycle.
What a registry said last is kept, so that the present plan need not ask again.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec
import trio

from trionode.config.tree import ImageSettings
from trionode.containers.actions import AppActions
from trionode.containers.engine import ContainerRow, Credentials, Engine, EngineError, NotFound
from trionode.containers.images.registry import ImageError, ImageFault
from trionode.containers.operations import Busy, Operations
from trionode.containers.planned import PlannedAction
from trionode.errors import TrionodeError
from trionode.plans.parts import Part
from trionode.runtime.appturns import AppTurns
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger

REASON = "a new image was pushed under its tag"

log = get_logger("containers.imageupdates")


class Digests(Protocol):
    """Asks image registries (`containers.images.registry.ImageRegistry`)."""

    async def digest(self, repotag: str, credentials: Credentials | None = None) -> str:
        """`sha256:...` of what the tag leads to. Raises ImageError."""
        ...


class UpdatedApps(Protocol):
    """Installed apps, opened."""

    def names(self) -> frozenset[str]: ...

    async def updatable(self, app: str) -> Sequence[tuple[Part, Credentials | None]]:
        """Its components with the logins for their registries; none when it cannot be opened now."""
        ...


class _CycleOver(Exception):
    """The rest of this cycle is left for the next one."""


class Compared(msgspec.Struct, frozen=True):
    """A component's image held against its registry. `image_id`: of the image that was compared; `here`: all
    digests it was pulled by, for an index that was made anew for another architecture brings the same image
    under one more digest.
    """

    app: str
    container: str
    image_id: str
    here: frozenset[str]
    there: str

    @property
    def is_outdated(self) -> bool:
        return self.there not in self.here


class ImageUpdates:
    """Service "image-updates"."""

    name = "image-updates"

    def __init__(
        self,
        settings: ImageSettings,
        *,
        apps: UpdatedApps,
        digests: Digests,
        engine: Engine,
        actions: AppActions,
        operations: Operations,
        bus: EventBus,
        counters: Counters,
        rng: random.Random,
    ) -> None:
        self._settings = settings
        self._apps = apps
        self._digests = digests
        self._engine = engine
        self._actions = actions
        self._operations = operations
        self._bus = bus
        self._counters = counters
        self._rng = rng
        self._turns = AppTurns("imageupdates", counters)
        self._compared: dict[str, Compared] = {}
        self._brought: dict[str, str] = {}
        """Component -> the digest it was last redeployed for: one that is not found here afterwards is no
        reason to do it again."""
        self._next_s: float | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Nodes look at different times; each then once per interval, until cancelled."""
        settings = self._settings
        task_status.started()
        first_s = self._rng.uniform(settings.update_first_min_s, settings.update_first_max_s)
        await trio.sleep(first_s)
        while True:
            self._next_s = None
            await self._cycle()
            self._next_s = trio.current_time() + settings.update_interval_s
            await trio.sleep(settings.update_interval_s)

    def plan(self, rows: Iterable[ContainerRow]) -> tuple[PlannedAction, ...]:
        """Redeploys that wait, by what registries said last. `rows`: what the engine has."""
        images = {row.name: row.image_id for row in rows}
        return tuple(
            PlannedAction("redeploy_soft", seen.app, identifier, REASON, due_s=self._next_s)
            for identifier, seen in sorted(self._compared.items())
            if seen.is_outdated
            and images.get(seen.container) == seen.image_id
            and self._brought.get(identifier) != seen.there
        )

    async def _cycle(self) -> None:
        checked = triggered = 0
        names = self._apps.names()
        self._compared = {part: seen for part, seen in self._compared.items() if seen.app in names}
        self._brought = {part: digest for part, digest in self._brought.items() if part in self._compared}
        try:
            for app in sorted(names):
                if checked:
                    await trio.sleep(self._settings.between_apps_s)
                self._must_be_free()
                checked += 1
                over: _CycleOver | None = None
                with self._turns.of(app):
                    try:
                        if await self._is_outdated(app):
                            triggered += 1
                            await self._redeploy(app)
                    except _CycleOver as end:
                        over = end
                if over is not None:
                    raise over
        except _CycleOver as end:
            self._counters.add("containers.imageupdates.cut_short")
            log.info("the rest is looked at in the next cycle", why=str(end))
        self._bus.publish("imageUpdate:checked", {"appsChecked": checked, "updatesTriggered": triggered})

    def _must_be_free(self) -> None:
        under_way = self._operations.current
        if under_way is not None:
            raise _CycleOver(f"{under_way.work.value} of {under_way.app}")

    async def _is_outdated(self, app: str) -> bool:
        for number, (part, credentials) in enumerate(await self._apps.updatable(app)):
            if number:
                await trio.sleep(self._settings.between_components_s)
            try:
                if await self._compare(app, part, credentials):
                    return True
            except ImageError as error:
                self._counters.add("containers.imageupdates.unknown")
                log.info("newest image not known", component=part.identifier, why=error.message)
                if error.code is ImageFault.RATE_LIMITED:
                    raise _CycleOver(error.message) from error
            except EngineError as error:
                raise _CycleOver(error.message) from error
        return False

    async def _compare(self, app: str, part: Part, credentials: Credentials | None) -> bool:
        """Whether a new image waits; not when the digest here is not known (never pulled)."""
        try:
            container = await self._engine.inspect(part.container)
            image = await self._engine.image(container.image_id)
        except NotFound:
            return False
        if not image.digests:
            return False
        brought = self._brought.get(part.identifier, "")
        here = frozenset((brought, *(digest.rpartition("@")[2] for digest in image.digests)))
        there = await self._digests.digest(part.repotag, credentials)
        seen = Compared(app, part.container, container.image_id, here, there)
        self._compared[part.identifier] = seen
        return seen.is_outdated

    async def _redeploy(self, app: str) -> None:
        self._bus.publish("imageUpdate:redeployTriggered", {"appName": app})
        try:
            outcome = await self._actions.redeploy(app, hard=False, reason=REASON)
        except Busy as busy:
            raise _CycleOver(busy.message) from busy
        except TrionodeError as error:
            self._counters.add("containers.imageupdates.failed")
            log.error("app not updated", app=app, problem=error.one_line())
            return
        self._counters.add("containers.imageupdates.done" if outcome.ok else "containers.imageupdates.failed")
        if outcome.ok:
            seen = self._compared.items()
            self._brought |= {name: one.there for name, one in seen if one.app == app and one.is_outdated}
            self._bus.publish("imageUpdate:redeployComplete", {"appName": app})
        await trio.sleep(self._settings.after_redeploy_s)
