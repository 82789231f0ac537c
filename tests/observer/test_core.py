"""The whole observer on memory: what it takes from the net, what it shows, what it never does."""

from __future__ import annotations

import gc
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
from observerworld import HEIGHT, Net, network

from trionode.config.tree import ObserverSettings, Settings
from trionode.errors import ChainError, PeerError
from trionode.observer.core import ObserverCore, ObserverParts
from trionode.peers.link import DialError
from trionode.runtime.clock import VirtualClock
from trionode.store.memory import MemoryStore
from trionode.wire.envelope import Envelope, seal
from trionode.wire.keys import NodeKey

pytestmark = pytest.mark.trio

SEEDS = ("9.1.0.1", "9.2.0.1", "9.3.0.1")
KEYS = [NodeKey.generate(random.Random(number)) for number in range(1, 9)]


class NobodyListens:
    """A peer transport whose dials all fail."""

    def prepare(self, message: str | bytes) -> Any:
        raise AssertionError("an observer has nothing to say")

    @asynccontextmanager
    async def dial(self, ip: str, port: int, ours: Any, **more: Any) -> AsyncIterator[Any]:
        await trio.sleep(0.01)
        raise DialError(f"{ip}:{port} refused")
        yield

    async def invite(self, ip: str, port: int, own_address: str) -> None:
        raise AssertionError("an observer invites nobody")


class Observed:
    """An ObserverCore on a Net, and what tests ask of it."""

    def __init__(self, net: Net, seeds: Sequence[str], **changes: Any) -> None:
        self.clock = VirtualClock()
        self.store = MemoryStore()
        settings = msgspec.structs.replace(Settings(), observer=ObserverSettings(**changes))
        self.core = ObserverCore(
            ObserverParts(
                settings=settings,
                seeds=seeds,
                clock=self.clock,
                rng=random.Random(1),
                transport=NobodyListens(),
                http=net,
                store=self.store,
            )
        )

    def shown(self, name: str | None = None) -> list[tuple[str, str, bool]]:
        """(name, address, unverified) as the API has them."""
        rows = self.core.log.index.locations(name)
        return sorted((row.name, row.ip, self.core.report.is_unverified(row)) for row in rows)

    def told(self, name: str, ip: str, age_ms: int = 60_000) -> dict[str, Any]:
        """A row of /apps/locations as another node tells it."""
        at_ms = self.clock.now_ms() - age_ms
        return {
            "name": name,
            "hash": "aa",
            "ip": ip,
            "broadcastedAt": at_ms,
            "expireAt": at_ms + 7_500_000,
            "runningSince": None,
            "osUptime": 5,
            "staticIp": True,
        }

    def running(self, number: int, *names: str) -> Envelope:
        """What node NUMBER signs."""
        now_ms = self.clock.now_ms()
        data: dict[str, Any] = {
            "type": "fluxapprunning",
            "version": 2,
            "apps": [{"name": name, "hash": "aa", "runningSince": "2026-01-01T00:00:00Z"} for name in names],
            "ip": f"9.{number}.0.1",
            "broadcastedAt": now_ms,
            "osUptime": 1,
            "staticIp": False,
        }
        return seal(data, KEYS[number - 1], now_ms)

    async def hear(self, envelope: Envelope) -> None:
        """Take a message in as the gossip pipeline does after its checks."""
        await self.core.peers._dispatcher._ledger.ingest(envelope)


@pytest.fixture
def observed(net: Net) -> Any:
    def make(*seeds: str, nodes: int = 6, **changes: Any) -> Observed:
        net.add(nodes, [{**row, "pubkey": KEYS[n].public_key} for n, row in enumerate(network(nodes))])
        return Observed(net, seeds or SEEDS, **changes)

    return make


