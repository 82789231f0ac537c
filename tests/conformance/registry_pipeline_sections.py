"""Section runners of registry.json for the way of a message: gossip, promotion, batch (registry.md §10, §12).

Every case runs through a whole AppRegistry over the memory store, on a clock that stands still.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

import trio
from runner import Context, Mismatch, Outcome, deviates, each, expect, fields, one, register
from trio.testing import MockClock

from trionode.registry.backoff import missing_messages, set_back
from trionode.registry.changes import (
    AddHashes,
    AddPermanents,
    PutCurrent,
    PutTemporary,
    RegistryChange,
)
from trionode.registry.housekeeping import Life
from trionode.registry.reasons import Reason
from trionode.registry.rows import CurrentSpec, HashRow, PermanentRow, TemporaryRow
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.store.appregistry import AppRegistry
from trionode.store.registry_memory import MemoryRegistryStore
from trionode.wire.jsjson import stringify

GLOBAL_LIST = "registry.name_conflict.global_list"
OWN_PAYMENT = "registry.process_messages.own_payment"
"""The knowing differences; deviations.toml says why."""

SYNC_HEIGHT = 2_200_000
NOBODY_HAS = 501
UNTOLD_VALUE_SAT = 200_000_000
"""What our own rows of the chain say was paid, where a case leaves it open."""


class Local:
    """The apps of the node: built-in ones, and those that the case expects to be removed."""

    def __init__(self, builtin: Sequence[str] = (), installed: Sequence[str] = ()) -> None:
        self.builtin_names = builtin
        self.removed: list[str] = []
        self._installed = installed

    def installed(self) -> Sequence[Life]:
        return [Life(name, 1, 1 << 40) for name in self._installed]

    async def remove(self, names: Sequence[str]) -> None:
        self.removed += names


def run(work: Callable[[], Awaitable[None]]) -> None:
    trio.run(work, clock=MockClock(autojump_threshold=0))


def specification(message: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = message.get("appSpecifications") or message["zelAppSpecifications"]
    return found


def temporary(message: dict[str, Any], now_ms: int) -> TemporaryRow:
    fields(message, "type version hash timestamp signature", "appSpecifications zelAppSpecifications")
    spec = specification(message)
    return TemporaryRow(
        message["hash"],
        message["type"],
        message["version"],
        stringify(spec),
        spec["name"],
        spec["owner"],
        message["timestamp"],
        message["signature"],
        now_ms,
        now_ms + 3_600_000,
    )


def permanent(message: dict[str, Any]) -> PermanentRow:
    fields(
        message,
        "type version hash timestamp signature txid height valueSat",
        "appSpecifications zelAppSpecifications",
    )
    unpaid = {key: value for key, value in message.items() if key not in ("txid", "height", "valueSat")}
    return temporary(unpaid, 0).permanent(message["txid"], message["height"], message["valueSat"])


def current(document: dict[str, Any]) -> CurrentSpec:
    spec = {key: value for key, value in document.items() if key not in ("hash", "height")}
    return CurrentSpec(document["name"], stringify(spec), document["hash"], document["height"])


async def registry_with(
    changes: Sequence[RegistryChange], height: int, local: Local, clock: VirtualClock
) -> tuple[AppRegistry, MemoryRegistryStore]:
    store = MemoryRegistryStore()
    store.commit_now(changes)
    registry = AppRegistry(
        store, clock, EventBus(), Counters(), daemon_height=lambda: height, local_apps=local
    )
    await registry.load()
    return registry, store


def info_of(registry: AppRegistry) -> list[dict[str, Any]]:
    return [{"name": row.name, "hash": row.hash, "height": row.height} for row in registry.current]


async def permanents_of(store: MemoryRegistryStore) -> list[dict[str, Any]]:
    return [
        {"hash": row.hash, "height": row.height, "valueSat": row.value_sat, "txid": row.txid}
        async for row in store.stream_permanents()
    ]


async def check_after(registry: AppRegistry, store: MemoryRegistryStore, after: Any) -> None:
    fields(after, "info permanent hashes temp")
    expect("current specifications", info_of(registry), after["info"])
    expect(
        "stored specifications",
        [row.hash async for row in store.stream_current()],
        [row["hash"] for row in after["info"]],
    )
    expect("permanent messages", await permanents_of(store), after["permanent"])
    ours = [row.document() async for row in store.stream_hashes()]
    expect("payments", ours, after["hashes"])
    expect("temporary messages", [row.hash for row in await store.temporaries()], after["temp"])


# ---- promotion ---------------------------------------------------------------------------------------


@register("registry", "promotion")
def promotion(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(
            case,
            "daemon_height tx_height value_sat temp_message existing_permanent existing_info result after"
            " removed_locally",
            "id note",
        )
        run(partial(promoted, case))

    return each("promotion", section, check, ("id",))


async def promoted(case: dict[str, Any]) -> None:
    clock = VirtualClock()
    rows: list[RegistryChange] = [AddPermanents(tuple(map(permanent, case["existing_permanent"])))]
    rows += [PutCurrent(current(document)) for document in case["existing_info"]]
    message = case["temp_message"]
    if message is not None:
        rows.append(PutTemporary(temporary(message, clock.now_ms())))
        hash_ = message["hash"]
    else:
        # a case without a message promotes the only payment it knows
        hash_ = case["after"]["hashes"][0]["hash"] if case["after"]["hashes"] else "f" * 64
    height, value_sat = case["tx_height"], case["value_sat"]
    rows.append(AddHashes((HashRow("TX", height, hash_, value_sat),)))
    local = Local(installed=case["removed_locally"])
    registry, store = await registry_with(rows, case["daemon_height"], local, clock)
    expect("result", await registry.promote(hash_, "TX", height, value_sat), case["result"])
    await check_after(registry, store, case["after"])
    expect("removed locally", local.removed, case["removed_locally"])


# ---- store_temp --------------------------------------------------------------------------------------


@register("registry", "store_temp")
def store_temp(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(
            case,
            "daemon_height message permanent temporary hashes info local result pending_updates_queued after",
            "id note",
        )
        run(partial(stored, case))

    cases = section if isinstance(section, list) else []
    for number, outcome in enumerate(each("store_temp", section, check, ("id",))):
        told = outcome
        if outcome.status == "failed" and number < len(cases) and only_in_global_list(cases[number]):
            told = one(outcome.id, lambda case: run(partial(free_instead, case)), cases[number])
            if told.status == "passed":
                told = Outcome(outcome.id, *_told(deviates(GLOBAL_LIST, "bug", context)))
        yield told


def _told(outcome: Outcome) -> tuple[Any, str]:
    return outcome.status, outcome.detail


async def ingested(case: dict[str, Any]) -> tuple[dict[str, Any], AppRegistry, MemoryRegistryStore]:
    clock = VirtualClock()
    rows: list[RegistryChange] = [
        AddPermanents(tuple(map(permanent, case["permanent"]))),
        AddHashes(tuple(map(HashRow.of_document, case["hashes"]))),
    ]
    rows += [PutTemporary(temporary(message, clock.now_ms())) for message in case["temporary"]]
    rows += [PutCurrent(current(document)) for document in case["info"]]
    local = Local([document["name"] for document in case["local"]])
    registry, store = await registry_with(rows, case["daemon_height"], local, clock)
    outcome = await registry.ingest_temporary(case["message"])
    result: dict[str, Any] = {"ok": outcome.relay}
    if outcome.rejection is not None:
        code = outcome.rejection.code
        # only the shape is told by a returned error, every rule raises
        result |= {"thrown": code is not Reason.MESSAGE_SHAPE, "code": str(code)}
    return result, registry, store


async def stored(case: dict[str, Any]) -> None:
    result, registry, store = await ingested(case)
    expect("result", result, case["result"])
    expect("pending updates", len(registry.pending), case["pending_updates_queued"])
    await check_after(registry, store, case["after"])


def only_in_global_list(case: Any) -> bool:
    """The original refuses a name because of the list of all current specifications alone (§10, fix)."""
    if not isinstance(case, dict) or case.get("result", {}).get("code") != "NAME_TAKEN_LOCAL_LIST":
        return False
    lower = specification(case["message"])["name"].lower()
    return any(lower == row["name"].lower() for row in case["info"]) and all(
        lower != row["name"].lower() for row in case["local"]
    )


async def free_instead(case: dict[str, Any]) -> None:
    """The advised answer: the name is free, so the paid registration becomes permanent."""
    result, _, store = await ingested(case)
    expect("advised result", result, {"ok": False})
    if await store.permanent(case["message"]["hash"]) is None:
        raise Mismatch("the registration should have become permanent")


# ---- process_messages --------------------------------------------------------------------------------


@register("registry", "process_messages")
def process_messages(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "prior_permanent served result permanent_after hash_flags", "id note")
        run(partial(processed, case))

    cases = section if isinstance(section, list) else []
    for number, outcome in enumerate(each("process_messages", section, check, ("id",))):
        told = outcome
        if outcome.status == "failed" and number < len(cases) and without_value(cases[number]):
            told = one(outcome.id, lambda case: run(partial(processed, with_own_value(case))), cases[number])
            if told.status == "passed":
                told = Outcome(outcome.id, *_told(deviates(OWN_PAYMENT, "bug", context)))
        yield told


def without_value(case: Any) -> bool:
    """The original stores "no number" where a peer does not tell the amount (§12, fix: our own row)."""
    rows = case.get("permanent_after", []) if isinstance(case, dict) else []
    return any(row.get("valueSat") == "NaN" for row in rows)


def with_own_value(case: dict[str, Any]) -> dict[str, Any]:
    rows = [
        {**row, "valueSat": UNTOLD_VALUE_SAT if row["valueSat"] == "NaN" else row["valueSat"]}
        for row in case["permanent_after"]
    ]
    return {**case, "permanent_after": rows}


def payment(served: dict[str, Any]) -> HashRow:
    """Our own row for a served message; the cases leave it to the rows themselves."""
    value = served.get("valueSat")
    value_sat = int(float(value)) if value is not None else UNTOLD_VALUE_SAT
    return HashRow.found(served["txid"], int(float(served["height"])), served["hash"], value_sat)


def is_bulk_refused(case: dict[str, Any]) -> bool:
    """Whether the peer's list is not asked for at all; only the label of the case says so."""
    return "peer-not-synced" in case.get("id", "")


