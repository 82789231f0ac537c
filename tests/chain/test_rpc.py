"""HttpRpc against a nasty server on loopback sockets."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trionode.chain.conf import parse_conf
from trionode.chain.http1 import IDLE_LIMIT_S
from trionode.chain.methods import BENCH_METHODS, DAEMON_METHODS
from trionode.chain.rpc import HttpRpc, bench_rpc, daemon_rpc
from trionode.chain.rpccache import ResultCache
from trionode.config.tree import ChainSettings
from trionode.errors import ChainError

pytestmark = [pytest.mark.trio, pytest.mark.process]

Script = Callable[[trio.SocketStream, bytes, bytes], Awaitable[bool]]
"""Gets the stream, the head and the body of one request; True to go on with the connection."""


class Server:
    """Counts connections and remembers requests; `script` answers them."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = 0
        self.sources: list[str] = []
        self.heads: list[bytes] = []
        self.bodies: list[Any] = []
        self.active = self.most_active = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        # a client that hangs up over unread bytes resets its connection
        with suppress(trio.BrokenResourceError):
            await self._serve(stream)

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        self.sources.append(stream.socket.getpeername()[0])
        buffer = b""
        async with stream:
            while True:
                while b"\r\n\r\n" not in buffer:
                    data = await stream.receive_some()
                    if not data:
                        return
                    buffer += data
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
                length = int(fields[b"content-length"])
                while len(buffer) < length:
                    buffer += await stream.receive_some()
                body, buffer = buffer[:length], buffer[length:]
                self.heads.append(head)
                self.bodies.append(json.loads(body))
                self.active += 1
                self.most_active = max(self.active, self.most_active)
                try:
                    if not await self.script(stream, head, body):
                        return
                finally:
                    self.active -= 1


@asynccontextmanager
async def serving(script: Script, **options: Any) -> AsyncIterator[tuple[Server, HttpRpc]]:
    server = Server(script)
    options = {"timeout_s": 60.0, "parallel_calls": 5, **options}
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        with HttpRpc("127.0.0.1", port, "user", "pass", **options) as rpc:
            yield server, rpc
        nursery.cancel_scope.cancel()


