"""The event stream: replay, ids, keepalive, gaps, disconnects (api.md §10)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trionode.api.sse import last_event_id

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "lifecycle.json").read_text("utf-8"))["i_misc"][
    "eventStream"
]


def published(value: Any) -> list[tuple[str, Any]]:
    """The events of a vector, which are a list or the words "1030 events e1..e1030"."""
    if isinstance(value, str):
        return [(f"e{number}", number) for number in range(1, int(value.split()[0]) + 1)]
    return [(name, data) for name, data in value]


@pytest.mark.trio
@pytest.mark.parametrize("number", range(len(VECTORS)))
async def test_vectors(node: Any, autojump_clock: Any, number: int) -> None:
    case = VECTORS[number]
    node.configure("api", event_stream=case["enabled"])
    for name, data in published(case["publishedBefore"]):
        node.bus.publish(name, data)
    headers = {"Last-Event-ID": case["lastEventId"]} if "lastEventId" in case else {}
    request = node.raw("GET", "/flux/eventstream", **headers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(request.run)
        await trio.sleep(0.1)
        for name, data in published(case.get("publishedAfter", [])):
            node.bus.publish(name, data)
        await trio.sleep(0.1 + case.get("tickMs", 0) / 1000)
        body = request.body.decode()
        request.leave()
    assert request.status == case["status"]
    if case["json"] is not None:
        assert json.loads(body) == case["json"]
        return
    for name, value in case["headers"].items():
        assert request.headers[name] == value
    expected = case["body"]
    if isinstance(expected, str):
        # our events always carry an object, so a publisher's null becomes an empty one
        assert body == expected.replace("data: null", "data: {}")
    else:
        assert len(body) == expected["length"]
        assert body.startswith(expected["startsWith"])
        assert body.endswith(expected["endsWith"])


@pytest.mark.trio
async def test_headers_go_out_before_any_event(node: Any) -> None:
    request = node.raw("GET", "/flux/eventstream")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(request.run)
        await wait_all_tasks_blocked()
        assert (request.status, request.body) == (200, b"")
        assert request.chunks, "an empty first chunk makes the server send the headers"
        request.leave()


@pytest.mark.trio
async def test_each_event_is_flushed_at_once_and_leaving_unsubscribes(node: Any) -> None:
    request = node.raw("GET", "/flux/eventstream")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(request.run)
        await wait_all_tasks_blocked()
        assert len(node.bus._subscriptions) == 1
        for number in (1, 2):
            node.bus.publish("a:b", {"n": number})
            await wait_all_tasks_blocked()
            assert request.chunks[-1] == f'event: a:b\ndata: {{"n":{number}}}\nid: {number}\n\n'.encode()
        request.leave()
    assert len(node.bus._subscriptions) == 0


@pytest.mark.trio
async def test_keepalive_every_15_s_without_end(node: Any, autojump_clock: Any) -> None:
    request = node.raw("GET", "/flux/eventstream")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(request.run)
        await trio.sleep(3605)
        assert request.body == b": keepalive\n\n" * 240
        request.leave()


@pytest.mark.trio
async def test_a_slow_client_is_told_what_it_lost(node: Any) -> None:
    node.configure("api", event_ring=8)
    request = node.raw("GET", "/flux/eventstream")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(request.run)
        await wait_all_tasks_blocked()
        for number in range(20):
            node.bus.publish("n", {"number": number})
        await wait_all_tasks_blocked()
        request.leave()
    text = request.body.decode()
    assert text.startswith('event: stream:gap\ndata: {"lost":4}\n\nevent: n\ndata: {"number":4}\nid: 5\n\n')
    assert text.count("event: n\n") == 16


@pytest.mark.trio
async def test_a_late_client_is_told_what_the_ring_no_longer_has(node: Any) -> None:
    for number in range(1030):
        node.bus.publish("n", {"number": number})
    request = node.raw("GET", "/flux/eventstream", **{"Last-Event-ID": "2"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(request.run)
        await wait_all_tasks_blocked()
        request.leave()
    text = request.body.decode()
    assert text.startswith('event: stream:gap\ndata: {"lost":4}\n\nevent: n\ndata: {"number":6}\nid: 7\n\n')


@pytest.mark.trio
async def test_several_clients_get_the_same(node: Any) -> None:
    requests = [node.raw("GET", "/flux/eventstream") for _ in range(3)]
    async with trio.open_nursery() as nursery:
        for request in requests:
            nursery.start_soon(request.run)
        await wait_all_tasks_blocked()
        node.bus.publish("boot:settled")
        await wait_all_tasks_blocked()
        for request in requests:
            request.leave()
    assert {request.body for request in requests} == {b"event: boot:settled\ndata: {}\nid: 1\n\n"}


@pytest.mark.parametrize(
    ("header", "number"),
    [(None, 0), ("", 0), ("0", 0), ("17", 17), (" 3", 3), ("junk", 0), ("-4", 0), ("9x", 9)],
)
def test_last_event_id(header: str | None, number: int) -> None:
    assert last_event_id(header) == number
