"""The ports beside the API port that other nodes ask for (docs/spec/api.md §1.6, §6).

A node whose `checkfluxavailability` fails at its neighbours is taken for broken. That check wants,
besides the API: `GET /health` on the API port - 1, where the home page of the node is, and a TCP
connection on the API port + 2, where file sync listens in other nodes.

Both ports are small services of their own. They are worth having but not worth a stopped node: when
a port is busy the service reports ready and crashes, so the supervisor shows it and tries again.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from importlib import resources

import trio

from trionode.api.head import HeadRefused, RequestHead, last_response, read_request_head, refusal
from trionode.api.listening import accept_all, open_listeners, send_last
from trionode.config.tree import ApiSettings, Settings
from trionode.errors import StartupError
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.runtime.service import Service

MAX_CONNECTIONS = 64
"""Open connections of one side port; nobody who means well stays for more than a moment."""
HOME_OFFSET = -1
SYNC_OFFSET = 2
_PORT_MARK = "{{api_port}}"
_HTML = b"text/html; charset=utf-8"
_REQUEST_LINE = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.[01]\r?\n")
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionError)

_log = get_logger("api.sideports")

Serve = Callable[[trio.SocketStream], Awaitable[None]]


def side_ports(settings: Settings, counters: Counters) -> list[Service]:
    """The services of a node's side ports, in start order; none with `api.side_ports = false`."""
    if not settings.api.side_ports:
        return []
    api_port = settings.node.api_port
    home = HomePage(settings.api, api_port, counters)
    wanted: tuple[tuple[str, int, Serve], ...] = (
        ("home", api_port + HOME_OFFSET, home.serve),
        ("sync", api_port + SYNC_OFFSET, just_close),
    )
    return [
        SidePort(
            f"{kind} port",
            serve,
            host=settings.node.bind_host,
            port=port,
            counter=f"side_ports.{kind}",
            counters=counters,
            user_timeout_ms=settings.peers.tcp_user_timeout_ms,
        )
        for kind, port, serve in wanted
    ]


