"""One WebSocket to a peer on trio-websocket, with the rules its own class leaves open (wire.md §1).

What differs from `trio_websocket.WebSocketConnection`, and why:
- frames come pre-encoded, so that fan-out encodes once;
- a send that was cancelled or timed out aborts the connection: half a frame may be out, and the next
  message would be read as its rest;
- pings are answered by a task of their own: a reader that waits for a blocked writer would stop
  reading, and two such nodes would block one another;
- protocol errors and oversized messages are told to the peer (1002, 1007, 1009);
- the receive queue is bounded in messages and in bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

import trio
from trio_websocket import CloseReason, ConnectionClosed, WebSocketConnection
from wsproto import ConnectionType, WSConnection
from wsproto import events as wsevents
from wsproto.connection import Connection, ConnectionState

from trionode.config.tree import PeerSettings
from trionode.peers.deflate import Agreement, MessageGuard
from trionode.peers.link import Hello, LinkClosed, PreparedMessage
from trionode.peers.wsframes import Prepared
from trionode.peers.wsstream import READ_BYTES, LinkStream

QUEUE_BYTES = 8 * 1024 * 1024
"""Received and not yet taken; above it the reader pauses, so a link costs this plus one message."""
PONG_BACKLOG = 16
RUN_BYTES = 32 * 1024
"""Sent on one link without letting other tasks run; 8 messages at most."""
_PARTS_PER_BUNCH = 1024
LONG_MESSAGE_BYTES = 128 * 1024
"""Longer ones (sync answers) are compressed in a thread: it takes milliseconds, and zlib needs no lock."""


class WsConnection(WebSocketConnection):
    """The connection of one link; `read` and `answer_pings` run as its two tasks."""

    def __init__(
        self,
        stream: LinkStream,
        *,
        client: bool,
        guard: MessageGuard,
        rest: bytes,
        settings: PeerSettings,
    ) -> None:
        role = ConnectionType.CLIENT if client else ConnectionType.SERVER
        protocol = WSConnection(role)
        # The handshake is done (peers.handshake): wsproto starts with the frames behind it
        protocol.connection = Connection(role, [guard], rest)
        super().__init__(
            stream,
            protocol,
            host="",
            path="",
            message_queue_size=settings.receive_queue_frames,
            max_message_size=settings.max_message_bytes,
            receive_buffer_size=READ_BYTES,
        )
        self._initial_request = None
        self._open_handshake.set()
        self._wire = stream
        self._settings = settings
        self._ours: CloseReason | None = None
        self._bunches: list[str | bytes] = []
        self._queued = 0
        self._run_bytes = 0
        self._room = trio.Event()
        self._pongs: deque[bytes] = deque(maxlen=PONG_BACKLOG)
        self._pong_wanted = trio.Event()
        self._pong_seen = trio.Event()
        self._pong_count = 0
        self._pings_due = 0
        self._on_pong: list[Callable[[], None]] = []
        self._finished = trio.Event()
        self._crash: Exception | None = None

    # ------------------------------------------------------------------ for the link

    def closed_error(self) -> LinkClosed:
        """Why the connection is gone, as the caller's exception."""
        reason = self._ours or self._close_reason or CloseReason(1006, None)
        return LinkClosed(int(reason.code), reason.reason or "", by_us=self._ours is not None)

    @property
    def crash(self) -> Exception | None:
        """What broke in the reader, if that ended the connection."""
        return self._crash

    async def next_message(self) -> str | bytes:
        """Next whole message; LinkClosed when there will be none."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            try:
                # No pass through the scheduler per message: the queue's bound limits the burst
                message: str | bytes = self._recv_channel.receive_nowait()
            except trio.WouldBlock:
                message = await self._recv_channel.receive()
        except (trio.ClosedResourceError, trio.EndOfChannel):
            raise self.closed_error() from self._crash
        self._queued -= len(message)
        self._room.set()
        return message

    async def send_frame(self, frame: bytes, *, is_data: bool = False) -> None:
        """Send one complete frame; ConnectionClosed if it cannot be, abort if it is interrupted."""
        lock = self._stream_lock
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            if lock.locked():
                await lock.acquire()
            else:
                lock.acquire_nowait()
            try:
                if is_data and self._close_reason is not None:
                    raise trio.ClosedResourceError("nothing may follow a close frame")
                await self._write(frame)
            finally:
                lock.release()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self._abort_web_socket()
            raise ConnectionClosed(self._close_reason) from None
        except trio.Cancelled:
            self.abort("send interrupted")
            raise

    async def _write(self, frame: bytes) -> None:
        sent = self._wire.send_now(frame)
        if sent == len(frame):
            # A pass through the scheduler costs a third of a send; a short run without one is no
            # burden on other tasks, and the kernel's buffer ends longer ones
            self._run_bytes += max(sent, RUN_BYTES // 8)
            if self._run_bytes >= RUN_BYTES:
                self._run_bytes = 0
                await trio.lowlevel.cancel_shielded_checkpoint()
            return
        self._run_bytes = 0
        with trio.move_on_after(self._settings.send_timeout_s) as scope:
            await self._wire.send_all(memoryview(frame)[sent:])
        if scope.cancelled_caught:
            self.abort("send timed out")
            raise trio.BrokenResourceError("the peer did not take a message in time")

    async def ping_and_wait(self) -> None:
        """Empty ping; returns on any pong. Raises ConnectionClosed."""
        seen, count = self._pong_seen, self._pong_count
        if self._close_reason is not None:
            raise ConnectionClosed(self._close_reason)
        await self._send(wsevents.Ping(payload=b""))
        await seen.wait()
        if self._pong_count == count:
            raise ConnectionClosed(self._close_reason)

    def ping_soon(self, on_pong: Callable[[], None]) -> None:
        """Let the pong task send an empty ping; any pong calls `on_pong`."""
        if self._close_reason is None:
            self._on_pong.append(on_pong)
            self._pings_due += 1
            self._pong_wanted.set()

    async def finish(self, code: int, reason: str) -> None:
        """Close handshake within `close_timeout_s`, then the socket is gone. Idempotent."""
        with trio.move_on_after(self._settings.close_timeout_s):
            if self._close_reason is None:
                self._ours = CloseReason(code, reason)
                await self.aclose(code, reason)
            else:
                await self._finished.wait()
        self._wire.abort()
        self._wake()

    def abort(self, reason: str = "") -> None:
        """Reset the connection and forget what was received; the peer sees 1006."""
        if self._close_reason is None:
            self._ours = self._close_reason = CloseReason(1006, reason or None)
        self._wire.abort()
        self._recv_channel.close()
        self._wake()

    def _wake(self) -> None:
        self._pong_seen.set()
        self._room.set()
        self._pong_wanted.set()

    # ------------------------------------------------------------------ the two tasks

    async def read(self) -> None:
        """Read until the connection is gone. Whatever breaks here ends this link only."""
        try:
            await self._reader_task()
        except Exception as error:  # noqa: BLE001 - told to the caller as the cause of LinkClosed
            self._crash = error
            self.abort("internal error")
        finally:
            if self._close_reason is None:
                self._close_reason = CloseReason(1006, None)
            self._send_channel.close()
            self._close_handshake.set()
            self._finished.set()
            self._wake()

    async def _discard(self) -> None:
        # A socket closed over unread data is reset, and the peer would never see our close frame
        try:
            await self._wire.send_eof()
            while await self._wire.receive_some():
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # gone all the same

    async def answer_pings(self) -> None:
        """Send the pongs the reader asks for and the pings that nobody waits for, until the close."""
        while self._close_reason is None:
            await self._pong_wanted.wait()
            self._pong_wanted = trio.Event()
            while (self._pongs or self._pings_due) and self._wsproto.state is ConnectionState.OPEN:
                try:
                    if self._pongs:
                        await self._send(wsevents.Pong(payload=self._pongs.popleft()))
                    else:
                        self._pings_due -= 1
                        await self._send(wsevents.Ping(payload=b""))
                except ConnectionClosed:
                    return  # the reader reports it

    # ------------------------------------------------------------------ what trio-websocket calls

    async def _send(self, event: wsevents.Event) -> None:
        await self.send_frame(bytes(self._wsproto.send(event)))

    async def _close_web_socket(self, code: int, reason: str | None = None) -> None:
        await super()._close_web_socket(code, reason)
        self._wake()

    async def _handle_ping_event(self, event: wsevents.Ping) -> None:
        self._pongs.append(bytes(event.payload))
        self._pong_wanted.set()

    async def _handle_pong_event(self, event: wsevents.Pong) -> None:
        self._pong_count += 1
        self._pong_seen.set()
        self._pong_seen = trio.Event()
        waiting, self._on_pong = self._on_pong, []
        if self._close_reason is None:
            for on_pong in waiting:
                on_pong()

    async def _handle_message_event(self, event: wsevents.BytesMessage | wsevents.TextMessage) -> None:
        data: str | bytes = event.data if isinstance(event.data, str | bytes) else bytes(event.data)
        parts = self._message_parts
        if data:
            parts.append(data)
        if not event.message_finished:
            # Many tiny fragments must not cost more than their bytes
            if len(parts) >= _PARTS_PER_BUNCH:
                self._bunches.append(_join(parts))
                self._message_parts = []
            return
        if self._bunches:
            parts = [*self._bunches, *parts]
            self._bunches = []
        self._message_parts = []
        await self._enqueue(_join(parts) if parts else data)

    async def _enqueue(self, message: str | bytes) -> None:
        while self._queued > QUEUE_BYTES and self._close_reason is None:
            self._room = trio.Event()
            await self._room.wait()
        self._queued += len(message)
        try:
            try:
                self._send_channel.send_nowait(message)
            except trio.WouldBlock:
                await self._send_channel.send(message)
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            pass  # we closed: what still arrives is not wanted any more

    async def _handle_close_connection_event(self, event: wsevents.CloseConnection) -> None:
        state = self._wsproto.state
        reason = CloseReason(int(event.code), event.reason or None)
        if state is ConnectionState.OPEN:
            # wsproto reports a violation by the peer the same way as a close frame
            await self._refuse(reason)
        elif state is ConnectionState.REMOTE_CLOSING:
            self._close_reason = reason
            await self._send_channel.aclose()
            self._wake()
            await self._send(event.response())
            self._close_handshake.set()
            if self.is_server:
                await self._close_stream()
        else:
            await self._close_web_socket(reason.code, reason.reason)
            self._close_handshake.set()
            if self.is_server:
                await self._close_stream()

    async def _refuse(self, reason: CloseReason) -> None:
        self._ours = self._close_reason = reason
        self._bunches, self._message_parts = [], []
        await self._send_channel.aclose()
        self._wake()
        self._reader_running = False
        await self._send(wsevents.CloseConnection(code=reason.code, reason=reason.reason))
        await self._discard()


def _join(parts: list[str | bytes]) -> str | bytes:
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], str):
        return "".join(part for part in parts if isinstance(part, str))
    return b"".join(part for part in parts if not isinstance(part, str))


class WsLink:
    """`peers.link.Link` over a WsConnection."""

    def __init__(
        self,
        connection: WsConnection,
        wire: LinkStream,
        *,
        remote_ip: str,
        remote_hello: Hello,
        agreement: Agreement | None,
    ) -> None:
        self._connection = connection
        self._wire = wire
        self._remote_ip = remote_ip
        self._remote_hello = remote_hello
        self._client = connection.is_client
        self._window_bits = agreement.send_window_bits if agreement is not None else 0

    @property
    def remote_ip(self) -> str:
        return self._remote_ip

    @property
    def remote_hello(self) -> Hello:
        return self._remote_hello

    @property
    def bytes_received(self) -> int:
        """Bytes on the wire, compression and frame heads included, the handshake not."""
        return self._wire.bytes_received

    @property
    def bytes_sent(self) -> int:
        """Bytes on the wire, compression and frame heads included, the handshake not."""
        return self._wire.bytes_sent

    async def receive(self) -> str | bytes:
        """Next message. Raises LinkClosed; messages that came before the peer's close come first."""
        return await self._connection.next_message()

    async def send(self, message: PreparedMessage) -> None:
        """Send one prepared message. Raises LinkClosed, also after `peers.send_timeout_s`."""
        if not isinstance(message, Prepared):
            raise TypeError(f"send takes what prepare() returned, not {type(message).__name__}")
        if self._connection.closed is not None:
            raise self._connection.closed_error()
        encode = partial(message.frame, client=self._client, window_bits=self._window_bits)
        frame = encode() if message.size_bytes < LONG_MESSAGE_BYTES else await trio.to_thread.run_sync(encode)
        try:
            await self._connection.send_frame(frame, is_data=True)
        except ConnectionClosed:
            raise self._connection.closed_error() from self._connection.crash

    async def ping(self) -> None:
        """Empty ping; returns on any pong. Raises LinkClosed."""
        try:
            await self._connection.ping_and_wait()
        except ConnectionClosed:
            raise self._connection.closed_error() from self._connection.crash

    def ping_soon(self, on_pong: Callable[[], None]) -> None:
        """Empty ping without waiting; see `peers.link.Link`."""
        self._connection.ping_soon(on_pong)

    async def close(self, code: int, reason: str) -> None:
        """Close handshake, bounded by `peers.close_timeout_s`, then abort. Idempotent."""
        await self._connection.finish(code, reason)

    def terminate(self) -> None:
        """Reset the TCP connection; the other side sees 1006."""
        self._connection.abort()
