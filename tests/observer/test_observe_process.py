"""`trionode observe` as a process against a network of node processes, one of its seeds being a liar."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import h11
import pytest
import trio

from trionode.devnet import observe
from trionode.devnet.layout import API_PORT, Layout
from trionode.devnet.network import local_network
from trionode.devnet.observe import agreed, fetch, look
from trionode.devnet.processes import Child, child_process, module_command
from trionode.observer.answers import CHAIN_PATH, LOCATIONS_PATH, NODES_PATH, SPECS_PATH

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

TIME_SCALE = 0.004
OFFSET = 150
OBSERVER_IP, SECOND_IP, LIAR_IP = "127.149.0.1", "127.149.0.2", "127.148.0.1"
"""Each test has an observer of its own: another worker may be at the other one at the same time."""
ANSWER_S = 60.0
STATUS = "/trionode/status"
OVERRIDES = {"appstate.time_scale": TIME_SCALE}

in_thread = partial(trio.to_thread.run_sync, abandon_on_cancel=True)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many processes share the machine: an answer that is late is an answer."""
    monkeypatch.setattr(observe, "TIMEOUT_S", ANSWER_S)


class Liar:
    """A seed that answers like a node and tells another network."""

    def __init__(self, layout: Layout) -> None:
        rows = json.loads(layout.node_list.read_text("utf-8"))
        forged = {**rows[0], "pubkey": "02" + "ee" * 32}
        self.answers: dict[str, Any] = {
            NODES_PATH: [forged, *rows[2:], {**rows[0], "ip": "127.66.0.1", "txhash": "66" * 32}],
            CHAIN_PATH: {"blocks": 9_999_999, "headers": 9_999_999},
            LOCATIONS_PATH: [
                {
                    "name": "trap",
                    "hash": "ab" * 32,
                    "ip": rows[2]["ip"],
                    "broadcastedAt": "2090-01-01T00:00:00.000Z",
                    "expireAt": "2090-01-01T02:05:00.000Z",
                }
            ],
            SPECS_PATH: [{"name": "trap", "hash": "ab" * 32, "height": 5, "version": 8}],
        }
        self.asked: list[str] = []

    async def serve(self, stream: trio.SocketStream) -> None:
        """One request, one answer; who asked may have left before it."""
        with suppress(trio.BrokenResourceError):
            await self._serve(stream)

    async def _serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            connection = h11.Connection(h11.SERVER)
            while (event := connection.next_event()) is h11.NEED_DATA or not isinstance(event, h11.Request):
                if event is not h11.NEED_DATA:
                    return
                connection.receive_data(await stream.receive_some(4096))
            path = event.target.decode()
            self.asked.append(path)
            if path not in self.answers:
                return
            body = json.dumps({"status": "success", "data": self.answers[path]}).encode()
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
            await stream.send_all(head + body)


@asynccontextmanager
async def observing(folder: Path, *seeds: str, host: str) -> AsyncIterator[tuple[Child, Path]]:
    """The process and its log."""
    settings = {
        "network.allow_private_addresses": "true",
        "appstate.time_scale": str(TIME_SCALE),
        "observer.height_interval_s": "1",
        "observer.node_list_interval_s": "3",
        "peers.discovery_interval_s": "3",
    }
    options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    named = [part for seed in seeds for part in ("--seed", seed)]
    command = module_command(
        "trionode", *options, "observe", *named, "--bind", host, "--data-dir", str(folder)
    )
    log = folder / "observer.log"
    await trio.Path(log).touch()
    async with child_process(command, log, stop_within_s=5) as process:
        yield process, log


async def answer_until(
    condition: Callable[[Any], object], ip: str, path: str, within_s: float, log: Path
) -> Any:
    """What is answered as soon as it is as wanted. `log`: shown when it is not."""
    found: Any = None
    with trio.move_on_after(within_s):
        while True:
            try:
                found = await in_thread(fetch, ip, path)
            except (OSError, ValueError, http.client.HTTPException):
                found = None
            if found is not None and condition(found):
                return found
            await trio.sleep(0.2)
    told = await trio.Path(log).read_text("utf-8")
    pytest.fail(f"not within {within_s:g} s: {json.dumps(found, indent=1)}\n{told[-3000:]}")


async def heard_by(layout: Layout, ip: str, links: int) -> list[dict[str, Any]]:
    """The rows that nodes have of the peer at `ip`, as soon as there are so many."""
    with trio.fail_after(60):
        while True:
            told = [await in_thread(fetch, node.ip, "/flux/peers") for node in layout.nodes]
            found = [row for rows in told for row in rows if row["ip"] == ip]
            if len(found) == links:
                return found
            await trio.sleep(0.2)


async def agreement(layout: Layout) -> None:
    """Wait until all nodes list what runs."""
    with trio.fail_after(150):
        while not agreed(layout, await look(layout)):  # noqa: ASYNC110 - other processes send no event
            await trio.sleep(0.2)


def places(rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(row["name"], row["ip"]) for row in rows}


def stream_until(wanted: set[str]) -> None:
    """Read the event stream, from its beginning, until it has had events of these names."""
    connection = http.client.HTTPConnection(OBSERVER_IP, API_PORT, timeout=60)
    try:
        connection.request("GET", "/flux/eventstream", headers={"Last-Event-ID": "0"})
        response = connection.getresponse()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        missing = set(wanted)
        while missing:
            line = response.readline().decode()
            assert line, f"the stream ended without {missing}"
            if line.startswith("event: "):
                missing.discard(line.removeprefix("event: ").strip())
    finally:
        connection.close()


