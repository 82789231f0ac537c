"""The outbound queue: two tiers by bytes, one writer, a hung send ends the link."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from trionode.config.tree import PeerSettings
from trionode.peers.link import LinkClosed
from trionode.peers.outbox import BURST_FRAMES, BURST_S, Outbox, Tier
from trionode.peers.ratelimit import RateLimiter
from trionode.runtime.counters import Counters

pytestmark = pytest.mark.trio


class Sized:
    def __init__(self, name: str, size_bytes: int) -> None:
        self.name = name
        self.size_bytes = size_bytes


class SlowLink:
    """Takes messages one at a time when `gate` opens for it."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.open = trio.Event()
        self.closed: tuple[int, str] | None = None
        self.terminated = False

    async def send(self, message: Sized) -> None:
        await self.open.wait()
        self.sent.append(message.name)

    async def close(self, code: int, reason: str) -> None:
        await trio.lowlevel.checkpoint()
        self.closed = (code, reason)

    def terminate(self) -> None:
        self.terminated = True


def outbox(**changes: Any) -> tuple[Outbox, Counters]:
    counters = Counters()
    settings = PeerSettings(outbox_gossip_limit_bytes=1000, outbox_limit_bytes=5000, **changes)
    return Outbox(settings, counters), counters


async def run(box: Outbox, link: SlowLink, into: list[LinkClosed]) -> None:
    try:
        await box.run(link)  # type: ignore[arg-type]
    except LinkClosed as closed:
        into.append(closed)


async def test_messages_go_in_order_across_tiers(autojump_clock: Any, nursery: trio.Nursery) -> None:
    box, _ = outbox()
    link = SlowLink()
    link.open.set()
    for number, tier in enumerate((Tier.GOSSIP, Tier.REPLY, Tier.REPLY, Tier.GOSSIP)):
        box.put(Sized(str(number), 10), tier)
    nursery.start_soon(run, box, link, [])
    await box.drained()
    assert link.sent == ["0", "1", "2", "3"]
    assert box.size_bytes == 0
    assert box.sent_messages == 4
    nursery.cancel_scope.cancel()


async def test_over_the_gossip_limit_the_oldest_gossip_goes(
    autojump_clock: Any, nursery: trio.Nursery
) -> None:
    box, counters = outbox()
    link = SlowLink()
    for number in range(20):
        box.put(Sized(f"g{number}", 100), Tier.GOSSIP)
        box.put(Sized(f"r{number}", 10), Tier.REPLY)
    assert box.size_bytes <= 1000
    assert counters["peers.outbox.gossip_dropped"] == box.dropped_messages == 12
    link.open.set()
    nursery.start_soon(run, box, link, [])
    await box.drained()
    assert [name for name in link.sent if name[0] == "r"] == [f"r{number}" for number in range(20)]
    assert [name for name in link.sent if name[0] == "g"] == [f"g{number}" for number in range(12, 20)]
    nursery.cancel_scope.cancel()


async def test_over_the_hard_limit_the_link_closes_with_1013(
    autojump_clock: Any, nursery: trio.Nursery
) -> None:
    box, counters = outbox()
    link, ends = SlowLink(), []
    nursery.start_soon(run, box, link, ends)
    for number in range(60):
        box.put(Sized(str(number), 100), Tier.REPLY)
    assert counters["peers.outbox.overflow_closed"] == 1
    assert box.size_bytes == 0
    await trio.testing.wait_all_tasks_blocked()
    assert link.closed == (1013, "outbound queue full")
    assert [(end.close_code, end.by_us) for end in ends] == [(1013, True)]
    box.put(Sized("late", 1), Tier.REPLY)
    assert len(box) == 0


async def test_a_send_that_hangs_aborts_the_link(autojump_clock: Any, nursery: trio.Nursery) -> None:
    box, counters = outbox(send_timeout_s=20.0)
    link, ends = SlowLink(), []
    nursery.start_soon(run, box, link, ends)
    await trio.sleep(100)
    assert not link.terminated
    start = trio.current_time()
    box.put(Sized("x", 1), Tier.REPLY)
    with pytest.raises(LinkClosed):
        await box.drained()
    assert trio.current_time() - start == pytest.approx(20.0)
    assert link.terminated
    assert counters["peers.outbox.send_timeout"] == 1
    await trio.testing.wait_all_tasks_blocked()
    assert ends[0].close_code == 1006


