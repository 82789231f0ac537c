"""Section runners of registry.json for the hash sync (docs/spec/registry.md §12).

Every case runs through the whole HashSync on a clock that jumps; peers, other nodes, HTTP and the registry
are stood in for. Peers never answer, unless the id of a case says so.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import trio
from runner import Context, Mismatch, Outcome, each, expect, fields, register
from trio.testing import MockClock

from trionode.config.tree import Settings
from trionode.peers.closecodes import EPHEMERAL_DONE
from trionode.peers.dispatch import MessageHandler
from trionode.peers.peer import Peer
from trionode.registry.backoff import Ladder
from trionode.registry.rows import HashRow
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.store.appregistry_batch import BatchReport
from trionode.store.registry_memory import MemoryRegistryStore
from trionode.sync.hashsync import HashSync
from trionode.sync.source import HttpBody
from trionode.wire.address import peer_key, with_port
from trionode.wire.envelope import decode_envelope
from trionode.wire.jsjson import JsValue, parse
from trionode.wire.keys import NodeKey
from trionode.wire.nodelist import NodeList

OWN_ADDRESS = "10.9.9.9"
"""What the cases take for the node's own address."""

AGE_BLOCKS = 10
"""How old the payments of a case without particular ones are."""

LINKS = "(short links)"
"""The file tells all short links by one name."""


class StubPeer:
    """As much of a peer as a request needs."""

    closing = False

    def __init__(self, key: str, source: str) -> None:
        self.key = key
        self.ip, _, port = key.partition(":")
        self.port = int(port)
        self.source = source


class StubTable:
    threshold_reached = True

    def __init__(self, peers: Sequence[StubPeer]) -> None:
        self._peers = {peer.key: cast("Peer", peer) for peer in peers}

    def __iter__(self) -> Iterator[Peer]:
        return iter(self._peers.values())

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, key: str) -> bool:
        return key in self._peers


class StubPeers:
    """Writes down what is sent to whom, and when."""

    def __init__(self, peers: Sequence[StubPeer]) -> None:
        self.table = StubTable(peers)
        self.sent: list[tuple[float, str, dict[str, JsValue]]] = []
        self.targets: list[str] = []
        self.closes: list[dict[str, Any]] = []
        self.on_request: Callable[[], None] = lambda: None

    def send_text(self, peer: Peer, text: str) -> None:
        key = LINKS if peer.source == "ephemeral" else peer.key
        self.sent.append((trio.current_time(), key, decode_envelope(parse(text)).data))
        self.on_request()

    @asynccontextmanager
    async def ephemeral(self, ip: str, port: int) -> AsyncIterator[Peer]:
        await trio.lowlevel.checkpoint()
        self.targets.append(peer_key(ip, port))
        yield cast("Peer", StubPeer(peer_key(ip, port), "ephemeral"))
        self.closes.append({"closed": EPHEMERAL_DONE, "reason": "done"})

    def register_handler(self, message_type: str, handler: MessageHandler) -> None:
        raise AssertionError("the hash sync takes no messages itself")


class StubHttp:
    """Peers that are not synced, or, when a case reads lists, have nothing in them."""

    def __init__(self, has_lists: bool) -> None:
        self.urls: list[str] = []
        self._answers = {"/explorer/issynced": b"true" if has_lists else b"false"}

    @asynccontextmanager
    async def get(self, ip: str, port: int, path: str) -> AsyncIterator[HttpBody]:
        await trio.lowlevel.checkpoint()
        self.urls.append(f"http://{ip}:{port}{path}")
        yield HttpBody(200, "", self._pieces(self._answers.get(path, b"[]")))

    async def _pieces(self, data: bytes) -> AsyncGenerator[bytes, None]:
        yield b'{"status":"success","data":' + data + b"}"


class StubRegistry:
    """The store, and nobody who judges."""

    def __init__(self, store: MemoryRegistryStore) -> None:
        self.store = store
        self.listeners: list[Callable[[str], None]] = []

    def batch_run(self) -> StubRegistry:
        return self

    async def process(self, served: Sequence[JsValue]) -> BatchReport:
        raise AssertionError("nobody serves anything")

    def on_hash_response(self, listener: Callable[[str], None]) -> None:
        self.listeners.append(listener)

    def rejection_of(self, hash_: str) -> None:
        return None

    async def reindex(self) -> int | None:
        return 0


class StubFacts:
    own_address = OWN_ADDRESS
    synced = confirmed = can_send = True

    def __init__(self, height: int, nodes: Sequence[str]) -> None:
        self.height = height
        self.nodes = NodeList.from_rpc([{"ip": ip, "pubkey": ""} for ip in nodes])


