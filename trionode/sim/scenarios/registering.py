"""What the stories of the registry share: apps registered in a world, paid for, and known to its nodes.

Facts: docs/spec/registry.md §5, §9-§12.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

from trionode.config.tree import PeerSettings, Settings
from trionode.registry.changes import (
    AddHashes,
    AddPermanents,
    RegistryChange,
    ResolveHashes,
    SetScannedHeight,
)
from trionode.registry.messages import AppMessage, app_message, message_document, signed_text
from trionode.registry.rows import HashRow, PermanentRow
from trionode.sim.node import SimNode
from trionode.sim.scenario import ScenarioError
from trionode.sim.world import World
from trionode.wire.jsjson import stringify
from trionode.wire.keys import NodeKey

SMALL_NETWORK = Settings(peers=PeerSettings(threshold_reached=3, threshold_below=1))
"""Thresholds of the network's own tests, so that a few nodes are a network."""

PAID_SAT = 200_000_000
BLOCK_S = 30.0


def app_messages(world: World, count: int, label: str = "app") -> list[AppMessage]:
    """Registrations of one owner, the same for the same seed."""
    owner = NodeKey.generate(random.Random(f"{world.seed}/owner"), compressed=True)
    return [_registration(owner, f"{label}{number}", number) for number in range(count)]


def _registration(owner: NodeKey, name: str, number: int) -> AppMessage:
    component: dict[str, Any] = {
        "name": "web",
        "description": "web component",
        "repotag": "library/nginx:1.25",
        "ports": [31_000 + number % 1000],
        "domains": [""],
        "environmentParameters": [],
        "commands": [],
        "containerPorts": [80],
        "containerData": "/data",
        "cpu": 0.1,
        "ram": 100,
        "hdd": 1,
        "tiered": False,
        "secrets": "",
        "repoauth": "",
    }
    spec: dict[str, Any] = {
        "version": 7,
        "name": name,
        "description": "an app of the simulator",
        "owner": owner.address,
        "compose": [component],
        "instances": 3,
        "contacts": [],
        "geolocation": [],
        "expire": 88_000,
        "nodes": [],
        "staticip": False,
    }
    timestamp_ms = 1_750_000_000_000 + number
    signature = owner.sign(signed_text("fluxappregister", 1, stringify(spec), timestamp_ms))
    return app_message("fluxappregister", 1, spec, timestamp_ms, signature)


async def announce(node: SimNode, messages: Iterable[AppMessage]) -> None:
    """What POST /apps/appregister does: keep it, and tell the peers."""
    for message in messages:
        document = message_document(message)
        await node.running.registry.ingest_temporary(document)
        node.running.peers.broadcast_own(document)


def pay(world: World, messages: Iterable[AppMessage]) -> None:
    """The payments go into the next block."""
    for message in messages:
        world.note(f"paid {message.hash[:16]}")
        world.chain.blocks.app_queue.append(message.hash)


async def stand(world: World, nodes: Sequence[SimNode]) -> None:
    """Start these nodes; returns when each has peers and has done its first hash sync."""
    for node in nodes:
        await world.start(node)
        await world.sleep(world.plan.start_spacing_s)
    enough = min(SMALL_NETWORK.peers.threshold_reached, len(nodes) - 1)
    await world.until(lambda: all(world.peers(node) >= enough for node in nodes), 900, "nodes have peers")
    await world.until(
        lambda: all(node.running.orchestrator.db_ready.is_open for node in nodes), 900, "registries are ready"
    )


def knows(node: SimNode, messages: Iterable[AppMessage]) -> bool:
    """Whether the node has these apps in force."""
    if node.core is None:
        return False
    specs = node.core.registry.current.by_name
    return all(message.name in specs and specs[message.name].hash == message.hash for message in messages)


async def check_same(world: World, messages: Sequence[AppMessage], nodes: Sequence[SimNode]) -> None:
    """The registries of these nodes hold these messages and nothing else, each once and resolved."""
    wanted = {message.hash for message in messages}
    for node in nodes:
        store = node.registry_store
        permanent = [row.hash async for row in store.stream_permanents()]
        if len(permanent) != len(set(permanent)) or set(permanent) != wanted:
            raise ScenarioError(f"{node.name} has {len(permanent)} messages instead of {len(wanted)}")
        missing = await store.hashes(missing=True)
        if missing:
            raise ScenarioError(f"{node.name} still misses {len(missing)} messages")


async def seed_registry(
    world: World,
    messages: Sequence[AppMessage],
    holders: Sequence[SimNode],
    without: Sequence[SimNode],
    *,
    paid_sat: int = PAID_SAT,
    before_blocks: int = 1000,
) -> None:
    """As after a long life: everybody has read these payments; only the holders have their messages."""
    height = world.chain.height
    first = height - before_blocks - len(messages)
    rows = [
        HashRow.found(f"{number:064x}", first + number, message.hash, paid_sat)
        for number, message in enumerate(messages)
    ]
    permanents = tuple(_permanent(message, row) for message, row in zip(messages, rows, strict=True))
    for node in (*holders, *without):
        changes: list[RegistryChange] = [AddHashes(tuple(rows)), SetScannedHeight(height)]
        if node in holders:
            changes += [AddPermanents(permanents), ResolveHashes(tuple(row.hash for row in rows))]
        await node.registry_store.commit(changes)


def _permanent(message: AppMessage, row: HashRow) -> PermanentRow:
    return PermanentRow(
        message.hash,
        message.type,
        message.version,
        message.spec_text,
        message.name,
        message.spec["owner"],
        message.timestamp_ms,
        message.signature,
        row.txid,
        row.height,
        row.value_sat,
    )
