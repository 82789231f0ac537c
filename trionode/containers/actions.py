"""What can be done to an app, as a port: API, spawner, health and monitors ask for it here.

`containers.install.appactions.AppLifecycle` stands behind it, made of installer, uninstaller and redeployer
(docs/spec/lifecycle.md §12, §15, §16).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from trionode.errors import HostError

Spec = Mapping[str, Any]
"""An app specification, opened, with `hash` and `height` beside its own members."""


class Progress(Protocol):
    """Hears what is being done, step by step."""

    def tell(self, message: Mapping[str, Any]) -> None:
        """`{"status": sentence}` of ours, or a message of the engine's pull `{status, id, progressDetail}`.

        Never waits: a listener that does not keep up loses messages, not the install.
        """
        ...


class NoProgress:
    """Nobody listens."""

    def tell(self, message: Mapping[str, Any]) -> None:
        return None


class Outcome(msgspec.Struct, frozen=True):
    """What came of it. `problem` is a sentence, empty when it went well; `step` names where it failed."""

    ok: bool
    problem: str = ""
    step: str = ""


class NotNow(HostError):
    """Others have trouble that says nothing of the app; the same may go well later.

    `far`: others than this machine.
    """

    code = "not_now"

    def __init__(self, message: str, *, remedy: str = "", far: bool = False) -> None:
        super().__init__(message, remedy=remedy)
        self.far = far


class AppActions(Protocol):
    """One operation at a time; `Busy` is raised when another is under way (see `operations`).

    Everything else that goes wrong is an Outcome, but for `NotNow` where that is said. `reason` is for log,
    event and API.
    """

    async def install(
        self,
        spec: Spec,
        *,
        reason: str,
        test: bool = False,
        tell_failure: bool = True,
        progress: Progress = ...,
    ) -> Outcome:
        """Install an app whole; on failure nothing of it is left. `test`: small, and removed at the end."""
        ...

    async def remove(
        self,
        app: str,
        *,
        reason: str,
        force: bool = False,
        tell_peers: bool = True,
        progress: Progress = ...,
    ) -> Outcome:
        """Remove an app whole. `force`: even while another operation runs, and failing steps are skipped."""
        ...

    async def redeploy(self, app: str, *, hard: bool, reason: str, progress: Progress = ...) -> Outcome:
        """Install it anew by the specification in force; `hard`: its data goes too."""
        ...

    async def redeploy_component(
        self, identifier: str, *, hard: bool, reason: str, progress: Progress = ...
    ) -> Outcome:
        """One component anew by the installed specification."""
        ...

    async def recreate(self, app: str, identifier: str, *, keeps_volume: bool, start: bool) -> Outcome:
        """Make a missing container again; nothing is rolled back, nothing removed. Raises NotNow."""
        ...

    async def update_row(self, spec: Spec) -> None:
        """Only the local row changes (registry said nothing a container would see)."""
        ...
