"""AppRegistry as a service: gossip, promotion, expiry, upkeep (registry.md §8, §10, §12)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing
from appmessages import owner, paid, permanent, signed

from trionode.errors import StoreError
from trionode.registry.changes import AddHashes, AddPermanents, CommitReport, PutCurrent, RegistryChange
from trionode.registry.housekeeping import Life
from trionode.registry.reasons import Reason
from trionode.registry.rows import CurrentSpec, HashRow
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.store.appregistry import AppRegistry
from trionode.store.registry_memory import MemoryRegistryStore

HEIGHT = 2_200_000
T = 1_750_000_000_000


class Local:
    builtin_names: Sequence[str] = ("watcher",)

    def __init__(self, *names: str) -> None:
        self.names = names
        self.removed: list[str] = []

    def installed(self) -> Sequence[Life]:
        return [Life(name, HEIGHT - 1, HEIGHT + 10_000) for name in self.names]

    async def remove(self, names: Sequence[str]) -> None:
        self.removed += names


class House:
    """A registry over a memory store, with its service running."""

    def __init__(self, store: MemoryRegistryStore | None = None, local: Local | None = None) -> None:
        self.store = store or MemoryRegistryStore()
        self.bus = EventBus()
        self.counters = Counters()
        self.height = HEIGHT
        self.local = local or Local()
        self.forgotten: list[str] = []
        self.registry = AppRegistry(
            self.store,
            VirtualClock(),
            self.bus,
            self.counters,
            daemon_height=lambda: self.height,
            local_apps=self.local,
            forget_install_errors=self.forget,
        )

    async def forget(self, name: str) -> None:
        self.forgotten.append(name)

    def pay(self, document: dict[str, Any], height: int, value_sat: int = 10**10) -> HashRow:
        row = paid(document, height, value_sat)
        self.store.commit_now([AddHashes((row,))])
        return row

    def put(self, document: dict[str, Any], height: int) -> None:
        """A paid message that is permanent and current."""
        row = permanent(document, height)
        changes: list[RegistryChange] = [AddPermanents((row,)), PutCurrent(CurrentSpec.of(row))]
        self.store.commit_now([*changes, AddHashes((HashRow(row.txid, height, row.hash, 1, True),))])

    async def start(self, nursery: trio.Nursery) -> AppRegistry:
        await nursery.start(self.registry.run)
        return self.registry

    def events(self, name: str) -> list[Any]:
        return [dict(event.data) for event in self.bus.replay() if event.name == name]


async def promote(registry: AppRegistry, row: HashRow) -> bool:
    return await registry.promote(row.hash, row.txid, row.height, row.value_sat)


@pytest.mark.trio
async def test_new_messages_are_kept_once_and_relayed(autojump_clock: Any, nursery: trio.Nursery) -> None:
    house = House()
    registry = await house.start(nursery)
    document = signed()
    first = await registry.ingest_temporary(document)
    again = await registry.ingest_temporary(document)
    assert (first.status, first.relay) == ("kept", True)
    assert (again.status, again.relay) == ("known", False)
    told = {"hash": document["hash"], "type": "fluxappregister", "name": "SpecApp8"}
    assert house.events("network:appmessage") == [told]


@pytest.mark.trio
async def test_copies_at_the_same_time_are_kept_once(autojump_clock: Any, nursery: trio.Nursery) -> None:
    house = House()
    registry = await house.start(nursery)
    statuses: list[str] = []

    async def bring() -> None:
        statuses.append((await registry.ingest_temporary(signed())).status)

    async with trio.open_nursery() as peers:
        for _ in range(5):
            peers.start_soon(bring)
    assert sorted(statuses) == ["kept", *["known"] * 4]


@pytest.mark.trio
async def test_temporary_messages_expire_to_the_millisecond(
    autojump_clock: Any, nursery: trio.Nursery
) -> None:
    house = House()
    registry = await house.start(nursery)
    document = signed()
    await registry.ingest_temporary(document)
    await trio.sleep(3599.999)
    assert registry.temporaries.knows(document["hash"])
    await trio.sleep(0.001)
    assert not registry.temporaries.knows(document["hash"])
    await trio.testing.wait_all_tasks_blocked()
    assert await house.store.temporaries() == []
    assert (await registry.ingest_temporary(document)).status == "kept"


@pytest.mark.trio
async def test_temporary_messages_survive_a_restart(autojump_clock: Any, nursery: trio.Nursery) -> None:
    house = House()
    async with trio.open_nursery() as first:
        await (await house.start(first)).ingest_temporary(signed())
        first.cancel_scope.cancel()
    await trio.sleep(3000)
    registry = await House(house.store).start(nursery)
    assert len(registry.temporaries) == 1
    await trio.sleep(600)
    await trio.testing.wait_all_tasks_blocked()
    assert len(registry.temporaries) == 0


@pytest.mark.trio
async def test_a_paid_message_is_promoted_and_not_relayed(autojump_clock: Any, nursery: trio.Nursery) -> None:
    house = House()
    registry = await house.start(nursery)
    asked: list[str] = []
    registry.on_hash_response(asked.append)
    document = signed()
    row = house.pay(document, HEIGHT - 5)
    assert await promote(registry, row) is False
    outcome = await registry.ingest_temporary(document)
    assert (outcome.status, outcome.relay) == ("promoted", False)
    assert asked == [document["hash"]]
    current = registry.current.find("SPECAPP8")
    assert current is not None
    assert (current.hash, current.height) == (document["hash"], HEIGHT - 5)
    stored = await house.store.hash_row(row.hash)
    assert stored is not None
    assert (stored.message, stored.message_not_found) == (True, False)
    assert house.events("app:specStored") == [{"name": "SpecApp8", "hash": document["hash"]}]
    assert house.forgotten == ["SpecApp8"]
    assert await promote(registry, row) is True


@pytest.mark.trio
async def test_waiting_updates_follow_their_registration(autojump_clock: Any, nursery: trio.Nursery) -> None:
    house = House()
    registry = await house.start(nursery)
    registration = signed()
    update = signed(registers=False, at_ms=T + 1, description="new")
    house.pay(update, HEIGHT - 3)
    row = house.pay(registration, HEIGHT - 5)
    assert (await registry.ingest_temporary(update)).status == "queued"
    assert (await registry.ingest_temporary(registration)).status == "promoted"
    current = registry.current.get("SpecApp8")
    assert current is not None
    assert current.hash == update["hash"]
    assert len(registry.pending) == 0
    assert await promote(registry, row) is True


@pytest.mark.trio
async def test_the_first_refusal_drops_the_other_waiting_updates(
    autojump_clock: Any, nursery: trio.Nursery
) -> None:
    house = House()
    registry = await house.start(nursery)
    registration = signed()
    house.pay(registration, HEIGHT - 5)
    stranger = signed(registers=False, by=owner(1), at_ms=T + 1)
    late = signed(registers=False, at_ms=T + 2)
    house.pay(stranger, HEIGHT - 4)
    house.pay(late, HEIGHT - 3)
    for update in (late, stranger):
        assert (await registry.ingest_temporary(update)).status == "queued"
    await registry.ingest_temporary(registration)
    current = registry.current.get("SpecApp8")
    assert current is not None
    assert current.hash == registration["hash"]
    told = registry.rejection_of(stranger["hash"])
    assert told is not None
    assert told.code is Reason.SIGNATURE_NOT_OWNER


@pytest.mark.trio
async def test_new_payments_of_a_block(autojump_clock: Any, nursery: trio.Nursery) -> None:
    house = House()
    registry = await house.start(nursery)
    here, nowhere = signed(name="here"), signed(name="nowhere")
    await registry.ingest_temporary(here)
    rows = [house.pay(here, HEIGHT), house.pay(nowhere, HEIGHT)]
    assert await registry.promote_rows(rows) == [rows[1]]
    assert house.events("registry:hashesUnresolved") == [{"count": 1}]
    early = paid(here, 693_999)
    assert await promote(registry, early) is False


@pytest.mark.trio
async def test_a_cancelled_app_goes_at_once(autojump_clock: Any, nursery: trio.Nursery) -> None:
    house = House(local=Local("SpecApp8"))
    house.put(signed(), HEIGHT - 100)
    registry = await house.start(nursery)
    cancel = signed(registers=False, at_ms=T + 1, expire=1)
    house.pay(cancel, HEIGHT - 1)
    assert (await registry.ingest_temporary(cancel)).status == "promoted"
    assert registry.current.get("SpecApp8") is None
    assert house.local.removed == ["SpecApp8"]
    assert await house.store.current("SpecApp8") is None


@pytest.mark.trio
async def test_apps_expire_with_the_blocks(autojump_clock: Any, nursery: trio.Nursery) -> None:
    house = House(local=Local("short", "long"))
    house.put(signed(name="short", expire=5000), HEIGHT)
    house.put(signed(name="long"), HEIGHT)
    registry = await house.start(nursery)
    assert await registry.on_block_expire(HEIGHT + 5000) == []
    assert await registry.on_block_expire(HEIGHT + 5001) == ["short"]
    assert [row.name for row in registry.current] == ["long"]
    assert house.local.removed == ["short"]
    assert house.forgotten == ["short"]


@pytest.mark.trio
async def test_reindex_rescan_and_rewind(autojump_clock: Any, nursery: trio.Nursery) -> None:
    house = House(local=Local("gone", "kept"))
    kept = signed(name="kept")
    for document, height in (
        (kept, HEIGHT - 10),
        (signed(name="gone", expire=100), HEIGHT - 1000),
        (signed(name="kept", registers=False, at_ms=T + 1, description="new"), HEIGHT - 5),
    ):
        house.store.commit_now([AddPermanents((permanent(document, height),))])
    await house.store.set_scanned_height(HEIGHT)
    registry = await house.start(nursery)
    assert await registry.reindex() == 1
    assert [(row.name, row.height) for row in registry.current] == [("kept", HEIGHT - 5)]
    assert house.local.removed == ["gone"]
    assert await registry.rescan(HEIGHT - 1000) == 2
    assert len(registry.current) == 2
    await house.store.rewind(HEIGHT - 500, apps=True)
    await registry.on_rewind(HEIGHT - 500)
    assert [row.name for row in registry.current] == ["gone"]


@pytest.mark.trio
async def test_a_second_rebuild_is_skipped(autojump_clock: Any, nursery: trio.Nursery) -> None:
    house = House()
    registry = await house.start(nursery)
    results: list[int | None] = []

    async def rebuild() -> None:
        results.append(await registry.reindex())

    async with trio.open_nursery() as both:
        both.start_soon(rebuild)
        both.start_soon(rebuild)
    assert sorted(results, key=str) == [0, None]
    assert await registry.reindex() == 0


@pytest.mark.trio
async def test_reconstruct_puts_payments_right(autojump_clock: Any, nursery: trio.Nursery) -> None:
    house = House()
    document = signed()
    house.pay(document, HEIGHT - 9)
    house.store.commit_now([AddPermanents((permanent(document, HEIGHT - 9),))])
    house.store.commit_now([AddHashes((HashRow("t", 5, "f" * 64, 1, True, retry_from_height=5),))])
    registry = await house.start(nursery)
    assert await registry.reconstruct() == 2
    assert await registry.reconstruct() == 0
    lost = await house.store.hash_row("f" * 64)
    assert lost is not None
    assert (lost.message, lost.next_retry_height) == (False, HEIGHT)


class FullStore(MemoryRegistryStore):
    """A disk that is full."""

    full = False

    async def commit(self, changes: Sequence[RegistryChange]) -> CommitReport:
        if self.full:
            raise StoreError("the disk is full", remedy="make room")
        return await super().commit(changes)


@pytest.mark.trio
async def test_a_registration_that_cannot_be_stored_drops_its_updates(
    autojump_clock: Any, nursery: trio.Nursery
) -> None:
    store = FullStore()
    house = House(store)
    registry = await house.start(nursery)
    assert (await registry.ingest_temporary(signed(registers=False, at_ms=T + 1))).status == "queued"
    await registry.ingest_temporary(signed())
    row = house.pay(signed(), HEIGHT - 1)
    store.full = True
    with pytest.raises(StoreError):
        await promote(registry, row)
    assert len(registry.pending) == 0


@pytest.mark.trio
async def test_what_could_not_be_stored_did_not_happen(autojump_clock: Any, nursery: trio.Nursery) -> None:
    store = FullStore()
    house = House(store)
    registry = await house.start(nursery)
    document = signed()
    store.full = True
    with pytest.raises(StoreError):
        await registry.ingest_temporary(document)
    store.full = False
    row = house.pay(document, HEIGHT - 1)
    await registry.temporaries.load()
    assert (await registry.ingest_temporary(document)).status == "promoted"
    store.full = True
    with pytest.raises(StoreError):
        await registry.reindex()
    assert registry.current.get("SpecApp8") is not None
    store.full = False
    assert await promote(registry, row)
