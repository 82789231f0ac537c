"""The minute check, and the penalty counter it feeds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from trionode.config.tree import MonitorSettings, PeerSettings
from trionode.hosting.selfcheck import SelfCheck
from trionode.runtime.bus import EventBus
from trionode.runtime.dosstate import DosState
from trionode.wire.nodelist import NodeEntry, NodeList

ME = "9.0.0.1"


class Rig:
    """Facts and peers of one node in a network of `size`."""

    def __init__(self, size: int = 20) -> None:
        self.bus = EventBus()
        self.dos = DosState(self.bus)
        self.synced = True
        self.confirmed = True
        self.own_address: str | None = ME
        self.well_connected = True
        self.nodes = NodeList(
            [
                NodeEntry(ip=ME, pubkey="me"),
                *(NodeEntry(ip=f"1.0.{n}.1", pubkey="x") for n in range(size - 1)),
            ]
        )
        self.check = SelfCheck(
            MonitorSettings(), PeerSettings(), facts=self, table=self, dos=self.dos, public_key="me"
        )


@asynccontextmanager
async def checking(rig: Rig) -> AsyncIterator[Rig]:
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.check.run)
        yield rig
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_a_node_in_order_has_no_penalty(autojump_clock: MockClock) -> None:
    async with checking(Rig()) as rig:
        await trio.sleep(80_000)
        assert rig.dos.snapshot() == {"dosState": 0, "dosMessage": None}
        assert list(rig.bus.replay()) == []


@pytest.mark.trio
async def test_an_unknown_address_grows_and_heals(autojump_clock: MockClock) -> None:
    async with checking(Rig()) as rig:
        rig.own_address = None
        await trio.sleep(601)
        assert rig.dos.snapshot() == {"dosState": 10, "dosMessage": None}
        assert not rig.dos.refuses_sign_in()
        await trio.sleep(60)
        assert rig.dos.snapshot() == {"dosState": 11, "dosMessage": "Flux IP detection failed"}
        assert rig.dos.name == "DOS"
        await trio.sleep(89 * 60)
        assert rig.dos.state == 100
        rig.own_address = ME
        await trio.sleep(60)
        assert rig.dos.snapshot() == {"dosState": 0, "dosMessage": None}


@pytest.mark.trio
async def test_few_peers_count_after_half_an_hour(autojump_clock: MockClock) -> None:
    async with checking(Rig()) as rig:
        rig.well_connected = False
        await trio.sleep(1801)
        assert rig.dos.state == 0
        await trio.sleep(77 * 60)
        assert rig.dos.state == pytest.approx(10.01)
        assert rig.dos.message is not None
        rig.well_connected = True
        await trio.sleep(60)
        assert rig.dos.state == 0


@pytest.mark.trio
async def test_in_a_small_network_few_peers_count_after_six_hours(autojump_clock: MockClock) -> None:
    async with checking(Rig(size=12)) as rig:
        rig.well_connected = False
        await trio.sleep(6 * 3600)
        assert rig.dos.state == 0
        await trio.sleep(61)
        assert rig.dos.state == 0.13


@pytest.mark.trio
async def test_another_node_at_our_address_must_be_there_twice(autojump_clock: MockClock) -> None:
    async with checking(Rig()) as rig:
        right = rig.nodes
        rig.nodes = NodeList([NodeEntry(ip=ME, pubkey="other")])
        await trio.sleep(61)
        assert rig.dos.state == 0
        await trio.sleep(60)
        assert rig.dos.state == 100
        rig.nodes = right
        await trio.sleep(60)
        assert rig.dos.state == 0


@pytest.mark.trio
async def test_without_a_synced_daemon_nothing_is_judged(autojump_clock: MockClock) -> None:
    async with checking(Rig()) as rig:
        rig.synced, rig.own_address = False, None
        await trio.sleep(10_000)
        assert rig.dos.state == 0
        rig.synced = True
        await trio.sleep(180)
        assert 1 <= rig.dos.state <= 3


def test_sources_and_the_whole() -> None:
    bus = EventBus()
    dos = DosState(bus)
    dos.put("peers", 0.13)
    dos.put("address", 11, "no address", name="DOS")
    dos.put("peers", 0.26)
    assert dos.snapshot() == {"dosState": 11.26, "dosMessage": "no address"}
    assert (dos.name, dos.of("peers"), dos.of("?")) == ("DOS", 0.26, 0)
    assert dos.sources() == {"peers": 0.26, "address": 11}
    dos.set(5, "by hand")
    assert dos.snapshot() == {"dosState": 5, "dosMessage": "by hand"}
    assert dos.name == "CONNERROR"
    assert dos.sources() == {}
    dos.put("address", 1, "no address")
    assert dos.snapshot() == {"dosState": 6, "dosMessage": "by hand"}
    dos.set_sticky("tampering")
    assert dos.snapshot() == {"dosState": 100, "dosMessage": "tampering"}
    dos.set_sticky(None)
    dos.put("address", 0)
    dos.put("address", 0)
    states = [event.data["dosState"] for event in bus.replay()]
    assert states == [0.13, 11.13, 11.26, 5, 6, 100, 6, 5]
