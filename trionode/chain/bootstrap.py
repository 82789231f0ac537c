"""Fast bootstrap: app payments found through the daemon's address index (docs/spec/registry.md §9).

Three questions instead of two million blocks: the transactions of the payment addresses, the soft fork
messages (they decide the smallest payment), and the transactions themselves in batches of 500. The rows
are those of a plain scan, in chain order. Rows are handed on whenever 5,000 are pending; each hand-over
names the height below which nothing is missing any more, so a killed run goes on from there.

Beyond the specification: what the daemon did not answer at all (half a batch, -28, wrong JSON) is asked
for again before the run gives up, and only an answer of the daemon itself ("no such transaction") lets
a transaction be passed over, counted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import msgspec

from trionode.chain.blocks import MalformedAnswer
from trionode.chain.port import ChainRpc
from trionode.chain.scan import PaymentRules, PriceBuilder, indexed_soft_fork, scan_transaction
from trionode.errors import ChainError
from trionode.registry.rows import ChainMessageRow, HashRow
from trionode.runtime.counters import Counters

BATCH_TXIDS = 500
INSERT_AT_ROWS = 5000
FRUITLESS_ROUNDS = 4
ORDER_SAMPLES = 64
WARMING_UP = -28


class BootstrapFailed(ChainError):
    """The bootstrap could not be finished; `code` is RPC_TXIDS_FAILED or RPC_BATCH_FAILED."""

    def __init__(self, code: str, cause: ChainError) -> None:
        super().__init__(
            f"the fast bootstrap stopped: {cause.message}", remedy=cause.remedy, rpc_code=cause.rpc_code
        )
        self.code = code


class Found(msgspec.Struct, frozen=True):
    """One hand-over. Everything up to `complete_height` (None: not known yet) is included by now."""

    rows: tuple[HashRow, ...]
    chain_messages: tuple[ChainMessageRow, ...]
    complete_height: int | None


Keep: TypeAlias = Callable[[Found], Awaitable[None]]
Tell: TypeAlias = Callable[[int, int], None]


class Bootstrap:
    """One run over the blocks `start` to `end`.

    `keep` stores what is handed to it; `tell(done, total)` hears of progress in transactions.
    `need_soft_forks` False: a failure to read the soft forks is ignored as the original does.
    """

    def __init__(
        self,
        rpc: ChainRpc,
        rules: PaymentRules,
        prices: PriceBuilder,
        counters: Counters,
        *,
        keep: Keep,
        tell: Tell = lambda done, total: None,
        known_messages: Sequence[ChainMessageRow] = (),
        need_soft_forks: bool = True,
    ) -> None:
        self._rpc = rpc
        self._rules = rules
        self._prices = prices
        self._counters = counters
        self._keep = keep
        self._tell = tell
        self._known_messages = tuple(known_messages)
        self._need_soft_forks = need_soft_forks

    async def run(self, start: int, end: int) -> None:
        """Find and hand over everything; raises BootstrapFailed."""
        txids = await self._txids(start, end)
        chain_messages = await self._soft_forks(start, end)
        if chain_messages:
            await self._keep(Found((), chain_messages, None))
        minimum_price = self._prices((*self._known_messages, *chain_messages))
        in_order = await self._look_sorted(txids)
        pending: list[HashRow] = []
        seen: set[str] = set()
        highest = 0
        self._tell(0, len(txids))
        for at in range(0, len(txids), BATCH_TXIDS):
            try:
                found = await self._transactions(txids[at : at + BATCH_TXIDS])
            except ChainError as error:
                raise BootstrapFailed("RPC_BATCH_FAILED", error) from error
            for transaction in found:
                height = transaction.get("height")
                if isinstance(height, bool) or not isinstance(height, int) or not start <= height <= end:
                    self._counters.add("explorer.bootstrap.without_height")
                    continue
                in_order = in_order and height >= highest
                highest = max(highest, height)
                row = scan_transaction(transaction, height, self._rules, minimum_price)
                if row is not None and row.hash not in seen:
                    seen.add(row.hash)
                    pending.append(row)
            self._tell(min(at + BATCH_TXIDS, len(txids)), len(txids))
            if len(pending) >= INSERT_AT_ROWS:
                # the next batch may hold more transactions of the highest block seen
                complete = highest - 1 if in_order and highest > start else None
                await self._keep(Found(tuple(pending), (), complete))
                pending.clear()
        await self._keep(Found(tuple(pending), (), end))

    async def _txids(self, start: int, end: int) -> list[str]:
        addresses = [one.address for one in self._rules.paid]
        query = {"addresses": addresses, "start": start, "end": end}
        try:
            answer = await self._rpc.call("getaddresstxids", [query], fresh=True)
            if not isinstance(answer, list) or not all(isinstance(txid, str) for txid in answer):
                raise MalformedAnswer("getaddresstxids gave something that is no list of transaction ids")
        except ChainError as error:
            raise BootstrapFailed("RPC_TXIDS_FAILED", error) from error
        return list(dict.fromkeys(answer))

    async def _soft_forks(self, start: int, end: int) -> tuple[ChainMessageRow, ...]:
        """The soft fork messages of the range, in chain order."""
        query = {"addresses": self._multisig_in_order(), "start": start, "end": end}
        rows: dict[str, ChainMessageRow] = {}
        try:
            answer = await self._rpc.call("getaddressdeltas", [query], fresh=True)
            txids = _self_sent(answer)
            for at in range(0, len(txids), BATCH_TXIDS):
                for transaction in await self._transactions(txids[at : at + BATCH_TXIDS]):
                    height = transaction.get("height")
                    if isinstance(height, bool) or not isinstance(height, int):
                        continue
                    row = indexed_soft_fork(transaction, height, self._rules)
                    if row is not None:
                        rows[row.txid] = row
        except ChainError as error:
            self._counters.add("explorer.bootstrap.soft_forks_failed")
            if self._need_soft_forks:
                raise BootstrapFailed("RPC_DELTAS_FAILED", error) from error
        return tuple(sorted(rows.values(), key=lambda row: row.height))

    async def _look_sorted(self, txids: Sequence[str]) -> bool:
        """Whether samples of the list stand in chain order, as fluxd gives it: only then does the height of
        a transaction say that everything below it has been seen. Short lists need no such knowledge."""
        if len(txids) < INSERT_AT_ROWS:
            return False
        samples = [txids[at * (len(txids) - 1) // ORDER_SAMPLES] for at in range(ORDER_SAMPLES + 1)]
        try:
            found = await self._transactions(samples)
        except ChainError as error:
            raise BootstrapFailed("RPC_BATCH_FAILED", error) from error
        heights = [one["height"] for one in found if isinstance(one.get("height"), int)]
        return heights == sorted(heights)

    def _multisig_in_order(self) -> list[str]:
        return [one.address for one in self._rules.paid if one.address in self._rules.multisig]

    async def _transactions(self, txids: Sequence[str]) -> list[dict[str, Any]]:
        """The transactions of these ids; unanswered items are asked for again while answers come."""
        found: dict[str, dict[str, Any]] = {}
        left = list(txids)
        fruitless = 0
        while fruitless < FRUITLESS_ROUNDS:
            answers = await self._rpc.batch([("getrawtransaction", [txid, 1]) for txid in left])
            unanswered: list[str] = []
            for txid, answer in zip(left, answers, strict=True):
                if isinstance(answer, dict) and answer.get("txid") == txid:
                    found[txid] = answer
                elif _is_refusal(answer):
                    self._counters.add("explorer.bootstrap.refused_transactions")
                else:
                    unanswered.append(txid)
            if not unanswered:
                return [found[txid] for txid in txids if txid in found]
            self._counters.add("explorer.bootstrap.unanswered_items", len(unanswered))
            fruitless = fruitless + 1 if len(unanswered) == len(left) else 0
            left = unanswered
        raise MalformedAnswer(f"{len(left)} of {len(txids)} transactions of a batch stayed unanswered")


def _is_refusal(answer: object) -> bool:
    """The daemon itself said no to this one item, and asking again would not change it."""
    if not isinstance(answer, ChainError) or isinstance(answer.rpc_code, str):
        return False
    return answer.rpc_code < 0 and answer.rpc_code != WARMING_UP


def _self_sent(deltas: object) -> list[str]:
    """Ids of transactions that both took from and gave to the addresses asked for, in given order."""
    if not isinstance(deltas, list):
        raise MalformedAnswer("getaddressdeltas gave something that is no list")
    took: set[str] = set()
    gave: set[str] = set()
    order: dict[str, None] = {}
    for delta in deltas:
        if not isinstance(delta, dict) or not isinstance(delta.get("txid"), str):
            raise MalformedAnswer("getaddressdeltas gave an entry without a transaction id")
        txid, satoshis = delta["txid"], delta.get("satoshis")
        order[txid] = None
        if isinstance(satoshis, int | float) and satoshis:
            (took if satoshis < 0 else gave).add(txid)
    return [txid for txid in order if txid in took and txid in gave]
