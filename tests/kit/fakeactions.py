"""What monitors ask of `AppActions`, only noted."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from trionode.containers.actions import NoProgress, Outcome, Progress
from trionode.containers.operations import Busy, Operation


@dataclass(frozen=True)
class Removal:
    app: str
    reason: str
    force: bool
    tell_peers: bool


class FakeActions:
    """Everything goes well, unless `problem` says what goes wrong or `under_way` what is in the way."""

    def __init__(self) -> None:
        self.removed: list[Removal] = []
        self.done: list[tuple[str, str]] = []
        self.problem = ""
        self.under_way: Operation | None = None

    async def remove(
        self,
        app: str,
        *,
        reason: str,
        force: bool = False,
        tell_peers: bool = True,
        progress: Progress = NoProgress(),  # noqa: B008
    ) -> Outcome:
        outcome = await self._do("remove", app, force=force)
        self.removed.append(Removal(app, reason, force, tell_peers))
        return outcome

    async def redeploy(
        self,
        app: str,
        *,
        hard: bool,
        reason: str,
        progress: Progress = NoProgress(),  # noqa: B008
    ) -> Outcome:
        return await self._do("hard" if hard else "soft", app)

    async def _do(self, what: str, name: str, *, force: bool = False) -> Outcome:
        await trio.lowlevel.checkpoint()
        if self.under_way is not None and not force:
            raise Busy(self.under_way)
        self.done.append((what, name))
        return Outcome(not self.problem, self.problem)