async def test_the_send_timeout_counts_each_send_anew(autojump_clock: Any, nursery: trio.Nursery) -> None:
    box, _ = outbox(send_timeout_s=20.0)
    link = SlowLink()

    async def slow_send(message: Sized) -> None:
        await trio.sleep(15)
        link.sent.append(message.name)

    link.send = slow_send  # type: ignore[method-assign]
    for number in range(5):
        box.put(Sized(str(number), 1), Tier.REPLY)
    nursery.start_soon(run, box, link, [])
    await box.drained()
    assert len(link.sent) == 5
    nursery.cancel_scope.cancel()


async def test_close_lets_the_message_under_way_finish(autojump_clock: Any, nursery: trio.Nursery) -> None:
    box, _ = outbox()
    link, ends = SlowLink(), []
    box.put(Sized("under way", 1), Tier.REPLY)
    box.put(Sized("waiting", 1), Tier.REPLY)
    nursery.start_soon(run, box, link, ends)
    await trio.testing.wait_all_tasks_blocked()
    box.close(4009, "purposefully closed")
    box.close(4001, "second close is ignored")
    link.open.set()
    await trio.testing.wait_all_tasks_blocked()
    assert link.sent == ["under way"]
    assert link.closed == (4009, "purposefully closed")
    assert ends[0].by_us


class LimitedLink(SlowLink):
    """Its other side drops what comes too fast, as every node does (wire.md §5)."""

    def __init__(self) -> None:
        super().__init__()
        self.limiter = RateLimiter(120, 1.0, 15.0, 150)
        self.dropped: list[str] = []

    async def send(self, message: Sized) -> None:
        await trio.lowlevel.checkpoint()
        taken = self.limiter.allow("us", trio.current_time())
        (self.sent if taken else self.dropped).append(message.name)


async def test_a_burst_waits_here_for_what_the_peer_would_drop(
    autojump_clock: Any, nursery: trio.Nursery
) -> None:
    box, counters = outbox()
    link = LimitedLink()
    nursery.start_soon(run, box, link, [])
    names = [str(number) for number in range(500)]
    began_s = trio.current_time()
    for start in range(0, 500, 50):
        # the burst begins at any moment of the peer's second
        for name in names[start : start + 50]:
            box.put(Sized(name, 1), Tier.REPLY)
        await trio.sleep(0.13)
    await box.drained()
    assert link.dropped == []
    assert link.sent == names
    assert counters["peers.outbox.held_back"] > 0
    assert trio.current_time() - began_s == pytest.approx(BURST_S * (500 // BURST_FRAMES) + 0.13)
    nursery.cancel_scope.cancel()


async def test_a_few_messages_are_not_held_back(autojump_clock: Any, nursery: trio.Nursery) -> None:
    box, counters = outbox()
    link = LimitedLink()
    nursery.start_soon(run, box, link, [])
    start = trio.current_time()
    for number in range(BURST_FRAMES):
        box.put(Sized(str(number), 1), Tier.GOSSIP)
    await box.drained()
    assert trio.current_time() == start
    assert counters["peers.outbox.held_back"] == 0
    nursery.cancel_scope.cancel()


async def test_a_close_does_not_wait_with_what_is_held_back(
    autojump_clock: Any, nursery: trio.Nursery
) -> None:
    box, _ = outbox()
    link = LimitedLink()
    ends: list[LinkClosed] = []
    nursery.start_soon(run, box, link, ends)
    for number in range(300):
        box.put(Sized(str(number), 1), Tier.REPLY)
    await trio.sleep(0.5)
    start = trio.current_time()
    box.close(4009, "purposefully closed")
    await trio.testing.wait_all_tasks_blocked()
    assert link.closed == (4009, "purposefully closed")
    assert trio.current_time() == start
    assert len(link.sent) == BURST_FRAMES
