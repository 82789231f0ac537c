"""Suite 02: what must be there before a node takes part: stores, daemon, own address, discovery."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from network import Connected, Env, Network

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("net"), Env(nodes=1)) as network:
        yield network


@pytest.mark.trio
async def test_02_a_node_comes_up_with_everything_it_needs(net: Connected) -> None:
    node = net[1]
    polled = await node.event("daemon:polled", after=0, within_s=20)
    assert polled.data["height"] > 0
    await node.event("explorer:ready", after=0, within_s=20)
    assert (await node.data("/daemon/getblockchaininfo"))["blocks"] > 0
    await node.until("/flux/ip", lambda ip: ip == node.ip, 20)
    height = await node.until(
        "/explorer/scannedheight", lambda found: found["generalScannedHeight"] >= polled.data["height"], 20
    )
    assert height
    status = await node.until(
        "/trionode/status", lambda status: all(row["state"] == "ready" for row in status["services"]), 20
    )
    names = {row["name"] for row in status["services"]}
    assert {"chain", "explorer", "peers"} <= names


@pytest.mark.trio
async def test_02_the_stores_have_their_tables_and_indexes(net: Connected) -> None:
    for file in ("events.sqlite", "registry.sqlite"):
        with sqlite3.connect(net[1].place.folder / "data" / file) as database:
            kinds = {row[0] for row in database.execute("select type from sqlite_master")}
        database.close()
        assert {"table", "index"} <= kinds, file


@pytest.mark.trio
async def test_02_no_service_crashed_and_no_setting_was_refused(net: Connected) -> None:
    status = await net[1].data("/trionode/status")
    assert all(row["crashes"] == 0 for row in status["services"]), status["services"]
    text = net[1].log_text()
    assert '"level": "error"' not in text, text
    assert "Traceback" not in text, text
