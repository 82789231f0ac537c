"""Section runners of registry.json for what the explorer reads (docs/spec/registry.md §9)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import trio
from runner import Context, Mismatch, Outcome, each, expect, fields, register

from trionode.chain.blocks import read_block
from trionode.chain.bootstrap import Bootstrap
from trionode.chain.ledger import Ledger
from trionode.chain.port import RpcParams
from trionode.chain.scan import PaymentRules, minimum_prices, op_return_text, scan_block, scan_transaction
from trionode.config.tree import Settings
from trionode.errors import ChainError
from trionode.registry.rows import ChainMessageRow, HashRow
from trionode.runtime.counters import Counters
from trionode.store.registry_memory import MemoryRegistryStore

SETTINGS = Settings()
RULES = PaymentRules.from_settings(SETTINGS.economy, SETTINGS.explorer)
prices = minimum_prices(SETTINGS.economy)
NO_SUCH_TRANSACTION = -5


def document(row: ChainMessageRow) -> dict[str, Any]:
    return {"txid": row.txid, "height": row.height, "message": row.message, "version": row.version}


@register("registry", "op_return")
def op_return(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "asm out length code_units", "note name id")
        text = op_return_text(case["asm"])
        expect("text", text, case["out"])
        units = text.encode("utf-16-le", "surrogatepass")
        expect("length", len(units) // 2, case["length"])
        codes = [int.from_bytes(units[at : at + 2], "little") for at in range(0, len(units), 2)]
        expect("code units", codes, case["code_units"])

    return each("op_return", section, check, ("name", "asm"))


@register("registry", "bootstrap_tx")
def bootstrap_tx(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "id tx already_seen out", "note name")
        seen = [HashRow.found("earlier", 1, hash_, 1) for hash_ in case["already_seen"]]
        transaction = case["tx"]
        # Through the bootstrap itself: it decides about heights and what is known already.
        world = _Daemon([transaction["txid"]], {transaction["txid"]: transaction}, [], {})
        store = _bootstrapped(world, 10_000_000, seen=seen)
        expect("rows", _documents(store, without=case["already_seen"]), case["out"])
        if isinstance(transaction.get("height"), int) and not seen:
            row = scan_transaction(transaction, transaction["height"], RULES, prices(()))
            expect("row of a block", [] if row is None else [row.document()], case["out"])

    return each("bootstrap_tx", section, check, ("id",))


@register("registry", "soft_forks")
def soft_forks(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "id block chain_messages", "note name")
        block = read_block(case["block"], case["block"]["height"])
        found = scan_block(block.transactions, block.height, RULES, prices(()))
        store = MemoryRegistryStore()

        async def keep() -> list[ChainMessageRow]:
            ledger = Ledger(store, prices)
            ledger.add_block(block.height, block.hash, found)
            await ledger.flush()
            return await store.chain_messages()

        expect("messages", [document(row) for row in trio.run(keep)], case["chain_messages"])

    return each("soft_forks", section, check, ("id",))


@register("registry", "bootstrap_run")
def bootstrap_run(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        if isinstance(case, dict) and "batch_sizes" in case:
            _check_sizes(case)
            return
        fields(
            case,
            "id height txids txs deltas failures calls error hashes scanned chain_messages",
            "note name",
        )
        world = _Daemon(case["txids"], case["txs"], case["deltas"], case["failures"])
        error, store = _try_bootstrap(world, case["height"])
        expect("calls", world.calls, case["calls"])
        expect("error", error, case["error"])
        expect("hashes", _documents(store), case["hashes"])
        height = trio.run(store.scanned_height)
        expect("scanned", [{"generalScannedHeight": height}] if height else [], case["scanned"])
        messages = [document(row) for row in trio.run(store.chain_messages)]
        expect("chain messages", messages, case["chain_messages"])

    return each("bootstrap_run", section, check, ("id",))


def _check_sizes(case: Any) -> None:
    """The case of many transactions: the file gives only the figures, the transactions are ours."""
    fields(case, "id batch_sizes hash_count", "note name")
    count = sum(case["batch_sizes"])
    rng = random.Random(count)
    app_hashes = [f"{rng.getrandbits(256):064x}" for _ in range(count)]
    txs = {f"tx{number}": _payment(f"tx{number}", hash_) for number, hash_ in enumerate(app_hashes)}
    world = _Daemon(list(txs), txs, [], {})
    error, store = _try_bootstrap(world, 2_150_000)
    expect("error", error, None)
    expect("batch sizes", [call["batch"] for call in world.calls if "batch" in call], case["batch_sizes"])
    expect("hashes", len(_documents(store)), case["hash_count"])


def _payment(txid: str, app_hash: str) -> dict[str, Any]:
    return {
        "txid": txid,
        "version": 4,
        "height": 2_100_000,
        "vin": [],
        "vout": [
            {
                "valueSat": 200_000_000,
                "scriptPubKey": {"addresses": [SETTINGS.economy.payment_address], "asm": "OP_DUP x"},
            },
            {"valueSat": 0, "scriptPubKey": {"asm": f"OP_RETURN {app_hash.encode().hex()}"}},
        ],
    }


class _Daemon:
    """The daemon of a case: answers from it and remembers the calls in the file's form."""

    def __init__(self, txids: Any, txs: Any, deltas: Any, failures: Any) -> None:
        self._answers = {"getaddresstxids": txids, "getaddressdeltas": deltas}
        self._txs = txs
        self._failures = failures
        self.calls: list[dict[str, Any]] = []
        unknown = {*failures} - {"batch", *self._answers}
        if unknown:
            raise Mismatch(f"unknown failures: {sorted(unknown)}")

    async def call(self, method: str, params: RpcParams = (), *, fresh: bool = False) -> Any:
        self.calls.append({"method": method, "params": list(params)})
        if self._failures.get(method):
            raise ChainError(f"{method} fails in this case")
        return self._answers[method]

    async def batch(self, calls: Sequence[tuple[str, RpcParams]]) -> list[Any]:
        method, params = calls[0]
        self.calls.append({"batch": len(calls), "method": method, "params": list(params)})
        if self._failures.get("batch"):
            raise ChainError("the batch fails in this case")
        absent = ChainError("No such transaction", rpc_code=NO_SUCH_TRANSACTION)
        return [self._txs.get(one[0], absent) for _, one in calls]


def _try_bootstrap(world: _Daemon, height: int) -> tuple[str | None, MemoryRegistryStore]:
    store = MemoryRegistryStore()
    try:
        _bootstrapped(world, height, store=store)
    except ChainError as error:
        return error.code, store
    return None, store


def _bootstrapped(
    world: _Daemon, height: int, *, seen: Sequence[HashRow] = (), store: MemoryRegistryStore | None = None
) -> MemoryRegistryStore:
    kept = store or MemoryRegistryStore()

    async def bootstrap() -> None:
        await kept.add_hashes(seen)
        ledger = Ledger(kept, prices)
        run = Bootstrap(world, RULES, prices, Counters(), keep=ledger.keep_found, need_soft_forks=False)
        await run.run(RULES.first_height, height)

    trio.run(bootstrap)
    return kept


def _documents(store: MemoryRegistryStore, without: Sequence[str] = ()) -> list[Any]:
    """The stored rows in order of insertion."""

    async def read() -> list[HashRow]:
        return [row async for row in store.stream_hashes()]

    return [row.document() for row in trio.run(read) if row.hash not in without]
