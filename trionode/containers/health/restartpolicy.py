"""Takes restart policies away from containers of apps: the node decides what runs (lifecycle.md §1).

Ours are made without one. Those an earlier node or a person made may have one, and would be started after a
power cut although the network has long given their app to others.
"""

from __future__ import annotations

import trio

from trionode.containers.engine import Engine, EngineError
from trionode.lifecycle.names import is_app_container
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.logs import get_logger

NEVER = "no"
AGAIN_S = 60.0

log = get_logger("containers.policies")


class RestartPolicies:
    """Service "restart-policies": one look as soon as the engine answers."""

    name = "restart-policies"

    def __init__(self, engine: Engine, engine_ready: Gate, counters: Counters) -> None:
        self._engine = engine
        self._engine_ready = engine_ready
        self._counters = counters

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look until one look was whole, and then only rest."""
        task_status.started()
        while True:
            await self._engine_ready.wait()
            try:
                await self._look()
                break
            except EngineError as error:
                log.warning("restart policies not looked at", problem=error.one_line())
                await trio.sleep(AGAIN_S)
        await trio.sleep_forever()

    async def _look(self) -> None:
        for row in await self._engine.containers():
            if not is_app_container(row.name):
                continue
            policy = (await self._engine.inspect(row.id)).restarts
            if policy != NEVER:
                await self._engine.never_restart(row.id)
                self._counters.add("containers.policies.changed")
                log.warning("restart policy taken away", container=row.name, policy=policy)
