"""The bulk route: the list of all messages of up to three peers, one after the other (registry.md §12).

A list is cut into its objects as it arrives (sync.rowstream); those that are missing go to the batch
processor, a batch at a time. While one batch is judged the next is collected, and then reading stops, so
memory stays bounded and a peer is never read faster than its messages can be judged. A list that stalls,
breaks off or is none is given up; what it gave until then counts. What a peer gave wrongly is asked of the
next peer again.
"""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from typing import TypeVar

import msgspec
import trio

from trionode.errors import StoreError, WireError
from trionode.peers.peer import Peer
from trionode.runtime.counters import Counters
from trionode.sync.ports import Batch
from trionode.sync.report import StreamOutcome
from trionode.sync.rounds import untried
from trionode.sync.rowstream import BadStream, RowCutter, Unpacker
from trionode.sync.source import HttpBody, PeerHttp, SourceError
from trionode.wire.jsjson import JsValue, parse

SYNCED_PATH = "/explorer/issynced"
LIST_PATH = "/apps/permanentmessages"
BULK_PEERS = 3
BATCH_MESSAGES = 2_000
ANSWER_LIMIT_S = 5.0
LIST_LIMIT_S = 120.0
"""Time spent waiting for a peer's bytes; our own work does not count."""
STALL_LIMIT_S = 20.0
MAX_SMALL_BODY_BYTES = 64 * 1024

_HASHES = re.compile(rb'"hash"[ \t\n\r]*:[ \t\n\r]*"([^"]*)"').findall


_T = TypeVar("_T")


class _Tally(msgspec.Struct):
    """How far one list has come."""

    objects: int = 0
    handed: int = 0
    resolved: int = 0


