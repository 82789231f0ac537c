"""Outside services over real sockets: whole answers, odd ones, and none."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import httpx
import pytest
import trio

from trionode.config.tree import ServicesSettings
from trionode.containers.node.geolocation import HttpLocator
from trionode.containers.node.outside import OutsideError, OutsideHttp
from trionode.sim.stub_services import OutsideServices, run_services_stub

pytestmark = pytest.mark.process


async def serve(answer: bytes, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
    """One answer to every connection, whatever it asks."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(listener.socket.getsockname()[1])

    async def reply(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(65536)
            if not answer:
                await trio.sleep_forever()
            with suppress(trio.BrokenResourceError):  # who finds an answer too long hangs up
                await stream.send_all(answer)

    await trio.serve_listeners(reply, [listener])


async def ask(url: str, *, within_s: float = 60) -> Any:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await OutsideHttp(client, within_s).get_json(url)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: "


@pytest.mark.trio
@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", "status 404"),
        (HEAD + b"3\r\n\r\nabc", "no JSON"),
        (HEAD + b"60000\r\n\r\n" + b"[" * 60_000, "no JSON"),
        (HEAD + b"300\r\n\r\n{}", "closed"),
        (HEAD + b"9999999\r\n\r\n" + b" " * 5_000_000, "too long"),
        (b"SSH-2.0-x\r\n\r\n", "illegal|HTTP"),
        (b"", "within"),
    ],
)
async def test_what_is_no_answer(answer: bytes, word: str) -> None:
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve, answer)
        with pytest.raises(OutsideError, match=word):
            # Only silence is waited for.
            await ask(f"http://127.0.0.1:{port}/x", within_s=60.0 if answer else 0.5)
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_nobody_listens_and_no_address() -> None:
    with trio.socket.socket() as placeholder:
        # Bound, so that nobody else gets the port, but not listening.
        await placeholder.bind(("127.0.0.1", 0))
        with pytest.raises(OutsideError):
            await ask(f"http://127.0.0.1:{placeholder.getsockname()[1]}/x")
    for url in (
        "file:///etc/passwd",
        "nonsense",
        "http://",
        "http://[::1",
        "http://x:99999/",
        f"http://{'a' * 64}.com/",
    ):
        with pytest.raises(OutsideError):
            await ask(url)


@pytest.mark.trio
async def test_the_stub_of_the_test_network_knows_the_place() -> None:
    async with trio.open_nursery() as nursery:
        services = OutsideServices()
        port, _ = await nursery.start(run_services_stub, services, "127.0.0.1", 0, 0)
        base = f"http://127.0.0.1:{port}"
        services_at = ServicesSettings(geolocation_url=base, stats_url=base)
        async with httpx.AsyncClient(trust_env=False) as client:
            located = await HttpLocator(services_at, OutsideHttp(client, 60)).locate("198.18.0.1")
        assert located.place.names[2] == "EU_DE_Hesse"
        assert located.is_datacenter
        nursery.cancel_scope.cancel()
