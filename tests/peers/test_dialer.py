"""Discovery carried out: spacing, cadence, invitations, backoff, reconnects (wire.md §3)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from trionode.peers.discovery import Target

pytestmark = pytest.mark.trio


def addresses(count: int) -> list[str]:
    """Nodes in different /16s."""
    return [f"203.{number}.0.10" for number in range(1, count + 1)]


async def network(world: Any, count: int, running: int, **changes: Any) -> list[Any]:
    """`count` listed nodes, of which the first `running` run; only the first discovers."""
    keys = [world.key() for _ in range(count)]
    listed = addresses(count)
    nodes = [await world.start_node(listed[i], key=keys[i], **changes) for i in range(running)]
    world.list_nodes(*zip(listed, keys, strict=True))
    return nodes


async def test_a_pass_dials_spaced_and_finds_its_minimum(autojump_clock: Any, world: Any) -> None:
    nodes = await network(world, 40, 40)
    first = nodes[0]
    first.service.start_discovery()
    await trio.sleep(30)
    assert first.service.table.outbound >= 14
    assert first.service.table.distinct_ips("outbound") >= 9
    assert first.service.table.inbound >= 12
    assert first.service.table.well_connected
    expected = [f"{address}:16127" for address in addresses(9)[1:]]
    assert [key for _, key in first.transport.dials[:8]] == expected
    times = [at for at, _ in first.transport.dials]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps) == pytest.approx(0.5, abs=0.02)
    before = {f"203.{number}.0.10:16127" for number in range(33, 41)}
    assert {key for _, key in first.transport.invites[:8]} == before
    sources = {peer.source for peer in first.service.table.peers("outbound")}
    assert sources == {"deterministic", "random"}


async def test_passes_come_60_s_after_the_last_one(autojump_clock: Any, world: Any) -> None:
    (node,) = await network(world, 3, 1)
    starts: list[float] = []
    one_pass = node.service.dialer._pass

    async def timed(nursery: trio.Nursery) -> None:
        starts.append(trio.current_time())
        await one_pass(nursery)
        starts.append(trio.current_time())

    node.service.dialer._pass = timed
    node.service.start_discovery()
    await trio.sleep(200)
    begins, ends = starts[::2], starts[1::2]
    assert len(begins) == 4
    for end, begin in zip(ends, begins[1:], strict=False):
        assert begin - end == pytest.approx(60)


async def test_discovery_waits_for_the_chain_and_starts_with_it(autojump_clock: Any, world: Any) -> None:
    nodes = await network(world, 5, 5)
    node = nodes[0]
    for fact, bad, good in (("confirmed", False, True), ("synced", False, True), ("own_address", None, "x")):
        setattr(node.facts, fact, bad)
        assert good is not None
    node.service.start_discovery()
    await trio.sleep(10)
    assert node.transport.dials == []
    start = trio.current_time()
    node.facts.confirmed, node.facts.synced, node.facts.own_address = True, True, node.ip
    node.bus.publish("chain:address", {"address": node.ip})
    await trio.sleep(5)
    assert node.transport.dials[0][0] - start < 0.1


async def test_without_news_it_is_tried_again_after_120_s(autojump_clock: Any, world: Any) -> None:
    node = (await network(world, 5, 5))[0]
    node.facts.synced = False
    node.service.start_discovery()
    await trio.sleep(1)
    node.facts.synced = True
    await trio.sleep(118)
    assert node.transport.dials == []
    await trio.sleep(2)
    assert node.transport.dials


async def test_failed_invitations_back_off_by_the_ladder(autojump_clock: Any, world: Any) -> None:
    (node,) = await network(world, 2, 1, peers__random_inbound=0, peers__random_inbound_ips=0)
    node.service.start_discovery()
    await trio.sleep(3600)
    times = [at for at, _ in node.transport.invites]
    gaps = [b - a for a, b in pairwise(times)]
    assert len(gaps) >= 4
    for gap, pause in zip(gaps, (120, 300, 600, 900), strict=False):
        assert pause <= gap <= pause + 62


async def test_private_addresses_are_not_dialled_unless_allowed(autojump_clock: Any, world: Any) -> None:
    for allow in (False, True):
        key, other = world.key(), world.key()
        ip = f"10.{int(allow)}.0.1"
        node = await world.start_node(ip, key=key, network__allow_private_addresses=allow)
        world.list_nodes((ip, key), ("10.9.0.1", other))
        node.service.start_discovery()
        await trio.sleep(5)
        assert bool(node.transport.dials) is allow
        assert bool(node.transport.invites) is allow
        node.scope.cancel()


async def test_a_lost_outbound_peer_is_dialled_again_with_the_header(autojump_clock: Any, world: Any) -> None:
    nodes = await network(world, 2, 2, peers__discovery_interval_s=10.0)
    node, other = nodes
    node.service.start_discovery()
    await trio.sleep(2)
    assert node.service.table.outbound == 1
    # with a failed invitation the neighbour is left alone, but the reconnect queue is not
    node.transport.invites_fail = True
    del world.listeners[other.ip, 16127]
    other.service.table.get(f"{node.ip}:16127").link.terminate()
    await trio.sleep(60)
    reconnects = [hello.reconnect for hello in node.transport.hellos]
    assert True in reconnects
    world.listeners[other.ip, 16127] = other.service.handle_inbound
    await trio.sleep(20)
    assert node.service.table.outbound == 1


async def test_a_lost_neighbour_is_dialled_with_the_header_too(autojump_clock: Any, world: Any) -> None:
    """Without it the other side, not having noticed the loss, would refuse the new link (4001)."""
    node, other = await network(world, 2, 2, peers__discovery_interval_s=10.0)
    node.service.start_discovery()
    await trio.sleep(2)
    other.service.table.get(f"{node.ip}:16127").link.terminate()
    await trio.sleep(12)
    assert [hello.reconnect for hello in node.transport.hellos] == [False, True]
    assert [peer.source for peer in node.service.table.peers("outbound")] == ["deterministic"]
    other.service.table.get(f"{node.ip}:16127").close(4009, "purposefully closed")
    await trio.sleep(12)
    assert [hello.reconnect for hello in node.transport.hellos] == [False, True, False]


@pytest.mark.parametrize(("code", "again"), [(4000, True), (4011, True), (4010, False), (4001, False)])
async def test_the_close_code_decides_about_a_new_dial(
    autojump_clock: Any, world: Any, code: int, again: bool
) -> None:
    node, other = await network(world, 2, 2)
    node.service.add_outgoing(other.ip, 16127)
    await trio.sleep(1)
    await other.service.table.get(f"{node.ip}:16127").link.close(code, "test")
    await trio.sleep(1)
    assert len(node.service.dialer._reconnects) == int(again)


async def test_a_network_of_sixteen_grows_together(autojump_clock: Any, world: Any) -> None:
    nodes = await network(world, 16, 16)
    for node in nodes:
        node.service.start_discovery()
    await trio.sleep(90)
    for node in nodes:
        assert node.service.table.outbound >= 7
        assert node.service.table.inbound >= 4
        assert node.counters["peers.crashed"] == 0
    # one link per pair at most
    for node in nodes:
        for peer in node.service.table:
            far = world.nodes[peer.ip, peer.port].service.table.get(f"{node.ip}:16127")
            assert far is not None
            assert far.direction != peer.direction


async def test_a_link_that_ends_leaves_the_next_dial_to_its_node_alone(
    autojump_clock: Any, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (node,) = await network(world, 2, 1)
    dialer, target = node.service.dialer, Target("203.2.0.10", 16127, "random")
    answered, hosted = [trio.Event(), trio.Event()], [trio.Event(), trio.Event()]
    dials, links = iter(answered), iter(hosted)

    @asynccontextmanager
    async def dial(*args: Any, **kwargs: Any) -> AsyncIterator[None]:
        await next(dials).wait()
        yield

    async def host(*args: Any) -> None:
        await next(links).wait()

    monkeypatch.setattr(dialer, "_transport", SimpleNamespace(dial=dial))
    monkeypatch.setattr(dialer, "_host", host)
    async with trio.open_nursery() as nursery:
        for event in (answered[0], None):
            dialer._begin(target, nursery)
            if event is not None:
                event.set()
            await trio.testing.wait_all_tasks_blocked()
        hosted[0].set()
        await trio.testing.wait_all_tasks_blocked()
        assert dialer.is_pending(target.key), "the second dial is still under way"
        answered[1].set()
        hosted[1].set()
    assert not dialer.is_pending(target.key)
    assert not node.counters["peers.crashed"]
