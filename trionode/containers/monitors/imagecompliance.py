"""Images this node must not run: the network's block lists and the operator's (docs/spec/registry.md §6).

`BlockedImages` fetches the lists when somebody asks and keeps them for hours; once it has them it goes on
with the old ones while they cannot be had. `ImageCompliance` removes installed apps that were put on a list
(lifecycle.md §1.1). Lists that were never had say nothing about any app.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import trio

from trionode.config.tree import HostingSettings, ImageSettings
from trionode.containers.actions import AppActions
from trionode.containers.node.outside import JsonSource, OutsideError
from trionode.containers.planned import PlannedAction
from trionode.errors import HostError
from trionode.registry.images import BlockLists, ImageBlock, find_block
from trionode.runtime.appturns import AppTurns
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger

BLOCKED_PATH = "/helpers/blockedrepositories.json"
VETTED_PATH = "/helpers/vettedrepositories.json"

log = get_logger("containers.compliance")


class ListsUnknown(HostError):
    """The block lists were never had: nothing can be said about an app."""

    code = "lists_unknown"


class BlockedImages:
    """The lists in force. `base_url`: `services.lists_url`; empty: only the operator's entries count."""

    def __init__(
        self, images: ImageSettings, hosting: HostingSettings, base_url: str, source: JsonSource
    ) -> None:
        self._keep_s = images.lists_keep_s
        self._retry_s = images.lists_retry_s
        self._operator = hosting.blocked_repositories
        self._base_url = base_url.rstrip("/")
        self._source = source
        self._known = None if base_url else BlockLists(operator=self._operator)
        self._due_s = float("-inf") if base_url else float("inf")
        self._turn = trio.Lock()

    @property
    def known(self) -> BlockLists | None:
        """Those fetched last, None when none ever could be."""
        return self._known

    async def lists(self) -> BlockLists:
        """The newest that could be had. Raises ListsUnknown when none ever could."""
        async with self._turn:
            if trio.current_time() >= self._due_s:
                await self._fetch()
        if self._known is None:
            raise ListsUnknown(
                f"the lists of blocked images cannot be had from {self._base_url}",
                remedy="see that the machine reaches it, or set services.lists_url",
            )
        return self._known

    async def _fetch(self) -> None:
        now_s = trio.current_time()
        try:
            blocked = _entries(await self._source.get_json(self._base_url + BLOCKED_PATH))
            vetted = _entries(await self._source.get_json(self._base_url + VETTED_PATH))
        except OutsideError as error:
            self._due_s = now_s + self._retry_s
            log.warning("block lists not renewed", problem=error.one_line())
            return
        self._due_s = now_s + self._keep_s
        self._known = BlockLists(blocked, vetted, self._operator)


def _entries(document: Any) -> Sequence[str]:
    if not isinstance(document, list) or not all(isinstance(entry, str) for entry in document):
        raise OutsideError(
            "a list of blocked images is no list of texts", remedy="nothing; it is asked again"
        )
    return tuple(document)


class OpenedApps(Protocol):
    """Installed apps (`containers.installedapps.InstalledApps`)."""

    def names(self) -> frozenset[str]: ...

    async def opened(self, name: str) -> Mapping[str, Any] | None: ...

    def opened_now(self, name: str) -> Mapping[str, Any] | None:
        """Without opening it."""
        ...


class ImageCompliance:
    """Service "image-compliance"."""

    name = "image-compliance"

    def __init__(
        self,
        settings: ImageSettings,
        *,
        blocked: BlockedImages,
        apps: OpenedApps,
        actions: AppActions,
        counters: Counters,
    ) -> None:
        self._interval_s = settings.compliance_interval_s
        self._spacing_s = settings.compliance_spacing_s
        self._blocked = blocked
        self._apps = apps
        self._actions = actions
        self._counters = counters
        self._turns = AppTurns("compliance", counters)
        self._next_s: float | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look once per interval, the first time after one."""
        task_status.started()
        while True:
            self._next_s = trio.current_time() + self._interval_s
            await trio.sleep_until(self._next_s)
            try:
                await self._look()
            except HostError as error:
                self._counters.add("containers.compliance.skipped")
                log.info("blocked images not looked for", why=error.message)

    def plan(self) -> tuple[PlannedAction, ...]:
        """The apps the next look removes, by the lists fetched last and of those that are open."""
        lists = self._blocked.known
        if lists is None:
            return ()
        found = ((app, _block(self._apps.opened_now(app), lists)) for app in sorted(self._apps.names()))
        return tuple(
            PlannedAction("remove", app, "", block.sentence, due_s=self._next_s)
            for app, block in found
            if block is not None
        )

    async def _look(self) -> None:
        lists = await self._blocked.lists()
        for app in sorted(self._apps.names()):
            with self._turns.of(app):
                block = _block(await self._apps.opened(app), lists)
                if block is None:
                    continue
                outcome = await self._actions.remove(app, reason=block.sentence)
                kind = "removed" if outcome.ok else "failed"
                self._counters.add(f"containers.compliance.{kind}")
                await trio.sleep(self._spacing_s)


def _block(spec: Mapping[str, Any] | None, lists: BlockLists) -> ImageBlock | None:
    return None if spec is None else find_block(spec, str(spec.get("hash", "")), lists)
