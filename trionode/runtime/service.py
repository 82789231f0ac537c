"""The shape of a service: what the supervisor starts, watches and stops."""

from __future__ import annotations

from typing import Protocol

import trio


class Service(Protocol):
    """A subsystem with one `run`, its own nursery inside it, and nothing that outlives it."""

    @property
    def name(self) -> str:
        """Short stable name, shown in logs and `trionode status`."""
        ...

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled; call `task_status.started()` when ready. Returning is an error."""
        ...
