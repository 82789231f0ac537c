"""FrontDoor: the one TCP port of a node (wire.md §1, api.md §1).

Reads each connection's first request head, gives peer upgrades to the peer transport and everything
else to hypercorn. The ASGI server never sees peer links: it hides pongs and one stray byte behind an
upgrade request can raise out of it. Every connection has its own guard, so whatever breaks there
ends that connection only, and at the end of the grace time all sockets are closed by force: a
client that stops reading would otherwise hold hypercorn's shielded send for ever.
"""

from __future__ import annotations

from typing import Any

import trio

from trionode.api.head import HeadRefused, ReplayStream, RequestHead, Route, read_request_head, refusal
from trionode.api.httpserver import HttpServer
from trionode.api.listening import accept_all, open_listeners, send_last
from trionode.config.tree import ApiSettings
from trionode.peers.handshake import UpgradeRefused
from trionode.peers.link import InboundHandler, LinkClosed
from trionode.peers.ws import WsTransport
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger

_log = get_logger("api.frontdoor")

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionError, LinkClosed)


class FrontDoor:
    """Service: listens on `host:port` and routes connections to `on_peer` and to `app`.

    `app` is an ASGI application for Trio (quart-trio). `max_connections` bounds HTTP clients, and
    again peers. When HTTP is full, the connection that has waited longest without sending its
    request makes room; if there is none, the new one is refused.
    """

    name = "front door"

    def __init__(
        self,
        settings: ApiSettings,
        *,
        host: str,
        port: int,
        app: Any,
        transport: WsTransport,
        on_peer: InboundHandler,
        counters: Counters,
        tcp_user_timeout_ms: int = 20_000,
        grace_s: float = 1.0,
    ) -> None:
        self._settings = settings
        self._host = host
        self._port = port
        self._app = app
        self._transport = transport
        self._on_peer = on_peer
        self._counters = counters
        self._user_timeout_ms = tcp_user_timeout_ms
        self._grace_s = grace_s
        self._streams: dict[int, trio.SocketStream] = {}
        self._waiting: dict[int, trio.CancelScope] = {}
        self._peers: dict[int, trio.CancelScope] = {}
        self._next_number = 0
        self._empty = trio.Event()
        self._bound_port = port

    @property
    def port(self) -> int:
        """The port in use; differs from the asked one only if that was 0."""
        return self._bound_port

    @property
    def connections(self) -> int:
        """Open connections, peers included."""
        return len(self._streams)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; then let requests finish within `grace_s` and close the rest.

        Raises StartupError if the port cannot be had.
        """
        listeners = await self._listen()
        stop = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                try:
                    await nursery.start(self._serve, listeners, stop)
                    task_status.started()
                    await trio.sleep_forever()
                finally:
                    stop.set()
        finally:
            for listener in listeners:
                listener.socket.close()

    async def _listen(self) -> list[trio.SocketListener]:
        listeners = await open_listeners(self._host, self._port, user_timeout_ms=self._user_timeout_ms)
        self._bound_port = listeners[0].socket.getsockname()[1]
        return listeners

    async def _serve(
        self,
        listeners: list[trio.SocketListener],
        stop: trio.Event,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """The serving side. Shielded so that stopping can be orderly; the grace bounds that."""
        http = HttpServer(self._app, self._settings)
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as lifespan:
                await lifespan.start(http.run)
                async with trio.open_nursery() as connections:
                    async with trio.open_nursery() as accepting:
                        for listener in listeners:
                            accepting.start_soon(self._accept, listener, http, connections)
                        task_status.started()
                        await stop.wait()
                        accepting.cancel_scope.cancel(reason="the front door stops")
                    for listener in listeners:
                        listener.socket.close()
                    await self._wind_down(http, connections)
                if not stop.is_set():
                    raise RuntimeError("the front door was cancelled from within")
                await http.stop()
                lifespan.cancel_scope.cancel(reason="the front door stopped")

    async def _wind_down(self, http: HttpServer, connections: trio.Nursery) -> None:
        await http.announce_stop()
        for scope in [*self._waiting.values(), *self._peers.values()]:
            scope.cancel(reason="the front door stops")
        with trio.move_on_after(self._grace_s):
            while self._streams:
                self._empty = trio.Event()
                await self._empty.wait()
        # Cancelling is not enough: only a closed socket wakes a send that is shielded
        for stream in list(self._streams.values()):
            stream.socket.close()
            self._counters.add("front_door.forced_close")
        connections.cancel_scope.cancel(reason="the front door's grace is over")

    async def _accept(
        self, listener: trio.SocketListener, http: HttpServer, connections: trio.Nursery
    ) -> None:
        await accept_all(
            listener,
            self._counters,
            "front_door",
            take=lambda stream: connections.start_soon(self._guard, stream, http),
            make_room=self._evict,
        )

    async def _guard(self, stream: trio.SocketStream, http: HttpServer) -> None:
        """One connection from accept to close; nothing it raises goes further than here."""
        number = self._next_number
        self._next_number += 1
        self._streams[number] = stream
        self._counters.add("front_door.accepted")
        try:
            with trio.CancelScope() as scope:
                try:
                    await self._connection(number, stream, http)
                finally:
                    # keeps a stray Cancelled in: in the nursery it would end every connection
                    scope.cancel(reason="the connection has ended")
        except* _GONE:
            self._counters.add("front_door.lost")
        except* Exception as group:  # noqa: BLE001 - logged whole and counted
            self._counters.add("front_door.crashed")
            _log.error("a connection crashed", exc_info=group)
        finally:
            stream.socket.close()
            del self._streams[number]
            self._empty.set()

    async def _connection(self, number: int, stream: trio.SocketStream, http: HttpServer) -> None:
        if len(self._streams) - len(self._peers) > self._settings.max_connections and not self._evict():
            self._counters.add("front_door.refused.full")
            await self._refuse(stream, 503, "too many connections", linger=False)
            return
        head = await self._read_head(number, stream)
        if head is None:
            return
        match head.route:
            case Route.HTTP:
                self._counters.add("front_door.http")
                await http.serve(ReplayStream(stream, head.raw + head.rest))
            case Route.PEER:
                await self._serve_peer(number, stream, head)
            case Route.REFUSED_UPGRADE:
                self._counters.add("front_door.refused.upgrade")
                await self._refuse(stream, 404, "this node speaks WebSocket at /ws/flux/<port> only")

    async def _read_head(self, number: int, stream: trio.SocketStream) -> RequestHead | None:
        scope = self._waiting[number] = trio.CancelScope(
            deadline=trio.current_time() + self._settings.head_timeout_s
        )
        try:
            with scope:
                return await read_request_head(stream, self._settings.head_limit_bytes)
        except HeadRefused as error:
            self._counters.add("front_door.refused.head")
            if error.status:
                await self._refuse(stream, error.status, error.message)
            return None
        finally:
            del self._waiting[number]
        self._counters.add("front_door.refused.slow")
        return None

    async def _serve_peer(self, number: int, stream: trio.SocketStream, head: RequestHead) -> None:
        try:
            request = self._transport.inbound(stream, head.raw, head.rest)
        except UpgradeRefused as error:
            self._counters.add("front_door.refused.upgrade")
            await self._refuse(stream, error.status, error.message, error.headers)
            return
        except OSError:
            self._counters.add("front_door.lost")  # gone before it could be asked for its address
            return
        if len(self._peers) >= self._settings.max_connections:
            self._counters.add("front_door.refused.full")
            await self._refuse(stream, 503, "too many connections", linger=False)
            return
        self._counters.add("front_door.peer")
        scope = self._peers[number] = trio.CancelScope()
        try:
            with scope:
                await self._on_peer(request)
        finally:
            del self._peers[number]

    def _evict(self) -> bool:
        """Drop the connection that has waited longest for its request; False if none waits."""
        for scope in self._waiting.values():
            if not scope.cancel_called:
                scope.cancel(reason="made room for a newer connection")
                return True
        return False

    async def _refuse(
        self,
        stream: trio.SocketStream,
        status: int,
        message: str,
        headers: list[tuple[bytes, bytes]] | None = None,
        *,
        linger: bool = True,
    ) -> None:
        await send_last(stream, refusal(status, message, headers), linger=linger)
