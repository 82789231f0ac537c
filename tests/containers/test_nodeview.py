"""What a node knows of itself: machine, tier, place, kind; and what it does not know."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trionode.config.tree import ResourceSettings, ServicesSettings
from trionode.containers.engine import ContainerRow, EngineInfo, EngineUnreachable
from trionode.containers.node.geolocation import FixedLocator, HttpLocator, Located, read_location
from trionode.containers.node.outside import OutsideError
from trionode.containers.node.view import NodeUnknown, NodeView
from trionode.errors import ChainError
from trionode.lifecycle.limits import Machine
from trionode.plans.deferrals import Kind
from trionode.plans.requirements import Amount, Place
from trionode.wire.nodelist import NodeEntry, NodeList

ME, KEY = "9.0.0.1:16137", "02aa"
HESSE = Located(Place("EU", "DE", "Hesse"), has_static_ip=True, is_datacenter=True)
ANSWER = {"ipaddress": ME, "ssd": 440, "cores": 4, "ram": 8, "status": "NIMBUS", "systemsecure": True}


class Rig:
    """A node view and all it looks at."""

    def __init__(self, *, enterprise: bool = False) -> None:
        self.own_address: str | None = ME
        self.nodes = NodeList([NodeEntry(ip=ME, pubkey=KEY, tier="STRATUS", txhash="ab", outidx="1")])
        self.bench: Any = dict(ANSWER)
        self.engine_away = False
        self.rows: tuple[ContainerRow, ...] = ()
        self.asked_locked: list[tuple[str | None, str | None]] = []
        self.locator = FixedLocator(HESSE)
        self.view = NodeView(
            ResourceSettings(),
            chain=self,
            bench=self,
            engine=self,
            installed=self,
            locator=self.locator,
            public_key=KEY,
            enterprise_keys=(KEY,) if enterprise else ("03ff",),
        )

    async def call(self, method: str, params: Any = (), *, fresh: bool = False) -> Any:
        assert method == "getbenchmarks"
        if self.bench is None:
            raise ChainError("refused", rpc_code="ECONNREFUSED")
        return self.bench

    async def batch(self, calls: Any) -> list[Any]:
        raise AssertionError(calls)

    async def info(self) -> EngineInfo:
        if self.engine_away:
            raise EngineUnreachable("no engine")
        return EngineInfo("28", "1.48", "amd64", 8, 32_000 * 2**20)

    async def containers(self) -> tuple[ContainerRow, ...]:
        return self.rows

    def locked(
        self, settings: ResourceSettings, tier: str | None = None, *, without: str | None = None
    ) -> Amount:
        self.asked_locked.append((tier, without))
        return Amount(1, 2, 3)


@pytest.mark.trio
async def test_facts(autojump_clock: MockClock) -> None:
    rig = Rig()
    facts = await rig.view.facts(without="shop")
    assert facts.machine == Machine(8, 32_000, 440)
    assert (facts.tier, facts.collateral, facts.address) == ("stratus", "ab:1", ME)
    assert facts.place == HESSE.place
    assert facts.has_static_ip
    assert facts.is_datacenter
    assert not facts.is_enterprise
    assert facts.locked == Amount(1, 2, 3)
    assert rig.asked_locked == [("stratus", "shop")]


@pytest.mark.trio
async def test_kind_and_what_it_is_when_the_node_is_not_listed(autojump_clock: MockClock) -> None:
    rig = Rig(enterprise=True)
    known = Kind(address=ME, tier="stratus", enterprise=True, arcane=True, static_ip=True, datacenter=True)
    assert await rig.view.kind() == known
    rig.nodes = NodeList([NodeEntry(ip=ME, pubkey="another", tier="CUMULUS")])
    kind = await rig.view.kind()
    assert kind is not None
    assert kind.tier == "nimbus"
    assert rig.view.collateral == ""
    rig.bench["systemsecure"] = "yes"
    kind = await rig.view.kind()
    assert kind is not None
    assert not kind.arcane
    rig.own_address = None
    assert await rig.view.kind() is None
    assert rig.view.located is None


@pytest.mark.trio
@pytest.mark.parametrize("bench", [None, "text"])
async def test_a_benchmark_that_tells_nothing(autojump_clock: MockClock, bench: Any) -> None:
    rig = Rig()
    rig.bench = bench
    with pytest.raises(NodeUnknown):
        await rig.view.facts()
    with pytest.raises(NodeUnknown):
        await rig.view.kind()


@pytest.mark.trio
async def test_an_engine_that_is_away(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.engine_away = True
    with pytest.raises(NodeUnknown, match="no engine"):
        await rig.view.facts()
    assert await rig.view.kind() is not None


@pytest.mark.trio
async def test_the_place_is_looked_up_once_a_day_and_at_a_new_address(
    autojump_clock: MockClock,
) -> None:
    rig = Rig()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(rig.view.place)
    await trio.sleep(86_399)
    await rig.view.place()
    assert rig.locator.asked == ["9.0.0.1"]
    await trio.sleep(2)
    rig.locator.usual = None
    assert await rig.view.place() == HESSE.place  # once known it stays known
    assert rig.locator.asked == ["9.0.0.1"] * 2
    rig.own_address = "9.0.0.2"
    assert await rig.view.place() is None
    await trio.sleep(299)
    await rig.view.place()
    assert rig.locator.asked == ["9.0.0.1"] * 2 + ["9.0.0.2"]
    rig.locator.usual = HESSE
    await trio.sleep(2)
    assert await rig.view.place() == HESSE.place
    assert rig.view.located == HESSE


@pytest.mark.trio
async def test_running_containers_of_apps() -> None:
    rig = Rig()
    rig.rows = tuple(
        ContainerRow(id=name, name=name, image="", image_id="", state=state)
        for name, state in [
            ("fluxweb_shop", "running"),
            ("fluxdb_shop", "exited"),
            ("zelold", "running"),
            ("portainer", "running"),
        ]
    )
    assert await rig.view.running_containers() == 2


class Source:
    """Answers by the beginning of the URL."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def get_json(self, url: str) -> Any:
        self.asked.append(url)
        found = self.answers.get(url.split("/")[2])
        if found is None:
            raise OutsideError(f"{url}: no answer")
        return found