class SidePort:
    """Service: accepts on `host:port` and gives each connection to `serve`, which ends it.

    Bounded by MAX_CONNECTIONS: a newer connection takes the place of the oldest. Whatever `serve`
    raises ends one connection only. Counts under `counter`.
    """

    def __init__(
        self,
        name: str,
        serve: Serve,
        *,
        host: str,
        port: int,
        counter: str,
        counters: Counters,
        user_timeout_ms: int = 20_000,
    ) -> None:
        self.name = name
        self._serve = serve
        self._host = host
        self._port = port
        self._counter = counter
        self._counters = counters
        self._user_timeout_ms = user_timeout_ms
        self._open: dict[int, trio.CancelScope] = {}
        self._next_number = 0
        self._bound_port = port

    @property
    def port(self) -> int:
        """The port in use; differs from the asked one only if that was 0."""
        return self._bound_port

    @property
    def connections(self) -> int:
        return len(self._open)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled, which closes every connection at once.

        Raises StartupError if the port cannot be had, but only after reporting ready: an error
        before that would keep the whole node from starting.
        """
        try:
            listeners = await open_listeners(
                self._host,
                self._port,
                user_timeout_ms=self._user_timeout_ms,
                setting="switch both side ports off with api.side_ports = false",
            )
        except StartupError as error:
            self._counters.add(f"{self._counter}.unavailable")
            _log.warning(
                "other nodes will find this node unavailable",
                service=self.name,
                error=str(error),
                remedy=error.remedy,
            )
            task_status.started()
            raise
        self._bound_port = listeners[0].socket.getsockname()[1]
        try:
            async with trio.open_nursery() as nursery:
                for listener in listeners:
                    nursery.start_soon(self._accept, listener, nursery)
                task_status.started()
        finally:
            for listener in listeners:
                listener.socket.close()

    async def _accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        def take(stream: trio.SocketStream) -> None:
            if len(self._open) >= MAX_CONNECTIONS:
                self._evict()
            number = self._next_number
            self._next_number += 1
            self._open[number] = trio.CancelScope()
            nursery.start_soon(self._guard, number, stream)

        await accept_all(listener, self._counters, self._counter, take=take, make_room=self._evict)

    def _evict(self) -> None:
        for scope in self._open.values():
            if not scope.cancel_called:
                scope.cancel(reason="made room for a newer connection")
                self._counters.add(f"{self._counter}.evicted")
                return

    async def _guard(self, number: int, stream: trio.SocketStream) -> None:
        """One connection to its end; nothing it raises goes further than here."""
        self._counters.add(f"{self._counter}.accepted")
        try:
            with self._open[number]:
                await self._serve(stream)
        except _GONE:
            self._counters.add(f"{self._counter}.lost")
        except Exception as error:  # noqa: BLE001 - logged whole and counted
            self._counters.add(f"{self._counter}.crashed")
            _log.error("a connection crashed", service=self.name, exc_info=error)
        finally:
            stream.socket.close()
            del self._open[number]


async def just_close(stream: trio.SocketStream) -> None:
    """What the file sync port does: that somebody accepts is all its callers want to know."""
    await trio.lowlevel.checkpoint()


class HomePage:
    """A web server of one page: `/health` is `OK`, paths without an extension are the page.

    Everything else is 404. One request per connection; head limits are those of the API.
    """

    def __init__(self, settings: ApiSettings, api_port: int, counters: Counters) -> None:
        self._settings = settings
        self._counters = counters
        page = resources.files("trionode.api").joinpath("home.html").read_text("utf-8")
        self._page = page.replace(_PORT_MARK, str(api_port)).encode()
        self._page_headers = (
            (b"Cache-Control", b"no-cache"),
            (b"Content-Security-Policy", content_security_policy(page, api_port).encode()),
            (b"Referrer-Policy", b"no-referrer"),
            (b"X-Content-Type-Options", b"nosniff"),
        )

    async def serve(self, stream: trio.SocketStream) -> None:
        """Read one request, answer it, and let the other side close."""
        answer = refusal(408, "the request head took too long")
        with trio.move_on_after(self._settings.head_timeout_s) as patience:
            try:
                answer = self.answer(await read_request_head(stream, self._settings.head_limit_bytes))
            except HeadRefused as error:
                self._counters.add("side_ports.home.refused")
                if not error.status:
                    return
                answer = refusal(error.status, error.message)
        if patience.cancelled_caught:
            self._counters.add("side_ports.home.slow")
        await send_last(stream, answer)

    def answer(self, head: RequestHead) -> bytes:
        """The whole response to one request."""
        line = _REQUEST_LINE.match(head.raw.lstrip(b"\r\n"))
        if line is None or not line[2].startswith(b"/"):
            self._counters.add("side_ports.home.refused")
            return refusal(400, "this is no HTTP/1 request")
        method, path = line[1], line[2].partition(b"?")[0]
        head_only = method == b"HEAD"
        if method not in (b"GET", b"HEAD"):
            return refusal(405, "only GET and HEAD", [(b"Allow", b"GET, HEAD")])
        if path == b"/health":
            return last_response(200, b"OK", head_only=head_only)
        if b"." in path.rpartition(b"/")[2]:
            return last_response(404, b"Not Found", head_only=head_only)
        return last_response(200, self._page, _HTML, self._page_headers, head_only=head_only)


def content_security_policy(page: str, api_port: int) -> str:
    """Only the page's own script and style run, and it talks to nothing but an API port."""

    def digest(tag: str) -> str:
        text = page.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    rules = (
        "default-src 'none'",
        f"script-src 'sha256-{digest('script')}'",
        f"style-src 'sha256-{digest('style')}'",
        "img-src data:",
        f"connect-src *:{api_port}",
        *(f"{name} 'none'" for name in ("base-uri", "form-action", "frame-ancestors")),
    )
    return "; ".join(rules)
