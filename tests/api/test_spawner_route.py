"""Where the node is, and what its spawner does, over the API."""

from __future__ import annotations

from typing import Any

import pytest

from trionode.containers.node.geolocation import read_location
from trionode.containers.spawning.portwatch import PortStatus
from trionode.containers.spawning.spawner import DeferredApp, RoundEnd, SpawnerStatus

ANSWER = {
    "status": "success",
    "continentCode": "EU",
    "countryCode": "DE",
    "regionName": "Hesse",
    "hosting": True,
}


@pytest.mark.trio
async def test_where_the_node_is(hosted: Any) -> None:
    assert await hosted.data("/flux/geolocation") is None
    hosted.apps.node.located = read_location(ANSWER, "9.0.0.1")
    hosted.build()  # the answer above is cached
    found = await hosted.data("/flux/geolocation")
    assert (found["ip"], found["countryCode"], found["static"], found["dataCenter"]) == (
        "9.0.0.1",
        "DE",
        True,
        True,
    )
    info = await hosted.data("/flux/info")
    assert info["geolocation"] == found
    assert info["flux"]["staticIp"] is True


@pytest.mark.trio
async def test_what_the_spawner_does(hosted: Any, node: Any) -> None:
    assert (await hosted.data("/trionode/spawner"))["doing"] == "waiting"
    ends = tuple(RoundEnd(at, "shop", "installed", True, 60.0) for at in (1_000, 2_000))
    deferred = (DeferredApp("web", "static_ip", 3_000),)
    hosted.apps.spawning.spawner.status = SpawnerStatus("pausing", "", 12.5, 2, 2, 3, 1, deferred, ends)
    hosted.apps.spawning.ports.status = PortStatus((31_000,), 31_001, "reachable", 4.0)
    found = await hosted.data("/trionode/spawner")
    assert (found["doing"], found["app"], found["nextInSeconds"]) == ("pausing", None, 12.5)
    assert found["deferred"] == [{"app": "web", "reason": "static_ip", "until": "1970-01-01T00:00:03.000Z"}]
    assert [end["at"][17:19] for end in found["last"]] == ["02", "01"]
    assert found["ports"] == {"shut": [31_000], "lastPort": 31_001, "last": "reachable", "penalty": 4.0}
    assert (await node.get("/trionode/spawner"))["status"] == "error"
