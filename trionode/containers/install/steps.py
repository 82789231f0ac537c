"""Steps and how they are undone: an operation is a list of named steps, each knowing its way back.

A step counts as begun before it is done: a call that failed or was cancelled may have taken effect, so its
way back passes over what is not there. Going back is shielded from cancellation and has a time limit of its
own; what could not be undone is told, and the record of the app says so until it is (see `records`).
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

import trio

from trionode.containers.install.troubles import NotInTime
from trionode.errors import TrionodeError
from trionode.runtime.logs import get_logger

log = get_logger("containers.steps")


async def in_limit(call: Awaitable[object], limit_s: float, step: str) -> None:
    """Wait for a step. Raises NotInTime when it takes longer than `limit_s`."""
    with trio.move_on_after(limit_s):
        await call
        return
    raise NotInTime(f"{step}: not done within {limit_s:g} s", remedy="see whether engine and disk are well")


async def to_the_end(call: Awaitable[object], grace_s: float) -> None:
    """Wait until a call is over, when cancelled for `grace_s` more at most.

    An engine that was asked to make something goes on after whoever asked has left, and would be through
    with it only when the way back has looked for it and found nothing.
    """
    problem: TrionodeError | None = None
    shield = trio.CancelScope(shield=True)

    async def watch() -> None:
        try:
            await trio.sleep_forever()
        finally:
            shield.deadline = min(shield.deadline, trio.current_time() + grace_s)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        with shield:
            try:
                await call
            except TrionodeError as error:
                problem = error  # as it is, not in a group
        nursery.cancel_scope.cancel()
    if problem is not None:
        raise problem


class Step(Protocol):
    """One step. `name` is told when it fails: "pull web_shop"."""

    @property
    def name(self) -> str: ...

    async def do(self) -> None:
        """Raises TrionodeError; may be cancelled anywhere."""
        ...

    async def undo(self) -> None:
        """Leave things as they were before `do`, however far that got. Raises TrionodeError."""
        ...


class Ladder:
    """Goes up step by step, and down again when one fails."""

    def __init__(self, *, undo_within_s: float) -> None:
        self._undo_within_s = undo_within_s
        self._begun: list[Step] = []
        self.at = ""
        """The step that was begun last."""

    async def up(self, step: Step, within_s: float) -> None:
        """Do one more step. Raises NotInTime when it takes longer than `within_s`."""
        self._begun.append(step)
        self.at = step.name
        await in_limit(step.do(), within_s, step.name)

    def stay(self) -> None:
        """What was done so far is not undone any more."""
        self._begun.clear()

    async def down(self, *kinds: type[Step]) -> tuple[str, ...]:
        """Undo everything begun, last first, even when cancelled; sentences about what could not be.

        `kinds`: only such steps are undone, what others made is of use to the next attempt.
        """
        if kinds:
            self._begun = [step for step in self._begun if isinstance(step, kinds)]
        problems: list[str] = []
        with trio.CancelScope(shield=True), trio.move_on_after(self._undo_within_s) as limit:
            while self._begun:
                step = self._begun[-1]
                try:
                    await step.undo()
                except TrionodeError as error:
                    log.error("step not undone", step=step.name, problem=error.one_line())
                    problems.append(f"{step.name}: {error.message}")
                self._begun.pop()
        if limit.cancelled_caught:
            problems.append(f"not undone within {self._undo_within_s:g} s: {self._rest()}")
        return tuple(problems)

    def _rest(self) -> str:
        return ", ".join(step.name for step in reversed(self._begun))
