"""The registry on real processes: acceptance suites 03, 07, 08, 14 and 26 of docs/spec/testnet.md §8.

One network serves them all, because starting it costs the most: an app is registered and paid, nodes
that were away catch up, and an unknown payment is asked for again.
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from trionode.devnet.control import control, mine, pay
from trionode.devnet.layout import NodePlace
from trionode.devnet.network import LocalNetwork, local_network
from trionode.devnet.observe import fetch
from trionode.devnet.registering import ask, sign_in, signed_request, specification
from trionode.runtime.clock import SystemClock
from trionode.wire.keys import NodeKey

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

OWNER = NodeKey.generate(random.Random(7), compressed=True)
OVERRIDES = {
    "appstate.time_scale": 0.002,
    "chain.poll_interval_s": 0.5,
    "peers.min_outbound": 1,
    "peers.dial_spacing_s": 0.05,
}
NODES = 5
LATE = 5
CUT_OFF = 4
UNKNOWN = "ab" * 32


def request_of(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """A request of the owner, signed now."""
    return signed_request(kind, spec, OWNER, SystemClock().now_ms())


def registered(place: NodePlace, name: str) -> dict[str, Any] | None:
    """The specification in force at a node; None while it has none."""
    answer = ask(place, "GET", f"/apps/appspecifications/{name}")
    return answer["data"] if answer["status"] == "success" else None


def resolved(place: NodePlace, app_hash: str) -> bool:
    """The payment is known, its message is paid."""
    rows = fetch(place.ip, "/apps/hashes")
    messages = fetch(place.ip, f"/apps/permanentmessages/{app_hash}")
    return any(row["hash"] == app_hash and row["message"] for row in rows) and len(messages) == 1


async def until(network: LocalNetwork, what: str, condition: Callable[[], bool], within_s: float) -> None:
    """Ask until it is so; fails with the ends of all logs."""
    problem = ""
    with trio.move_on_after(within_s):
        while True:
            try:
                if await trio.to_thread.run_sync(condition, abandon_on_cancel=True):
                    return
                problem = ""
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem = repr(error)
            await trio.sleep(0.25)
    logs = "\n".join(f"== {n.number}\n{n.log.read_text('utf-8')[-2500:]}" for n in network.layout.nodes)
    pytest.fail(f"not within {within_s:g} s: {what} {problem}\n{logs}")


@pytest.mark.trio
async def test_registration_payment_and_those_who_were_away(tmp_path: Path) -> None:
    async with local_network(
        tmp_path, NODES, offset=100, overrides=OVERRIDES, held_back=[LATE], block_interval_s=1.5
    ) as network:
        layout = network.layout
        nodes = layout.nodes
        early = [node for node in nodes if node.number != LATE]

        # 03: every node follows the tip
        def at_the_tip() -> bool:
            return all(fetch(node.ip, "/explorer/issynced") is True for node in early)

        await until(network, "all explorers at the tip", at_the_tip, 60)

        def linked() -> bool:
            return all(
                sum(fetch(node.ip, "/trionode/status")["peers"][way] for way in ("outbound", "inbound")) == 3
                for node in early
            )

        await until(network, "all nodes linked", linked, 60)
        tip = control(layout, "GET", "/state")["currentHeight"]
        heights = [fetch(n.ip, "/explorer/scannedheight")["generalScannedHeight"] for n in early]
        assert all(abs(height - tip) <= 5 for height in heights), (tip, heights)

        def may_register(node: NodePlace) -> bool:
            peers = fetch(node.ip, "/trionode/status")["peers"]
            return bool(peers["outbound"] and peers["inbound"])

        first = next(node for node in early if node.number != CUT_OFF and may_register(node))

        # 08: refusals are sentences; a valid registration gives the hash to pay
        session = await trio.to_thread.run_sync(sign_in, first, OWNER)
        spec = specification("devshop", OWNER.address)
        request = request_of("fluxappregister", spec)

        async def submit(what: str, body: dict[str, Any]) -> dict[str, Any]:
            return await trio.to_thread.run_sync(
                lambda: ask(first, "POST", f"/apps/{what}", body, zelidauth=session)
            )

        assert ask(first, "POST", "/apps/verifyappregistrationspecifications", spec)["data"] == spec
        unsigned = await submit("appregister", {**request, "signature": ""})
        assert unsigned["status"] == "error"
        stranger = await submit("appregister", {**request, "appSpecification": {**spec, "description": "x"}})
        assert stranger["status"] == "error", stranger
        assert stranger["data"]["name"] == "SIGNATURE_INVALID"

        # 07b: a node that hears nothing meanwhile
        os.kill(network.processes[CUT_OFF].pid, signal.SIGSTOP)
        answer = await submit("appregister", request)
        assert answer["status"] == "success", answer
        app_hash = answer["data"]
        assert len(app_hash) == 64
        assert set(app_hash) <= set("0123456789abcdef")
        awake = [node for node in early if node.number != CUT_OFF]
        await until(
            network,
            "the message waits for its payment everywhere",
            lambda: all(
                [row["hash"] for row in fetch(n.ip, f"/apps/temporarymessages/{app_hash}")] == [app_hash]
                for n in awake
            ),
            30,
        )
        assert registered(first, "devshop") is None
        paid_at = await trio.to_thread.run_sync(pay, layout, app_hash)
        await until(network, "paid everywhere", lambda: all(resolved(n, app_hash) for n in awake), 50)
        await until(network, "in force everywhere", lambda: all(registered(n, "devshop") for n in awake), 50)
        found = registered(first, "DEVSHOP")
        assert found == {**spec, "hash": app_hash, "height": paid_at}

        # 07a, 07b: the late node and the one cut off get it without anybody's help
        await network.start(LATE)
        os.kill(network.processes[CUT_OFF].pid, signal.SIGCONT)
        for number in (LATE, CUT_OFF):
            node = nodes[number - 1]
            await until(network, f"node {number} has the message", lambda n=node: resolved(n, app_hash), 120)
            await until(
                network, f"node {number} has it in force", lambda n=node: bool(registered(n, "devshop")), 50
            )

        # 07c: a row put back to unresolved is resolved again at the next start
        await network.stop(LATE)
        with sqlite3.connect(nodes[LATE - 1].folder / "data" / "registry.sqlite") as database:
            columns = [row[1] for row in database.execute("pragma table_info(hashes)")]
            assert "message" in columns, columns
            database.execute("update hashes set message = 0")
        database.close()
        await network.start(LATE)
        await until(network, "resolved again", lambda: resolved(nodes[LATE - 1], app_hash), 120)

        # An update by its owner, and one by somebody else
        changed = specification("devshop", OWNER.address, description="a bigger shop")
        update = await submit("appupdate", request_of("fluxappupdate", changed))
        assert update["status"] == "success", update
        await trio.to_thread.run_sync(pay, layout, update["data"])
        await until(
            network,
            "the update is in force everywhere",
            lambda: all((registered(n, "devshop") or {}).get("hash") == update["data"] for n in nodes),
            60,
        )
        taken = await submit("appregister", request_of("fluxappregister", spec))
        assert taken["status"] == "error"
        assert taken["data"]["name"] == "NAME_TAKEN"

        # 14: an unknown payment is missing, and is asked for again by itself
        await trio.to_thread.run_sync(pay, layout, UNKNOWN)

        def missed() -> bool:
            rows = fetch(first.ip, "/trionode/missinghashes")["rows"]
            return [row["hash"] for row in rows] == [UNKNOWN] and rows[0]["syncAttempts"] >= 1

        await until(network, "the unknown payment was asked for", missed, 60)
        attempts = fetch(first.ip, "/trionode/missinghashes")["rows"][0]["syncAttempts"]
        await trio.to_thread.run_sync(mine, layout, 6)
        await until(
            network,
            "asked for again",
            lambda: fetch(first.ip, "/trionode/missinghashes")["rows"][0]["syncAttempts"] > attempts,
            60,
        )

        # What the command line says of it
        config = str(first.config)
        for words, wanted in (
            (("apps", "list"), "devshop"),
            (("apps", "show", "devshop"), "library/nginx:1.27"),
            (("apps", "history", "devshop"), "2 messages of devshop"),
            (("apps", "price", "devshop"), "FLUX"),
            (("hashes",), "missing    1"),
            (("explorer", "status"), "at the tip"),
        ):
            done = await trio.run_process(
                ["python", "-m", "trionode", "--config", config, *words], capture_stdout=True
            )
            assert wanted in done.stdout.decode(), (words, done.stdout)
