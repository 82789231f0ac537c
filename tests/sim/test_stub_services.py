"""The external-services stub: what nodes ask, and what control changes of it (docs/spec/testnet.md §4.2)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from trionode.sim.minihttp import StubRequest
from trionode.sim.stub_services import LISTS, OutsideServices


def request(method: str, path: str, body: Any = None) -> StubRequest:
    content = b"" if body is None else msgspec.json.encode(body)
    return StubRequest(method, tuple(path.split("/")), {}, content, "127.0.0.1", {})


async def asked(services: OutsideServices, path: str) -> Any:
    reply = await services.answer(request("GET", path))
    assert reply.status == 200, path
    return msgspec.json.decode(reply.body)


async def told(services: OutsideServices, method: str, path: str, body: Any = None) -> int:
    return (await services.control(request(method, path, body))).status


@pytest.mark.trio
@pytest.mark.parametrize(("route", "file"), LISTS.items())
async def test_every_list_can_be_changed_and_reset(route: str, file: str) -> None:
    services = OutsideServices()
    assert await asked(services, f"helpers/{file}.json") == []
    assert await told(services, "POST", route, ["bad/image"]) == 200
    assert await asked(services, f"helpers/{file}.json") == ["bad/image"]
    assert await told(services, "POST", "reset") == 200
    assert await asked(services, f"helpers/{file}.json") == []


@pytest.mark.trio
async def test_places_and_releases() -> None:
    services = OutsideServices()
    assert (await asked(services, "json/198.18.1.0"))["hosting"] is True
    await told(services, "POST", "geolocation/198.18.1.0", {"countryCode": "FR"})
    assert (await asked(services, "json/198.18.1.0"))["countryCode"] == "FR"
    assert (await asked(services, "fluxlocation/198.18.1.0"))["data"]["countryCode"] == "FR"
    await told(services, "DELETE", "geolocation/198.18.1.0")
    assert (await asked(services, "json/198.18.1.0"))["countryCode"] == "DE"
    await told(services, "POST", "latest-release", {"tag_name": "v9.0.0"})
    assert (await asked(services, "repos/RunOnFlux/flux/releases/latest"))["tag_name"] == "v9.0.0"
    assert (await asked(services, "repos/RunOnFlux/flux"))["full_name"] == "RunOnFlux/flux"


@pytest.mark.trio
async def test_what_does_not_fit_is_refused() -> None:
    services = OutsideServices()
    assert (await services.answer(request("GET", "helpers/other.json"))).status == 404
    assert await told(services, "POST", "blocked-repos", {"no": "list"}) == 400
    assert await told(services, "POST", "nothing") == 404
    assert await told(services, "GET", "health") == 200
