"""Answers to requests for app messages (docs/spec/registry.md §11)."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import trio
from syncworld import Bench, FakePeer, payment, served_row

from trionode.peers.peer import Peer
from trionode.sync.responder import REQUESTS_PER_PEER, Responder, requested_hashes
from trionode.wire.envelope import seal
from trionode.wire.keys import NodeKey

ASKER = NodeKey.generate(random.Random(9))


class Asked:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.peer = FakePeer("20.0.0.7", "inbound")
        self.responder = Responder(
            bench.store, bench.peers, bench.bus, bench.counters, bench.clock, bench.key
        )

    async def ask(self, data: dict[str, Any]) -> None:
        handler = self.bench.peers.handlers["fluxapprequest"]
        relayed = await handler(seal(data, ASKER, self.bench.clock.now_ms()), cast("Peer", self.peer))
        assert relayed is False

    @property
    def answers(self) -> list[tuple[float, str]]:
        return [(at_s, data["hash"]) for at_s, _, data in self.bench.peers.sent]


@pytest.fixture
async def asked(autojump_clock: Any, bench: Bench) -> AsyncIterator[Asked]:
    made = Asked(bench)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.responder.run)
        yield made
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_permanent_and_temporary_messages_are_served_with_a_pause(
    autojump_clock: Any, asked: Asked
) -> None:
    bench = asked.bench
    messages = await bench.paid(3)
    await bench.registry.process_messages([served_row(messages[0], payment(messages[0], 0))])
    await bench.store.rewind(0)  # no payments: the next ones stay temporary
    await bench.registry.ingest_temporary(
        {**served_row(messages[1], payment(messages[1], 1)), "arcaneSender": False}
    )
    wanted = [messages[0].hash, "0" * 64, messages[1].hash, messages[2].hash]
    began_s = trio.current_time()
    await asked.ask({"type": "fluxapprequest", "version": 2, "hashes": wanted})
    await trio.sleep(5)
    assert [(round(at_s - began_s, 2), hash_) for at_s, hash_ in asked.answers] == [
        (0.0, messages[0].hash),
        (0.3, messages[1].hash),
    ]
    first, second = (data for _, _, data in bench.peers.sent)
    assert first == {
        "type": "fluxappregister",
        "version": 1,
        "appSpecifications": messages[0].spec,
        "hash": messages[0].hash,
        "timestamp": messages[0].timestamp_ms,
        "signature": messages[0].signature,
        "arcaneSender": True,
    }
    assert second["arcaneSender"] is False
    assert bench.named("hashRequest:received") == [{"peer": asked.peer.key, "count": 4}]
    assert bench.named("hashRequest:responded") == [{"peer": asked.peer.key, "requested": 4, "found": 2}]


@pytest.mark.trio
async def test_what_was_looked_up_lately_goes_out_at_once(autojump_clock: Any, asked: Asked) -> None:
    bench = asked.bench
    messages = await bench.paid(4)
    await bench.registry.process_messages(
        [served_row(message, payment(message, n)) for n, message in enumerate(messages)]
    )
    hashes = [message.hash for message in messages]
    await asked.ask({"type": "fluxapprequest", "version": 2, "hashes": hashes})
    await trio.sleep(2)
    began_s = trio.current_time()
    await asked.ask({"type": "fluxapprequest", "version": 2, "hashes": hashes})
    await trio.sleep(0.1)
    assert [round(at_s - began_s, 2) for at_s, _ in asked.answers[4:]] == [0.0] * 4
    await trio.sleep(1300)
    began_s = trio.current_time()
    await asked.ask({"type": "fluxapprequest", "version": 1, "hash": hashes[0]})
    await asked.ask({"type": "fluxapprequest", "version": 2, "hashes": hashes[1:3]})
    await trio.sleep(1)
    assert len(asked.answers) == 11
    assert asked.answers[-1][0] > began_s


@pytest.mark.trio
async def test_nothing_is_sent_to_a_peer_that_is_gone(autojump_clock: Any, asked: Asked) -> None:
    messages = await asked.bench.paid(2)
    await asked.bench.registry.process_messages(
        [served_row(message, payment(message, n)) for n, message in enumerate(messages)]
    )
    await asked.ask({"type": "fluxapprequest", "version": 2, "hashes": [m.hash for m in messages]})
    await trio.sleep(0.1)
    asked.peer.closing = True
    await trio.sleep(1)
    assert len(asked.answers) == 1


@pytest.mark.trio
async def test_one_peer_cannot_take_all_the_room(autojump_clock: Any, asked: Asked) -> None:
    for number in range(REQUESTS_PER_PEER + 20):
        await asked.ask({"type": "fluxapprequest", "version": 1, "hash": f"{number:064x}"})
    assert asked.bench.counters["apprequests.dropped.peer"] >= 1
    await trio.sleep(100)
    assert asked.bench.counters["apprequests.received"] == len(asked.bench.named("hashRequest:responded"))


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"version": 1},
        {"version": 1, "hash": 5},
        {"version": True, "hash": "h"},
        {"version": "1", "hash": "h"},
        {"version": 3, "hash": "h"},
        {"version": 2, "hash": "h"},
        {"version": 2, "hashes": "h"},
        {"version": 2, "hashes": []},
        {"version": 2, "hashes": ["h", None]},
        {"version": 2, "hashes": ["h"] * 501},
    ],
)
def test_other_shapes_are_ignored(data: dict[str, Any]) -> None:
    assert requested_hashes(data) is None


def test_both_versions_are_understood() -> None:
    assert requested_hashes({"version": 1, "hash": "h"}) == ["h"]
    assert requested_hashes({"version": 2, "hashes": ["h"] * 500}) == ["h"] * 500
