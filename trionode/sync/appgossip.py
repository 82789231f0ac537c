"""App messages from gossip: fluxappregister and fluxappupdate with their old names (wire.md §10).

A message that is new and not yet paid is passed on. One that the chain has asked for is only stored: it
comes as the answer to a question of ours, and everybody else has it or asks too. Failures cost the peer
that brought it nothing (registry.md §10).
"""

from __future__ import annotations

from typing import Protocol

from trionode.peers.dispatch import MessageHandler
from trionode.peers.peer import Peer
from trionode.registry.messages import MESSAGE_TYPES
from trionode.runtime.logs import get_logger
from trionode.store.appregistry import IngestOutcome
from trionode.wire.envelope import Envelope
from trionode.wire.jsjson import JsValue

log = get_logger("sync.gossip")


class HandlerRegistry(Protocol):
    """Where handlers are registered: `peers.service.PeerService`."""

    def register_handler(self, message_type: str, handler: MessageHandler) -> None: ...


class Ingests(Protocol):
    """Where app messages go: `store.appregistry.AppRegistry`."""

    async def ingest_temporary(self, data: JsValue) -> IngestOutcome: ...


class AppGossip:
    """Takes app messages from the gossip pipeline and hands them to the registry."""

    def __init__(self, registry: Ingests) -> None:
        self._registry = registry

    def register(self, peers: HandlerRegistry) -> None:
        """Take all four types; to be called once, before the peers are served."""
        for message_type in sorted(MESSAGE_TYPES):
            peers.register_handler(message_type, self.handle)

    async def handle(self, envelope: Envelope, peer: Peer) -> bool:
        """Judge the message of a verified envelope; True: relay it. Raises StoreError."""
        outcome = await self._registry.ingest_temporary(envelope.data)
        if outcome.rejection is not None:
            log.debug("app message refused", peer=peer.key, hash=outcome.hash, why=outcome.rejection.sentence)
        return outcome.relay

    async def handle_synced(self, messages: list[JsValue]) -> int:
        """Judge the messages of a `fluxapptempsync` chunk, which is never relayed; how many were new."""
        kept = 0
        for data in messages:
            outcome = await self._registry.ingest_temporary(data)
            kept += outcome.status in ("kept", "promoted", "waiting")
        return kept
