"""Endings: how the containers of installed apps came to an end, and how often in a row (lifecycle.md §9).

A container that ended by itself, or went down with the engine, is started again after the waits of
`plans.crashes`; one that somebody told to stop is not, and neither is one that this node stops for a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from trionode.containers.table import Change, Ending
from trionode.lifecycle.local import RUNNING, InstalledApp
from trionode.lifecycle.names import container_name
from trionode.plans.crashes import Crashes, after_end
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger

log = get_logger("containers.health")


class Endings:
    """`crashes` and `seen_ms` are facts of `plans.health`, by identifier."""

    def __init__(
        self,
        installed: Callable[[], Sequence[InstalledApp]],
        counters: Counters,
        *,
        stable_s: float,
        tries: int,
    ) -> None:
        self._installed = installed
        self._counters = counters
        self._stable_s = stable_s
        self._tries = tries
        self._restarting: set[str] = set()
        self._failed_starts: dict[str, int] = {}
        self._crashes: dict[str, Crashes] = {}
        self._unmade: dict[str, Crashes] = {}
        self._seen_ms: dict[str, int] = {}

    @property
    def crashes(self) -> Mapping[str, Crashes]:
        """Components that ended by themselves, failed their own check, or could not be started."""
        return self._crashes

    @property
    def unmade(self) -> Mapping[str, Crashes]:
        """Components whose container could not be made again."""
        return self._unmade

    @property
    def seen_ms(self) -> Mapping[str, int]:
        """Components that a slow pass found stopped, and when first."""
        return self._seen_ms

    def learn(self, change: Change) -> str | None:
        """Take a change; its app, None when it is none of ours."""
        found = self._component(change.container)
        if found is None:
            return None
        app, name = found
        if change.state == RUNNING:
            self._seen_ms.pop(name, None)
            self._unmade.pop(name, None)
            self._restarting.discard(name)
        if change.state is None or (change.ending is Ending.ASKED and name not in self._restarting):
            self._forget(name)
        elif name in self._restarting:
            pass  # its end is our own doing, and its next start is on its way
        elif change.ending is not None or change.unhealthy:
            before = self._crashes.get(name) if change.ending is not Ending.ENGINE else None
            self._crashes[name] = after_end(
                before, ran_ms=change.ran_ms or 0, now_ms=change.at_ms, stable_s=self._stable_s
            )
            how = "unhealthy" if change.ending is None else change.ending.value
            self._counters.add(f"containers.health.ended.{how}")
            log.warning(
                "container in trouble",
                container=change.container,
                ended_by=how,
                in_a_row=self._crashes[name].count,
            )
        return app

    def restarting(self, name: str) -> None:
        """It is about to be stopped and started by us: that end says nothing."""
        self._restarting.add(name)

    def not_restarting(self, name: str) -> None:
        """That came to nothing."""
        self._restarting.discard(name)

    def not_started(self, name: str, now_ms: int) -> bool:
        """A start failed; whether that was the last try. It is tried again after the waits of a crash."""
        failed = self._failed_starts[name] = self._failed_starts.get(name, 0) + 1
        self._crashes[name] = Crashes(failed + 1, now_ms)
        return failed >= self._tries

    def not_made(self, name: str, now_ms: int) -> bool:
        """A container could not be made again; as `not_started`. That it is gone then is no news."""
        before = self._unmade.get(name)
        made = self._unmade[name] = Crashes(2 if before is None else before.count + 1, now_ms)
        return made.count > self._tries

    def started(self, name: str) -> None:
        """A start went well."""
        self._failed_starts.pop(name, None)
        self._unmade.pop(name, None)

    def sighted(self, name: str, now_ms: int) -> None:
        """A slow pass found it stopped."""
        self._seen_ms[name] = now_ms

    def tidy(self) -> None:
        """Forget what is no longer installed."""
        here = {part.identifier for app in self._installed() for part in app.components}
        for name in {*self._crashes, *self._failed_starts, *self._unmade, *self._seen_ms} - here:
            self._forget(name)
            self._unmade.pop(name, None)
            self._seen_ms.pop(name, None)

    def _forget(self, name: str) -> None:
        self._crashes.pop(name, None)
        self._failed_starts.pop(name, None)
        self._restarting.discard(name)

    def _component(self, container: str) -> tuple[str, str] | None:
        for app in self._installed():
            for part in app.components:
                if container_name(part.identifier) == container:
                    return app.name, part.identifier
        return None