class StubExplorer:
    is_synced = True

    def __init__(self, height: int) -> None:
        self.scanned_height = height


class World:
    """A hash sync among stubs."""

    def __init__(
        self,
        rows: Sequence[HashRow],
        height: int,
        peers: Sequence[StubPeer] = (),
        nodes: Sequence[str] = (),
        *,
        has_lists: bool = False,
    ) -> None:
        self.store = MemoryRegistryStore()
        self.rows = rows
        self.registry = StubRegistry(self.store)
        self.peers = StubPeers(peers)
        self.http = StubHttp(has_lists)
        self.sync = HashSync(
            Settings(),
            registry=self.registry,
            explorer=StubExplorer(height),
            peers=self.peers,
            facts=StubFacts(height, nodes),
            http=self.http,
            bus=EventBus(),
            counters=Counters(),
            clock=VirtualClock(),
            rng=random.Random(1),
            key=NodeKey.generate(random.Random(2)),
            version="1",
        )

    def heard(self, hash_: str) -> None:
        for listener in self.registry.listeners:
            listener(hash_)

    async def resolve(self, row: HashRow) -> None:
        found = HashRow(
            row.txid,
            row.height,
            row.hash,
            row.value_sat,
            True,
            row.message_not_found,
            row.sync_attempts,
            row.next_retry_height,
            row.retry_from_height,
        )
        await self.store.update_hashes([found])


def run(work: Callable[[], Any]) -> None:
    trio.run(work, clock=MockClock(autojump_threshold=0))


# ---- hash_sync ---------------------------------------------------------------------------------------


