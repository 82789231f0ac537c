"""App messages from gossip: what is taken, and what goes on (wire.md §10, registry.md §10)."""

from __future__ import annotations

from typing import Any

import pytest

from trionode.peers.dispatch import MessageHandler
from trionode.registry.reasons import Reason, Rejection
from trionode.store.appregistry import IngestOutcome
from trionode.sync.appgossip import AppGossip
from trionode.wire.jsjson import JsValue

OUTCOMES = {
    "new": IngestOutcome("kept", "new", relay=True),
    "asked": IngestOutcome("promoted", "asked"),
    "early": IngestOutcome("queued", "early"),
    "bad": IngestOutcome("rejected", "bad", rejection=Rejection(Reason.HASH_MISMATCH, "hash")),
    "known": IngestOutcome("known", "known"),
}


class Registry:
    def __init__(self) -> None:
        self.seen: list[JsValue] = []

    async def ingest_temporary(self, data: JsValue) -> IngestOutcome:
        self.seen.append(data)
        return OUTCOMES[data["hash"]]


class Peers:
    def __init__(self) -> None:
        self.handlers: dict[str, MessageHandler] = {}

    def register_handler(self, message_type: str, handler: MessageHandler) -> None:
        self.handlers[message_type] = handler


class Sent:
    """The parts of an envelope and of a peer that a handler looks at."""

    key = "10.0.0.1:16127"

    def __init__(self, hash_: str = "") -> None:
        self.data = {"type": "fluxappregister", "hash": hash_}


def test_all_four_types_are_taken() -> None:
    peers = Peers()
    AppGossip(Registry()).register(peers)
    assert sorted(peers.handlers) == ["fluxappregister", "fluxappupdate", "zelappregister", "zelappupdate"]


@pytest.mark.trio
@pytest.mark.parametrize("hash_", OUTCOMES)
async def test_only_new_unpaid_messages_are_relayed(hash_: str, autojump_clock: Any) -> None:
    registry, peers = Registry(), Peers()
    AppGossip(registry).register(peers)
    envelope: Any = Sent(hash_)
    peer: Any = Sent()
    assert await peers.handlers["fluxappregister"](envelope, peer) is (hash_ == "new")
    assert registry.seen == [envelope.data]


@pytest.mark.trio
async def test_synced_messages_run_the_same_path(autojump_clock: Any) -> None:
    registry = Registry()
    assert await AppGossip(registry).handle_synced([Sent(hash_).data for hash_ in OUTCOMES]) == 2
    assert len(registry.seen) == len(OUTCOMES)
