"""Answers of strangers: late, long, odd or wrong ones are refused and cost little."""

from __future__ import annotations

import gzip
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from trionode.observer.answers import NODES_PATH, read_nodes
from trionode.observer.reading import Reader
from trionode.runtime.counters import Counters
from trionode.sync.source import HttpBody, SourceError

pytestmark = pytest.mark.trio

LIMITS = {"limit_s": 10.0, "limit_bytes": 1_000_000}
DEEP = b'{"status":"success","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


async def test_a_list_is_read(net: Any) -> None:
    net.add(3)
    reading = await Reader(net, Counters()).long("9.1.0.1", 16127, NODES_PATH, read_nodes, **LIMITS)
    assert [entry.ip for entry in reading.value] == ["9.1.0.1", "9.2.0.1", "9.3.0.1"]
    assert ("User-Agent", "trionode-observer") in net.headers[0]


async def test_an_unchanged_list_is_not_sent_again(net: Any) -> None:
    (node,) = net.add(1)
    node.etag = 'W/"5-x"'
    counters = Counters()
    reader = Reader(net, counters)
    first = await reader.long("9.1.0.1", 16127, NODES_PATH, read_nodes, **LIMITS)
    again = await reader.long("9.1.0.1", 16127, NODES_PATH, read_nodes, etag=first.etag, **LIMITS)
    assert again.value is None
    assert again.received_bytes == 0
    assert counters["observer.unchanged"] == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON",
        b"[]",
        b'{"status":"error","data":{"message":"no"}}',
        b'{"status":"success","data":"text"}',
        b'{"status":"success","data":[1,2,3]}',
        b'{"status":"success","data":[]}',
        b'{"status":"success"}',
        b'{"status":"success","data":[{"ip":"\xff\xfe"}]}',
        DEEP,
        b"x" * 2_000_000,
    ],
    ids=lambda body: repr(body[:30]),
)
async def test_garbage_is_refused(net: Any, body: bytes) -> None:
    (node,) = net.add(1)
    node.bodies[NODES_PATH] = body
    with pytest.raises(SourceError) as refusal:
        await Reader(net, Counters()).long("9.1.0.1", 16127, NODES_PATH, read_nodes, **LIMITS)
    assert len(refusal.value.message) < 300


async def test_a_bomb_is_stopped_at_the_limit(autojump_clock: trio.testing.MockClock) -> None:
    packed = gzip.compress(b"[" + b" " * 50_000_000, 9)

    class Bomb:
        def get(self, ip: str, port: int, path: str, *, headers: Any = ()) -> Any:
            @asynccontextmanager
            async def answer() -> Any:
                async def pieces() -> Any:
                    yield packed

                yield HttpBody(200, "gzip", pieces())

            return answer()

    with pytest.raises(SourceError):
        await Reader(Bomb(), Counters()).long("9.1.0.1", 1, NODES_PATH, read_nodes, **LIMITS)


async def test_a_slow_answer_is_given_up(net: Any, autojump_clock: trio.testing.MockClock) -> None:
    (node,) = net.add(1)
    node.delay_s = 3600
    began_s = trio.current_time()
    with pytest.raises(SourceError, match="within 10 s"):
        await Reader(net, Counters()).long("9.1.0.1", 16127, NODES_PATH, read_nodes, **LIMITS)
    assert trio.current_time() - began_s == pytest.approx(10)
