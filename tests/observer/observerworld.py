"""Sources in memory: each address answers as a test wants, also badly."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from trionode.config.observer import ObserverSettings
from trionode.observer.answers import CHAIN_PATH, LOCATIONS_PATH, NODES_PATH, SPECS_PATH
from trionode.observer.facts import ObservedFacts
from trionode.observer.reading import Reader
from trionode.observer.sources import SourceBook
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.sync.source import HttpBody, SourceError

HEIGHT = 2_100_000


def node_row(number: int, **changes: Any) -> dict[str, Any]:
    """A row of the node list; every node has a provider of its own."""
    row = {
        "ip": f"9.{number}.0.1",
        "pubkey": f"02{number:064x}",
        "txhash": f"{number:064x}",
        "outidx": "0",
        "added_height": 1000 + number,
        "tier": "CUMULUS",
        "rank": number,
    }
    return {**row, **changes}


def network(count: int) -> list[dict[str, Any]]:
    return [node_row(number) for number in range(1, count + 1)]


class Node:
    """What one address answers. `broken` maps a path to a function that does something else."""

    def __init__(self, rows: list[dict[str, Any]], height: int = HEIGHT) -> None:
        self.rows = rows
        self.height = height
        self.locations: list[dict[str, Any]] = []
        self.specs: list[dict[str, Any]] = []
        self.is_up = True
        self.etag = ""
        self.delay_s = 0.0
        self.bodies: dict[str, bytes] = {}
        self.asked: list[str] = []

    def body(self, path: str) -> bytes:
        if path in self.bodies:
            return self.bodies[path]
        data: Any = {
            NODES_PATH: self.rows,
            CHAIN_PATH: {"blocks": self.height, "headers": self.height},
            LOCATIONS_PATH: self.locations,
            SPECS_PATH: self.specs,
        }[path]
        return json.dumps({"status": "success", "data": data}).encode()


class Net:
    """`SourceHttp` over nodes by address."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.headers: list[list[tuple[str, str]]] = []

    def add(self, count: int, rows: list[dict[str, Any]] | None = None) -> list[Node]:
        """Nodes 1 to `count` at 9.N.0.1, who all tell the same list."""
        told = network(count) if rows is None else rows
        made = [Node(told) for _ in range(count)]
        self.nodes.update({f"9.{number}.0.1": node for number, node in enumerate(made, 1)})
        return made

    @asynccontextmanager
    async def get(
        self, ip: str, port: int, path: str, *, headers: Sequence[tuple[str, str]] = ()
    ) -> AsyncIterator[HttpBody]:
        self.headers.append(list(headers))
        node = self.nodes.get(ip)
        if node is None or not node.is_up:
            raise SourceError(f"cannot talk to {ip}:{port}", remedy="ask another")
        node.asked.append(path)
        await trio.sleep(node.delay_s)
        if node.etag and dict(headers).get("If-None-Match") == node.etag:
            yield HttpBody(304, "", _pieces(b""), etag=node.etag)
            return
        yield HttpBody(200, "", _pieces(node.body(path)), etag=node.etag)


async def _pieces(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), 10_000):
        yield body[start : start + 10_000]


class Watch:
    """ObservedFacts on a Net."""

    def __init__(self, net: Net, seeds: Sequence[str], **changes: Any) -> None:
        self.net = net
        self.settings = ObserverSettings(**changes)
        self.bus = EventBus()
        self.counters = Counters()
        self.reader = Reader(net, self.counters)
        self.book = SourceBook(
            self.settings, seeds, random.Random(5), allowed=lambda ip, port: ip.startswith("9.")
        )
        self.facts = ObservedFacts(
            self.settings, self.book, self.reader, self.bus, self.counters, random.Random(6)
        )

    def events(self, name: str) -> list[dict[str, Any]]:
        return [dict(event.data) for event in self.bus.replay() if event.name == name]