def http(body: bytes, status: str = "200 OK", extra: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


def reply(result: Any = None, error: Any = None, request_id: Any = 0) -> bytes:
    return json.dumps({"result": result, "error": error, "id": request_id}).encode()


def saying(*pieces: bytes, then_close: bool = False, pause_s: float = 0.0) -> Script:
    async def script(stream: trio.SocketStream, head: bytes, body: bytes) -> bool:
        for piece in pieces:
            await stream.send_all(piece)
            await trio.sleep(pause_s)
        return not then_close

    return script


async def failure(script: Script, **options: Any) -> ChainError:
    async with serving(script, **options) as (_, rpc):
        with pytest.raises(ChainError) as failed:
            await rpc.call("getinfo")
        return failed.value


async def test_the_request_on_the_wire() -> None:
    async with serving(saying(http(reply({"blocks": 7}))), source_ip="127.0.0.77") as (server, rpc):
        assert await rpc.call("GetInfo", (1, "x")) == {"blocks": 7}
        assert server.bodies == [{"jsonrpc": "2.0", "id": 0, "method": "getinfo", "params": [1, "x"]}]
        assert server.heads[0].startswith(b"POST / HTTP/1.1\r\n")
        assert base64.b64encode(b"user:pass") in server.heads[0]
        assert server.sources == ["127.0.0.77"]


async def test_ids_wrap_after_999_and_connections_are_kept(mock_clock: MockClock) -> None:
    """On a clock that stands still, as a connection is kept for a short time only."""
    async with serving(saying(http(reply(1)))) as (server, rpc):
        for _ in range(1001):
            await rpc.call("getblockcount")
        assert [body["id"] for body in server.bodies] == [*range(1000), 0]
        assert server.connections == 1


async def test_at_most_five_calls_are_in_flight_and_five_connections_kept() -> None:
    async with serving(saying(http(reply(1)), pause_s=0.02)) as (server, rpc):
        async with trio.open_nursery() as nursery:
            for _ in range(23):
                nursery.start_soon(rpc.call, "getinfo")
        assert server.most_active <= 5
        assert server.connections <= 5
        assert len(server.bodies) == 23


@pytest.mark.parametrize(
    "answer",
    [
        http(b"  \r\n\t" + reply(5) + b" \n\n"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"
        + reply(5)[:5]
        + b"\r\n"
        + f"{len(reply(5)) - 5:x}\r\n".encode()
        + reply(5)[5:]
        + b"\r\n0\r\n\r\n",
        http(reply(5), "500 Internal Server Error"),
        b"HTTP/1.1 100 Continue\r\n\r\n" + http(reply(5)),
    ],
    ids=["white space", "chunked", "status 500 with a result", "informational first"],
)
async def test_odd_but_good_answers(answer: bytes) -> None:
    async with serving(saying(answer)) as (_, rpc):
        assert await rpc.call("getblockcount") == 5


async def test_an_answer_may_come_byte_by_byte_and_end_with_the_connection() -> None:
    text = b"HTTP/1.0 200 OK\r\n\r\n" + reply("slow")
    pieces = [text[i : i + 1] for i in range(len(text))]
    async with serving(saying(*pieces, then_close=True)) as (server, rpc):
        assert await rpc.call("getinfo") == "slow"
        assert await rpc.call("getinfo") == "slow"
        assert server.connections == 2


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        (http(reply(None, {"code": -28, "message": "Loading block index..."}), "500 X"), -28, "Loading"),
        (http(reply(None, {"code": "ODD", "message": "odd"})), "ODD", "odd"),
        (http(reply(None, "plain text")), 500, "plain text"),
        (http(reply(None, {"data": 1})), 500, "without a message"),
        (http(b"", "401 Unauthorized"), 500, "401 Unauthorized"),
        (http(b"<html>no</html>", "502 Bad Gateway"), 500, "<html>no</html>"),
        (http(b"\xff\xfe\x00"), 500, "200 OK"),
        (http(b""), 500, "an empty body"),
        (http(b"[]"), 500, "no RPC reply"),
        (http(b"7"), 500, "no RPC reply"),
        (http(b'{"id":0}'), 500, "neither a result nor an error"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "EPROTO", "does not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "ECONNRESET", "before its answer was complete"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "ECONNRESET", "before its answer was complete"),
        (b"", "ECONNRESET", "before its answer was complete"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000, "EPROTO", "does not answer in HTTP"),
        (http(b"[" + b"1," * 6000 + b"1]"), "EMSGSIZE", "more than 10000 bytes"),
    ],
)
async def test_bad_answers(answer: bytes, code: int | str, text: str) -> None:
    error = await failure(saying(answer, then_close=True), max_body_bytes=10_000)
    assert error.rpc_code == code
    assert text in error.message


async def test_a_refused_connection_has_its_name() -> None:
    with trio.socket.socket() as placeholder:
        await placeholder.bind(("127.0.0.1", 0))
        port = placeholder.getsockname()[1]
        with HttpRpc("127.0.0.1", port, "u", "p", timeout_s=60) as rpc, pytest.raises(ChainError) as refused:
            await rpc.call("getinfo")
    assert refused.value.rpc_code == "ECONNREFUSED"
    assert "running" in refused.value.remedy


@pytest.mark.parametrize(
    "pieces", [(), (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{",)], ids=["silence", "half an answer"]
)
async def test_a_slow_server_is_given_up(pieces: tuple[bytes, ...]) -> None:
    async def script(stream: trio.SocketStream, head: bytes, body: bytes) -> bool:
        for piece in pieces:
            await stream.send_all(piece)
        await trio.sleep(30)
        return False

    started_s = trio.current_time()
    error = await failure(script, timeout_s=0.2)
    assert error.rpc_code == "ECONNABORTED"
    assert trio.current_time() - started_s < 29


async def test_after_a_failure_the_next_call_works(mock_clock: MockClock) -> None:
    answers = iter([b"", http(b"garbage"), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1", http(reply(3))])

    async def script(stream: trio.SocketStream, head: bytes, body: bytes) -> bool:
        answer = next(answers)
        await stream.send_all(answer)
        return answer.endswith((b"}", b"garbage"))

    async with serving(script) as (server, rpc):
        for _ in range(3):
            with pytest.raises(ChainError):
                await rpc.call("getinfo")
        assert await rpc.call("getinfo") == 3
        assert server.connections == 3, "only the whole (if useless) answer leaves a usable connection"


async def test_a_connection_the_server_closed_while_idle_is_not_used() -> None:
    async with serving(saying(http(reply(1)), then_close=True)) as (server, rpc):
        for _ in range(20):
            assert await rpc.call("getinfo") == 1
            with trio.fail_after(60):
                [kept] = rpc._poster._idle
                await trio.lowlevel.wait_readable(kept.stream.socket)
        assert server.connections == 20


async def test_a_connection_idle_for_long_is_not_used(mock_clock: MockClock) -> None:
    """The clock stands still while real sockets work: it must not jump to the limit of a call."""
    async with serving(saying(http(reply(1)))) as (server, rpc):
        await rpc.call("getinfo")
        mock_clock.jump(IDLE_LIMIT_S - 1)
        await rpc.call("getinfo")
        assert server.connections == 1
        mock_clock.jump(IDLE_LIMIT_S + 1)
        await rpc.call("getinfo")
        assert server.connections == 2


async def test_a_connection_still_in_use_at_the_close_is_not_kept() -> None:
    asked, closed = trio.Event(), trio.Event()

    async def script(stream: trio.SocketStream, head: bytes, body: bytes) -> bool:
        asked.set()
        await closed.wait()
        await stream.send_all(http(reply(1)))
        return True

    async with serving(script) as (server, rpc):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rpc.call, "getinfo")
            await asked.wait()
            rpc.close()
            closed.set()
        await rpc.call("getinfo")
        assert server.connections == 2


async def test_batches_are_sorted_and_fail_item_by_item() -> None:
    items = [
        {"id": 2, "result": "c", "error": None},
        {"id": 0, "result": "a", "error": None},
        {"id": 1, "result": None, "error": {"code": -5, "message": "no such block"}},
        {"id": 77, "result": "stray"},
        "nonsense",
    ]
    async with serving(saying(http(json.dumps(items).encode()))) as (server, rpc):
        results = await rpc.batch([("GetBlock", [1]), ("x", []), ("y", []), ("z", [])])
        assert results[0::2] == ["a", "c"]
        assert results[1].rpc_code == -5
        assert "left out item 3" in results[3].message
        assert [(c["id"], c["method"]) for c in server.bodies[0]] == [
            (0, "getblock"),
            (1, "x"),
            (2, "y"),
            (3, "z"),
        ]
        assert await rpc.batch([]) == []


@pytest.mark.parametrize(
    "answer", [http(b"no batches", "400 Bad Request"), http(reply(1)), http(reply(0, "no"))]
)
async def test_a_refused_batch_is_one_error(answer: bytes) -> None:
    async with serving(saying(answer)) as (_, rpc):
        with pytest.raises(ChainError):
            await rpc.batch([("getinfo", [])])


async def test_unknown_commands_are_refused_without_the_daemon() -> None:
    async with serving(saying(), known_methods=frozenset({"getinfo"})) as (server, rpc):
        with pytest.raises(ChainError) as refused:
            await rpc.call("rm")
        assert refused.value.rpc_code == -32601
        assert server.connections == 0


async def test_answers_are_remembered_unless_fresh_ones_are_wanted() -> None:
    async with serving(saying(http(reply(9))), cache=ResultCache(trio.current_time)) as (server, rpc):
        for _ in range(3):
            assert await rpc.call("getblockcount") == 9
        assert len(server.bodies) == 1
        await rpc.call("getblockcount", fresh=True)
        await rpc.call("getblockcount", [1])
        await rpc.call("getzelnodestatus")
        await rpc.call("getzelnodestatus")
        assert len(server.bodies) == 5


async def test_failures_are_not_remembered() -> None:
    answers = iter([http(reply(None, {"code": -28, "message": "wait"})), http(reply(4))])

    async def script(stream: trio.SocketStream, head: bytes, body: bytes) -> bool:
        await stream.send_all(next(answers))
        return True

    async with serving(script, cache=ResultCache(trio.current_time)) as (_, rpc):
        with pytest.raises(ChainError):
            await rpc.call("getinfo")
        assert await rpc.call("getinfo") == 4


async def test_cancelling_a_call_frees_its_place() -> None:
    async with serving(saying(pause_s=60), parallel_calls=1) as (_, rpc):
        for _ in range(3):
            with trio.move_on_after(0.05) as scope:
                await rpc.call("getinfo")
            assert scope.cancelled_caught


async def test_settings_win_over_the_conf_file() -> None:
    conf = parse_conf("rpcuser=a\nrpcpassword=b\nrpcport=1234")
    assert daemon_rpc(ChainSettings(), conf).target == "127.0.0.1:1234"
    assert daemon_rpc(ChainSettings(daemon_port=99), conf).target == "127.0.0.1:99"
    assert bench_rpc(ChainSettings()).target == "127.0.0.1:16224"


async def test_every_command_of_the_specification_is_known() -> None:
    text = (Path(__file__).parents[2] / "docs" / "spec" / "daemon-rpc.md").read_text(encoding="utf-8")
    for section, methods in (("## 4.", DAEMON_METHODS), ("## 6.", BENCH_METHODS)):
        table = text[text.index(section) :].split("\n## ", 1)[0]
        named = set(re.findall(r"^\| ([a-z]+)[^|]*\[", table, flags=re.MULTILINE))
        assert len(named) > 8
        assert named <= methods, named - methods