async def test_told_locations_are_marked_until_they_are_signed(
    autojump_clock: Any, net: Net, observed: Any, nursery: trio.Nursery
) -> None:
    made = observed()
    for node in net.nodes.values():
        node.locations = [
            made.told("shop", "9.1.0.1"),
            made.told("web", "9.1.0.1"),
            made.told("shop", "9.2.0.1"),
        ]
    await nursery.start(made.core.run)
    await trio.sleep(20)
    assert made.shown() == [("shop", "9.1.0.1", True), ("shop", "9.2.0.1", True), ("web", "9.1.0.1", True)]
    assert len(made.core.log.index) == 3
    await made.hear(made.running(1, "shop"))
    assert made.shown() == [("shop", "9.1.0.1", False), ("shop", "9.2.0.1", True)]
    assert set(made.core.log.index.names()) == {"shop"}
    (settled,) = [dict(e.data) for e in made.core.bus.replay() if e.name == "observer:settled"]
    assert settled == {"ip": "9.1.0.1", "confirmed": ["shop"], "contradicted": ["web"], "unverified": 1}


async def test_a_told_row_newer_than_the_signed_one_is_not_shown_beside_it(
    autojump_clock: Any, net: Net, observed: Any, nursery: trio.Nursery
) -> None:
    made = observed()
    await nursery.start(made.core.run)
    await trio.sleep(20)
    await made.hear(made.running(1, "shop"))
    await trio.sleep(100)
    for node in net.nodes.values():
        node.locations = [made.told("shop", "9.1.0.1", age_ms=0), made.told("web", "9.1.0.1", age_ms=0)]
    await made.core.bootstrap.load()
    assert made.shown() == [("shop", "9.1.0.1", False), ("web", "9.1.0.1", True)]
    assert len(made.core.log.index) == 2


async def test_nothing_unverified_is_stored(
    autojump_clock: Any, net: Net, observed: Any, nursery: trio.Nursery
) -> None:
    made = observed()
    for node in net.nodes.values():
        node.locations = [made.told("shop", "9.1.0.1")]
    await nursery.start(made.core.run)
    await trio.sleep(20)
    assert made.shown("shop")
    assert made.store.rows() == []


async def test_a_row_of_one_liar_is_not_shown(
    autojump_clock: Any, net: Net, observed: Any, nursery: trio.Nursery
) -> None:
    made = observed()
    net.nodes["9.1.0.1"].locations = [made.told("trap", "9.4.0.1"), made.told("trap", "6.6.6.6")]
    await nursery.start(made.core.run)
    await trio.sleep(20)
    assert made.shown() == []


async def test_with_two_sources_it_shows_what_was_told_and_says_what_it_does_not_know(
    autojump_clock: Any, net: Net, observed: Any, nursery: trio.Nursery
) -> None:
    made = observed("9.1.0.1", "9.2.0.1", nodes=2)
    net.nodes["9.1.0.1"].locations = [made.told("shop", "9.1.0.1")]
    await nursery.start(made.core.run)
    await trio.sleep(20)
    assert made.shown() == [("shop", "9.1.0.1", True)]
    report = made.core.report.document()
    assert report["sources"]["neededToAgree"] is None
    assert (report["nodes"]["agreed"], report["height"]["agreed"]) == (False, False)
    assert report["height"]["blocks"] is None
    unknown = "\n".join(report["unknown"])
    for part in ("the node list", "the height of the chain", "marked unverified", "what is registered"):
        assert part in unknown
    for method in ("getblockcount", "listfluxnodes", "getblockchaininfo"):
        with pytest.raises(ChainError):
            await made.core.daemon.call(method)


async def test_a_majority_that_comes_later_cleans_up(
    autojump_clock: Any, net: Net, observed: Any, nursery: trio.Nursery
) -> None:
    made = observed(nodes=4)
    for ip in ("9.2.0.1", "9.3.0.1", "9.4.0.1"):
        net.nodes[ip].is_up = False
    net.nodes["9.1.0.1"].locations = [made.told("trap", "6.6.6.6")]
    await nursery.start(made.core.run)
    await trio.sleep(10)
    assert made.shown() == [("trap", "6.6.6.6", True)]
    for ip in ("9.2.0.1", "9.3.0.1", "9.4.0.1"):
        net.nodes[ip].is_up = True
        net.nodes[ip].locations = [made.told("shop", "9.2.0.1")]
    await trio.sleep(2500)
    assert made.shown() == [("shop", "9.2.0.1", True)]
    assert made.core.report.document()["locations"]["byMajority"] is True


