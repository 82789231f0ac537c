"""Daemon, benchmark and explorer routes (api.md §3, §4)."""

from __future__ import annotations

from typing import Any

import pytest

from trionode.errors import ChainError

pytestmark = pytest.mark.trio


async def test_node_status_is_asked_afresh_and_kept_a_minute(node: Any) -> None:
    node.daemon.answers["getzelnodestatus"] = {"status": "CONFIRMED"}
    response = await node.client.get("/daemon/getfluxnodestatus")
    assert await response.get_data() == b'{"status":"success","data":{"status":"CONFIRMED"}}'
    assert response.headers["Cache-Control"] == "max-age=60"
    assert node.daemon.calls == [("getzelnodestatus", (), True)]
    assert await node.data("/daemon/getzelnodestatus") == {"status": "CONFIRMED"}


async def test_daemon_errors_keep_their_code(node: Any) -> None:
    node.daemon.answers["getblockchaininfo"] = ChainError("Loading block index...", rpc_code=-28)
    assert await node.get("/daemon/getblockchaininfo") == {
        "status": "error",
        "data": {"code": -28, "name": "Error", "message": "Loading block index..."},
    }
    node.daemon.answers["getblockcount"] = ChainError("refused", rpc_code="ECONNREFUSED")
    assert (await node.get("/daemon/getblockcount"))["data"]["code"] == "ECONNREFUSED"


async def test_node_lists(node: Any) -> None:
    node.daemon.answers["listfluxnodes"] = [{"ip": "a"}, {"ip": "b"}, {"ip": "c"}]
    for name in (
        "listfluxnodes",
        "viewdeterministicfluxnodelist",
        "listzelnodes",
        "viewdeterministiczelnodelist",
    ):
        assert len(await node.data(f"/daemon/{name}")) == 3
    assert await node.data("/daemon/listfluxnodes?limit=2") == [{"ip": "a"}, {"ip": "b"}]
    await node.data("/daemon/listfluxnodes/somekey")
    assert node.daemon.calls[-1] == ("listfluxnodes", ("somekey",), False)
    for bad in ("0", "-1", "x", "10000000", "1.5"):
        assert (await node.get(f"/daemon/listfluxnodes?limit={bad}"))["status"] == "error"


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("getfluxnodecount", ("getzelnodecount", ())),
        ("getblock/0000ab", ("getblock", ("0000ab",))),
        ("getblock/2100000/1", ("getblock", ("2100000", 1))),
        ("getblock?hashheight=12&verbosity=2", ("getblock", ("12", 2))),
        ("getblockhash/2100000", ("getblockhash", (2100000,))),
        ("getblockheader/ab/true", ("getblockheader", ("ab", True))),
        ("getrawtransaction/ab/1", ("getrawtransaction", ("ab", 1))),
        ("fluxnodecurrentwinner", ("zelnodecurrentwinner", ())),
        ("getdoslist", ("getdoslist", ())),
    ],
)
async def test_plain_passthrough(node: Any, path: str, call: tuple[str, tuple[Any, ...]]) -> None:
    node.daemon.answers[call[0]] = "answer"
    assert await node.data(f"/daemon/{path}") == "answer"
    assert node.daemon.calls[-1][:2] == call


@pytest.mark.parametrize("path", ["getblock", "getblockhash/x", "getblockhash/99999999999", "getblock/1/x"])
async def test_bad_parameters_do_not_reach_the_daemon(node: Any, path: str) -> None:
    assert (await node.get(f"/daemon/{path}"))["status"] == "error"
    assert node.daemon.calls == []


@pytest.mark.parametrize("name", ["stop", "dumpprivkey", "z_sendmany", "sendrawtransaction", "reindex"])
async def test_dangerous_calls_do_not_exist(node: Any, name: str) -> None:
    response = await node.client.get(f"/daemon/{name}")
    assert response.status_code == 404
    assert node.daemon.calls == []


async def test_benchmark(node: Any) -> None:
    assert await node.data("/benchmark/getbenchmarks") == {"ipaddress": "127.1.0.1"}
    assert (await node.get("/benchmark/getinfo"))["data"]["code"] == -32601


async def test_without_an_explorer(node: Any) -> None:
    assert (await node.get("/explorer/scannedheight"))["status"] == "error"
    assert await node.data("/explorer/issynced") is False
