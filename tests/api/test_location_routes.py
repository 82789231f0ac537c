"""Location and install routes (events.md §11)."""

from __future__ import annotations

from typing import Any

import pytest

from trionode.appstate.documents import InstallErrorRow, InstallingRow

pytestmark = pytest.mark.trio


async def test_locations_have_exactly_the_documented_members(node: Any) -> None:
    node.log.index.rows = [node.Location("Shop", "ab" * 32, "127.1.0.1:16137")]
    expected = {
        "name": "Shop",
        "hash": "ab" * 32,
        "ip": "127.1.0.1:16137",
        "broadcastedAt": "2025-10-09T08:53:20.123Z",
        "expireAt": "2025-10-09T10:58:20.123Z",
        "runningSince": "2025-10-09T08:53:19.123Z",
        "osUptime": 12345.5,
        "staticIp": True,
    }
    for path in ("/apps/locations", "/apps/location/shop", "/apps/location?appname=SHOP"):
        rows = await node.data(path)
        assert rows == [expected]
        assert list(rows[0]) == list(expected)
    assert await node.data("/apps/location/sho") == []


async def test_missing_values_are_null(node: Any) -> None:
    node.log.index.rows = [node.Location("a", "h", "127.1.0.1", os_uptime=None, static_ip=None)]
    row = (await node.data("/apps/locations"))[0]
    assert (row["osUptime"], row["staticIp"]) == (None, None)


@pytest.mark.parametrize(
    "path", ["/apps/location", "/apps/installinglocation", "/apps/installingerrorslocation"]
)
async def test_singular_routes_need_a_name(node: Any, path: str) -> None:
    assert await node.get(path) == {
        "status": "error",
        "data": {"message": "No Flux App name specified"},
    }


async def test_installing(node: Any) -> None:
    node.log.installing_rows = [InstallingRow("Shop", "127.1.0.1", node.now_ms, node.now_ms + 900_000)]
    expected = {
        "name": "Shop",
        "ip": "127.1.0.1",
        "broadcastedAt": "2025-10-09T08:53:20.123Z",
        "expireAt": "2025-10-09T09:08:20.123Z",
    }
    assert await node.data("/apps/installinglocations") == [expected]
    assert await node.data("/apps/installinglocation/SHOP") == [expected]
    assert await node.data("/apps/installinglocation/other") == []


async def test_install_errors(node: Any) -> None:
    row = InstallErrorRow("Shop", "h", "127.1.0.1", '{"code":1}', node.now_ms, node.now_ms + 1)
    node.log.error_rows = [row]
    expected = {
        "name": "Shop",
        "hash": "h",
        "ip": "127.1.0.1",
        "error": '{"code":1}',
        "broadcastedAt": "2025-10-09T08:53:20.123Z",
    }
    assert await node.data("/apps/installingerrorslocations") == [expected]
    assert await node.data("/apps/installingerrorslocation/shop") == [expected]
    assert await node.data("/apps/installingerrorslocation/x") == []
