"""A node's data of a moderate size with every kind of row, and pairs of stores to put it in."""

from __future__ import annotations

from trionode.appstate.changes import Change, PutCopy, PutEvent, PutInstallError, PutInstalling, PutLocation
from trionode.appstate.documents import (
    EventRow,
    InstallErrorRow,
    InstallingRow,
    LocationRow,
    Signed,
    SignedCopy,
)
from trionode.appstate.facts import fact_of
from trionode.registry.changes import (
    AddHashes,
    AddPermanents,
    PutBlockHash,
    PutChainMessage,
    PutCurrent,
    PutTemporary,
    SetScannedHeight,
)
from trionode.registry.rows import ChainMessageRow, CurrentSpec, HashRow, PermanentRow, TemporaryRow
from trionode.store.copying import Side
from trionode.store.localapps import MemoryLocalApps
from trionode.store.memory import MemoryStore
from trionode.store.registry_memory import MemoryRegistryStore

NOW_MS = 4_100_000_000_000
LATER_MS = 4_200_000_000_000
"""No database may think that the rows of a test are over, whatever its own clock says."""


def side(name: str) -> Side:
    return Side(name, MemoryStore(), MemoryRegistryStore(), MemoryLocalApps())


def signed(number: int) -> Signed:
    return Signed(1, NOW_MS - number, f"04{number:04x}", f"sig{number}==")


def running(number: int, names: tuple[str, ...] = ("AppA",), at_ms: int = NOW_MS) -> EventRow:
    ip = f"10.0.{number // 200}.{number % 200}"
    apps = ",".join(f'{{"name":"{name}","hash":"h{number}"}}' for name in names)
    text = (
        f'{{"type":"fluxapprunning","version":2,"apps":[{apps}],"ip":"{ip}","broadcastedAt":{at_ms},'
        f'"osUptime":{number}.5,"staticIp":{"true" if number % 2 else "null"},"$odd":"$name","n":1e-7}}'
    )
    return EventRow(ip, "apprunning", "v2", LATER_MS, at_ms, None, NOW_MS + 1, text, signed(number))


def rows_of_the_log(nodes: int = 40) -> list[Change]:
    changes: list[Change] = []
    for number in range(nodes):
        row = running(number)
        changes.append(PutEvent(row, fact_of(row)))
        place = LocationRow(
            number + 1, "AppA", f"h{number}", row.ip, NOW_MS, LATER_MS, NOW_MS - 5, number, number % 2 == 1
        )
        changes.append(PutLocation(place))
    gone = EventRow("10.9.9.9", "evicted", "evicted", LATER_MS, None, NOW_MS - 9, NOW_MS)
    changes.append(PutEvent(gone, fact_of(gone)))
    for number in range(3):
        ip = f"10.0.0.{number}"
        changes.append(PutInstalling(InstallingRow(f"New{number}", ip, NOW_MS, LATER_MS)))
        text = (
            f'{{"type":"fluxappinstalling","version":1,"name":"New{number}","ip":"{ip}",'
            f'"broadcastedAt":{NOW_MS}}}'
        )
        copy = SignedCopy(
            "installing", ip, f"New{number}", "", NOW_MS, LATER_MS, NOW_MS, text, signed(number)
        )
        changes.append(PutCopy(copy))
    for number in range(2):
        ip = f"10.0.1.{number}"
        changes.append(PutInstallError(InstallErrorRow("Bad", "h", ip, "no $room left", NOW_MS, LATER_MS)))
        text = (
            '{"type":"fluxappinstallingerror","version":1,"name":"Bad","hash":"h","error":"no $room left",'
            f'"ip":"{ip}","broadcastedAt":{NOW_MS}}}'
        )
        changes.append(
            PutCopy(SignedCopy("error", ip, "Bad", "h", NOW_MS, LATER_MS, NOW_MS, text, signed(number)))
        )
    return changes


def payment(number: int, **more: bool) -> HashRow:
    row = HashRow.found(f"{number:064x}", 1000 + number // 3, f"{number + 7:064x}", 100 + number)
    if not more:
        return row
    return HashRow(
        row.txid,
        row.height,
        row.hash,
        row.value_sat,
        True,
        False,
        0,
        row.next_retry_height,
        row.retry_from_height,
    )


def spec_text(number: int) -> str:
    return (
        f'{{"version":7,"name":"App{number % 10}","description":"$set é {number}",'
        f'"owner":"1Owner{number % 3}",'
        f'"compose":[{{"name":"web","ports":[{31000 + number}],"cpu":0.5,"ram":1000,"domains":[""]}}],'
        '"instances":3,"contacts":[],"geolocation":[],"expire":22000,"nodes":[],"staticip":false}'
    )


def message(number: int) -> PermanentRow:
    paid = payment(number)
    return PermanentRow(
        paid.hash,
        "fluxappupdate" if number >= 10 else "fluxappregister",
        1,
        spec_text(number),
        f"App{number % 10}",
        f"1Owner{number % 3}",
        NOW_MS - 1_000_000 + number,
        f"sig{number}=",
        paid.txid,
        paid.height,
        paid.value_sat,
    )


def unpaid(number: int) -> TemporaryRow:
    return TemporaryRow(
        f"{number + 5000:064x}",
        "fluxappupdate",
        1,
        spec_text(number),
        f"App{number % 10}",
        "1Owner",
        NOW_MS,
        "sig",
        LATER_MS - 3_600_000 + number,
        LATER_MS + number,
    )


async def fill(target: Side, *, nodes: int = 40, payments: int = 50, messages: int = 40) -> None:
    """Every kind of row, in the orders in which a node writes them."""
    await target.log.commit(rows_of_the_log(nodes))
    await target.log.put_meta("heartbeat", '{"lastAlive":1790000000000,"machineBootId":"b-1"}')
    await target.log.put_meta("ownAddress", '{"ip":"1.2.3.4"}')
    registry = target.registry
    await registry.commit(
        [
            AddHashes(
                tuple(payment(n, message=True) if n < messages else payment(n) for n in range(payments))
            ),
            AddPermanents(tuple(message(number) for number in range(messages))),
            *(PutTemporary(unpaid(number)) for number in range(3)),
            *(PutCurrent(CurrentSpec.of(message(number))) for number in range(messages - 10, messages)),
            *(PutChainMessage(ChainMessageRow(f"t{n}", 900 + n, f"p_{n}_$1", "p")) for n in range(2)),
            *(PutBlockHash(1100 + n, f"{n:064x}") for n in range(5)),
            SetScannedHeight(1104),
        ]
    )
    await registry.put_meta("hashSyncVersion", "1")
    if target.local is not None:
        await target.local.put(CurrentSpec.of(message(messages - 1)))
        await target.local.put_meta("installRecords", '[{"app":"AppA","phase":"installed"}]')
