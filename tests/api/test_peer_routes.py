"""Peer routes and what operators may do to peers (api.md §6)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from trionode.errors import PeerError
from trionode.peers.table import HistoryRecord

pytestmark = pytest.mark.trio


@pytest.fixture
def connected(node: Any) -> Any:
    node.peers.table.put("127.3.0.1", "16127", "outbound")
    node.peers.table.put("127.4.0.1", "16137", "outbound")
    node.peers.table.put("127.5.0.1", "16127", "inbound")
    return node


async def test_addresses(connected: Any) -> None:
    assert await connected.data("/flux/connectedpeers") == ["127.3.0.1", "127.4.0.1"]
    assert await connected.data("/flux/incomingconnections") == ["127.5.0.1"]


async def test_info_lists(connected: Any) -> None:
    first = (await connected.data("/flux/connectedpeersinfo"))[0]
    assert first == {
        "ip": "127.3.0.1",
        "port": "16127",
        "latency": 3,
        "lastPingTime": connected.now_ms,
    }
    assert await connected.data("/flux/incomingconnectionsinfo") == [{"ip": "127.5.0.1", "port": "16127"}]


async def test_peers_and_its_filters(connected: Any) -> None:
    async def keys(path: str) -> list[str]:
        return [f"{row['ip']}:{row['port']}" for row in await connected.data(path)]

    everybody = ["127.3.0.1:16127", "127.4.0.1:16137", "127.5.0.1:16127"]
    assert await keys("/flux/peers") == everybody
    assert await keys("/flux/peers/outbound") == everybody[:2]
    assert await keys("/flux/peers?filter=inbound") == everybody[2:]
    assert await keys("/flux/peers/127.4.0.1:16137") == everybody[1:2]
    assert await keys("/flux/peers/anything") == everybody
    assert (await connected.get("/flux/peers/127.4.0.1:16127"))["status"] == "error"


async def test_unstable_nodes_and_topology(node: Any) -> None:
    row = {"ip": "127.3.0.1", "port": "16127", "disconnects": 5, "firstDisconnect": 1}
    node.peers.table.unstable_rows = [row]
    assert await node.data("/flux/unstablenodes") == [row]
    reports = {
        "127.3.0.1:16127": {"outbound": ["127.4.0.1:16127"], "inbound": []},
        "127.4.0.1:16127": {"outbound": [], "inbound": ["127.3.0.1:16127", "127.4.0.1:16127"]},
    }
    node.peers.topology.reports = reports
    assert await node.data("/flux/topology") == {"reporters": 2, "knownPeers": 2, "topology": reports}


async def test_communication_needs_enough_peers_and_addresses(node: Any) -> None:
    node.configure(
        "peers", min_outbound=2, min_inbound=1, min_unique_outbound_ips=2, min_unique_inbound_ips=1
    )

    async def verdict() -> str:
        return (await node.get("/flux/checkcommunication"))["data"]["message"]

    assert await verdict() == "Not enough outbound connections: 0 of at least 2"
    node.peers.table.put("127.3.0.1", "16127", "outbound")
    node.peers.table.put("127.3.0.1", "16137", "outbound")
    assert await verdict() == "Not enough inbound connections: 0 of at least 1"
    node.peers.table.put("127.5.0.1", "16137", "inbound")
    assert await verdict() == "Not enough different outbound addresses: 1 of at least 2"
    node.peers.table.put("127.4.0.1", "16137", "outbound")
    assert (await node.get("/flux/checkcommunication"))["status"] == "success"


async def test_a_neighbour_may_ask_for_a_link_to_itself(node: Any) -> None:
    # the test client's socket address is not an IP address, so the request is put by hand
    request = node.raw("GET", "/flux/addoutgoingpeer/127.0.0.1:16137")
    await request.run()
    assert request.body == (
        b'{"status":"success","data":{"message":"Outgoing connection to 127.0.0.1:16137 initiated"}}'
    )
    assert node.peers.dialled == [("127.0.0.1", 16137, "deterministic")]
    other = node.raw("GET", "/flux/addoutgoingpeer/127.9.9.9")
    await other.run()
    assert other.body == (b'{"status":"error","data":{"message":"Request ip 127.0.0.1 is not 127.9.9.9"}}')


@pytest.mark.parametrize("ip", ["", "nonsense", "1.2.3", "1.2.3.4:99999", "1.2.3.400", "1.2.3.4:x"])
async def test_addresses_are_checked(node: Any, ip: str) -> None:
    path = f"/flux/addoutgoingpeer/{ip}" if ip else "/flux/addoutgoingpeer"
    assert (await node.get(path))["status"] == "error"
    assert node.peers.dialled == []


OPERATOR_ROUTES = [
    "/flux/addpeer/127.3.0.1",
    "/flux/removepeer/127.3.0.1",
    "/flux/removeincomingpeer/127.3.0.1",
    "/flux/broadcastmessage/%7B%22type%22%3A%22x%22%7D",
]


@pytest.mark.parametrize("path", OPERATOR_ROUTES)
async def test_operator_routes_need_admin_or_team(node: Any, path: str) -> None:
    assert await node.get(path) == node.refusal
    assert await node.get(path, zelidauth=await node.sign_in(node.person)) == node.refusal
    assert node.peers.dialled == []
    assert node.peers.sent == []
    for key in (node.operator, node.team):
        assert await node.get(path, zelidauth=await node.sign_in(key)) != node.refusal


async def test_add_and_remove_peers(connected: Any) -> None:
    admin = await connected.sign_in(connected.operator)
    answer = await connected.get("/flux/addpeer/127.9.0.1", zelidauth=admin)
    assert answer["data"]["message"] == "Outgoing connection to 127.9.0.1:16127 initiated"
    assert connected.peers.dialled == [("127.9.0.1", 16127, "manual")]
    answer = await connected.get("/flux/removepeer/127.3.0.1", zelidauth=admin)
    assert (answer["status"], connected.peers.closed) == ("success", ["127.3.0.1:16127"])
    answer = await connected.get("/flux/removeincomingpeer?ip=127.5.0.1:16127", zelidauth=admin)
    assert (answer["status"], len(connected.peers.closed)) == ("success", 2)
    for path in (
        "/flux/removepeer/127.5.0.1",
        "/flux/removeincomingpeer/127.3.0.1",
        "/flux/removepeer/127.8.8.8",
    ):
        assert (await connected.get(path, zelidauth=admin))["status"] == "warning"
    assert len(connected.peers.closed) == 2


async def test_a_refused_dial_is_an_error_message(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise PeerError("Already connected to 127.9.0.1:16127", remedy="use it")

    monkeypatch.setattr(node.peers, "add_outgoing", refuse)
    admin = await node.sign_in(node.operator)
    assert await node.get("/flux/addpeer/127.9.0.1", zelidauth=admin) == {
        "status": "error",
        "data": {"message": "Already connected to 127.9.0.1:16127"},
    }


async def test_broadcast_by_path_query_and_body(node: Any) -> None:
    admin = await node.sign_in(node.operator)
    text = '{"type":"mine","a":[1,{"b":2}],"1":0}'
    for path in (f"/flux/broadcastmessage/{quote(text)}", f"/flux/broadcastmessage?data={quote(text)}"):
        assert (await node.get(path, zelidauth=admin))["status"] == "success"
    answer = await node.post("/flux/broadcastmessage", {"type": "mine", "b": "x"}, zelidauth=admin)
    assert answer["status"] == "success"
    assert node.peers.sent[0] == {"1": 0, "type": "mine", "a": [1, {"b": 2}]}
    assert list(node.peers.sent[0]) == ["1", "type", "a"], "members in the order they are signed in"
    assert node.peers.sent[2] == {"type": "mine", "b": "x"}


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "{}", '{"type":1}', "null"])
async def test_bad_broadcasts_are_refused(node: Any, text: str) -> None:
    admin = await node.sign_in(node.operator)
    answer = await node.get(f"/flux/broadcastmessage?data={quote(text)}", zelidauth=admin)
    assert answer["status"] == "error"
    assert node.peers.sent == []


async def test_no_broadcast_without_the_right_to_send(node: Any) -> None:
    node.chain.can_send = False
    admin = await node.sign_in(node.operator)
    answer = await node.post("/flux/broadcastmessage", {"type": "x"}, zelidauth=admin)
    assert answer["status"] == "error"
    assert "may not send" in answer["data"]["message"]


async def test_only_the_team_starts_discovery(node: Any) -> None:
    admin = await node.sign_in(node.operator)
    assert await node.get("/flux/startdiscovery", zelidauth=admin) == node.refusal
    team = await node.sign_in(node.team)
    assert (await node.get("/flux/startdiscovery", zelidauth=team))["status"] == "success"
    assert node.peers.discovery_starts == 1


async def test_setting_the_penalty_state(node: Any) -> None:
    team = await node.sign_in(node.team)
    body = {"dosState": 11, "dosMessage": "test"}
    answer = await node.post("/flux/dosstate", body, status=404, zelidauth=team)
    assert answer["status"] == "error"
    node.configure("api", test_controls=True)
    team = await node.sign_in(node.team)
    admin = await node.sign_in(node.operator)
    assert await node.post("/flux/dosstate", body) == node.refusal
    assert await node.post("/flux/dosstate", body, zelidauth=admin) == node.refusal
    for bad in ({}, {"dosState": "1"}, {"dosState": True}, {"dosState": 1, "dosMessage": 5}):
        assert (await node.post("/flux/dosstate", bad, zelidauth=team))["status"] == "error"
    assert await node.post("/flux/dosstate", body, zelidauth=team) == {
        "status": "success",
        "data": {"message": {"dosState": 11, "dosMessage": "test"}},
    }
    assert await node.data("/flux/dosstate?_=1") == {"dosState": 11, "dosMessage": "test"}
    answer = await node.post("/flux/dosstate", {"dosState": 11}, zelidauth=team)
    assert answer["data"]["message"] == {"dosState": 11, "dosMessage": None}
    again = await node.post("/flux/dosstate", {"dosState": 11}, zelidauth=team)
    assert again == answer
    assert [dict(event.data) for event in node.bus.replay()] == [
        {"dosState": 11, "dosMessage": "test"},
        {"dosState": 11, "dosMessage": None},
        {"dosState": 11, "dosMessage": None},
    ]


async def test_peer_history(node: Any) -> None:
    kept = node.peers.table.history
    kept.append(HistoryRecord(100, "connect", "127.3.0.1", "16127", "outbound", "random"))
    kept.append(HistoryRecord(200, "connect", "127.4.0.1", "16137", "inbound", "inbound"))
    kept.append(HistoryRecord(300, "disconnect", "127.3.0.1", "16127", "outbound", "random", 1006, "lost"))
    assert await node.get("/flux/peerhistory") == node.refusal
    admin = await node.sign_in(node.operator)

    async def asked(query: str = "") -> list[int]:
        rows = await node.data(f"/flux/peerhistory{query}", zelidauth=admin)
        return [row["timestamp"] for row in rows]

    rows = await node.data("/flux/peerhistory", zelidauth=admin)
    assert rows[0] == {
        "timestamp": 300,
        "event": "disconnect",
        "ip": "127.3.0.1",
        "port": "16127",
        "direction": "outbound",
        "source": "random",
        "code": 1006,
        "reason": "lost",
    }
    assert "code" not in rows[1]
    assert await asked() == [300, 200, 100]
    assert await asked("?ip=127.3.0.1") == [300, 100]
    assert await asked("?ip=127.4.0.1:16137") == [200]
    assert await asked("?ip=127.4.0.1:16127") == []
    assert await asked("?event=connect") == [200, 100]
    assert await asked("?code=1006") == [300]
    assert await asked("?limit=1") == [300]
    assert await asked("?since=100") == [300, 200]
    assert (await node.get("/flux/peerhistory?limit=0", zelidauth=admin))["status"] == "error"