@register("registry", "hash_sync")
def hash_sync(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(
            case,
            "id hash_count current_height options peers node_list result rounds no_peer_reused"
            " waited_ms_total http_urls_kind http_call_count ephemeral_target_count"
            " ephemeral_targets_sorted closes",
            "hashes_after note",
        )
        run(partial(synced, case))

    return each("hash_sync", section, check, ("id",))


async def synced(case: dict[str, Any]) -> None:
    options = fields(case["options"], "", "force currentHeight maxConcurrentPeers")
    height = options.get("currentHeight", case["current_height"])
    rows, stored = rows_before(case)
    peers = [StubPeer(**fields(peer, "key source")) for peer in case["peers"]]
    has_lists = any(url.endswith("/apps/permanentmessages") for url in case["http_urls_kind"])
    world = World(rows, height, peers, case["node_list"], has_lists=has_lists)
    await world.store.add_hashes(rows)
    known = world.store.known_permanents

    async def known_permanents(hashes: Any) -> set[str]:
        return await known(hashes) | stored.intersection(hashes)

    world.store.known_permanents = known_permanents  # type: ignore[method-assign]
    began_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(behave, case["id"], world)
        report = await world.sync.sync_missing(
            height, force=options.get("force", False), bulk_peers=options.get("maxConcurrentPeers", 3)
        )
        waited_ms = round(1000 * (trio.current_time() - began_s))
        nursery.cancel_scope.cancel()
    document = report.document()
    ours = {key: document[key] for key in ("resolved", "missing", "unreachable", "nextRetryHeight")}
    if "nextRetryHeight" not in case["result"]:
        expect("next retry of an idle run", ours.pop("nextRetryHeight"), None)
    expect("result", ours, case["result"])
    expect("waited", waited_ms, case["waited_ms_total"])
    check_requests(case, world.peers)
    check_http(case, world.http)
    check_links(case, world.peers)
    if "hashes_after" in case:
        after = {row.hash: row.document() async for row in world.store.stream_hashes()}
        for theirs in case["hashes_after"]:
            document = after.pop(theirs["hash"])
            if "value" not in theirs:
                del document["value"]
            expect(f"row {theirs['hash']}", document, theirs)
        expect("rows the file does not know", sorted(after), [])


async def behave(name: str, world: World) -> None:
    """What the world does by itself, as the id of the case says."""
    if "gradually" in name:
        for row in world.rows:
            await trio.sleep(1)
            await world.resolve(row)
            world.heard(row.hash)
    elif "activity" in name:
        while True:
            await trio.sleep(1)
            world.heard(world.rows[0].hash)


def rows_before(case: dict[str, Any]) -> tuple[list[HashRow], set[str]]:
    """The rows a case begins with, and whose message is stored already.

    The file tells particular rows only by what becomes of them: a row that this run has put off or given
    up was one step lower on the ladder before.
    """
    after, height = case.get("hashes_after"), case["current_height"]
    if after is None or all(row["hash"] == f"h{number}" for number, row in enumerate(after)):
        begun = height - AGE_BLOCKS
        rows = [HashRow.found(f"t{n}", begun, f"h{n}", 1) for n in range(case["hash_count"])]
        stored = {row["hash"] for row in after or () if row["message"] and "messageNotFound" in row}
        return rows, stored
    given_up = case["result"]["unreachable"]
    rows = []
    for document in after:
        begun_with = dict(document)
        if document.get("messageNotFound") is True and given_up:
            given_up -= 1
            del begun_with["messageNotFound"]
        elif is_put_off(document, height):
            attempts = document["syncAttempts"] - 1
            begun_with["syncAttempts"] = attempts
            begun_with["nextRetryHeight"] = height
            if not attempts:
                del begun_with["syncAttempts"], begun_with["nextRetryHeight"]
        rows.append(HashRow.of_document(begun_with))
    return rows, set()


def is_put_off(document: dict[str, Any], height: int) -> bool:
    if document["message"] or "syncAttempts" not in document:
        return False
    steps = Ladder().steps_blocks
    step = steps[min(document["syncAttempts"], len(steps) - 1)]
    return bool(document.get("nextRetryHeight") == height + step)


def check_requests(case: dict[str, Any], peers: StubPeers) -> None:
    """Requests of one round leave in one moment; a message that goes to several peers is told once."""
    rounds: dict[float, tuple[set[str], list[dict[str, JsValue]]]] = {}
    asked: list[set[str]] = []
    for at_s, key, data in peers.sent:
        if at_s not in rounds:
            rounds[at_s] = (set(), [])
            asked.append(rounds[at_s][0])
        keys, requests = rounds[at_s]
        keys.add(key)
        hashes = data["hashes"]
        request = {"n": len(hashes), "first": hashes[0], "type": data["type"], "version": data["version"]}
        if request not in requests:
            requests.append(request)
    ours = [{"distinct_peers": len(keys), "requests": requests} for keys, requests in rounds.values()]
    expect("rounds", ours, case["rounds"])
    reused = sum(len(keys) for keys in asked) != len(set().union(*asked))
    expect("no peer asked twice", not reused, case["no_peer_reused"])


def check_http(case: dict[str, Any], http: StubHttp) -> None:
    hosts = {peer["key"].partition(":")[0] for peer in case["peers"]}
    kinds: dict[str, None] = {}
    for url in http.urls:
        host = url.removeprefix("http://").partition(":")[0]
        if host not in hosts:
            raise Mismatch(f"asked {host}, which is no peer")
        kinds[url.replace(host, "PEER")] = None
    expect("kinds of URL", list(kinds), case["http_urls_kind"])
    expect("HTTP calls", len(http.urls), case["http_call_count"])


def check_links(case: dict[str, Any], peers: StubPeers) -> None:
    fit = {with_port(ip) for ip in case["node_list"] if ip and ip != OWN_ADDRESS}
    fit -= {peer["key"] for peer in case["peers"]}
    expect("targets that are fit", sorted(set(peers.targets) - fit), [])
    expect("targets that are ours and theirs", sorted(set(case["ephemeral_targets_sorted"]) - fit), [])
    expect("short links", len(set(peers.targets)), case["ephemeral_target_count"])
    expect("closes", peers.closes, case["closes"])


# ---- backoff_ladder ----------------------------------------------------------------------------------


@register("registry", "backoff_ladder")
def backoff_ladder(section: Any, context: Context) -> Iterator[Outcome]:
    first = section[0]["at_height"]
    ours: dict[int, dict[str, Any]] = {}

    async def climb() -> None:
        world = World([], first)
        await world.store.add_hashes([HashRow.found("t", first, "h", 1)])
        height = first
        for _ in section:
            report = await world.sync.sync_missing(height)
            row = await world.store.hash_row("h")
            assert row is not None
            assert row.next_retry_height is not None
            ours[height] = {
                "at_height": height,
                "syncAttempts": row.sync_attempts,
                "nextRetryHeight": row.next_retry_height,
                "delta": row.next_retry_height - height,
                "messageNotFound": row.message_not_found,
                "returned": {
                    "resolved": report.resolved,
                    "missing": report.missing,
                    "unreachable": report.unreachable,
                    "nextRetryHeight": report.next_retry_height,
                },
            }
            height = row.next_retry_height

    run(climb)

    def check(case: Any) -> None:
        fields(case, "at_height syncAttempts nextRetryHeight delta messageNotFound returned", "note")
        expect("step", ours.get(case["at_height"]), {k: v for k, v in case.items() if k != "note"})

    return each("backoff_ladder", section, check, ("at_height",))
