"""Whether others reach this node: penalties that grow by the minute and go with the first who does."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from trionode.config.tree import MonitorSettings, PeerSettings
from trionode.errors import ChainError
from trionode.hosting.availability import Availability
from trionode.lifecycle.dos import Knock
from trionode.runtime.bus import EventBus
from trionode.runtime.dosstate import DosState
from trionode.wire.nodelist import NodeEntry, NodeList

ME = "9.0.0.1:16137"


class Rig:
    """One node in a network of `size`, and what the others say of it."""

    def __init__(self, size: int = 20) -> None:
        self.dos = DosState(EventBus())
        self.synced = self.confirmed = True
        self.own_address: str | None = ME
        rows = [NodeEntry(ip=f"1.0.{n}.1", pubkey="x") for n in range(size - 2)]
        self.nodes = NodeList(
            [*rows, NodeEntry(ip=ME, pubkey="me"), NodeEntry(ip="9.0.0.1:16147", pubkey="y")]
        )
        self.says: dict[str, Knock] = {}
        self.usually = Knock.REACHED
        self.asked: list[tuple[float, str]] = []
        self.seen_ip: object = "9.0.0.1"
        self.check = Availability(
            MonitorSettings(),
            PeerSettings(),
            facts=self,
            witness=self,
            dos=self.dos,
            rng=random.Random(5),
            public_ip=self.public_ip,
        )

    async def reaches_us(self, ip: str, port: int, own_ip: str, own_port: int) -> Knock:
        assert (own_ip, own_port) == ("9.0.0.1", 16137)
        self.asked.append((trio.current_time(), ip))
        return self.says.get(ip, self.usually)

    async def public_ip(self) -> object:
        if isinstance(self.seen_ip, Exception):
            raise self.seen_ip
        return self.seen_ip


@asynccontextmanager
async def checking(rig: Rig) -> AsyncIterator[Rig]:
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.check.run)
        yield rig
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_one_other_node_is_asked_every_minute(autojump_clock: MockClock) -> None:
    async with checking(Rig()) as rig:
        await trio.sleep(601)
        assert [at for at, _ in rig.asked] == [60.0 * n for n in range(1, 11)]
        assert len({ip for _, ip in rig.asked}) > 3
        assert all(ip != "9.0.0.1" for _, ip in rig.asked)
        assert rig.dos.state == 0


@pytest.mark.trio
@pytest.mark.parametrize("said", [Knock.SHUT, Knock.SILENT])
async def test_nobody_reaches_it(autojump_clock: MockClock, said: Knock) -> None:
    async with checking(Rig()) as rig:
        rig.usually = said
        await trio.sleep(61)
        assert len(rig.asked) == 6
        assert rig.dos.snapshot() == {"dosState": 12, "dosMessage": "Other nodes cannot reach this one"}
        assert rig.dos.refuses_sign_in()
        await trio.sleep(44 * 60)
        assert rig.dos.state == 100
        rig.usually = Knock.REACHED
        await trio.sleep(60)
        assert rig.dos.snapshot() == {"dosState": 0, "dosMessage": None}


@pytest.mark.trio
async def test_some_nodes_that_are_away_cost_nothing_for_long(autojump_clock: MockClock) -> None:
    async with checking(Rig()) as rig:
        rig.says = {f"1.0.{n}.1": Knock.SILENT for n in range(0, 18, 2)}
        await trio.sleep(3600)
        assert rig.dos.state <= 10


@pytest.mark.trio
async def test_an_address_nobody_knows_makes_it_worse(autojump_clock: MockClock) -> None:
    async with checking(Rig()) as rig:
        rig.usually, rig.seen_ip = Knock.SHUT, ChainError("no benchmark")
        await trio.sleep(61)
        assert rig.dos.sources() == {"reachability": 12, "public address": 30}
        rig.seen_ip = "9.0.0.2"
        await trio.sleep(60)
        assert rig.dos.sources() == {"reachability": 14}


@pytest.mark.trio
@pytest.mark.parametrize("lack", ["synced", "confirmed", "own_address", "listed", "large"])
async def test_when_nobody_is_asked(autojump_clock: MockClock, lack: str) -> None:
    rig = Rig(12 if lack == "large" else 20)
    if lack == "listed":
        rig.nodes = NodeList([NodeEntry(ip=f"1.0.{n}.1", pubkey="x") for n in range(20)])
    elif lack == "own_address":
        rig.own_address = None
    elif lack != "large":
        setattr(rig, lack, False)
    async with checking(rig):
        await trio.sleep(12 * 1800)
        assert rig.asked == []
        await trio.sleep(121)
        assert bool(rig.asked) == (lack == "large")
