"""The quick way to the messages of a new block (docs/spec/registry.md §9)."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from syncworld import HEIGHT, Bench, FakePeer, registration

from trionode.registry.rows import HashRow


async def unresolved(bench: Bench, peers: int) -> HashRow:
    """A running sync, and a payment of the newest block without its message."""
    for number in range(peers):
        bench.peers.add(f"20.0.{number}.1", source="inbound" if number % 2 else "deterministic")
    await trio.sleep(10)
    row = HashRow.found("t" * 64, HEIGHT, registration("New").hash, 10_000_000_000)
    await bench.store.add_hashes([row])
    bench.bus.publish("registry:hashesUnresolved", {"count": 1})
    return row


def asked(bench: Bench) -> list[FakePeer]:
    return [bench.peers.table.by_key[f"{ip}:16127"] for _, ip, _ in bench.peers.requests]


@pytest.mark.trio
async def test_one_peer_after_the_other_is_asked(autojump_clock: Any, bench: Bench) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.run)
        row = await unresolved(bench, 14)
        await trio.sleep(300)
        assert [hashes for _, _, hashes in bench.peers.requests] == [[row.hash]] * 5
        assert [peer.direction for peer in asked(bench)] == [
            "outbound",
            "outbound",
            "inbound",
            "outbound",
            "inbound",
        ]
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_it_ends_with_the_answer(autojump_clock: Any, bench: Bench) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.run)
        for number in range(14):
            bench.peers.give(f"20.0.{number}.1", registration("New"))
        row = await unresolved(bench, 14)
        await trio.sleep(300)
        assert len(bench.peers.requests) == 1
        stored = await bench.store.hash_row(row.hash)
        assert stored is not None
        assert stored.message
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_few_peers_are_left_alone(autojump_clock: Any, bench: Bench) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.run)
        await unresolved(bench, 11)
        await trio.sleep(300)
        assert not bench.peers.requests
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_nobody_is_asked_again_for_what_it_would_drop_unread(autojump_clock: Any, bench: Bench) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.run)
        for number in range(12):
            bench.peers.add(f"20.0.{number}.1", source="inbound" if number else "deterministic")
        await trio.sleep(10)
        await bench.store.add_hashes([HashRow.found("t" * 64, HEIGHT, registration("New").hash, 1)])
        bench.bus.publish("registry:hashesUnresolved", {"count": 1})
        await trio.sleep(300)
        asked_ips = [ip for _, ip, _ in bench.peers.requests]
        assert asked_ips[0] == "20.0.0.1"
        assert len(asked_ips) == len(set(asked_ips)) == 5
        nursery.cancel_scope.cancel()
