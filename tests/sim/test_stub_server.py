"""The daemon stub over real loopback sockets: RPC faces, faults by source ip, control API."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h11
import pytest
import trio

from trionode.chain.rpc import HttpRpc
from trionode.errors import ChainError
from trionode.sim.chain import VirtualChain
from trionode.sim.chainnodes import StubNode
from trionode.sim.stub_server import StubPorts, main, run_stub

NODES = [StubNode(f"127.0.0.{n}", f"02{n:064x}") for n in (11, 12, 13)]


class World:
    """A running stub and what tests do with it."""

    def __init__(self, chain: VirtualChain, ports: StubPorts) -> None:
        self.chain = chain
        self.ports = ports
        self.clients: list[HttpRpc] = []

    def rpc(self, ip: str, *, bench: bool = False, timeout_s: float = 60.0, password: str = "pw") -> HttpRpc:
        port = self.ports.bench if bench else self.ports.daemon
        client = HttpRpc(self.ports.host, port, "user", password, timeout_s=timeout_s, source_ip=ip)
        self.clients.append(client)
        return client

    async def control(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        stream = await trio.open_tcp_stream(self.ports.host, self.ports.control)
        async with stream:
            client = h11.Connection(h11.CLIENT)
            data = b"" if body is None else json.dumps(body).encode()
            headers = [("Host", "stub"), ("Content-Length", str(len(data)))]
            request = client.send(h11.Request(method=method, target=path, headers=headers)) or b""
            await stream.send_all(request + (client.send(h11.Data(data)) or b""))
            received = b""
            status = 0
            while True:
                event = client.next_event()
                if event is h11.NEED_DATA:
                    client.receive_data(await stream.receive_some())
                elif isinstance(event, h11.Response):
                    status = event.status_code
                elif isinstance(event, h11.Data):
                    received += event.data
                else:
                    return status, json.loads(received)


@asynccontextmanager
async def stub(credentials: str | None = None) -> AsyncIterator[World]:
    chain = VirtualChain(NODES)
    async with trio.open_nursery() as nursery:
        wanted = StubPorts("127.0.0.1", 0, 0, 0)
        ports = await nursery.start(partial(run_stub, chain, wanted, credentials=credentials))
        world = World(chain, ports)
        try:
            yield world
        finally:
            for client in world.clients:
                client.close()
        nursery.cancel_scope.cancel()


@pytest.mark.trio
@pytest.mark.process
async def test_callers_are_told_apart_by_their_source_address() -> None:
    async with stub() as world:
        for node in NODES:
            status = await world.rpc(node.ip).call("getzelnodestatus")
            bench = await world.rpc(node.ip, bench=True).call("getbenchmarks")
            assert (status["status"], status["pubkey"]) == ("CONFIRMED", node.pubkey)
            assert bench["ipaddress"] == node.ip


@pytest.mark.trio
@pytest.mark.process
async def test_single_calls_batches_and_errors() -> None:
    async with stub() as world:
        rpc = world.rpc("127.0.0.11")
        assert await rpc.call("GetBlockCount") == 2_100_000
        results = await rpc.batch([("getblockcount", []), ("nonsense", []), ("getblockhash", [5])])
        assert results[0] == 2_100_000
        assert isinstance(results[1], ChainError)
        assert results[1].rpc_code == -32601
        assert results[2] == "000000000000stub5"
        assert len(await rpc.call("viewdeterministiczelnodelist")) == 3


@pytest.mark.trio
@pytest.mark.process
async def test_rpc_fail_for_all_and_for_one() -> None:
    async with stub() as world:
        rpc = world.rpc("127.0.0.11")
        for ip, other_fails in (("127.0.0.11", False), ("all", True)):
            assert (await world.control("POST", f"/rpc-fail/{ip}"))[0] == 200
            with pytest.raises(ChainError) as failed:
                await rpc.call("getblockcount")
            assert failed.value.rpc_code == -28
            other = world.rpc("127.0.0.12", bench=True)
            if other_fails:
                with pytest.raises(ChainError):
                    await other.call("getinfo")
            else:
                assert (await other.call("getinfo"))["version"] == "5.0.0"
            await world.control("DELETE", f"/rpc-fail/{ip}")
            assert await rpc.call("getblockcount") == 2_100_000


@pytest.mark.trio
@pytest.mark.process
@pytest.mark.parametrize(
    ("mode", "code"), [("down", "ECONNRESET"), ("garbage", 500), ("slow", "ECONNABORTED")]
)
async def test_behaviours_over_the_wire(mode: str, code: object) -> None:
    async with stub() as world:
        rpc = world.rpc("127.0.0.11")
        asker = world.rpc("127.0.0.11", timeout_s=0.3) if mode == "slow" else rpc
        assert await rpc.call("getblockcount") == 2_100_000
        body = {"mode": mode, "delayMs": 60_000}
        assert await world.control("POST", "/behaviour/127.0.0.11", body) == (200, {"ok": True})
        with pytest.raises(ChainError) as failed:
            await asker.call("getblockcount")
        assert failed.value.rpc_code == code
        assert await world.rpc("127.0.0.12").call("getblockcount") == 2_100_000
        await world.control("POST", "/behaviour/all", {"mode": "ok"})
        assert await rpc.call("getblockcount") == 2_100_000


@pytest.mark.trio
@pytest.mark.process
async def test_status_overrides_for_all_and_one() -> None:
    async with stub() as world:
        await world.control("POST", "/node-status/all", {"status": "EXPIRED"})
        for node in NODES:
            assert (await world.rpc(node.ip).call("getzelnodestatus"))["status"] == "EXPIRED"
        assert await world.control("GET", "/node-status") == (200, {"all": "EXPIRED"})
        await world.control("DELETE", "/node-status/all")
        await world.control("POST", "/node-status/127.0.0.12", {"status": "STARTED"})
        seen = [(await world.rpc(node.ip).call("getzelnodestatus"))["status"] for node in NODES]
        assert seen == ["CONFIRMED", "STARTED", "CONFIRMED"]


@pytest.mark.trio
@pytest.mark.process
async def test_node_list_operations() -> None:
    async with stub() as world:

        async def listed() -> list[str]:
            rows = await world.rpc("127.0.0.11").call("viewdeterministiczelnodelist")
            return [row["ip"] for row in rows]

        assert await world.control("POST", "/node-list/remove/127.0.0.11") == (200, {"removed": 1})
        assert await listed() == ["127.0.0.12", "127.0.0.13"]
        status = await world.rpc("127.0.0.11").call("getzelnodestatus")
        assert status["status"] == "CONFIRMED", "a removed node keeps its status"
        assert await world.control("POST", "/node-list/restore/127.0.0.11") == (200, {"restored": 1})
        assert await listed() == ["127.0.0.12", "127.0.0.13", "127.0.0.11"]
        await world.control("POST", "/node-tier/127.0.0.12", {"tier": "stratus"})
        bench = await world.rpc("127.0.0.12", bench=True).call("getbenchmarks")
        assert bench["cores"] == 16
        assert "systemsecure" not in bench
        for method, secure in (("POST", True), ("DELETE", None)):
            assert await world.control(method, "/node-secure/127.0.0.12") == (200, {"changed": 1})
            bench = await world.rpc("127.0.0.12", bench=True).call("getbenchmarks")
            assert bench.get("systemsecure") is secure
        await world.control("POST", "/node-list/reset")
        assert await listed() == [node.ip for node in NODES]
        new = {"ip": "127.0.0.44:16137", "pubkey": "02ff", "tier": "NIMBUS"}
        assert await world.control("POST", "/set-node-list", {"nodes": [new]}) == (200, {"nodeCount": 1})
        assert await listed() == ["127.0.0.44:16137"]


@pytest.mark.trio
@pytest.mark.process
async def test_blocks_queue_and_heights() -> None:
    async with stub() as world:
        rpc = world.rpc("127.0.0.11")
        app_hash = "ab" * 32
        queued = await world.control("POST", "/queue-app-tx", {"appHash": app_hash})
        assert queued == (
            200,
            {"queued": app_hash, "queueLength": 1, "nextBlockHeight": 2_100_001},
        )
        assert await world.control("POST", "/advance-block") == (200, {"height": 2_100_001})
        block = await rpc.call("getblock", ["2100001", 2])
        assert [tx["txid"] for tx in block["tx"]] == [f"apptx-{app_hash[:16]}-2100001"]
        asm = block["tx"][0]["vout"][-1]["scriptPubKey"]["asm"]
        assert bytes.fromhex(asm.removeprefix("OP_RETURN ")).decode() == app_hash
        assert await world.control("POST", "/advance-block", {"count": 5}) == (200, {"height": 2_100_006})
        assert (await rpc.call("getblock", ["2100001", 2]))["confirmations"] == 1
        assert (await rpc.call("getblock", ["2100004", 2]))["confirmations"] == 3
        await world.control("POST", "/set-height", {"height": 100})
        assert await rpc.call("getblockcount") == 100


@pytest.mark.trio
@pytest.mark.process
async def test_the_ticker_is_off_until_started_and_stops() -> None:
    async with stub() as world:
        world.chain.block_interval_ms = 20
        await trio.sleep(0.1)
        assert world.chain.height == 2_100_000
        await world.control("POST", "/ticker/start")
        with trio.fail_after(60):
            while world.chain.height <= 2_100_003:  # noqa: ASYNC110 - it grows by itself
                await trio.sleep(0.01)
        await world.control("POST", "/ticker/stop")
        height = world.chain.height
        await trio.sleep(0.1)
        assert world.chain.height == height
        assert (await world.control("GET", "/state"))[1]["tickerRunning"] is False


@pytest.mark.trio
@pytest.mark.process
async def test_journal_and_reset() -> None:
    async with stub() as world:
        await world.rpc("127.0.0.11").call("getblockcount")
        await world.rpc("127.0.0.12").call("getinfo")
        await world.rpc("127.0.0.12", bench=True).call("getinfo")
        _, calls = await world.control("GET", "/journal?method=getinfo&sourceIp=127.0.0.12")
        assert [(c["id"], c["server"], c["sourceIp"]) for c in calls] == [
            (2, "daemon", "127.0.0.12"),
            (3, "bench", "127.0.0.12"),
        ]
        assert len((await world.control("GET", "/journal?limit=1"))[1]) == 1
        await world.control("POST", "/node-tier/127.0.0.12", {"tier": "NIMBUS"})
        await world.control("POST", "/rpc-fail/all")
        await world.control("POST", "/node-list/remove/all")
        await world.control("POST", "/reset")
        _, state = await world.control("GET", "/state")
        assert (state["nodeCount"], state["rpcFailures"], state["statusOverrides"]) == (3, [], {})
        assert world.chain.registry["127.0.0.12"].tier == "NIMBUS", "tiers outlive a reset"
        assert (await world.control("GET", "/journal")) == (200, [])


@pytest.mark.trio
@pytest.mark.process
@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/nonsense", None, 404),
        ("POST", "/set-height", {"height": "high"}, 400),
        ("POST", "/behaviour/all", {"mode": "sleepy"}, 400),
        ("POST", "/node-status/all", {}, 400),
        ("POST", "/node-tier/127.0.0.11", {"tier": "GOLD"}, 400),
        ("POST", "/node-list/remove/9.9.9.9", None, 400),
        ("POST", "/set-node-list", {"nodes": [{"ip": "1.2.3.4"}]}, 400),
        ("POST", "/queue-app-tx", {"appHash": "short"}, 400),
    ],
)
async def test_wrong_control_requests_are_explained(
    method: str, path: str, body: object, status: int
) -> None:
    async with stub() as world:
        got, answer = await world.control(method, path, body)
        assert got == status
        assert answer["error"]


@pytest.mark.trio
@pytest.mark.process
async def test_credentials_are_checked_when_asked_for() -> None:
    async with stub("user:secret") as world:
        assert await world.rpc("127.0.0.11", password="secret").call("getblockcount") == 2_100_000
        with pytest.raises(ChainError, match="401") as refused:
            await world.rpc("127.0.0.11", password="wrong").call("getblockcount")
        assert refused.value.rpc_code == 500
        assert "password" in refused.value.remedy


def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    nodes = tmp_path / "nodes.json"
    nodes.write_text('[{"ip": "127.0.0.11"}]')
    assert main(["--nodes", str(nodes)]) == 1
    assert "node 1" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    message = capsys.readouterr().err
    assert f"cannot listen on 127.0.0.1:{port}" in message
    assert "choose another" in message
