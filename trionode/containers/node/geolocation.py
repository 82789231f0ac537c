"""Where an address is: continent, country, region, and whether it belongs to a datacenter.

Facts: docs/spec/lifecycle.md §11 (geolocation, deferrals), api.md §5 (/flux/geolocation), testnet.md §4.2.
Two services are asked in turn. Neither tells whether an address is static; one in a datacenter counts as
static, as does one of which the service says so itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from trionode.config.tree import ServicesSettings
from trionode.containers.node.outside import JsonSource, OutsideError
from trionode.plans.requirements import Place

FIELDS = "status,continent,continentCode,country,countryCode,region,regionName,lat,lon,query,org,isp,hosting"
TEXTS = ("continent", "continentCode", "country", "countryCode", "region", "regionName")


class Located(msgspec.Struct, frozen=True):
    """An address on the map. `document`: what the API shows of it."""

    place: Place
    has_static_ip: bool = False
    is_datacenter: bool = False
    document: Mapping[str, Any] = {}


class Locator(Protocol):
    """Knows where addresses are."""

    async def locate(self, ip: str) -> Located:
        """Raises OutsideError."""
        ...


class HttpLocator:
    """`Locator` that asks the services of the settings."""

    def __init__(self, settings: ServicesSettings, source: JsonSource) -> None:
        self._settings = settings
        self._source = source

    async def locate(self, ip: str) -> Located:
        """See `Locator.locate`. The second service is asked when the first one fails."""
        problem: OutsideError | None = None
        for url in self._urls(ip):
            try:
                return read_location(await self._source.get_json(url), ip)
            except OutsideError as error:
                problem = error
        if problem is not None:
            raise problem
        raise OutsideError("no service to look addresses up is set", remedy="set services.geolocation_url")

    def _urls(self, ip: str) -> list[str]:
        settings = self._settings
        urls = (
            (settings.geolocation_url, f"/json/{ip}?fields={FIELDS}"),
            (settings.stats_url, f"/fluxlocation/{ip}"),
        )
        return [base.rstrip("/") + path for base, path in urls if base]


class FixedLocator:
    """`Locator` of a world that is made up: simulator and tests. `places` by IP, else `usual`."""

    def __init__(self, usual: Located | None = None, places: Mapping[str, Located] | None = None) -> None:
        self.usual = usual
        self.places: dict[str, Located] = dict(places or {})
        self.asked: list[str] = []

    async def locate(self, ip: str) -> Located:
        """See `Locator.locate`."""
        self.asked.append(ip)
        found = self.places.get(ip, self.usual)
        if found is None:
            raise OutsideError(f"nobody knows where {ip} is", remedy="it is asked again later")
        return found


def read_location(answer: Any, ip: str) -> Located:
    """The location in an answer of either service. Raises OutsideError when there is none."""
    data = answer.get("data") if isinstance(answer, dict) and "data" in answer else answer
    if not isinstance(data, dict) or answer.get("status") != "success":
        raise OutsideError(f"the address look-up does not know {ip}", remedy="it is asked again later")
    texts = {name: _text(data, name) for name in TEXTS}
    if not texts["continentCode"] or not texts["countryCode"]:
        raise OutsideError(f"the address look-up names no country of {ip}", remedy="it is asked again later")
    is_datacenter = data.get("hosting") is True or data.get("dataCenter") is True
    is_static = is_datacenter or data.get("static") is True
    place = Place(texts["continentCode"], texts["countryCode"], texts["regionName"])
    shown = {"lat": data.get("lat"), "lon": data.get("lon"), "org": _text(data, "org") or _text(data, "isp")}
    document = {"ip": ip, **texts, **shown, "static": is_static, "dataCenter": is_datacenter}
    return Located(place, is_static, is_datacenter, document)


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""