def cli(ip: str, *words: str) -> str:
    command = [sys.executable, "-m", "trionode", *words, "--api", f"http://{ip}:{API_PORT}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.trio
async def test_it_follows_six_nodes_confirms_what_it_was_told_and_outvotes_a_liar(tmp_path: Path) -> None:
    async with local_network(tmp_path / "net", 6, offset=OFFSET, overrides=OVERRIDES) as network:
        layout = network.layout
        await agreement(layout)
        liar = Liar(layout)
        listeners = await trio.open_tcp_listeners(API_PORT, host=LIAR_IP)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.serve_listeners, liar.serve, listeners))
            seeds = (LIAR_IP, layout.nodes[0].ip, f"{layout.nodes[1].ip}:{API_PORT}")
            async with observing(tmp_path, *seeds, host=OBSERVER_IP) as (process, log):
                until = partial(answer_until, ip=OBSERVER_IP, log=log)
                await until(
                    lambda status: status["observer"]["locations"]["toldBy"] >= 3, path=STATUS, within_s=120
                )
                await until(
                    lambda rows: places(rows) == layout.expected_locations, path=LOCATIONS_PATH, within_s=60
                )
                # Signatures may be quicker than a look from here; the observer says how it was.
                loaded = [
                    event["data"]
                    for event in await in_thread(fetch, OBSERVER_IP, "/trionode/events")
                    if event["name"] == "observer:locations"
                ]
                assert loaded[0]["unverified"] >= 1, "told over HTTP, not signed yet"

                await until(
                    lambda rows: (
                        places(rows) == layout.expected_locations
                        and not any(row["unverified"] for row in rows)
                    ),
                    path=LOCATIONS_PATH,
                    within_s=150,
                )
                status = await until(
                    lambda status: (
                        status["observer"]["locations"]["unverified"] == 0
                        and status["observer"]["links"]["open"] == 4
                    ),
                    path=STATUS,
                    within_s=150,
                )
                told = status["observer"]
                assert told["locations"]["confirmed"] >= 1
                assert (told["nodes"]["count"], status["node"]["publicKey"]) == (6, None)

                # The liar asked for nothing to be believed, and got it.
                assert {NODES_PATH, CHAIN_PATH, LOCATIONS_PATH} <= set(liar.asked)
                assert status["chain"]["height"] < 9_000_000
                differs = {(row["source"], row["about"]) for row in told["disagreements"]}
                assert {(f"{LIAR_IP}:16127", "nodes"), (f"{LIAR_IP}:16127", "height")} <= differs
                assert all(source == f"{LIAR_IP}:16127" for source, about in differs if about == "nodes")

                with trio.fail_after(120):
                    wanted = {"observer:round", "observer:disagreement", "observer:locations"}
                    await in_thread(stream_until, wanted)

                # What it sent to the nodes: nothing but questions for announced messages.
                await until(
                    lambda peers: sum(row["messagesSent"] for row in peers) >= 1,
                    path="/flux/peers",
                    within_s=60,
                )
                counters = await in_thread(fetch, OBSERVER_IP, "/trionode/counters")
                assert "gossip.relayed" not in counters
                assert "peers.invite.sent" not in counters
                heard = await heard_by(layout, OBSERVER_IP, 4)
                assert {row["direction"] for row in heard} == {"inbound"}
                assert all("appStateSync" not in row["capabilities"] for row in heard)

                shown = await in_thread(cli, OBSERVER_IP, "status")
                assert "3 decide" in shown
                assert f"differs    {LIAR_IP}:16127 about height: 9999999 instead of" in shown
                assert "unverified" in await in_thread(cli, OBSERVER_IP, "apps")
                assert "0 registered apps" in await in_thread(cli, OBSERVER_IP, "apps", "list")

                process.send_signal(signal.SIGTERM)
                with trio.fail_after(60):
                    assert await process.wait() == 0
                assert '"stopped"' in await trio.Path(log).read_text("utf-8")
            nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_with_two_nodes_it_serves_what_it_was_told_and_says_what_it_does_not_know(
    tmp_path: Path,
) -> None:
    async with local_network(tmp_path / "net", 2, offset=OFFSET + 10, overrides=OVERRIDES) as network:
        layout = network.layout
        await agreement(layout)
        seeds = (layout.nodes[0].ip, layout.nodes[1].ip)
        async with observing(tmp_path, *seeds, host=SECOND_IP) as (_, log):
            status = await answer_until(
                lambda status: status["observer"]["locations"]["toldBy"] == 2, SECOND_IP, STATUS, 120, log
            )
            store = status["store"]
            assert (store["kind"], store["connected"], store["problem"]) == ("SQLite", True, None)
            told = status["observer"]
            rows = await in_thread(fetch, SECOND_IP, LOCATIONS_PATH)
            assert rows
            assert all(row["unverified"] for row in rows)
            assert not told["nodes"]["agreed"]
            assert told["links"]["open"] == 0
            assert any("no signature can be checked" in text for text in told["unknown"])
            shown = await in_thread(cli, SECOND_IP, "status")
            assert "nodes      unknown: no majority has told" in shown
            assert "store      SQLite in " in shown


def test_it_needs_a_seed() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "trionode", "observe"], capture_output=True, text=True, timeout=99, check=False
    )
    assert made.returncode == 2
    assert "--seed HOST:PORT" in made.stderr
