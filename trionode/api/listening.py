"""Listening sockets that survive what the network does to them; shared by all ports of a node.

The front door (docs/spec/wire.md §1) and the ports beside it (docs/spec/api.md §1.6) open, accept
and refuse in the same way.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import NoReturn

import trio

from trionode.errors import StartupError
from trionode.peers.wsstream import set_user_timeout
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger

_SHORT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
# accept(2): an error of the new connection, to be treated like "nobody came"
_LOST_CONNECTION = {
    errno.ECONNABORTED,
    errno.ENETDOWN,
    errno.EPROTO,
    errno.ENOPROTOOPT,
    errno.EHOSTDOWN,
    errno.ENONET,
    errno.EHOSTUNREACH,
    errno.EOPNOTSUPP,
    errno.ENETUNREACH,
    errno.EPERM,
}
_ACCEPT_PAUSE_S = 0.1
_ANSWER_S = 2.0
_BACKLOG = 256

_log = get_logger("api.listening")


async def open_listeners(
    host: str, port: int, *, user_timeout_ms: int, setting: str = "set node.api_port"
) -> list[trio.SocketListener]:
    """Listen on `host:port`. Raises StartupError whose remedy names `setting` as the way out."""
    try:
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise _cannot_listen(host, port, error, setting) from error
    for listener in listeners:
        # Connections inherit it from the listening socket
        set_user_timeout(listener.socket, user_timeout_ms)
    return listeners


async def accept_all(
    listener: trio.SocketListener,
    counters: Counters,
    name: str,
    *,
    take: Callable[[trio.SocketStream], None],
    make_room: Callable[[], object],
) -> NoReturn:
    """Hand every connection to `take`, for ever; counts under `name`.

    When the process is out of file descriptors or memory, `make_room` is called and accepting goes
    on after a moment. Raises OSError only when the listening socket itself is broken.
    """
    while True:
        try:
            stream = await listener.accept()
        except OSError as error:
            if error.errno in _SHORT_OF_RESOURCES:
                counters.add(f"{name}.accept.short_of_resources")
                _log.warning("cannot accept connections", at=name, error=str(error))
                make_room()
                await trio.sleep(_ACCEPT_PAUSE_S)
            elif error.errno in _LOST_CONNECTION:
                counters.add(f"{name}.accept.lost")
            else:
                raise
            continue
        take(stream)


async def send_last(stream: trio.SocketStream, answer: bytes, *, linger: bool = True) -> None:
    """Send what ends the connection, within two seconds; the caller closes the socket.

    With `linger` the other side may finish what it is sending: a socket closed over unread data is
    reset, and the answer could be lost with it. Raises BrokenResourceError when the other side left.
    """
    with trio.move_on_after(_ANSWER_S):
        await stream.send_all(answer)
        await stream.send_eof()
        while linger and await stream.receive_some():
            pass


def _cannot_listen(host: str, port: int, error: Exception, setting: str) -> StartupError:
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.EADDRINUSE:
        return StartupError(
            f"port {port} on {host} is already in use",
            remedy=f"stop the other program (`ss -ltnp 'sport = :{port}'` names it) or {setting}",
            code="startup.port_busy",
        )
    if code == errno.EADDRNOTAVAIL:
        return StartupError(
            f"this machine has no address {host}",
            remedy="set node.bind_host to an address of this machine, or to 0.0.0.0 for all",
            code="startup.bind_host",
        )
    return StartupError(
        f"cannot listen on {host} port {port}: {error}",
        remedy="check node.bind_host and node.api_port",
        code="startup.listen",
    )
