"""The HTTP side of the front door: hypercorn's connection handler around the ASGI app.

Uses hypercorn from the inside (`TCPServer`, `Lifespan`, `WorkerContext`), because its own `serve`
insists on accepting connections itself. Pinned to 0.18; `tests/contract/test_hypercorn.py` fails when
these parts change.
"""

from __future__ import annotations

import logging
from typing import Any, cast

import trio
from hypercorn.config import Config
from hypercorn.events import Event, Updated
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState
from hypercorn.utils import wrap_app

from trionode.api.head import ReplayStream
from trionode.config.tree import ApiSettings
from trionode.errors import StartupError

_LIFESPAN_S = 10.0
_SHUTDOWN_S = 1.0
_LEFTOVER_S = 0.5


class _Connection(TCPServer):
    """hypercorn's connection, which ends when its client is gone.

    The original leaves its idle timer running, so that a closed connection holds its place for
    another `keep_alive_timeout`; and when a response cannot be sent while more input waits behind
    its request, its reader waits for ever.
    """

    _reading = True

    async def run(self) -> None:
        # Not the task group's own scope: TaskGroup lets the Cancelled of that one escape
        self.life = trio.CancelScope()
        with self.life:
            await super().run()

    async def _read_data(self) -> None:
        await super()._read_data()
        self._reading = False
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Updated) and not self._reading:
            return
        try:
            await super().protocol_send(event)
        finally:
            if self.stream.gone:
                # the app has been told; this is for whatever does not end by that
                self.life.deadline = min(self.life.deadline, trio.current_time() + _LEFTOVER_S)


class HttpServer:
    """The app with its lifespan; `serve` handles one connection with keep-alive, h2c and all."""

    def __init__(self, app: Any, settings: ApiSettings) -> None:
        config = Config()
        config.errorlog = logging.getLogger("hypercorn.error")
        config.accesslog = None
        config.include_server_header = False
        config.h11_max_incomplete_size = settings.head_limit_bytes
        config.startup_timeout = _LIFESPAN_S
        config.shutdown_timeout = _LIFESPAN_S
        self._config = config
        self._context = WorkerContext(None)
        self._state: LifespanState = {}
        self._app = wrap_app(app, config.wsgi_max_body_size, "asgi")
        self._lifespan = Lifespan(self._app, config, self._state)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the app's lifespan; ready when the app has started. Ends after `stop`."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._lifespan.handle_lifespan)
            await self._lifespan.wait_for_startup()
            if not self._lifespan.supported:
                raise StartupError(
                    "the HTTP application failed while starting",
                    remedy="the log line before this one names the error",
                    code="startup.http_app",
                )
            task_status.started()

    async def serve(self, stream: ReplayStream) -> None:
        """Serve one connection until it closes; may raise whatever a hostile client provokes."""
        state = ConnectionState(self._state.copy())
        # hypercorn asks of a plain stream only what ReplayStream has
        await _Connection(self._app, self._config, self._context, state, cast("Any", stream)).run()

    async def announce_stop(self) -> None:
        """Close idle keep-alive connections now and the others after their request."""
        await self._context.terminated.set()

    async def stop(self) -> None:
        """End the app's lifespan, within a second."""
        with trio.move_on_after(_SHUTDOWN_S):
            await self._lifespan.wait_for_shutdown()
