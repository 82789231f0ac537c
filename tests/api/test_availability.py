"""Checks for other nodes (api.md §6), and the probe that makes them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from trionode.api.probe import HttpAnswer, TcpProbe
from trionode.api.routes.availability import version_numbers
from trionode.wire.jsjson import stringify

CHECK = "/flux/checkfluxavailability?ip=127.1.0.2&port=16137"


def healthy(node: Any, version: str = "8.13.1") -> None:
    node.configure("network", allow_private_addresses=True)
    body = json.dumps({"status": "success", "data": version}).encode()
    node.probe.pages = {
        ("127.1.0.2", 16137, "/flux/version"): HttpAnswer(200, body),
        ("127.1.0.2", 16136, "/health"): HttpAnswer(200, b"OK"),
    }
    node.probe.open_ports = {("127.1.0.2", 16139)}


@pytest.mark.trio
async def test_a_healthy_node_is_available(node: Any) -> None:
    healthy(node)
    answer = await node.get(CHECK)
    assert answer == {"status": "success", "data": {"message": "Asking Flux is available"}}
    assert "not" not in answer["data"]["message"]


@pytest.mark.trio
async def test_a_listed_private_address_is_not_contacted(node: Any) -> None:
    """Otherwise a node that claims an address of our own network could have it looked at by us."""
    healthy(node)
    node.configure("network", allow_private_addresses=False)
    answer = await node.get(CHECK)
    assert answer["status"] == "error"
    assert "private" in answer["data"]["message"]


@pytest.mark.trio
async def test_a_home_page_counts_as_health(node: Any) -> None:
    healthy(node)
    node.probe.pages["127.1.0.2", 16136, "/health"] = HttpAnswer(200, b"<html><title>Flux</title>")
    assert (await node.get(CHECK))["status"] == "success"


@pytest.mark.trio
@pytest.mark.parametrize(
    "broken",
    ["no version", "old", "not json", "error", "http 500", "no health", "wrong health", "port closed"],
)
async def test_one_failing_check_is_enough(node: Any, broken: str) -> None:
    healthy(node, "7.9.9" if broken == "old" else "8.13.1")
    version, health = ("127.1.0.2", 16137, "/flux/version"), ("127.1.0.2", 16136, "/health")
    match broken:
        case "no version":
            del node.probe.pages[version]
        case "not json":
            node.probe.pages[version] = HttpAnswer(200, b"8.13.1")
        case "error":
            node.probe.pages[version] = HttpAnswer(200, b'{"status":"error","data":"8.13.1"}')
        case "http 500":
            node.probe.pages[version] = HttpAnswer(500, node.probe.pages[version].body)
        case "no health":
            del node.probe.pages[health]
        case "wrong health":
            node.probe.pages[health] = HttpAnswer(200, b"fine")
        case "port closed":
            node.probe.open_ports.clear()
    answer = await node.get(CHECK)
    assert answer["status"] == "error"
    assert answer["data"]["message"].endswith("is not available")


@pytest.mark.trio
@pytest.mark.parametrize(
    "query",
    [
        "",
        "?ip=localhost",
        "?ip=127.1.0.2&port=80",
        "?ip=127.1.0.2&port=x",
        "?ip=127.1.0.2",
        "?ip=127.1.0.9&port=16127",
    ],
)
async def test_only_listed_nodes_at_api_ports_are_contacted(node: Any, query: str) -> None:
    healthy(node)
    assert (await node.get(f"/flux/checkfluxavailability{query}"))["status"] == "error"


@pytest.mark.parametrize(
    ("version", "numbers"),
    [
        ("8.13.1", (8, 13, 1)),
        ("v8.2", (8, 2, 0)),
        ("8.13.1+2", (8, 13, 12)),
        (None, (0, 0, 0)),
        ("..", (0, 0, 0)),
    ],
)
def test_version_numbers(version: Any, numbers: tuple[int, ...]) -> None:
    assert version_numbers(version) == numbers


def signed(node: Any, body: dict[str, Any], key: Any = None) -> dict[str, Any]:
    key = key or node.neighbour
    unsigned = {**body, "pubKey": key.public_key}
    return {**unsigned, "signature": key.sign(stringify(unsigned))}


APP = {"ip": "127.1.0.2", "port": "16137", "appname": "shop", "ports": [31111, "31112", 22, 70000]}


@pytest.mark.trio
async def test_app_ports_are_checked_for_a_node(node: Any) -> None:
    node.configure("network", allow_private_addresses=True)
    node.probe.open_ports = {("127.1.0.2", 31111), ("127.1.0.2", 31112)}
    assert await node.post("/flux/checkappavailability", signed(node, APP)) == {
        "status": "success",
        "data": {"message": "Flux Applications on 127.1.0.2:16137 are available."},
    }
    node.probe.open_ports = {("127.1.0.2", 31111)}
    answer = await node.post("/flux/checkappavailability", signed(node, APP))
    assert answer["status"] == "error"
    assert answer["data"]["message"].endswith("Failed port: 31112")


@pytest.mark.trio
async def test_app_check_needs_a_listed_signature_or_rights(node: Any) -> None:
    node.configure("network", allow_private_addresses=True)
    route = "/flux/checkappavailability"
    body = {**APP, "ports": []}
    assert await node.post(route, body) == node.refusal
    assert await node.post(route, signed(node, body, node.person)) == node.refusal
    tampered = {**signed(node, body), "ports": [1]}
    assert await node.post(route, tampered) == node.refusal
    admin = await node.sign_in(node.operator)
    assert (await node.post(route, body, zelidauth=admin))["status"] == "success"


@pytest.mark.trio
@pytest.mark.parametrize(
    "change", [{"ip": "127.0.0.1"}, {"ip": "x"}, {"ip": 5}, {"ports": "1"}, {"ports": [None]}]
)
async def test_app_check_refuses_odd_targets(node: Any, change: dict[str, Any]) -> None:
    answer = await node.post("/flux/checkappavailability", signed(node, {**APP, **change}))
    assert answer["status"] == "error"
    assert answer != node.refusal


@pytest.mark.trio
@pytest.mark.process
async def test_the_real_probe() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        assert stream.socket.getpeername()[0] == "127.77.0.9"
        request = await stream.receive_some(4096)
        if b"GET /health HTTP/1.1" in request:
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")
        elif b"GET /bad" in request:
            await stream.send_all(b"nonsense\r\n\r\n")
        elif b"GET /huge" in request:
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + bytes(2_000_000))
        elif b"GET /slow" in request:
            await trio.sleep_forever()
        await stream.aclose()

    probe = TcpProbe("127.77.0.9")
    async with trio.open_nursery() as nursery:
        listener = (await trio.open_tcp_listeners(0, host="127.77.0.1"))[0]
        port = listener.socket.getsockname()[1]

        async def guarded(stream: trio.SocketStream) -> None:
            try:
                await serve(stream)
            except trio.BrokenResourceError:
                return

        nursery.start_soon(trio.serve_listeners, guarded, [listener])

        async def get(path: str, timeout_s: float = 60.0) -> HttpAnswer | None:
            return await probe.http_get("127.77.0.1", port, path, timeout_s=timeout_s)

        assert await get("/health") == HttpAnswer(200, b"OK")
        for path in ("/bad", "/huge", "/nothing"):
            assert await get(path) is None, path
        assert await get("/slow", timeout_s=0.3) is None
        assert await probe.tcp_connects("127.77.0.1", port, timeout_s=60)
        assert not await probe.tcp_connects("127.77.0.2", port, timeout_s=60)
        nursery.cancel_scope.cancel()