class BulkSync:
    """Reads the lists of peers. `batch_messages` of them are judged at a time."""

    def __init__(
        self,
        http: PeerHttp,
        counters: Counters,
        rng: random.Random,
        *,
        batch_messages: int = BATCH_MESSAGES,
    ) -> None:
        self._http = http
        self._counters = counters
        self._rng = rng
        self._batch_messages = batch_messages

    async def fetch(
        self, wanted: set[str], peers: Iterable[Peer], batch: Batch, *, count: int = BULK_PEERS
    ) -> list[StreamOutcome]:
        """Ask up to `count` of the peers; take out of `wanted` what is resolved. Raises StoreError."""
        outcomes: list[StreamOutcome] = []
        for peer in untried(peers, set(), count, self._rng):
            if not wanted:
                break
            outcome = await self._from_peer(peer, wanted, batch)
            self._counters.add("hashsync.bulk.failed" if outcome.problem else "hashsync.bulk.read")
            outcomes.append(outcome)
        return outcomes

    async def _from_peer(self, peer: Peer, wanted: set[str], batch: Batch) -> StreamOutcome:
        tally = _Tally()
        problem = ""
        try:
            if await self._is_synced(peer):
                await self._stream(peer, wanted, batch, tally)
            else:
                problem = "it is not synced itself"
        except (SourceError, BadStream) as error:
            problem = error.message
        return StreamOutcome(peer.key, tally.objects, tally.handed, tally.resolved, problem)

    async def _is_synced(self, peer: Peer) -> bool:
        body = b""
        with trio.move_on_after(ANSWER_LIMIT_S) as limit:
            async with self._http.get(peer.ip, peer.port, SYNCED_PATH) as answer:
                unpacker = Unpacker(answer.encoding, max_total_bytes=MAX_SMALL_BODY_BYTES)
                async with aclosing(answer.pieces) as pieces:
                    async for piece in pieces:
                        for unpacked in unpacker.feed(piece):
                            body += unpacked
        if limit.cancelled_caught:
            raise SourceError(f"no answer within {ANSWER_LIMIT_S:g} s", remedy="ask another peer")
        try:
            said = parse(body.decode("utf-8", "replace"))
        except WireError as error:
            raise SourceError(f"its answer is not JSON: {error.message}", remedy="ask another") from error
        return isinstance(said, dict) and said.get("status") == "success" and said.get("data") is True

    async def _stream(self, peer: Peer, wanted: set[str], batch: Batch, tally: _Tally) -> None:
        """Read and judge side by side, joined by a channel without room: that is the back-pressure."""
        sender, receiver = trio.open_memory_channel[list[JsValue]](0)
        problems: list[SourceError | BadStream] = []
        # Handed messages are not handed twice; those refused come back for the next peer.
        open_hashes = set(wanted)

        async def read() -> None:
            async with sender:
                try:
                    await self._read(peer, open_hashes, sender, tally)
                except (SourceError, BadStream) as error:
                    problems.append(error)

        async def judge() -> None:
            async for rows in receiver:
                report = await batch.process(rows)
                resolved = wanted.intersection(report.resolved)
                wanted.difference_update(resolved)
                tally.resolved += len(resolved)

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                nursery.start_soon(judge)
        except* StoreError as group:
            raise _first(group) from None
        if problems:
            raise problems[0]

    async def _read(
        self, peer: Peer, wanted: set[str], sender: trio.MemorySendChannel[list[JsValue]], tally: _Tally
    ) -> None:
        rows: list[JsValue] = []
        patience = _Patience(LIST_LIMIT_S)
        try:
            async with AsyncExitStack() as stack:
                answer = await patience.open(stack, self._http.get(peer.ip, peer.port, LIST_PATH))
                if answer.status != 200:
                    raise SourceError(f"it answered {answer.status}", remedy="ask another peer")
                unpacker, cutter = Unpacker(answer.encoding), RowCutter()
                while wanted and not cutter.ended:
                    piece = await patience.piece(answer)
                    if piece is None:
                        cutter.finish()
                        return
                    for unpacked in unpacker.feed(piece):
                        for text in cutter.feed(unpacked):
                            tally.objects += 1
                            row = _wanted_row(text, wanted)
                            if row is not None:
                                wanted.discard(row["hash"])
                                rows.append(row)
                            if len(rows) >= self._batch_messages:
                                tally.handed += len(rows)
                                await sender.send(rows)
                                rows = []
                        await trio.lowlevel.checkpoint()
        finally:
            # also what came before a list broke off; when we are cancelled this raises at once
            if rows:
                tally.handed += len(rows)
                await sender.send(rows)


class _Patience:
    """How long a peer may let us wait: for each piece, and in all."""

    def __init__(self, limit_s: float) -> None:
        self._left_s = limit_s

    async def open(self, stack: AsyncExitStack, answer: AbstractAsyncContextManager[HttpBody]) -> HttpBody:
        """The head of the answer. Raises SourceError when it does not come."""
        opened = await self._within(stack.enter_async_context(answer))
        await stack.enter_async_context(aclosing(opened.pieces))
        return opened

    async def piece(self, answer: HttpBody) -> bytes | None:
        """The next piece, None at the end. Raises SourceError when it does not come."""
        return await self._within(anext(answer.pieces, None))

    async def _within(self, something: Awaitable[_T]) -> _T:
        began_s = trio.current_time()
        allowed_s = min(STALL_LIMIT_S, self._left_s)
        with trio.move_on_after(allowed_s):
            result = await something
            self._left_s -= trio.current_time() - began_s
            return result
        raise SourceError(f"it sent nothing for {allowed_s:.3g} s", remedy="ask another peer")


def _wanted_row(text: bytes, wanted: set[str]) -> dict[str, JsValue] | None:
    """The message in `text` if it is one of those; most are not, and are not even parsed."""
    if not any(found.decode("utf-8", "replace") in wanted for found in _HASHES(text)):
        return None
    try:
        row = parse(text.decode())
    except (WireError, UnicodeDecodeError) as error:
        raise BadStream(f"an object of the list is not JSON: {error}") from error
    return row if isinstance(row, dict) and row.get("hash") in wanted else None


def _first(group: BaseExceptionGroup[StoreError]) -> StoreError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
