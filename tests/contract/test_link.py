"""What every implementation of `peers.link.Link` must do (wire.md §1, §2).

To add an implementation: write an `OpenPair` (connects two ends with the given settings and yields
them) and add one line to IMPLEMENTATIONS, with the clock it runs under.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import NamedTuple

import msgspec
import pytest
import trio
from standstill import standstill
from trio.testing import MockClock

from trionode.api.frontdoor import FrontDoor
from trionode.config.tree import ApiSettings, PeerSettings
from trionode.peers.link import (
    CAPABILITIES,
    Hello,
    InboundRequest,
    Link,
    LinkClosed,
    PreparedMessage,
)
from trionode.peers.ws import WsTransport
from trionode.runtime.counters import Counters
from trionode.sim.network import VirtualNetwork
from trionode.sim.transport import VirtualTransport

OURS = Hello(
    capabilities=frozenset(CAPABILITIES), version="8.13.1", uptime_s=5, clock_offset_ms=-20, reconnect=True
)
THEIRS = Hello(capabilities=frozenset({"peerExchange"}), version="8.13.0", uptime_s=70)
SETTINGS = PeerSettings(handshake_timeout_s=300.0, close_timeout_s=300.0, send_timeout_s=300.0)
"""Limits that no test waits for; one that is about a limit shortens that one."""


class Pair(NamedTuple):
    """Two ends of one link: `near` dialled with OURS, `far` answered `request` with THEIRS."""

    near: Link
    far: Link
    request: InboundRequest
    prepare: Callable[[str | bytes], PreparedMessage]
    late_s: float
    """How late the machine may be with what a limit asks for."""


OpenPair = Callable[[PeerSettings], AbstractAsyncContextManager[Pair]]


@asynccontextmanager
async def open_ws_pair(settings: PeerSettings) -> AsyncIterator[Pair]:
    transport = WsTransport(settings, bind_host="127.0.0.9")
    found: list[tuple[InboundRequest, Link]] = []
    ready = trio.Event()

    async def on_peer(request: InboundRequest) -> None:
        async with request.accept(THEIRS) as link:
            found.append((request, link))
            ready.set()
            await trio.sleep_forever()

    door = FrontDoor(
        ApiSettings(),
        host="127.0.0.9",
        port=0,
        app=_no_app,
        transport=transport,
        on_peer=on_peer,
        counters=Counters(),
        grace_s=0.1,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(door.run)
        async with transport.dial("127.0.0.9", door.port, OURS, own_port=16147) as near:
            await ready.wait()
            request, far = found[0]
            yield Pair(near, far, request, transport.prepare, late_s=60.0)
        nursery.cancel_scope.cancel()


async def _no_app(
    scope: object,
    receive: Callable[[], Awaitable[dict[str, str]]],
    send: Callable[[dict[str, str]], Awaitable[None]],
) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


@asynccontextmanager
async def open_virtual_pair(settings: PeerSettings) -> AsyncIterator[Pair]:
    network = VirtualNetwork(random.Random(1))
    near_side = VirtualTransport(network, "20.1.0.1", settings=settings)
    far_side = VirtualTransport(network, "20.2.0.1", settings=settings)
    found: list[tuple[InboundRequest, Link]] = []
    ready = trio.Event()

    async def on_peer(request: InboundRequest) -> None:
        async with request.accept(THEIRS) as link:
            found.append((request, link))
            ready.set()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        await nursery.start(far_side.serve, on_peer)
        async with near_side.dial("20.2.0.1", 16127, OURS, own_port=16147) as near:
            await ready.wait()
            request, far = found[0]
            yield Pair(near, far, request, near_side.prepare, late_s=1.0)
        nursery.cancel_scope.cancel()


class Implementation(NamedTuple):
    open_pair: OpenPair
    clock: Callable[[], trio.abc.Clock | None]


IMPLEMENTATIONS: dict[str, Implementation] = {
    "ws": Implementation(open_ws_pair, lambda: None),
    "virtual": Implementation(open_virtual_pair, lambda: MockClock(autojump_threshold=0)),
}

Contract = Callable[[OpenPair], Awaitable[None]]
CONTRACTS: list[Contract] = []


def contract(function: Contract) -> Contract:
    CONTRACTS.append(function)
    return function


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS.keys())
@pytest.mark.parametrize("rule", CONTRACTS, ids=lambda rule: rule.__name__)
def test_link_contract(rule: Contract, implementation: Implementation) -> None:
    async def bounded() -> None:
        with trio.fail_after(300):
            await rule(implementation.open_pair)

    trio.run(bounded, clock=implementation.clock(), strict_exception_groups=True)


async def closed(link: Link) -> LinkClosed:
    """Receive until the link says that it is closed."""
    with trio.fail_after(60):
        while True:
            try:
                await link.receive()
            except LinkClosed as error:
                return error


async def forever(action: Callable[[], Awaitable[None]]) -> None:
    """Repeat until it raises."""
    while True:
        await action()


@contract
async def headers_are_exchanged(open_pair: OpenPair) -> None:
    async with open_pair(SETTINGS) as pair:
        assert pair.near.remote_hello == THEIRS
        assert pair.far.remote_hello == OURS
        assert pair.request.hello == OURS
        assert pair.request.dial_port == "16147"
        assert pair.request.remote_ip == pair.far.remote_ip


@contract
async def messages_arrive_whole_and_in_order(open_pair: OpenPair) -> None:
    messages: list[str | bytes] = ["", b"", "text", b"\x00\xff", "ü" * 300, b"b" * 200_000]
    messages += [f"{index}:{'x' * (index % 400)}" for index in range(400)]
    async with open_pair(SETTINGS) as pair:
        for sender, receiver in ((pair.near, pair.far), (pair.far, pair.near)):
            received: list[str | bytes] = []
            async with trio.open_nursery() as nursery:

                async def send_all(link: Link = sender) -> None:
                    for message in messages:
                        await link.send(pair.prepare(message))

                nursery.start_soon(send_all)
                for _ in messages:
                    received.append(await receiver.receive())  # noqa: PERF401 - reads better
            assert received == messages
            assert receiver.bytes_received > 0
            assert sender.bytes_sent > 0


@contract
async def one_prepared_message_serves_both_ends(open_pair: OpenPair) -> None:
    async with open_pair(SETTINGS) as pair:
        prepared = pair.prepare("é" * 200)
        assert prepared.size_bytes == 400
        for _ in range(2):
            await pair.near.send(prepared)
            await pair.far.send(prepared)
        for link in (pair.near, pair.far, pair.near, pair.far):
            assert await link.receive() == "é" * 200


@contract
async def close_code_and_reason_cross(open_pair: OpenPair) -> None:
    for dialler_closes in (True, False):
        async with open_pair(SETTINGS) as pair:
            closer, other = (pair.near, pair.far) if dialler_closes else (pair.far, pair.near)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(closer.close, 4001, "Peer already connected")
                seen = await closed(other)
            own = await closed(closer)
            assert (seen.close_code, seen.reason, seen.by_us) == (4001, "Peer already connected", False)
            assert (own.close_code, own.reason, own.by_us) == (4001, "Peer already connected", True)
            for link in (closer, other):
                with pytest.raises(LinkClosed):
                    await link.send(pair.prepare("late"))
                with pytest.raises(LinkClosed):
                    await link.ping()
                await link.close(4009, "again is harmless")


@contract
async def messages_before_a_close_are_delivered(open_pair: OpenPair) -> None:
    async with open_pair(SETTINGS) as pair:
        for index in range(20):
            await pair.near.send(pair.prepare(str(index)))
        await pair.near.ping()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.near.close, 4018, "done")
            assert [await pair.far.receive() for _ in range(20)] == [str(index) for index in range(20)]
            assert (await closed(pair.far)).close_code == 4018


@contract
async def a_receiver_is_woken_by_its_own_close(open_pair: OpenPair) -> None:
    async with open_pair(SETTINGS) as pair:
        results: list[LinkClosed] = []

        async def wait() -> None:
            results.append(await closed(pair.near))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.sleep(0.05)
            await pair.near.close(4019, "node unconfirmed")
        assert [error.close_code for error in results] == [4019]


@contract
async def terminate_is_seen_as_1006(open_pair: OpenPair) -> None:
    for dialler_ends in (True, False):
        async with open_pair(SETTINGS) as pair:
            ender, other = (pair.near, pair.far) if dialler_ends else (pair.far, pair.near)
            ender.terminate()
            seen = await closed(other)
            own = await closed(ender)
            assert (seen.close_code, seen.by_us) == (1006, False)
            assert (own.close_code, own.by_us) == (1006, True)
            ender.terminate()
            await ender.close(4001, "after the end")


@contract
async def pings_are_answered_both_ways(open_pair: OpenPair) -> None:
    async with open_pair(SETTINGS) as pair:
        for link in (pair.near, pair.far, pair.near):
            with trio.fail_after(60):
                await link.ping()
        async with trio.open_nursery() as nursery:
            for link in (pair.near, pair.far, pair.near, pair.far):
                nursery.start_soon(link.ping)


@contract
async def pings_nobody_waits_for_call_back(open_pair: OpenPair) -> None:
    async with open_pair(SETTINGS) as pair:
        for link in (pair.near, pair.far):
            pongs: list[int] = []
            back = trio.Event()
            link.ping_soon(lambda pongs=pongs: pongs.append(1))
            link.ping_soon(lambda pongs=pongs, back=back: (pongs.append(2), back.set()))
            assert pongs == []
            with trio.fail_after(60):
                await back.wait()
            assert pongs == [1, 2]
        pair.far.terminate()
        await closed(pair.far)
        pair.far.ping_soon(lambda: pytest.fail("a pong over a closed link"))
        await closed(pair.near)
        await trio.sleep(0.1)


@contract
async def pings_work_while_received_messages_wait(open_pair: OpenPair) -> None:
    async with open_pair(SETTINGS) as pair:
        for index in range(SETTINGS.receive_queue_frames - 4):
            await pair.near.send(pair.prepare(f"{index}"))
            await pair.far.send(pair.prepare(f"{index}"))
        with trio.fail_after(60):
            await pair.near.ping()
            await pair.far.ping()


@contract
async def a_waiting_ping_learns_that_the_link_closed(open_pair: OpenPair) -> None:
    async with open_pair(SETTINGS) as pair:
        pair.far.terminate()
        with trio.fail_after(60), pytest.raises(LinkClosed):
            await forever(pair.near.ping)


@contract
async def a_slow_reader_slows_the_sender(open_pair: OpenPair) -> None:
    block = b"x" * (1 << 18)
    async with open_pair(SETTINGS) as pair:
        sent = 0
        prepared = pair.prepare(block)
        uncompressible = pair.prepare(bytes((i * i >> 3) % 251 for i in range(1 << 18)))

        async def push() -> None:
            nonlocal sent
            while sent < 4000:
                await pair.near.send(prepared if sent % 2 else uncompressible)
                sent += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(push)
            await standstill(lambda: sent, least=1)
            nursery.cancel_scope.cancel()
        assert sent < 4000, "4000 blocks went nowhere and nobody was held up"
        # the send that was cancelled has ended the link: what came whole is there, then 1006
        with pytest.raises(LinkClosed):
            await pair.near.send(pair.prepare("after"))
        count = 0
        with trio.fail_after(60):
            while True:
                try:
                    message = await pair.far.receive()
                except LinkClosed as error:
                    assert error.close_code == 1006  # noqa: PT017 - ends the loop
                    break
                assert len(message) == len(block)
                count += 1
        assert count <= sent + 1


@contract
async def a_send_that_times_out_ends_the_link(open_pair: OpenPair) -> None:
    async with open_pair(msgspec.structs.replace(SETTINGS, send_timeout_s=0.3)) as pair:
        prepared = pair.prepare(bytes((i * i >> 3) % 251 for i in range(1 << 18)))
        with trio.fail_after(60), pytest.raises(LinkClosed):
            await forever(partial(pair.near.send, prepared))
        assert (await closed(pair.near)).by_us


@contract
async def simultaneous_close_ends_both(open_pair: OpenPair) -> None:
    async with open_pair(SETTINGS) as pair:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pair.near.close, 4001, "one")
                nursery.start_soon(pair.far.close, 4009, "two")
        for link in (pair.near, pair.far):
            assert (await closed(link)).close_code in (4001, 4009)


@contract
async def closing_is_bounded_when_the_other_side_does_not_read(open_pair: OpenPair) -> None:
    settings = msgspec.structs.replace(SETTINGS, close_timeout_s=0.5)
    async with open_pair(settings) as pair:
        prepared = pair.prepare(bytes((i * i >> 3) % 251 for i in range(1 << 18)))

        async def push() -> None:
            with pytest.raises(LinkClosed):
                await forever(partial(pair.near.send, prepared))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(push)
            await standstill(lambda: pair.near.bytes_sent, least=1)
            start = trio.current_time()
            await pair.near.close(4010, "purposefully closed")
            assert trio.current_time() - start < settings.close_timeout_s + pair.late_s


@contract
async def leaving_the_block_closes_the_link(open_pair: OpenPair) -> None:
    async with open_pair(SETTINGS) as pair:
        near = pair.near
    assert (await closed(near)).close_code in (1000, 1006)


def test_there_is_something_to_check() -> None:
    assert len(CONTRACTS) >= 12
