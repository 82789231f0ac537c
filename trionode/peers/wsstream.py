"""The TCP side of a peer link: socket options, dialling from the own address, counting, aborting."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct

import trio

from trionode.peers.link import DialError

READ_BYTES = 64 * 1024
INFLATE_SLICE_BYTES = 4 * 1024
"""Fed to the decoder at a time when the link is compressed: deflate grows 1032-fold at most, so one
slice costs about 4 MiB and 15 ms before other tasks get their turn."""

_WILDCARDS = ("", "0.0.0.0", "::")
_IP_BIND_ADDRESS_NO_PORT = 24  # Linux; not named by the socket module before 3.12


def set_user_timeout(sock: trio.socket.SocketType | socket.socket, timeout_ms: int) -> None:
    """End a connection whose sent data stays unacknowledged (or unread) for `timeout_ms`."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)


def is_wildcard(host: str) -> bool:
    """True if `host` means "all addresses", so that dialling need not bind."""
    return host in _WILDCARDS


def remote_ip(stream: trio.SocketStream) -> str:
    """TCP source address without an IPv6-mapped prefix. Raises OSError if it is gone already."""
    address: str = stream.socket.getpeername()[0]
    return address.removeprefix("::ffff:")


async def open_stream(ip: str, port: int, *, bind_host: str, user_timeout_ms: int) -> trio.SocketStream:
    """Connect to `ip:port` from the node's own address. Raises DialError.

    The other side takes our identity from the TCP source, so several nodes on one machine differ
    only by the address they dial from (wire.md §2).
    """
    try:
        ipaddress.IPv4Address(ip)
    except ValueError as error:
        raise DialError(f"{ip!r} is not an IPv4 address") from error
    sock = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        set_user_timeout(sock, user_timeout_ms)
        if not is_wildcard(bind_host):
            # lets the kernel choose the source port per destination: no port shortage on one address
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            await sock.bind((bind_host, 0))
        await sock.connect((ip, port))
        return trio.SocketStream(sock)
    except (OSError, OverflowError) as error:
        sock.close()
        raise DialError(f"cannot connect to {ip}:{port} from {bind_host}: {error}") from error
    except trio.Cancelled:
        sock.close()
        raise


class LinkStream(trio.abc.Stream):
    """A TCP stream as a link uses it: counted, abortable, read in slices when `sliced`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._pending = memoryview(b"")
        self.sliced = False
        self.bytes_received = 0
        self.bytes_sent = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self._pending:
            data = await self._stream.receive_some(READ_BYTES)
            self.bytes_received += len(data)
            if not self.sliced or len(data) <= INFLATE_SLICE_BYTES:
                return bytes(data)
            self._pending = memoryview(data)
        else:
            await trio.lowlevel.checkpoint()
        piece, self._pending = self._pending[:INFLATE_SLICE_BYTES], self._pending[INFLATE_SLICE_BYTES:]
        return bytes(piece)

    def send_now(self, data: bytes) -> int:
        """Hand over as much as the kernel takes at once; how many bytes that was."""
        descriptor = self._stream.socket.fileno()
        if descriptor < 0:
            raise trio.ClosedResourceError("this link's socket was closed")
        try:
            sent = os.write(descriptor, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError(f"socket broke while sending: {error}") from error
        self.bytes_sent += sent
        return sent

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)
        self.bytes_sent += len(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Nothing more will be sent; reading goes on."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def abort(self) -> None:
        """Drop the connection at once with a reset; whoever waits on the stream is woken."""
        sock = self._stream.socket
        if sock.fileno() < 0:
            return
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError as error:
            # the connection may have died in between; closing is all that is left to do
            if error.errno not in (errno.EINVAL, errno.ENOTCONN):
                raise
        finally:
            sock.close()


async def read_head(stream: trio.abc.ReceiveStream, limit_bytes: int) -> tuple[bytes, bytes]:
    """An HTTP head with its blank line, and what came behind it. Raises DialError."""
    data = bytearray()
    while (end := data.find(b"\r\n\r\n", max(0, len(data) - READ_BYTES - 3))) < 0:
        if len(data) > limit_bytes:
            raise DialError(f"the answer's head exceeds {limit_bytes} bytes")
        try:
            chunk = await stream.receive_some(READ_BYTES)
        except trio.BrokenResourceError as error:
            raise DialError(f"connection lost before the answer: {error}") from error
        if not chunk:
            raise DialError("connection closed before the answer")
        data += chunk
    return bytes(data[: end + 4]), bytes(data[end + 4 :])
