"""Reading the registry over HTTP: payments, messages, specifications, prices (api.md §7, registry.md §13)."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

from trionode.chain.explorerstate import ExplorerError, ExplorerStatus
from trionode.devnet.registering import specification
from trionode.registry.reasons import Reason, Rejection
from trionode.registry.rows import CurrentSpec, HashRow, PermanentRow, TemporaryRow
from trionode.wire.jsjson import stringify

pytestmark = pytest.mark.trio

OWNER = "1OwnerOwnerOwnerOwnerOwnerOwner12"


def paid(number: int, name: str = "Shop", kind: str = "fluxappregister", **changes: Any) -> PermanentRow:
    spec = specification(name, **{"owner": OWNER, **changes})
    return PermanentRow(
        f"{number:064x}",
        kind,
        1,
        stringify(spec),
        name,
        spec["owner"],
        1_700_000_000_000 + number,
        f"signature {number}",
        f"tx{number}",
        2_000_000 + number,
        200_000_000,
    )


@pytest.fixture
async def filled(node: Any) -> Any:
    """A node with two apps, one of them updated by a new owner, and a payment without a message."""
    rows = [paid(1), paid(2, "other"), paid(3, kind="fluxappupdate", owner="1NewOwner")]
    await node.registry.add_permanents(rows)
    await node.registry.add_hashes(
        [HashRow(row.txid, row.height, row.hash, row.value_sat, message=True) for row in rows]
    )
    await node.registry.add_hashes([HashRow.found("txm", 2_000_009, "ff" * 32, 100_000_000)])
    for row in rows[1:]:
        await node.registry.put_current(CurrentSpec.of(row))
    return node


async def test_hashes(filled: Any) -> None:
    rows = await filled.data("/apps/hashes")
    assert rows[0] == {
        "txid": "tx1",
        "height": 2_000_001,
        "hash": f"{1:064x}",
        "value": 200_000_000,
        "message": True,
    }
    assert [row["message"] for row in rows] == [True, True, True, False]
    assert "syncAttempts" not in rows[3]


async def test_permanent_messages_are_streamed_with_the_usual_headers(filled: Any) -> None:
    response = await filled.client.get("/apps/permanentmessages")
    text = await response.get_data(as_text=True)
    assert text.startswith('{"status":"success","data":[{"type":"fluxappregister","version":1,')
    rows = json.loads(text)["data"]
    assert [row["hash"] for row in rows] == [f"{number:064x}" for number in (1, 2, 3)]
    assert list(rows[0]) == [
        "type",
        "version",
        "appSpecifications",
        "hash",
        "timestamp",
        "signature",
        "txid",
        "height",
        "valueSat",
    ]
    assert response.headers["Cache-Control"] == "max-age=120"
    assert response.headers["Content-Type"].startswith("application/json")
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    etag = response.headers["ETag"]
    again = await filled.client.get("/apps/permanentmessages", headers={"If-None-Match": etag})
    assert again.status_code == 304
    head = await filled.client.head("/apps/permanentmessages")
    assert (head.headers["ETag"], await head.get_data()) == (etag, b"")
    await filled.registry.add_permanents([paid(4, "third")])
    changed = await filled.client.get("/apps/permanentmessages", headers={"If-None-Match": etag})
    assert changed.status_code == 200


async def test_the_stream_is_gzipped_piece_by_piece(node: Any) -> None:
    await node.registry.add_permanents([paid(number) for number in range(450)])
    request = node.raw("GET", "/apps/permanentmessages", **{"Accept-Encoding": "gzip"})
    await request.run()
    assert request.headers["Content-Encoding"] == "gzip"
    assert "Content-Length" not in request.headers
    assert len([chunk for chunk in request.chunks if chunk]) == 4, "three pieces and the end"
    rows = json.loads(gzip.decompress(request.body))["data"]
    assert [row["height"] for row in rows] == [2_000_000 + number for number in range(450)]


async def test_an_empty_list_is_a_list(node: Any) -> None:
    for path in ("permanentmessages", "temporarymessages", "globalappsspecifications", "hashes"):
        assert await node.data(f"/apps/{path}") == []


async def test_a_client_that_leaves_half_way_lets_go_of_the_rows(node: Any) -> None:
    await node.registry.add_permanents([paid(number) for number in range(450)])
    closed = trio.Event()
    stream = node.registry.stream_permanents

    async def endless(**filters: Any) -> Any:
        try:
            async for row in stream(**filters):
                yield row
            await trio.sleep_forever()
        finally:
            closed.set()

    node.registry.stream_permanents = endless
    head = await node.client.head("/apps/permanentmessages")
    assert head.status_code == 200
    assert not closed.is_set(), "nothing was begun"
    request = node.raw("GET", "/apps/permanentmessages")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(request.run)
        while len(request.chunks) < 2:
            await trio.testing.wait_all_tasks_blocked(0.01)
        request.leave()
        with trio.fail_after(60):
            await closed.wait()


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        (f"/{2:064x}", [2]),
        (f"?owner={OWNER}", [1, 2]),
        ("?appname=Shop", [1, 3]),
        (f"?appname=Shop&owner={OWNER}", [1]),
        ("?appname=.*", []),
    ],
)
async def test_messages_are_filtered_by_text(filled: Any, query: str, numbers: list[int]) -> None:
    rows = await filled.data(f"/apps/permanentmessages{query}")
    assert [row["hash"] for row in rows] == [f"{number:064x}" for number in numbers]


async def test_temporary_messages(node: Any) -> None:
    row = paid(5)
    waiting = TemporaryRow(
        *(row.hash, row.type, 1, row.spec_text, row.name, row.owner, row.timestamp_ms, row.signature),
        node.now_ms,
        node.now_ms + 3_600_000,
        True,
    )
    await node.registry.put_temporary(waiting)
    found = await node.data(f"/apps/temporarymessages/{row.hash}")
    assert found == [
        {
            "type": "fluxappregister",
            "version": 1,
            "appSpecifications": specification("Shop", OWNER),
            "hash": row.hash,
            "timestamp": row.timestamp_ms,
            "signature": row.signature,
            "receivedAt": "2025-10-09T08:53:20.123Z",
            "expireAt": "2025-10-09T09:53:20.123Z",
            "arcaneSender": True,
        }
    ]
    assert await node.data("/apps/temporarymessages/none") == []
    node.clock.now += 3_600_000
    assert await node.data("/apps/temporarymessages?fresh") == []


async def test_current_specifications(filled: Any) -> None:
    rows = await filled.data("/apps/globalappsspecifications")
    assert [row["name"] for row in rows] == ["Shop", "other"]
    assert rows[1] == {**specification("other", OWNER), "hash": f"{2:064x}", "height": 2_000_002}
    assert len(await filled.data("/apps/globalappsspecifications?owner=1NewOwner")) == 1
    assert len(await filled.data("/apps/globalappsspecifications?appname=OTHER")) == 1
    assert len(await filled.data(f"/apps/globalappsspecifications/{3:064x}")) == 1
    assert (await filled.data("/apps/appspecifications/Shop"))["owner"] == "1NewOwner"
    assert await filled.data("/apps/appowner/Shop") == "1NewOwner"
    assert await filled.data("/apps/apporiginalowner/Shop") == OWNER
    assert await filled.data(f"/apps/messagescount/{OWNER}") == 2
    listed = await filled.data("/trionode/registered?owner=1NewOwner")
    assert (listed[0]["endHeight"], listed[0]["instances"]) == (
        2_020_000 + (2_000_003 + 88_000 - 2_020_000) * 4,
        3,
    )
    assert [row["height"] for row in await filled.data("/trionode/history/Shop")] == [2_000_001, 2_000_003]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/apps/appspecifications", "No Application Name specified"),
        ("/apps/appspecifications/nobody", "nobody"),
        ("/apps/appspecifications/Shop/true", "cannot open"),
        ("/apps/appowner/nobody", "never registered"),
        ("/apps/apporiginalowner/nobody", "No registration"),
        ("/apps/messagescount", "No owner specified"),
    ],
)
async def test_refusals_say_what_is_wrong(filled: Any, path: str, said: str) -> None:
    envelope = await filled.get(path)
    assert envelope["status"] == "error"
    assert said in envelope["data"]["message"]


async def test_an_unsynced_daemon_is_told(filled: Any) -> None:
    filled.chain.synced = False
    assert (await filled.get("/apps/appspecifications/Shop"))["data"]["message"] == "Daemon not yet synced."


async def test_information(node: Any) -> None:
    deployment = await node.data("/apps/deploymentinformation")
    assert deployment["address"] == "t3NryfAQLGeFs9jEoeqsxmBN2QLRaRKFLUX"
    assert deployment["price"][-1]["minPrice"] == 0.01
    assert (deployment["minimumInstances"], deployment["maxBlocksAllowance"]) == (3, 1_056_000)
    assert "0-1023" in deployment["enterprisePorts"]
    assert 8080 in deployment["enterprisePorts"]
    everything = await node.data("/apps/registrationinformation")
    assert everything["hashSyncSettleMs"] == 4000
    assert (everything["upnpBannedPorts"], everything["cpuCheckIntervalMs"]) == ([], 900_000)
    assert everything["latestAppSpecification"] == await node.data("/apps/latestspecificationversion") == 8
    assert everything["appSpecsEnforcementHeights"]["8"] == 1_932_380
    assert (await node.data("/apps/getappspecsusdprice"))["minUSDPrice"] == 0.99


async def test_prices_and_verification(node: Any) -> None:
    spec = specification("Shop", OWNER)
    quote = (await node.post("/apps/calculateprice", spec))["data"]
    assert list(quote) == ["usd", "flux", "fluxDiscount"]
    assert quote == (await node.post("/apps/calculatefiatandfluxprice", spec))["data"]
    assert (await node.post("/apps/verifyappregistrationspecifications", spec))["data"] == spec
    refused = await node.post("/apps/verifyappregistrationspecifications", {**spec, "instances": 2})
    assert refused["status"] == "error"
    assert refused["data"]["name"] == "INSTANCES_MIN"
    assert refused["data"]["message"].endswith(".")
    unknown = await node.post("/apps/verifyappupdatespecifications", spec)
    assert "no app" in unknown["data"]["message"]
    sealed = await node.post(
        "/apps/verifyappregistrationspecifications", {**spec, "compose": [], "enterprise": "AAAA"}
    )
    assert "encrypted" in sealed["data"]["message"]
    assert (await node.post("/apps/calculateprice", {}))["status"] == "error"


async def test_updates_keep_their_rules(filled: Any) -> None:
    verify = "/apps/verifyappupdatespecifications"
    assert (await filled.post(verify, specification("Shop", OWNER)))["status"] == "success"
    taken = await filled.post("/apps/verifyappregistrationspecifications", specification("Shop", OWNER))
    assert taken["data"]["name"] == "NAME_TAKEN"


async def test_the_operator_may_block_images(node: Any) -> None:
    node.configure("hosting", blocked_repositories=("library",))
    answer = await node.post("/apps/verifyappregistrationspecifications", specification("Shop", OWNER))
    assert "blockedRepositories" in answer["data"]["message"]


class Explorer:
    """An explorer that keeps what it was told."""

    def __init__(self) -> None:
        self.scanned_height = 2_000_000
        self.is_synced = True
        self.told: list[Any] = []

    @property
    def status(self) -> ExplorerStatus:
        return ExplorerStatus(self.scanned_height, 2_000_001, True, False, None, None)

    async def rescan(self, height: int, *, apps: bool = False) -> None:
        if height >= self.scanned_height:
            raise ExplorerError(f"cannot rescan from height {height}", remedy="give a lower one")
        self.told.append((height, apps))

    async def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")


class Apps:
    """A registry service that keeps what it was told."""

    def __init__(self) -> None:
        self.current = self
        self.busy = False

    def find(self, name: str) -> CurrentSpec | None:
        return None

    async def reindex(self) -> int | None:
        return None if self.busy else 7

    async def rescan(self, from_height: int) -> int | None:
        return from_height

    async def reconstruct(self) -> int:
        return 3

    def rejection_of(self, hash_: str) -> Rejection | None:
        return Rejection(Reason.HASH_MISMATCH, "hash", hash_, "00")


class Sync:
    """A hash sync that keeps what it was told."""

    def __init__(self) -> None:
        self.requests: list[bool] = []
        self.hash_status = self

    def document(self) -> dict[str, Any]:
        return {"running": False, "ready": True, "left": 0, "lastError": None}

    def request_hash_sync(self, *, force: bool = False) -> None:
        self.requests.append(force)


@pytest.fixture
async def served(filled: Any) -> Any:
    """The same with services."""
    parts = replace(filled.context.registry, explorer=Explorer(), apps=Apps(), hash_sync=Sync())
    filled.context = replace(filled.context, registry=parts)
    filled.build()
    return filled


async def test_explorer(served: Any) -> None:
    assert await served.data("/explorer/scannedheight") == {"generalScannedHeight": 2_000_000}
    assert await served.data("/explorer/issynced") is True
    assert (await served.data("/trionode/explorer"))["tipHeight"] == 2_000_001
    info = await served.data("/flux/info")
    assert info["flux"]["explorerScannedHeigth"] == {"generalScannedHeight": 2_000_000}
    assert (info["appsHashesTotal"], info["hashesPresent"]) == (4, 3)


@pytest.mark.parametrize(
    "path",
    [
        "/explorer/rescan/5",
        "/explorer/reindex",
        "/explorer/stop",
        "/explorer/restart",
        "/apps/checkhashes",
        f"/apps/requestmessage/{'ab' * 32}",
        "/apps/rescanglobalappsinformation/5",
        "/apps/reindexglobalappsinformation",
        "/apps/reindexglobalappslocation",
        "/apps/reconstructhashes",
    ],
)
async def test_maintenance_is_for_operators(served: Any, path: str) -> None:
    assert await served.get(path) == served.refusal
    person = await served.sign_in(served.person)
    assert await served.get(path, zelidauth=person) == served.refusal
    operator = await served.sign_in(served.operator)
    assert (await served.get(path, zelidauth=operator))["status"] == "success"


async def test_what_maintenance_does(served: Any) -> None:
    parts = served.context.registry
    auth = {"zelidauth": await served.sign_in(served.team)}
    await served.data("/explorer/rescan/5/true", **auth)
    await served.data("/explorer/reindex", **auth)
    await served.data("/explorer/stop", **auth)
    await served.data("/explorer/restart", **auth)
    assert parts.explorer.told == [(5, True), (0, False), "pause", "resume"]
    assert "lower" in (await served.get("/explorer/rescan/3000000", **auth))["data"]["message"]
    assert (await served.get("/explorer/rescan", **auth))["status"] == "error"
    await served.data("/apps/checkhashes", **auth)
    assert parts.hash_sync.requests == [True]
    await served.data(f"/apps/requestmessage/{'ab' * 32}", **auth)
    assert served.peers.sent == [{"type": "fluxapprequest", "version": 1, "hash": "ab" * 32}]
    assert (await served.get("/apps/requestmessage/ab", **auth))["status"] == "error"
    parts.apps.busy = True
    assert (await served.get("/apps/reindexglobalappsinformation", **auth))["status"] == "warning"


async def test_overview_and_missing_messages(served: Any) -> None:
    overview = await served.data("/trionode/registry")
    assert overview["hashes"]["missing"] == 1
    assert overview["hashes"]["resolved"] == 3
    assert overview["rows"]["permanents"] == 3
    assert overview["sync"]["ready"] is True
    missing = await served.data("/trionode/missinghashes")
    assert missing["total"] == 1
    assert missing["rows"][0]["hash"] == "ff" * 32
    assert missing["rows"][0]["refused"].endswith(".")


async def test_addresses_are_asked_of_the_daemon(node: Any) -> None:
    node.daemon.answers |= {
        "getaddressbalance": {"balance": 12, "received": 20},
        "getaddresstxids": ["old", "new"],
        "getaddressutxos": [
            {
                "address": "t1x",
                "txid": "t",
                "outputIndex": 1,
                "script": "76",
                "satoshis": 5,
                "height": 2_099_999,
            }
        ],
    }
    assert await node.data("/explorer/balance/t1x") == 12
    assert await node.data("/explorer/transactions/t1x") == [{"txid": "new"}, {"txid": "old"}]
    assert (await node.data("/explorer/utxo/t1x"))[0]["confirmations"] == 2
    assert node.daemon.calls[0][:2] == ("getaddressbalance", ({"addresses": ["t1x"]},))
    assert (await node.get("/explorer/balance"))["status"] == "error"