async def processed(case: dict[str, Any]) -> None:
    payments = {row["hash"]: payment(row) for row in case["served"]}
    nobody = [HashRow.found(f"none{n}", SYNC_HEIGHT - 1, f"{n:064x}", 1) for n in range(NOBODY_HAS)]
    rows: list[RegistryChange] = [
        AddPermanents(tuple(map(permanent, case["prior_permanent"]))),
        AddHashes((*payments.values(), *nobody)),
    ]
    registry, store = await registry_with(rows, SYNC_HEIGHT, Local(), VirtualClock())
    if not is_bulk_refused(case):
        await registry.process_messages(case["served"])
    due = missing_messages(await store.hashes(missing=True), SYNC_HEIGHT)
    setback = set_back(due, SYNC_HEIGHT)
    await store.update_hashes(setback.rows)
    result = {
        "resolved": len(payments) + NOBODY_HAS - len(due),
        "missing": setback.missing,
        "unreachable": setback.unreachable,
        "nextRetryHeight": setback.next_retry_height,
    }
    expect("result", result, case["result"])
    ours = sorted(await permanents_of(store), key=_hash)
    expect("permanent messages", ours, sorted(case["permanent_after"], key=_hash))
    for flags in case["hash_flags"]:
        fields(flags, "hash message messageNotFound syncAttempts")
        row = await store.hash_row(flags["hash"])
        if row is None:
            raise Mismatch(f"no payment {flags['hash']}")
        told = {"hash": row.hash, "message": row.message, "messageNotFound": row.message_not_found}
        expect("payment", told | {"syncAttempts": row.sync_attempts}, flags)


def _hash(document: dict[str, Any]) -> str:
    return str(document["hash"])
