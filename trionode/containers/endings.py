"""Endings: how the containers of installed apps came to an end, and how often in a row (lifecycle.md §9).

A container that ended by itself, or went down with the engine, is started again after the waits of
`plans.crashes`; one that somebody told to stop is not, and neither is one that this node stops for a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

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
        self._failed_starts: dict[str, int] = {}
        self._crashes: dict[str, Crashes] = {}
        self._seen_ms: dict[str, int] = {}

    @property
    def crashes(self) -> Mapping[str, Crashes]:
        """Components that ended by themselves, or could not be started."""
        return self._crashes

    @property
    def seen_ms(self) -> Mapping[str, int]:
        """Components that a slow pass found stopped, and when first."""
        return self._seen_ms

    def learn(self, change: Change, working: Collection[str]) -> str | None:
        """Take a change; its app, None when it is none of ours. `working`: apps this node is at work on."""
        found = self._component(change.container)
        if found is None:
            return None
        app, name = found
        if change.state == RUNNING:
            self._seen_ms.pop(name, None)
        if change.state is None:
            self._forget(name)
        elif change.ending is Ending.ASKED:
            if app not in working:
                self._forget(name)
        elif change.ending is not None:
            before = self._crashes.get(name) if change.ending is Ending.ITSELF else None
            self.ended(name, ran_ms=change.ran_ms, now_ms=change.at_ms, before=before)
            self._counters.add(f"containers.health.ended.{change.ending.value}")
            log.warning(
                "container ended",
                container=change.container,
                by=change.ending.value,
                in_a_row=self._crashes[name].count,
            )
        return app

    def ended(self, name: str, *, ran_ms: int | None, now_ms: int, before: Crashes | None) -> None:
        """It ended by its own doing; `ran_ms` None: nobody knows how long it ran."""
        self._crashes[name] = after_end(before, ran_ms=ran_ms or 0, now_ms=now_ms, stable_s=self._stable_s)

    def unhealthy(self, name: str, *, ran_ms: int | None, now_ms: int) -> None:
        """Its own check failed, and it is started anew for that."""
        self.ended(name, ran_ms=ran_ms, now_ms=now_ms, before=self._crashes.get(name))

    def not_started(self, name: str, now_ms: int) -> bool:
        """A start failed; whether that was the last try. It is tried again after the waits of a crash."""
        failed = self._failed_starts[name] = self._failed_starts.get(name, 0) + 1
        self._crashes[name] = Crashes(failed + 1, now_ms)
        return failed >= self._tries

    def started(self, name: str) -> None:
        """A start went well."""
        self._failed_starts.pop(name, None)

    def sighted(self, name: str, now_ms: int) -> None:
        """A slow pass found it stopped."""
        self._seen_ms[name] = now_ms

    def tidy(self) -> None:
        """Forget what is no longer installed."""
        here = {part.identifier for app in self._installed() for part in app.components}
        for name in {*self._crashes, *self._failed_starts, *self._seen_ms} - here:
            self._forget(name)
            self._seen_ms.pop(name, None)

    def _forget(self, name: str) -> None:
        self._crashes.pop(name, None)
        self._failed_starts.pop(name, None)

    def _component(self, container: str) -> tuple[str, str] | None:
        for app in self._installed():
            for part in app.components:
                if container_name(part.identifier) == container:
                    return app.name, part.identifier
        return None
