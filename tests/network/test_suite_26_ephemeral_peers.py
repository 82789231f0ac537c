"""Suite 26: a message that no peer has is fetched over short links to nodes that are none.

Eleven nodes and five peer stubs; only the stubs have the message, and only node 1 asks strangers. (The signed
sync of a late node, the other half of the suite, is with suite 22.)
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from network import Connected, Env, Network
from network.apps import request_of, web_app

from trionode.registry.messages import app_message, message_document

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

SETTINGS = {
    "hash_sync.max_rounds": 1,
    "hash_sync.ephemeral_peers": 0,
    "hash_sync.recheck_blocks": 2,
    "hash_sync.retry_ladder_blocks": [0, 2],
    # Nodes that are linked to a stub would get the message by asking a single peer, and hand it on.
    "hash_sync.min_peers": 1000,
    # An answer that comes after the wait for it belongs to no run any more.
    "hash_sync.settle_s": 30.0,
    "hash_sync.response_extra_ms": 30_000,
}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    node_overrides = {1: {"hash_sync.ephemeral_peers": 5}}
    env = Env(nodes=11, peer_stubs=5, overrides=SETTINGS, node_overrides=node_overrides, ticker_s=1.0)
    with Network(tmp_path_factory.mktemp("net"), env) as network:
        yield network


@pytest.mark.trio
async def test_26_short_links_find_what_no_peer_has(net: Connected) -> None:
    node = net[1]
    await node.until("/trionode/status", lambda s: s["peers"]["outbound"] >= 4, 60)
    await net.chain.start_ticker()
    await node.enters("READY", after=0, within_s=90)
    request = request_of("fluxappregister", web_app("rareshop"))
    message = app_message(
        request["type"],
        request["version"],
        request["appSpecification"],
        request["timestamp"],
        request["signature"],
    )
    for stub in net.stubs:
        await stub.load(message_document(message))
    mark = await node.mark()
    await net.chain.queue_app(message.hash)
    resolved = await node.event(
        "hashSync:run", after=mark, within_s=120, where=lambda data: data["resolved"] == 1
    )
    assert resolved.data["missing"] == 0
    stats = [await stub.stats() for stub in net.stubs]
    assert sum(one["messagesServed"] for one in stats) > 0
    await node.until("/apps/appspecifications/rareshop", lambda spec: spec["hash"] == message.hash, 30)
