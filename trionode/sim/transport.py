"""Dialling, accepting and inviting on the virtual network (docs/spec/wire.md §1-§3).

One `VirtualTransport` belongs to one node at one address. It implements `peers.link.PeerTransport`
for the way out; for the way in, `serve` gives upgrade requests to the node's inbound handler as the
front door does, one task per connection. Unlike the front door it lets a crash of a handler through:
in the simulator that is a finding.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from trionode.config.tree import PeerSettings
from trionode.peers.link import DialError, Hello, InboundHandler, Link
from trionode.sim.link import VirtualLink
from trionode.sim.message import VirtualMessage
from trionode.sim.network import VirtualNetwork

InviteHandler = Callable[[str, str], Awaitable[None]]
"""(TCP source address, address in the request's path); errors of a refusal are the API's affair."""


class Upgrade:
    """A dial under way: the request on one side, the answer on the other."""

    def __init__(
        self, network: VirtualNetwork, dialler: VirtualTransport, own_port: int, hello: Hello
    ) -> None:
        self.network = network
        self.dialler = dialler
        self.own_port = own_port
        self.hello = hello
        self.answered = trio.Event()
        self.link: VirtualLink | None = None
        self.given_up = False


class VirtualRequest:
    """`peers.link.InboundRequest` of the simulator."""

    def __init__(self, upgrade: Upgrade, host: VirtualTransport) -> None:
        self._upgrade = upgrade
        self._host = host

    @property
    def remote_ip(self) -> str:
        return self._upgrade.dialler.ip

    @property
    def dial_port(self) -> str:
        return str(self._upgrade.own_port)

    @property
    def hello(self) -> Hello:
        return self._upgrade.hello

    def accept(self, ours: Hello) -> AbstractAsyncContextManager[Link]:
        return self._accept(ours)

    @asynccontextmanager
    async def _accept(self, ours: Hello) -> AsyncIterator[Link]:
        upgrade, network = self._upgrade, self._upgrade.network
        host, dialler = self._host, upgrade.dialler
        here = host.new_end(dialler.ip, upgrade.hello)
        there = dialler.new_end(host.ip, ours)
        network.add_pair(here, there)
        if upgrade.given_up:
            there.terminate()
        else:
            upgrade.link = there
            here.open_after(there)
        upgrade.answered.set()
        async with lasting(here):
            yield here


@asynccontextmanager
async def lasting(link: VirtualLink) -> AsyncIterator[None]:
    """The link ends with the block: closed in order when it is left, cut when it fails."""
    left_in_order = False
    try:
        yield
        left_in_order = True
    finally:
        if not left_in_order:
            link.terminate()
    await link.close(1000, "")


class VirtualTransport:
    """The network as one node sees it; also the ear of that node."""

    def __init__(
        self,
        network: VirtualNetwork,
        ip: str,
        port: int = 16127,
        settings: PeerSettings | None = None,
    ) -> None:
        self.network = network
        self.ip = ip
        self.port = port
        self.settings = settings if settings is not None else PeerSettings()
        self._dials: trio.MemorySendChannel[Upgrade] | None = None
        self._on_invite: InviteHandler | None = None

    def new_end(self, remote_ip: str, hello: Hello) -> VirtualLink:
        """Our end of a new connection with `remote_ip`."""
        network = self.network
        return VirtualLink(
            network,
            network.new_link_id(),
            self.ip,
            remote_ip,
            hello,
            network.conditions(self.ip, remote_ip),
            network.base_latency_ms(self.ip, remote_ip),
            self.settings,
        )

    # --- the way out ---

    def prepare(self, message: str | bytes) -> VirtualMessage:
        return VirtualMessage(message)

    def dial(
        self, ip: str, port: int, ours: Hello, *, own_port: int, ephemeral: bool = False
    ) -> AbstractAsyncContextManager[Link]:
        return self._dial(ip, port, ours, own_port)

    @asynccontextmanager
    async def _dial(self, ip: str, port: int, ours: Hello, own_port: int) -> AsyncIterator[Link]:
        upgrade = Upgrade(self.network, self, own_port, ours)
        where = f"{ip}:{port}"
        try:
            with trio.move_on_after(self.settings.handshake_timeout_s):
                target = await self._reach(ip, port, where)
                if target._dials is None:
                    raise DialError(f"{where} refused the connection")
                try:
                    target._dials.send_nowait(upgrade)
                except trio.WouldBlock:
                    raise DialError(f"{where} has a full backlog") from None
                await upgrade.answered.wait()
        finally:
            upgrade.given_up = upgrade.link is None
        if upgrade.link is None:
            what = "ended the handshake" if upgrade.answered.is_set() else "did not answer in time"
            raise DialError(f"{where} {what}")
        async with lasting(upgrade.link):
            await trio.sleep(self.network.base_latency_ms(ip, self.ip) / 1000)
            yield upgrade.link

    async def _reach(self, ip: str, port: int, where: str) -> VirtualTransport:
        """Travel to a listener: one round trip and the request's way; waits while a path is blocked."""
        network = self.network
        if network.blocked(self.ip, ip) or network.blocked(ip, self.ip):
            await trio.sleep_forever()
        await trio.sleep(3 * network.base_latency_ms(self.ip, ip) / 1000)
        target = network.listener(ip, port)
        if target is None:
            raise DialError(f"{where} refused the connection")
        return target

    async def invite(self, ip: str, port: int, own_address: str) -> None:
        """Ask a host to dial us; refusals come as an answer, so only silence is an error here."""
        where = f"http://{ip}:{port}"
        answered = False
        with trio.move_on_after(self.settings.invite_timeout_s):
            target = await self._reach(ip, port, where)
            if target._on_invite is None:
                raise DialError(f"{where} answered 404 to an invitation")
            await target._on_invite(self.ip, own_address)
            await trio.sleep(self.network.base_latency_ms(ip, self.ip) / 1000)
            answered = True
        if not answered:
            raise DialError(f"{where} did not answer an invitation in time")

    # --- the way in ---

    async def serve(
        self,
        on_peer: InboundHandler,
        on_invite: InviteHandler | None = None,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen at our address until cancelled; a listener that goes takes its connections along."""
        # 64 handshakes wait at most; a dialler beyond that is refused, like a full listen backlog.
        send, receive = trio.open_memory_channel[Upgrade](64)

        async def one(upgrade: Upgrade) -> None:
            try:
                await on_peer(VirtualRequest(upgrade, self))
            finally:
                upgrade.answered.set()

        self.network.add_listener(self)
        self._dials, self._on_invite = send, on_invite
        try:
            async with send, receive, trio.open_nursery() as nursery:
                task_status.started()
                async for upgrade in receive:
                    nursery.start_soon(one, upgrade)
        finally:
            self._dials = self._on_invite = None
            self.network.remove_listener(self)
            while True:
                try:
                    receive.receive_nowait().answered.set()
                except (trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
                    break
