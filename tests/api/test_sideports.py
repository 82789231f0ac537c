"""Side ports: the home page and the plain acceptor beside the API port, their bounds and their failure."""

from __future__ import annotations

import errno
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from apirequests import read_all, until

from trionode.api import sideports
from trionode.api.head import RequestHead
from trionode.api.probe import TcpProbe
from trionode.api.sideports import HomePage, SidePort, just_close, side_ports
from trionode.config.tree import ApiSettings, NodeSettings, Settings, SupervisorSettings
from trionode.runtime.counters import Counters
from trionode.runtime.supervisor import Supervisor

HOST = "127.78.0.33"
SETTINGS = ApiSettings(head_timeout_s=300.0, head_limit_bytes=2048)
Serve = Callable[[trio.SocketStream], Awaitable[None]]
pytestmark = pytest.mark.usefixtures("patient_answers")


class House:
    """One home port and a client for it."""

    def __init__(self, serve: Serve | None = None, settings: ApiSettings = SETTINGS) -> None:
        self.counters = Counters()
        self.page = HomePage(settings, 16127, self.counters)
        self.service = SidePort(
            "home port",
            serve or self.page.serve,
            host=HOST,
            port=0,
            counter="side_ports.home",
            counters=self.counters,
        )

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream(HOST, self.service.port)

    async def ask(self, raw: bytes) -> bytes:
        async with await self.connect() as stream:
            await stream.send_all(raw)
            return await read_all(stream)

    async def get(self, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        head, _, body = (await self.ask(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())).partition(
            b"\r\n\r\n"
        )
        first, *lines = head.decode().split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


@asynccontextmanager
async def opened(
    serve: Serve | None = None, settings: ApiSettings = SETTINGS, within_s: float = 200.0
) -> AsyncIterator[House]:
    house = House(serve, settings)
    with trio.fail_after(within_s):
        async with trio.open_nursery() as nursery:
            await nursery.start(house.service.run)
            yield house
            nursery.cancel_scope.cancel()
    assert house.service.connections == 0


@pytest.mark.trio
async def test_health_is_what_other_nodes_want() -> None:
    async with opened() as house:
        status, headers, body = await house.get("/health")
        assert (status, body) == (200, b"OK")
        assert headers["Content-Type"].startswith("text/plain")
        probe = await TcpProbe().http_get(HOST, house.service.port, "/health", timeout_s=60)
        assert probe is not None
        assert (probe.status, probe.body) == (200, b"OK")


@pytest.mark.trio
@pytest.mark.parametrize("path", ["/", "/apps/local", "/health/", "/v1.2/page", "/?file=a.js", "/%00"])
async def test_paths_without_extension_are_the_page(path: str) -> None:
    async with opened() as house:
        status, headers, body = await house.get(path)
        assert status == 200
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert body.startswith(b"<!doctype html><html")
        assert b"<title>" in body
        assert b'content="16127"' in body


@pytest.mark.trio
@pytest.mark.parametrize("path", ["/favicon.ico", "/js/app.js?x", "/../../etc/passwd.txt", "/.env"])
async def test_paths_with_an_extension_are_not_found(path: str) -> None:
    async with opened() as house:
        status, headers, body = await house.get(path)
        assert (status, body) == (404, b"Not Found")
        assert headers["Content-Type"].startswith("text/plain")


@pytest.mark.trio
@pytest.mark.parametrize("path", ["/", "/health", "/a.js"])
async def test_head_is_get_without_the_body(path: str) -> None:
    async with opened() as house:
        status, headers, body = await house.get(path, "HEAD")
        full_status, full_headers, full_body = await house.get(path)
        assert (status, headers, body) == (full_status, full_headers, b"")
        assert int(headers["Content-Length"]) == len(full_body)


@pytest.mark.trio
async def test_other_methods_are_refused() -> None:
    async with opened() as house:
        status, headers, _ = await house.get("/", "POST")
        assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_the_page_needs_nothing_from_elsewhere_and_makes_no_markup_from_data() -> None:
    request = RequestHead(b"GET / HTTP/1.1\r\n\r\n", b"")
    answer = HomePage(SETTINGS, 16137, Counters()).answer(request).decode().partition("\r\n\r\n")[2]
    assert "{{" not in answer
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)|url\(|@import""", answer)
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "srcdoc"):
        assert sink not in answer
    assert answer.count("<script>") == answer.count("<style>") == 1
    assert " style=" not in answer
    assert not re.search(r"\son[a-z]+=", answer), "the content security policy would not run them"


@pytest.mark.trio
async def test_the_content_security_policy_names_the_script_that_is_sent() -> None:
    async with opened() as house:
        _, headers, body = await house.get("/")
        policy = headers["Content-Security-Policy"]
        assert policy == sideports.content_security_policy(body.decode(), 16127)
        assert "default-src 'none'" in policy
        assert "connect-src *:16127;" in policy


@pytest.mark.trio
@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET http://x/health HTTP/1.1\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /\xff\xfe\x00 HTTP/1.1\r\n\r\n", 200),
        (b"GET /" + b"a" * 4000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000, 431),
        (b"GET /health HTTP/1.1\r\n\r\n" + b"x" * 200_000, 200),
    ],
)
async def test_hostile_heads_get_an_answer_and_nothing_more(raw: bytes, status: int) -> None:
    async with opened() as house:
        assert (await house.ask(raw)).startswith(b"HTTP/1.1 %d " % status)
        assert (await house.get("/health"))[0] == 200
        assert house.counters["side_ports.home.crashed"] == 0


@pytest.mark.trio
async def test_garbage_ends_its_own_connection_only() -> None:
    rng = random.Random(16126)
    async with opened() as house:
        for size in (1, 3, 200, 3000, 70_000):
            for lead in (b"", b"\x16\x03\x01", b"GET ", b"SSH-2.0-x\r\n"):
                async with await house.connect() as stream:
                    with suppress(trio.BrokenResourceError):
                        await stream.send_all(lead + rng.randbytes(size))
                        await stream.send_eof()
                    await read_all(stream)
        assert (await house.get("/health"))[0] == 200
        assert house.counters["side_ports.home.crashed"] == 0


@pytest.mark.trio
async def test_a_slow_head_is_cut_off() -> None:
    async with opened(settings=ApiSettings(head_timeout_s=0.3)) as house, await house.connect() as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\n")

        async def drip() -> None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while True:
                    await stream.send_all(b"X: y\r\n")
                    await trio.sleep(0.05)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            with trio.fail_after(60):
                answer = await read_all(stream)
            nursery.cancel_scope.cancel()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert house.counters["side_ports.home.slow"] == 1


@pytest.mark.trio
async def test_a_newer_connection_takes_the_place_of_the_oldest() -> None:
    async with opened() as house:
        idle = [await house.connect() for _ in range(sideports.MAX_CONNECTIONS + 5)]
        assert (await house.get("/health"))[0] == 200
        assert house.service.connections <= sideports.MAX_CONNECTIONS
        assert house.counters["side_ports.home.evicted"] >= 5
        assert await read_all(idle[0]) == b""
        for stream in idle:
            await stream.aclose()


@pytest.mark.trio
async def test_a_stop_closes_what_is_open_at_once() -> None:
    async with opened(within_s=120) as house:
        stream = await house.connect()
        await stream.send_all(b"GET / HT")
        await until(lambda: house.service.connections == 1)
    assert await read_all(stream) == b""
    await stream.aclose()
    with pytest.raises(OSError):  # noqa: PT011 - refused; the message is the system's
        await house.connect()


@pytest.mark.trio
async def test_a_crash_is_counted_and_stays_in_its_connection() -> None:
    async def broken(stream: trio.SocketStream) -> None:
        raise ZeroDivisionError("a bug")

    async with opened(broken) as house:
        for _ in range(2):
            async with await house.connect() as stream:
                assert await read_all(stream) == b""
        assert house.counters["side_ports.home.crashed"] == 2


@pytest.mark.trio
async def test_running_out_of_file_descriptors_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    real = trio.SocketListener.accept
    failures = [errno.EMFILE, errno.ECONNABORTED]

    async def accept(self: trio.SocketListener) -> trio.SocketStream:
        stream = await real(self)
        if failures:
            await stream.aclose()
            raise OSError(failures.pop(), "made up")
        return stream

    monkeypatch.setattr(trio.SocketListener, "accept", accept)
    async with opened() as house:
        for _ in range(2):
            await (await house.connect()).aclose()
        assert (await house.get("/health"))[0] == 200
        assert house.counters["side_ports.home.accept.short_of_resources"] == 1


@pytest.mark.trio
async def test_the_sync_port_accepts_and_closes() -> None:
    async with opened(just_close) as house:
        assert await TcpProbe().tcp_connects(HOST, house.service.port, timeout_s=60)
        async with await house.connect() as stream:
            assert await read_all(stream) == b""


def test_both_ports_stand_beside_the_api_port_or_none() -> None:
    settings = Settings(node=NodeSettings(bind_host=HOST, api_port=16137))
    home, sync = side_ports(settings, Counters())
    assert isinstance(home, SidePort)
    assert isinstance(sync, SidePort)
    assert (home.name, home.port) == ("home port", 16136)
    assert (sync.name, sync.port) == ("sync port", 16139)
    assert side_ports(Settings(api=ApiSettings(side_ports=False)), Counters()) == []


@pytest.mark.trio
async def test_a_busy_port_leaves_the_node_running_and_is_taken_when_it_is_free() -> None:
    counters = Counters()
    (blocker,) = await trio.open_tcp_listeners(0, host=HOST)
    port: int = blocker.socket.getsockname()[1]
    service = SidePort(
        "sync port", just_close, host=HOST, port=port, counter="side_ports.sync", counters=counters
    )
    supervisor = Supervisor(
        counters,
        random.Random(1),
        settings=SupervisorSettings(restart_delay_s=0.05, restart_delay_max_s=0.1, crash_limit=2),
    )
    supervisor.add(service, essential=False)
    with trio.fail_after(200):
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            await until(lambda: counters["side_ports.sync.unavailable"] >= 4)
            (row,) = supervisor.status()
            assert row.state in ("backoff", "starting", "ready")
            assert "already in use" in (row.last_error or "")
            assert supervisor.stop_reason is None
            await blocker.aclose()
            # Not the state alone: it reports ready for a moment also when it could not have the port.
            while not await TcpProbe().tcp_connects(HOST, port, timeout_s=60):  # noqa: ASYNC110
                await trio.sleep(0.02)
            assert supervisor.status()[0].state == "ready"
            supervisor.stop("tested")
