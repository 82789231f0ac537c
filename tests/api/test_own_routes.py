"""Our own routes under /trionode/ (docs/api.md)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import trio

import trionode
from trionode.appstate.explain import Step
from trionode.hosting.boot import BootResults
from trionode.hosting.nodestatus import MonitorStatus
from trionode.hosting.sweep import SweepReport
from trionode.lifecycle.boot import BootAction, BootContext, BootDecision
from trionode.runtime.gate import Gate
from trionode.runtime.lag import LagStats
from trionode.wire.nodelist import NodeList

pytestmark = pytest.mark.trio


async def test_status(node: Any, autojump_clock: Any) -> None:
    lag = LagStats()
    lag.record(2.0)
    node.context = replace(node.context, lag=lag)
    node.build()
    node.peers.table.put("127.3.0.1", "16127", "outbound")
    node.log.index.rows = [node.Location("a", "h", "127.1.0.1"), node.Location("a", "h", "127.2.0.1")]
    node.counters.add("gossip.verify.bad_signature", 3)
    node.counters.add("gossip.verify.key_mismatch_unsynced", 9)
    node.counters.add("appstate.refused.judge.too_old", 5)
    node.counters.add("appstate.sync.refused.verify.not_listed", 4)
    node.counters.add("peers.inbound.refused.4002", 2)
    node.counters.add("gossip.accepted", 7)
    node.bus.publish("boot:settled")
    await trio.sleep(1.5)
    found = await node.data("/trionode/status")
    assert found["version"] == trionode.__version__
    assert found["compatibilityVersion"] == "8.13.1"
    assert found["time"] == "2025-10-09T08:53:20.123Z"
    assert found["uptimeS"] == 1.5
    assert found["node"] == {
        "address": "127.1.0.1",
        "publicKey": node.key.public_key,
        "operatorId": node.operator.address,
        "tier": "CUMULUS",
        "rank": 7,
        "lastConfirmedHeight": 0,
        "dos": {"dosState": 0, "dosMessage": None},
        "dosSources": {},
    }
    assert found["boot"] is None
    assert found["monitor"] is None
    assert found["registry"] == {
        "scannedHeight": None,
        "isSynced": None,
        "scan": None,
        "payments": 0,
        "missing": 0,
        "unreachable": 0,
        "inForce": 0,
        "hashSync": None,
    }
    assert found["chain"] == {
        "reachable": True,
        "height": 2_100_000,
        "headers": 2_100_000,
        "synced": True,
        "confirmed": True,
        "canSend": True,
        "nodes": 2,
        "lastError": None,
    }
    assert found["peers"] == {
        "outbound": 1,
        "inbound": 0,
        "outboundIps": 1,
        "inboundIps": 0,
        "unstable": 0,
    }
    assert found["apps"] == {"names": 1, "locations": 2}
    assert found["events"] == {"lastId": 1}
    assert found["loopLag"]["p99Ms"] == 2.0
    assert found["services"][0]["name"] == "peers"
    assert found["rejected"] == [
        {"room": "appstate", "stop": "judge", "reason": "too_old", "count": 5},
        {"room": "sync", "stop": "verify", "reason": "not_listed", "count": 4},
        {"room": "gossip", "stop": "verify", "reason": "bad_signature", "count": 3},
        {"room": "peers", "stop": "inbound", "reason": "4002", "count": 2},
    ]
    assert found["counters"]["gossip.accepted"] == 7


class Boot:
    context = BootContext(True, float("inf"), False, "id", True)
    decision = BootDecision(4, BootAction.REMOVE_ALL, "the node is not confirmed")
    waits_for = None
    settled = Gate(is_open=True)
    results = BootResults(removed=["a"], failed=[("b", "the engine hangs")])


class Watching:
    def network_health(self) -> dict[str, Any]:
        return {"status": "DEGRADED", "inSteadyState": True, "history": [{"time": 1}]}

    def monitor_status(self) -> MonitorStatus:
        sweep = SweepReport(2, ("1.1.1.1",), (("2.2.2.2", "moving"),))
        return MonitorStatus("look for nodes that left", "confirmed", False, sweep, 12.5)

    def unsynced_for_s(self) -> float | None:
        return 900.04


async def test_status_of_a_whole_node(node: Any) -> None:
    node.context = replace(node.context, boot=Boot(), watch=Watching())
    node.build()
    node.dos.put("peers", 0.13)
    found = await node.data("/trionode/status")
    assert found["node"]["dosSources"] == {"peers": 0.13}
    assert found["boot"] == {
        "settled": True,
        "waitsFor": None,
        "action": "remove_all",
        "reason": "the node is not confirmed",
        "context": {
            "machineRebooted": True,
            "downtimeMs": None,
            "cleanShutdown": False,
            "currentBootId": "id",
            "firstBoot": True,
        },
        "started": [],
        "removed": ["a"],
        "failed": [{"what": "b", "problem": "the engine hangs"}],
    }
    assert found["monitor"] == {
        "network": "DEGRADED",
        "inSteadyState": True,
        "duty": "look for nodes that left",
        "because": "confirmed",
        "removingApps": False,
        "daemonBehindS": 900.0,
        "lastSweep": {
            "ageS": 12.5,
            "suspects": 2,
            "evicted": ["1.1.1.1"],
            "kept": [{"ip": "2.2.2.2", "because": "moving"}],
            "skipped": None,
        },
    }
    health = await node.data("/flux/networkhealth")
    assert health == {"status": "DEGRADED", "inSteadyState": True, "history": [{"time": 1}]}


async def test_status_is_never_cached(node: Any) -> None:
    response = await node.client.get("/trionode/status")
    assert "Cache-Control" not in response.headers
    node.chain.nodes, node.chain.own_address = NodeList(), None
    found = await node.data("/trionode/status")
    assert found["node"]["tier"] is None
    assert found["loopLag"] is None


async def test_counters_and_their_prefix(node: Any) -> None:
    node.counters.add("gossip.accepted", 2)
    node.counters.add("store.commits", 1)
    found = await node.data("/trionode/counters")
    assert found["gossip.accepted"] == 2
    assert await node.data("/trionode/counters/gossip.") == {"gossip.accepted": 2}
    assert await node.data("/trionode/counters?prefix=store") == {"store.commits": 1}


async def test_apps(node: Any) -> None:
    node.log.index.rows = [
        node.Location("shop", "h2", "127.2.0.1", broadcasted_at_ms=node.now_ms + 1000),
        node.Location("shop", "h1", "127.1.0.1"),
        node.Location("Blog", "h3", "127.1.0.1"),
    ]
    assert await node.data("/trionode/apps") == [
        {
            "name": "Blog",
            "hashes": ["h3"],
            "instances": 1,
            "nodes": ["127.1.0.1"],
            "newest": "2025-10-09T08:53:20.123Z",
        },
        {
            "name": "shop",
            "hashes": ["h1", "h2"],
            "instances": 2,
            "nodes": ["127.1.0.1", "127.2.0.1"],
            "newest": "2025-10-09T08:53:21.123Z",
        },
    ]
    assert [row["ip"] for row in await node.data("/trionode/apps/SHOP")] == ["127.2.0.1", "127.1.0.1"]


async def test_explain(node: Any) -> None:
    node.log.index.rows = [node.Location("shop", "h", "127.1.0.1"), node.Location("shop", "h", "127.2.0.1")]
    node.log.steps = [
        Step(
            ip="127.1.0.1",
            type="apprunning",
            dedup_key="v2",
            name="shop",
            at_ms=node.now_ms,
            expire_at_ms=node.now_ms + 1,
            received_at_ms=None,
            effect="listed",
            rule="current",
            text="listed",
            by=("127.1.0.1", "appremoved", "appremoved:shop"),
            listed_ip="127.1.0.1",
        )
    ]
    found = await node.data("/trionode/explain/shop?ip=127.1.0.1")
    assert found["steps"] == [
        {
            "ip": "127.1.0.1",
            "type": "apprunning",
            "key": "v2",
            "name": "shop",
            "at": "2025-10-09T08:53:20.123Z",
            "expireAt": "2025-10-09T08:53:20.124Z",
            "receivedAt": None,
            "effect": "listed",
            "rule": "current",
            "text": "listed",
            "by": ["127.1.0.1", "appremoved", "appremoved:shop"],
            "listedIp": "127.1.0.1",
        }
    ]
    assert [row["ip"] for row in found["listed"]] == ["127.1.0.1"]
    assert (await node.get("/trionode/explain"))["status"] == "error"


@pytest.mark.parametrize("ip", ["nonsense", "1.2.3", "1.2.3.4:x", "1.2.3.4:0"])
async def test_explain_refuses_what_is_no_address(node: Any, ip: str) -> None:
    answer = await node.get(f"/trionode/explain/shop?ip={ip}")
    assert answer["status"] == "error"
    assert answer["data"]["message"].startswith("Invalid ip")


async def test_kept_events(node: Any) -> None:
    for number in range(5):
        node.bus.publish("n", {"number": number})
    found = await node.data("/trionode/events?since=2&limit=2")
    assert found == [
        {"id": 3, "name": "n", "data": {"number": 2}},
        {"id": 4, "name": "n", "data": {"number": 3}},
    ]
    assert len(await node.data("/trionode/events")) == 5
    assert (await node.get("/trionode/events?since=x"))["status"] == "error"
    node.configure("api", event_stream=False)
    assert (await node.client.get("/trionode/events")).status_code == 404


class _Server:
    is_connected = True
    is_readable = True

    def document(self) -> dict[str, Any]:
        return {"server": "db:27017", "connected": self.is_connected}


class _Away(_Server):
    is_connected = is_readable = False

    def document(self) -> dict[str, Any]:
        return {"problem": "nobody there", "remedy": "start the database"}


async def test_the_status_does_not_wait_for_a_database_that_is_away(node: Any, autojump_clock: Any) -> None:
    assert (await node.data("/trionode/status"))["store"] is None
    server = _Server()
    node.context = replace(node.context, server=server)
    node.build()
    found = await node.data("/trionode/status")
    assert found["store"] == {"server": "db:27017", "connected": True}
    assert found["registry"]["payments"] == 0
    server.is_connected = False
    found = await node.data("/trionode/status")
    assert found["store"]["connected"] is False
    assert found["registry"]["payments"] == 0, "a full disk can be read"
    server.is_readable = False
    assert (await node.data("/trionode/status"))["registry"] is None


async def test_who_asks_does_not_wait_for_a_store_that_is_away(node: Any, autojump_clock: Any) -> None:
    node.context = replace(node.context, server=_Away())
    node.build()

    async def explain(*_: Any) -> None:
        await trio.sleep(75)

    node.log.explain = explain
    before_s = trio.current_time()
    response = await node.client.get("/trionode/explain?app=shop")
    assert response.status_code == 503
    assert json.loads(await response.get_data())["data"]["message"] == "nobody there - start the database"
    assert trio.current_time() - before_s <= 10
    assert (await node.client.get("/trionode/counters")).status_code == 200
