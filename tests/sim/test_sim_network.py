"""The virtual network: delays, faults, partitions, and that a seed fixes everything."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
import trio.testing

from trionode.peers.link import DialError, Hello, InboundRequest, Link, LinkClosed
from trionode.sim.conditions import Conditions
from trionode.sim.link import VirtualLink
from trionode.sim.network import VirtualNetwork
from trionode.sim.transport import VirtualTransport

EXACT = Conditions(latency_min_ms=10, latency_max_ms=10, jitter_ms=0)
A, B = "20.1.0.1", "20.2.0.1"


class Pair:
    """Two connected nodes; `here` is the dialler's end, `there` the listener's."""

    def __init__(self, network: VirtualNetwork, here: VirtualLink, there: VirtualLink) -> None:
        self.network = network
        self.here = here
        self.there = there
        self.prepare = VirtualTransport(network, A).prepare


@asynccontextmanager
async def pair(conditions: Conditions = EXACT, seed: int = 1) -> AsyncIterator[Pair]:
    network = VirtualNetwork(random.Random(seed), conditions)
    accepted: list[Link] = []
    got = trio.Event()

    async def on_peer(request: InboundRequest) -> None:
        async with request.accept(Hello(version="b")) as link:
            accepted.append(link)
            got.set()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        await nursery.start(VirtualTransport(network, B).serve, on_peer)
        async with VirtualTransport(network, A).dial(B, 16127, Hello(version="a"), own_port=16137) as link:
            await got.wait()
            there = accepted[0]
            assert isinstance(link, VirtualLink)
            assert isinstance(there, VirtualLink)
            yield Pair(network, link, there)
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_a_message_takes_the_latency_of_the_path(autojump_clock: trio.testing.MockClock) -> None:
    async with pair() as net:
        start = trio.current_time()
        await net.here.send(net.prepare("hello"))
        assert await net.there.receive() == "hello"
        assert trio.current_time() - start == pytest.approx(0.010, abs=0.0011)
        assert (net.here.bytes_sent, net.there.bytes_received) == (5, 5)


@pytest.mark.trio
async def test_messages_keep_their_order_despite_jitter(autojump_clock: trio.testing.MockClock) -> None:
    async with pair(msgspec.structs.replace(EXACT, jitter_ms=50)) as net:
        for number in range(100):
            await net.here.send(net.prepare(str(number)))
        assert [await net.there.receive() for _ in range(100)] == [str(n) for n in range(100)]


@pytest.mark.trio
async def test_reordering_lets_later_messages_overtake(autojump_clock: trio.testing.MockClock) -> None:
    async with pair(msgspec.structs.replace(EXACT, reorder=0.3)) as net:
        for number in range(100):
            await net.here.send(net.prepare(str(number)))
        got = [await net.there.receive() for _ in range(100)]
        assert sorted(got, key=str) == sorted(map(str, range(100)))
        assert got != [str(n) for n in range(100)]


@pytest.mark.trio
async def test_loss_and_duplication_happen_at_their_rate(autojump_clock: trio.testing.MockClock) -> None:
    async with pair(msgspec.structs.replace(EXACT, loss=0.1, duplicate=0.1)) as net:
        for number in range(2000):
            await net.here.send(net.prepare(str(number)))
        seen: list[str | bytes] = []
        with trio.move_on_after(1):
            while True:
                seen.append(await net.there.receive())
        assert 1700 < len(set(seen)) < 1900
        assert 100 < len(seen) - len(set(seen)) < 300


@pytest.mark.trio
async def test_a_lost_message_can_mean_delay_or_a_broken_link(
    autojump_clock: trio.testing.MockClock,
) -> None:
    late = msgspec.structs.replace(EXACT, loss=1.0, loss_means="retransmit", retransmit_ms=300)
    async with pair(late) as net:
        start = trio.current_time()
        await net.here.send(net.prepare("late"))
        assert await net.there.receive() == "late"
        assert trio.current_time() - start == pytest.approx(0.310, abs=0.002)
    async with pair(msgspec.structs.replace(EXACT, loss=1.0, loss_means="reset")) as net:
        await net.here.send(net.prepare("gone"))
        with pytest.raises(LinkClosed) as caught:
            await net.there.receive()
        assert caught.value.close_code == 1006
        with pytest.raises(LinkClosed):
            await net.here.receive()


@pytest.mark.trio
async def test_bandwidth_spaces_messages_out(autojump_clock: trio.testing.MockClock) -> None:
    async with pair(msgspec.structs.replace(EXACT, bandwidth_bytes_s=10_000)) as net:
        start = trio.current_time()
        for _ in range(10):
            await net.here.send(net.prepare(b"x" * (1000 - 64)))
        for _ in range(10):
            await net.there.receive()
        assert trio.current_time() - start == pytest.approx(1.010, abs=0.002)


@pytest.mark.trio
async def test_a_reader_that_does_not_read_stops_the_sender(autojump_clock: trio.testing.MockClock) -> None:
    async with pair(msgspec.structs.replace(EXACT, window_bytes=10_000)) as net:
        sent = 0
        with trio.move_on_after(5) as scope:
            while True:
                await net.here.send(net.prepare(b"x" * 1000))
                sent += 1
        assert scope.cancelled_caught
        assert 8 < sent < 12
        with pytest.raises(LinkClosed):  # a send cut short aborts the link
            await net.here.receive()


@pytest.mark.trio
async def test_the_sender_goes_on_when_the_reader_reads(autojump_clock: trio.testing.MockClock) -> None:
    async with pair(msgspec.structs.replace(EXACT, window_bytes=10_000)) as net:

        async def send_all() -> None:
            for _ in range(100):
                await net.here.send(net.prepare(b"x" * 1000))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all)
            for _ in range(100):
                await trio.sleep(0.1)
                await net.there.receive()


@pytest.mark.trio
async def test_several_tasks_may_wait_for_room_on_one_end(autojump_clock: trio.testing.MockClock) -> None:
    async with pair(msgspec.structs.replace(EXACT, window_bytes=10_000)) as net:

        async def send_all(sign: bytes) -> None:
            for number in range(30):
                await net.here.send(net.prepare(sign + number.to_bytes(2) + b"x" * 997))

        got = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all, b"a")
            nursery.start_soon(send_all, b"b")
            for _ in range(60):
                await trio.sleep(0.1)
                message = await net.there.receive()
                assert isinstance(message, bytes)
                got.append(message[:3])
        for sign in (b"a", b"b"):
            assert [name[1:] for name in got if name[:1] == sign] == [n.to_bytes(2) for n in range(30)]


@pytest.mark.trio
async def test_all_who_wait_for_room_are_told_that_the_link_is_gone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with pair(msgspec.structs.replace(EXACT, window_bytes=10_000)) as net:
        told = []

        async def send_all(sign: bytes) -> None:
            try:
                while True:
                    await net.here.send(net.prepare(sign * 1000))
            except LinkClosed:
                told.append(sign)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all, b"a")
            nursery.start_soon(send_all, b"b")
            await trio.sleep(2)
            net.there.terminate()
        assert sorted(told) == [b"a", b"b"]


@pytest.mark.trio
async def test_ping_takes_a_round_trip_and_fails_with_the_link(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with pair() as net:
        start = trio.current_time()
        await net.here.ping()
        assert trio.current_time() - start == pytest.approx(0.020, abs=0.002)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_closed, net.here.ping)
            await trio.testing.wait_all_tasks_blocked()
            net.here.terminate()


async def _expect_closed(call: Callable[[], object]) -> None:
    with pytest.raises(LinkClosed):
        await call()  # type: ignore[misc]


@pytest.mark.trio
async def test_close_tells_code_and_reason_after_what_was_sent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with pair() as net:
        await net.here.send(net.prepare("last words"))
        await net.here.close(4004, "too many bad messages")
        assert await net.there.receive() == "last words"
        with pytest.raises(LinkClosed) as caught:
            await net.there.receive()
        assert (caught.value.close_code, caught.value.reason, caught.value.by_us) == (
            4004,
            "too many bad messages",
            False,
        )
        with pytest.raises(LinkClosed) as ours:
            await net.here.send(net.prepare("more"))
        assert ours.value.by_us


@pytest.mark.trio
async def test_a_held_path_delivers_after_it_heals(autojump_clock: trio.testing.MockClock) -> None:
    async with pair() as net:
        net.network.partition([A], [B])
        await net.here.send(net.prepare("held"))
        with trio.move_on_after(10) as waited:
            await net.there.receive()
        assert waited.cancelled_caught
        net.network.heal()
        assert await net.there.receive() == "held"


@pytest.mark.trio
async def test_unacknowledged_bytes_end_the_link_after_the_user_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with pair() as net:
        net.network.partition([A], [B])
        start = trio.current_time()
        await net.here.send(net.prepare("held"))
        with pytest.raises(LinkClosed) as caught:
            await net.here.receive()
        assert caught.value.close_code == 1006
        assert trio.current_time() - start == pytest.approx(20, abs=0.01)
        # The other side sent nothing and knows nothing, until its next packet meets a dead end.
        net.network.heal()
        await net.there.send(net.prepare("anyone?"))
        with pytest.raises(LinkClosed):
            await net.there.receive()


@pytest.mark.trio
async def test_half_open_one_side_hears_and_is_not_heard(autojump_clock: trio.testing.MockClock) -> None:
    async with pair() as net:
        net.network.block(A, B, "vanish")
        await net.there.send(net.prepare("to A"))
        assert await net.here.receive() == "to A"
        await net.here.send(net.prepare("to nobody"))
        with trio.move_on_after(60) as silence:
            await net.here.ping()
        assert silence.cancelled_caught
        assert net.here.is_open
        assert net.there.is_open


@pytest.mark.trio
async def test_one_way_partition_keeps_the_other_direction(autojump_clock: trio.testing.MockClock) -> None:
    async with pair() as net:
        net.network.partition([A], [B], one_way=True)
        assert net.network.blocked(A, B) is None
        assert net.network.blocked(B, A) == "hold"


@pytest.mark.trio
async def test_power_cut_is_silent_and_dials_time_out(autojump_clock: trio.testing.MockClock) -> None:
    async with pair() as net:
        net.network.power_cut(B)
        with pytest.raises(LinkClosed):
            await net.there.receive()
        assert net.here.is_open
        start = trio.current_time()
        with pytest.raises(DialError, match="in time"):
            async with VirtualTransport(net.network, A).dial(B, 16127, Hello(), own_port=16127):
                pytest.fail("a host without power accepted a link")
        assert trio.current_time() - start == pytest.approx(10, abs=0.01)


@pytest.mark.trio
async def test_killed_links_show_1006_on_both_ends(autojump_clock: trio.testing.MockClock) -> None:
    async with pair() as net:
        assert net.network.kill_links(A, B) == 2
        for end in (net.here, net.there):
            with pytest.raises(LinkClosed) as caught:
                await end.receive()
            assert caught.value.close_code == 1006
        assert net.network.links() == []


@pytest.mark.trio
async def test_nobody_listening_refuses(autojump_clock: trio.testing.MockClock) -> None:
    async with pair() as net:
        me = VirtualTransport(net.network, A)
        with pytest.raises(DialError, match="refused"):
            async with me.dial(B, 16137, Hello(), own_port=16127):
                pytest.fail("nobody listens there")
        with pytest.raises(DialError, match="refused"):
            await me.invite(B, 16137, A)


def _trace_of(seed: int) -> str:
    digests: list[str] = []

    async def main() -> None:
        rough = Conditions(loss=0.05, duplicate=0.05, reorder=0.1)
        async with pair(rough, seed) as net:
            for number in range(300):
                await net.here.send(net.prepare(str(number)))
                await net.there.send(net.prepare(str(-number)))
            with trio.move_on_after(1):
                await net.there.ping()
        digests.append(net.network.trace.digest)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return digests[0]


def test_a_seed_fixes_the_trace() -> None:
    assert _trace_of(7) == _trace_of(7)
    assert _trace_of(7) != _trace_of(8)
