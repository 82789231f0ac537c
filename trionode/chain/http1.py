"""A small HTTP/1.1 POST client on trio and h11: keep-alive pool, bounds, own source address.

It exists because the RPC client needs three things general clients do not offer together: a
source address (the node's own, by which a shared daemon stub tells its callers apart), a hard
bound on the size of an answer, and transport errors under the names of daemon-rpc.md §2.
"""

from __future__ import annotations

import errno

import h11
import msgspec
import trio

from trionode.errors import ChainError

READ_BYTES = 64 * 1024
MAX_HEAD_BYTES = 64 * 1024
IDLE_LIMIT_S = 3.0
"""A pooled connection unused for longer is dropped: daemons close idle ones (fluxd after 30 s, as
often as we poll), and a request that races with that close would look like a failed daemon."""


class HttpReply(msgspec.Struct, frozen=True):
    """Status line and body of one answer."""

    status: int
    reason: str
    body: bytes


class _Connection:
    """One TCP connection with its h11 state."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.state = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self.idle_since_s = 0.0
        self.ended = False
        """The other side has sent its last byte."""

    def is_fresh(self, now_s: float) -> bool:
        # Readable while idle means EOF or unasked-for bytes: unusable either way.
        return now_s - self.idle_since_s <= IDLE_LIMIT_S and not self.stream.socket.is_readable()


class HttpPoster:
    """POSTs to one `host:port`; at most `max_idle` connections are kept open between requests."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        source_ip: str | None = None,
        max_idle: int = 5,
        max_body_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._host = host
        self._port = port
        self._headers = [("Host", f"{host}:{port}"), ("Content-Type", "application/json"), *headers]
        self._source_ip = source_ip
        self._max_idle = max_idle
        self._max_body_bytes = max_body_bytes
        self._idle: list[_Connection] = []
        self._closed = False

    @property
    def target(self) -> str:
        return f"{self._host}:{self._port}"

    async def post(self, body: bytes, *, timeout_s: float) -> HttpReply:
        """One request and its answer, connecting included, within `timeout_s`.

        Raises ChainError: ECONNREFUSED & co. by errno name, ECONNABORTED on time-out, ECONNRESET
        when the peer goes away, "EPROTO" for bytes that are not HTTP, "EMSGSIZE" for too many.
        """
        with trio.move_on_after(timeout_s):
            return await self._exchange(body)
        raise ChainError(
            f"no answer from {self.target} within {timeout_s:g} s",
            remedy="check that the daemon is running and not overloaded",
            rpc_code="ECONNABORTED",
        )

    async def _exchange(self, body: bytes) -> HttpReply:
        connection = await self._connection()
        reusable = False
        try:
            reply = await self._request(connection, body)
            reusable = connection.state.our_state is h11.DONE and connection.state.their_state is h11.DONE
            return reply
        except OSError as error:
            raise self._os_error(error) from error
        except trio.BrokenResourceError as error:
            raise self._os_error(error.__cause__) from error
        except h11.ProtocolError as error:
            if connection.ended:
                raise self._hung_up() from error
            raise ChainError(
                f"{self.target} does not answer in HTTP: {error}",
                remedy="check that the port belongs to the daemon's RPC",
                rpc_code="EPROTO",
            ) from error
        finally:
            if reusable and not self._closed and len(self._idle) < self._max_idle:
                connection.state.start_next_cycle()
                connection.idle_since_s = trio.current_time()
                self._idle.append(connection)
            else:
                connection.stream.socket.close()

    async def _connection(self) -> _Connection:
        now_s = trio.current_time()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fresh(now_s):
                return connection
            connection.stream.socket.close()
        try:
            stream = await trio.open_tcp_stream(self._host, self._port, local_address=self._source_ip)
        except OSError as error:
            raise self._os_error(error) from error
        return _Connection(stream)

    async def _request(self, connection: _Connection, body: bytes) -> HttpReply:
        state, stream = connection.state, connection.stream
        request = h11.Request(
            method="POST", target="/", headers=[*self._headers, ("Content-Length", str(len(body)))]
        )
        head = state.send(request) or b""
        data = state.send(h11.Data(body)) or b""
        end = state.send(h11.EndOfMessage()) or b""
        await stream.send_all(head + data + end)
        response: h11.Response | None = None
        chunks: list[bytes] = []
        size_bytes = 0
        while True:
            event = state.next_event()
            if event is h11.NEED_DATA:
                received = await stream.receive_some(READ_BYTES)
                connection.ended = not received
                state.receive_data(received)
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                size_bytes += len(event.data)
                if size_bytes > self._max_body_bytes:
                    raise ChainError(
                        f"{self.target} answered with more than {self._max_body_bytes} bytes",
                        remedy="check that the port belongs to the daemon's RPC",
                        rpc_code="EMSGSIZE",
                    )
                chunks.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                break
            elif isinstance(event, h11.ConnectionClosed):
                raise self._hung_up()
        if response is None:  # h11 never ends a message it has not begun
            raise ChainError(f"{self.target} sent no response head", rpc_code="EPROTO")
        return HttpReply(response.status_code, response.reason.decode("latin-1"), b"".join(chunks))

    def _hung_up(self) -> ChainError:
        return ChainError(
            f"{self.target} closed the connection before its answer was complete",
            remedy="check the daemon's log",
            rpc_code="ECONNRESET",
        )

    def _os_error(self, error: BaseException | None) -> ChainError:
        number = error.errno if isinstance(error, OSError) else None
        if number is None and isinstance(error, OSError) and error.__cause__ is not None:
            # trio reports "all attempts failed" as an OSError without errno whose cause knows.
            causes = getattr(error.__cause__, "exceptions", (error.__cause__,))
            number = next((e.errno for e in causes if isinstance(e, OSError) and e.errno), None)
        code = errno.errorcode.get(number, "ECONNRESET") if number is not None else "ECONNRESET"
        return ChainError(
            f"cannot talk to {self.target}: {error or 'connection lost'}",
            remedy="check that the daemon is running and that host and port are right",
            rpc_code=code,
        )

    def close(self) -> None:
        """Close the idle connections, and from now on each one after its request."""
        self._closed = True
        while self._idle:
            self._idle.pop().stream.socket.close()
