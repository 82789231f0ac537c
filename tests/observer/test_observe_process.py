"""`trionode observe` as a process against a network of node processes, one of its seeds being a liar."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h11
import pytest
import trio

from trionode.devnet.layout import API_PORT, Layout
from trionode.devnet.network import local_network
from trionode.devnet.observe import agreed, fetch, look
from trionode.devnet.processes import Child, child_process, module_command
from trionode.observer.answers import CHAIN_PATH, LOCATIONS_PATH, NODES_PATH, SPECS_PATH

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

TIME_SCALE = 0.004
OFFSET = 150
OBSERVER_IP, LIAR_IP = "127.149.0.1", "127.148.0.1"
OVERRIDES = {"appstate.time_scale": TIME_SCALE}


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
        """One request, one answer."""
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
async def observing(folder: Path, *seeds: str, host: str = OBSERVER_IP) -> AsyncIterator[tuple[Child, Path]]:
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


async def status_until(condition: Callable[[dict[str, Any]], bool], within_s: float, log: Path) -> Any:
    """The status of the observer as soon as it is as wanted."""
    status: Any = None
    with trio.move_on_after(within_s):
        while True:
            try:
                status = await trio.to_thread.run_sync(
                    fetch, OBSERVER_IP, "/trionode/status", abandon_on_cancel=True
                )
            except (OSError, ValueError, http.client.HTTPException):
                status = None
            if status is not None and condition(status["observer"]):
                return status
            await trio.sleep(0.2)
    told = await trio.Path(log).read_text("utf-8")
    pytest.fail(f"not within {within_s:g} s: {json.dumps(status, indent=1)}\n{told[-3000:]}")


async def agreement(layout: Layout) -> None:
    """Wait until all nodes list what runs."""
    with trio.fail_after(150):
        while not agreed(layout, await look(layout)):  # noqa: ASYNC110 - other processes send no event
            await trio.sleep(0.2)


def rows_of() -> list[dict[str, Any]]:
    return fetch(OBSERVER_IP, "/apps/locations")


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


def cli(*words: str) -> str:
    command = [sys.executable, "-m", "trionode", *words, "--api", f"http://{OBSERVER_IP}:{API_PORT}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.trio
async def test_it_follows_six_nodes_confirms_what_it_was_told_and_outvotes_a_liar(tmp_path: Path) -> None:
    in_thread = partial(trio.to_thread.run_sync, abandon_on_cancel=True)
    async with local_network(tmp_path / "net", 6, offset=OFFSET, overrides=OVERRIDES) as network:
        layout = network.layout
        await agreement(layout)
        liar = Liar(layout)
        listeners = await trio.open_tcp_listeners(API_PORT, host=LIAR_IP)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.serve_listeners, liar.serve, listeners))
            seeds = (LIAR_IP, layout.nodes[0].ip, f"{layout.nodes[1].ip}:{API_PORT}")
            async with observing(tmp_path, *seeds) as (process, log):
                status = await status_until(lambda told: told["locations"]["toldBy"] >= 3, 120, log)
                rows = await in_thread(rows_of)
                assert {(row["name"], row["ip"]) for row in rows} == layout.expected_locations
                assert any(row["unverified"] for row in rows), "told over HTTP, not signed yet"

                status = await status_until(
                    lambda told: told["locations"]["unverified"] == 0 and told["links"]["open"] == 4, 150, log
                )
                told = status["observer"]
                rows = await in_thread(rows_of)
                assert {(row["name"], row["ip"]) for row in rows} == layout.expected_locations
                assert not any(row["unverified"] for row in rows)
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
                asked = sum(row["messagesSent"] for row in await in_thread(fetch, OBSERVER_IP, "/flux/peers"))
                counters = await in_thread(fetch, OBSERVER_IP, "/trionode/counters")
                assert asked >= 1
                assert "gossip.relayed" not in counters
                assert "peers.invite.sent" not in counters
                heard = [
                    row
                    for node in layout.nodes
                    for row in await in_thread(fetch, node.ip, "/flux/peers")
                    if row["ip"] == OBSERVER_IP
                ]
                assert len(heard) == 4
                assert {row["direction"] for row in heard} == {"inbound"}
                assert all("appStateSync" not in row["capabilities"] for row in heard)

                shown = await in_thread(cli, "status")
                assert "3 decide" in shown
                assert f"differs    {LIAR_IP}:16127 about height: 9999999 instead of" in shown
                assert "unverified" in await in_thread(cli, "apps")
                assert "0 registered apps" in await in_thread(cli, "apps", "list")

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
        async with observing(tmp_path, layout.nodes[0].ip, layout.nodes[1].ip) as (_, log):
            status = await status_until(lambda told: told["locations"]["toldBy"] == 2, 120, log)
            store = status["store"]
            assert (store["kind"], store["connected"], store["problem"]) == ("SQLite", True, None)
            told = status["observer"]
            rows = await trio.to_thread.run_sync(rows_of)
            assert rows
            assert all(row["unverified"] for row in rows)
            assert not told["nodes"]["agreed"]
            assert told["links"]["open"] == 0
            assert any("no signature can be checked" in text for text in told["unknown"])
            shown = await trio.to_thread.run_sync(cli, "status")
            assert "nodes      unknown: no majority has told" in shown
            assert "store      SQLite in " in shown


def test_it_needs_a_seed() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "trionode", "observe"], capture_output=True, text=True, timeout=99, check=False
    )
    assert made.returncode == 2
    assert "--seed HOST:PORT" in made.stderr
