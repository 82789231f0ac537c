"""Node information routes (api.md §5)."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from trionode.errors import ChainError
from trionode.wire.nodelist import NodeList

pytestmark = pytest.mark.trio

DAEMON_DOWN = ChainError("connect ECONNREFUSED", rpc_code="ECONNREFUSED")


async def test_version_is_the_compatibility_level(node: Any) -> None:
    node.configure("node", compatibility_version="8.14.0")
    assert await node.data("/flux/version") == "8.14.0"


async def test_uptimes_are_whole_seconds(node: Any, autojump_clock: Any) -> None:
    await trio.sleep(61.9)
    assert await node.data("/flux/uptime") == 61
    assert await node.data("/flux/systemuptime") == 4321


async def test_simple_values(node: Any) -> None:
    assert await node.data("/flux/ip") == "127.1.0.1"
    assert await node.data("/flux/nodetier") == "cumulus_new"
    assert await node.data("/flux/zelid") == node.operator.address
    assert await node.data("/flux/id") == node.operator.address
    assert await node.data("/flux/apiport") == 16127
    assert await node.data("/flux/geolocation") is None
    assert await node.data("/flux/fluxids") == {
        "fluxTeamFluxID": node.team.address,
        "fluxSupportTeamFluxID": "16iJqiVbHptCx87q6XQwNpKdgEZnFtKcyP",
    }
    drift = await node.data("/flux/clockdrift")
    assert drift == {"source": None, "offset": None, "time": node.now_ms}
    health = await node.data("/flux/networkhealth")
    assert health == {"status": "UNKNOWN", "inSteadyState": None, "history": []}


async def test_the_kadena_address_is_that_of_the_settings(node: Any) -> None:
    assert await node.data("/flux/kadena") is None
    node.configure("node", kadena_address="kadena:k1?chainid=0")
    assert await node.data("/flux/kadena?again") == "kadena:k1?chainid=0"


async def test_own_address_is_null_while_unknown(node: Any) -> None:
    node.chain.own_address = None
    assert await node.data("/flux/ip") is None


async def test_tier_of_an_unlisted_node_is_an_error(node: Any) -> None:
    node.chain.nodes = NodeList()
    assert (await node.get("/flux/nodetier"))["status"] == "error"


async def test_arcane_is_false_when_unknown_and_then_not_kept_for_a_day(node: Any) -> None:
    node.bench.answers["getbenchmarks"] = DAEMON_DOWN
    response = await node.client.get("/flux/isarcaneos")
    assert response.headers["Cache-Control"] == "max-age=30"
    node.bench.answers["getbenchmarks"] = {"systemsecure": True}
    assert await node.data("/flux/isarcaneos?fresh") is True
    node.bench.answers["getbenchmarks"] = {"ipaddress": "127.1.0.1"}
    response = await node.client.get("/flux/isarcaneos?absent")
    assert response.headers["Cache-Control"] == "max-age=86400"
    assert await response.get_data() == b'{"status":"success","data":false}'


async def test_dos_state_keeps_a_sticky_message(node: Any) -> None:
    node.dos.set(3, "some")
    node.dos.set_sticky("collision")
    assert await node.data("/flux/dosstate") == {"dosState": 100, "dosMessage": "collision"}
    node.dos.set_sticky(None)
    assert await node.data("/flux/dosstate?_=2") == {"dosState": 3, "dosMessage": "some"}
    assert [event.name for event in node.bus.replay()] == ["dos:changed"] * 3


FLUX_MEMBERS = {
    "version",
    "nodeJsVersion",
    "syncthingVersion",
    "dockerVersion",
    "os",
    "osVersion",
    "osPrettyName",
    "ip",
    "staticIp",
    "upnp",
    "maxNumberOfIpChanges",
    "zelid",
    "timezone",
    "dos",
    "appsDos",
    "development",
    "explorerScannedHeigth",
    "numberOfConnectionsOut",
    "numberOfConnectionsIn",
}


async def test_info_has_every_member(node: Any) -> None:
    node.daemon.answers["getzelnodestatus"] = {"status": "CONFIRMED"}
    node.bench.answers["getinfo"] = {"version": "5.0.0"}
    node.peers.table.put("127.3.0.1", "16127", "outbound")
    node.peers.table.put("127.3.0.2", "16127", "inbound")
    node.peers.table.put("127.3.0.3", "16127", "inbound")
    found = await node.data("/flux/info")
    assert list(found) == ["daemon", "node", "benchmark", "flux", "apps", "geolocation"]
    assert found["daemon"] == {"info": {"version": 6010050}, "zmqEnabled": False}
    assert found["node"] == {"status": {"status": "CONFIRMED"}}
    assert found["benchmark"] == {
        "info": {"version": "5.0.0"},
        "status": None,
        "bench": {"ipaddress": "127.1.0.1"},
    }
    flux = found["flux"]
    assert set(flux) >= FLUX_MEMBERS
    assert (flux["version"], flux["development"]) == ("8.13.1", False)
    assert (flux["numberOfConnectionsOut"], flux["numberOfConnectionsIn"]) == (1, 2)
    assert flux["dos"] == {"dosState": 0, "dosMessage": None}
    assert flux["explorerScannedHeigth"] == {"generalScannedHeight": None}
    assert set(found["apps"]) == {"fluxusage", "runningapps", "resources"}


async def test_info_without_daemons_still_answers(node: Any) -> None:
    node.daemon.answers = {"getinfo": DAEMON_DOWN, "getzelnodestatus": DAEMON_DOWN}
    node.bench.answers = {}
    found = await node.data("/flux/info")
    assert found["daemon"]["info"] is None
    assert found["benchmark"] == {"info": None, "status": None, "bench": None}