async def test_told_rows_expire(autojump_clock: Any, net: Net, observed: Any, nursery: trio.Nursery) -> None:
    made = observed()
    for node in net.nodes.values():
        node.locations = [made.told("shop", "9.1.0.1", age_ms=7_400_000)]
    await nursery.start(made.core.run)
    await trio.sleep(20)
    assert made.shown()
    await trio.sleep(120)
    assert made.shown() == []
    assert made.core.unverified.expired == 1


async def test_the_daemon_answers_what_the_majority_told(
    autojump_clock: Any, net: Net, observed: Any, nursery: trio.Nursery
) -> None:
    made = observed()
    await nursery.start(made.core.run)
    await trio.sleep(20)
    daemon = made.core.daemon
    assert await daemon.call("getblockcount") == HEIGHT
    assert await daemon.call("getblockchaininfo") == {"blocks": HEIGHT, "headers": HEIGHT}
    assert len(await daemon.call("listfluxnodes")) == 6
    assert [row["ip"] for row in await daemon.call("viewdeterministiczelnodelist", ["9.4."])] == ["9.4.0.1"]
    with pytest.raises(ChainError, match="no daemon"):
        await daemon.call("getfluxnodestatus")


async def test_specifications_are_those_of_the_majority(
    autojump_clock: Any, net: Net, observed: Any, nursery: trio.Nursery
) -> None:
    made = observed()
    shop = {"version": 8, "name": "shop", "owner": "1abc", "hash": "aa", "height": 5}
    for node in net.nodes.values():
        node.specs = [shop]
    net.nodes["9.1.0.1"].specs = [{**shop, "owner": "1evil"}, {**shop, "name": "trap"}]
    await nursery.start(made.core.run)
    await trio.sleep(20)
    rows = [row async for row in made.core.registry_store.stream_current()]
    assert [(row.name, row.height, row.spec()["owner"]) for row in rows] == [("shop", 5, "1abc")]
    assert rows[0].json_text() == '{"version":8,"name":"shop","owner":"1abc","hash":"aa","height":5}'
    assert made.core.report.document()["specifications"]["count"] == 1


async def test_without_links_for_long_the_locations_are_read_again_when_one_is_back(
    autojump_clock: Any,
    net: Net,
    observed: Any,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = observed()
    await nursery.start(made.core.run)
    await trio.sleep(1000)
    assert made.shown() == []
    for node in net.nodes.values():
        node.locations = [made.told("shop", "9.1.0.1")]
    monkeypatch.setattr(made.core.bootstrap, "_links", lambda: 1)
    await trio.sleep(60)
    assert made.shown() == [("shop", "9.1.0.1", True)]


async def test_no_key_is_ever_made(
    autojump_clock: Any,
    net: Net,
    observed: Any,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a key was made")

    made = observed()
    before = {id(thing) for thing in gc.get_objects() if isinstance(thing, NodeKey)}
    monkeypatch.setattr(NodeKey, "__init__", refuse)
    await nursery.start(made.core.run)
    await trio.sleep(100)
    keys = [thing for thing in gc.get_objects() if isinstance(thing, NodeKey) and id(thing) not in before]
    assert keys == []
    assert made.core.peers._key is None
    with pytest.raises(PeerError):
        made.core.peers.broadcast_own({"type": "fluxapprunning"})


async def test_when_sources_die_it_says_which_knowledge_is_old(
    autojump_clock: Any, net: Net, observed: Any, nursery: trio.Nursery
) -> None:
    made = observed(nodes=3)
    await nursery.start(made.core.run)
    await trio.sleep(20)
    assert made.core.report.document()["unknown"] == []
    for ip in ("9.2.0.1", "9.3.0.1"):
        net.nodes[ip].is_up = False
    await trio.sleep(900)
    report = made.core.report.document()
    assert (report["nodes"]["count"], report["nodes"]["agreed"]) == (3, True)
    assert report["nodes"]["agreedAgoS"] > 200
    assert [text.split(":")[0] for text in report["unknown"]] == [
        "whether the node list is still right",
        f"whether the height is still {HEIGHT}",
    ]
