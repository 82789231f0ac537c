"""Listeners that stand in for an app while other nodes test its ports (docs/spec/lifecycle.md §18)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import trio

from trionode.errors import HostError


class PortTaken(HostError):
    """Nothing can listen on a port of this machine."""

    code = "port_taken"


class Listeners(Protocol):
    """Accepts connections on ports of this machine."""

    def listening(self, ports: Sequence[int]) -> AbstractAsyncContextManager[None]:
        """On all of them while the block is open; each connection is closed at once. Raises PortTaken."""
        ...


class TcpListeners:
    """`Listeners` on real sockets. `host`: the address to listen on, None for all."""

    def __init__(self, host: str | None = None) -> None:
        self._host = host

    @asynccontextmanager
    async def listening(self, ports: Sequence[int]) -> AsyncIterator[None]:
        opened: list[trio.SocketListener] = []
        try:
            for port in ports:
                opened.extend(await self._open(port))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, _hang_up, opened)
                yield
                nursery.cancel_scope.cancel()
        finally:
            for listener in opened:
                listener.socket.close()

    async def _open(self, port: int) -> list[trio.SocketListener]:
        try:
            return await trio.open_tcp_listeners(port, host=self._host or "0.0.0.0")
        except OSError as error:
            raise PortTaken(
                f"nothing can listen on port {port}: {error.strerror or error}",
                remedy="see which program uses the port",
            ) from error


async def _hang_up(stream: trio.SocketStream) -> None:
    """Being able to connect is all that is tested."""
    await trio.aclose_forcefully(stream)


class MemoryListeners:
    """`Listeners` of a machine that is made up. `open`: ports listened on, `taken`: by somebody else."""

    def __init__(self) -> None:
        self.open: set[int] = set()
        self.taken: set[int] = set()

    @asynccontextmanager
    async def listening(self, ports: Sequence[int]) -> AsyncIterator[None]:
        await trio.lowlevel.checkpoint()
        for port in ports:
            if port in self.taken or port in self.open:
                raise PortTaken(f"nothing can listen on port {port}: in use", remedy="free it")
        self.open.update(ports)
        try:
            yield
        finally:
            self.open.difference_update(ports)