IP_API = {
    "status": "success",
    "continent": "Europe",
    "continentCode": "EU",
    "country": "Germany",
    "countryCode": "DE",
    "region": "HE",
    "regionName": "Hesse",
    "lat": 50.1,
    "lon": 8.7,
    "org": "",
    "isp": "Net",
    "hosting": False,
}


@pytest.mark.trio
async def test_two_services_are_asked_in_turn() -> None:
    services = ServicesSettings(geolocation_url="http://first/", stats_url="https://second")
    source = Source(first=IP_API)
    located = await HttpLocator(services, source).locate("9.0.0.1")
    assert located.place.names == ("EU", "EU_DE", "EU_DE_Hesse")
    assert not located.has_static_ip
    assert located.document["org"] == "Net"
    assert source.asked[0].startswith("http://first/json/9.0.0.1?fields=status,")
    data = {**IP_API, "static": True, "dataCenter": False}
    source = Source(
        first={"status": "fail", "message": "private range"}, second={"status": "success", "data": data}
    )
    located = await HttpLocator(services, source).locate("9.0.0.1")
    assert source.asked[1] == "https://second/fluxlocation/9.0.0.1"
    assert (located.has_static_ip, located.is_datacenter) == (True, False)
    with pytest.raises(OutsideError):
        await HttpLocator(services, Source()).locate("9.0.0.1")
    with pytest.raises(OutsideError, match="is set"):
        await HttpLocator(ServicesSettings(geolocation_url="", stats_url=""), Source()).locate("9.0.0.1")


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        "x",
        {},
        {"status": "success"},
        {**IP_API, "countryCode": 5},
        {"status": "success", "data": [1]},
    ],
)
def test_odd_answers_are_no_place(answer: Any) -> None:
    with pytest.raises(OutsideError):
        read_location(answer, "9.0.0.1")


def test_a_datacenter_counts_as_static() -> None:
    located = read_location({**IP_API, "hosting": True}, "9.0.0.1")
    assert located.is_datacenter
    assert located.has_static_ip
