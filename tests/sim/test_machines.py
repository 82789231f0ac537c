"""Machines of simulated nodes: they outlive processes, are judged from outside, ask a made-up world."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio

from trionode.chain.enterprise import BenchOpener
from trionode.config.tree import Settings
from trionode.containers.disk import DiskError, FirewallError, VolumeRequest
from trionode.containers.engine import EngineError, EngineUnreachable
from trionode.containers.images.registry import ImageError, ImageFault
from trionode.containers.node.geolocation import HttpLocator
from trionode.containers.node.outside import OutsideError
from trionode.containers.parts import ContainerSeams
from trionode.errors import StoreError
from trionode.plans.networks import Subnet
from trionode.registry.rows import CurrentSpec
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.sim.appspecs import IMAGE, AppPlan, Owner, PartPlan
from trionode.sim.chain import VirtualChain
from trionode.sim.chainnodes import StubNode
from trionode.sim.fleet import Fleet
from trionode.sim.housekeeping import untidy
from trionode.sim.machines import ContainerMachine, Hardware
from trionode.sim.scenario import RunFailed, run_scenario
from trionode.sim.scenarios import SCENARIOS
from trionode.sim.sealing import seal_spec

SHOP = AppPlan(name="shop")
IP = "20.1.10.1"


def machine(hardware: Hardware = Hardware()) -> ContainerMachine:  # noqa: B008
    return Fleet(hardware).machine(0, IP, VirtualClock())


async def found(box: ContainerMachine, *apps: AppPlan) -> list[str]:
    return await untidy(box, {plan.name: plan for plan in apps}, {plan.name: [31_000] for plan in apps})


def row(name: str) -> CurrentSpec:
    return CurrentSpec(name, '{"name":"shop"}', "ab" * 32, 7)


# --- looking for leftovers


@pytest.mark.trio
async def test_an_empty_machine_is_tidy() -> None:
    assert await found(machine()) == []


@pytest.mark.trio
async def test_everything_left_over_is_found() -> None:
    box = machine()
    await box.engine.create_network("fluxDockerNetwork_old", Subnet(5), "old")
    box.internet.push(IMAGE)
    async with box.engine.pull(IMAGE) as messages:
        async for _ in messages:
            pass
    box.firewall.open[31_000] = "old"
    box.listeners.open.add(31_001)
    await box.disk.create_volume(VolumeRequest("fluxweb_old", 1, ()))
    await box.local.put_meta("installRecords", '[{"app":"old","phase":"removing"}]')
    assert sorted(await found(box)) == [
        f"node0: image {IMAGE} is left over",
        "node0: listening port 31001 is left over",
        "node0: network fluxDockerNetwork_old is left over",
        "node0: open port 31000 is left over",
        "node0: record old is left over",
        "node0: the record of old says removing",
        "node0: volume fluxweb_old is left over",
    ]


@pytest.mark.trio
async def test_everything_missing_is_found() -> None:
    box = machine()
    await box.local.put(row("shop"))
    assert sorted(await found(box, SHOP)) == [
        "node0: container fluxweb_shop is missing",
        "node0: network fluxDockerNetwork_shop is missing",
        "node0: open port 31000 is missing",
        "node0: record shop is missing",
        "node0: volume fluxweb_shop is missing",
    ]


@pytest.mark.trio
async def test_a_port_under_test_is_not_left_over_until_nobody_listens() -> None:
    box = machine()
    box.firewall.open[31_000] = "appPortsTest"
    async with box.listeners.listening((31_000,)):
        assert await found(box) == []
    assert await found(box) == ["node0: open port 31000 is left over"]


@pytest.mark.trio
async def test_a_volume_that_is_not_mounted_for_good_is_told() -> None:
    box = machine()
    await box.disk.create_volume(VolumeRequest("fluxweb_shop", 1, ()))
    box.disk.lose_mount("fluxweb_shop")
    assert "node0: volume fluxweb_shop is not mounted for good" in await found(box)


# --- what happens to machines


@pytest.mark.trio
async def test_a_killed_process_undoes_nothing() -> None:
    box = machine()
    await box.disk.create_volume(VolumeRequest("fluxweb_shop", 1, ()))
    box.firewall.open[31_000] = "shop"
    box.disk.failing["format"] = 1
    with box.dying():
        with pytest.raises(EngineUnreachable):
            await box.engine.containers()
        with pytest.raises(DiskError):
            await box.disk.remove_volume("fluxweb_shop")
        with pytest.raises(FirewallError):
            await box.firewall.forget(31_000, app="shop")
        with pytest.raises(StoreError):
            await box.local.delete("shop")
    assert box.disk.failing == {"format": 1}, "faults that were there before are gone"
    assert list(box.disk.held) == ["fluxweb_shop"]
    assert box.firewall.open == {31_000: "shop"}
    assert await box.engine.containers() == ()
    await box.disk.remove_volume("fluxweb_shop")
    await box.local.delete("shop")


@pytest.mark.trio
async def test_after_a_power_cut_volumes_are_mounted_if_that_was_seen_to() -> None:
    box = machine()
    await box.disk.create_volume(VolumeRequest("fluxweb_shop", 1, ()))
    box.power_cut()
    assert await box.disk.is_mounted("fluxweb_shop")
    box.disk.wipe_lines()
    box.power_cut()
    assert not await box.disk.is_mounted("fluxweb_shop")


@pytest.mark.trio
async def test_a_port_answers_when_somebody_listens_behind_an_open_firewall() -> None:
    box = machine()
    assert not box.answers(31_000)
    async with box.listeners.listening((31_000,)):
        assert not box.answers(31_000)
        await box.firewall.allow(31_000, app="shop")
        assert box.answers(31_000)
    assert not box.answers(31_000)


# --- the internet


def seams(box: ContainerMachine) -> ContainerSeams:
    bench: Any = None
    return box.seams(Settings(), Owner("x").key, bench, bench)


@pytest.mark.trio
async def test_domain_managers_list_who_serves_know_nobody_or_are_silent(autojump_clock: object) -> None:
    box = machine()
    electorate = seams(box).electorate(Counters())
    url = "http://fdm-fn-1-4.runonflux.io:16130/appips/vault"
    assert await electorate.listed(url) == []
    box.internet.serving = lambda app: [IP] if app == "vault" else []
    assert await electorate.listed(url) == [IP]
    box.internet.silent.add("fdm-fn")
    assert await electorate.listed(url) is None


@pytest.mark.trio
async def test_places_are_looked_up(autojump_clock: object) -> None:
    box = machine(Hardware(datacenter=True))
    locator = HttpLocator(Settings().services, seams(box).outside)
    there, elsewhere = await locator.locate(IP), await locator.locate("20.1.99.1")
    assert (there.is_datacenter, there.has_static_ip, there.place.country) == (True, True, "DE")
    assert not elsewhere.has_static_ip
    box.internet.silent.update(("ip-api", "stats"))
    with pytest.raises(OutsideError):
        await locator.locate(IP)


@pytest.mark.trio
async def test_images_that_are_pushed_broken_or_cannot_be_asked_for(autojump_clock: object) -> None:
    box = machine()
    digest = box.internet.push("registry.sim/a:1")
    box.internet.push("registry.sim/b:1", broken=True)
    async with box.engine.pull("registry.sim/a:1") as messages:
        assert any(digest in message.status for message in [message async for message in messages])
    assert (await box.internet.registries.verify("registry.sim/b:1", "amd64")).digest
    with pytest.raises(EngineError):
        async with box.engine.pull("registry.sim/b:1") as messages:
            _ = [message async for message in messages]
    box.internet.registries_fail(ImageFault.UNREACHABLE)
    with pytest.raises(ImageError):
        await box.internet.registries.verify("registry.sim/a:1", "amd64")
    box.internet.registries_fail(None)
    await box.internet.registries.verify("registry.sim/a:1", "amd64")


# --- encrypted specifications


def spec() -> dict[str, Any]:
    return {"name": "vault", "owner": "1Owner", "contacts": ["a@b.c"], "compose": [{"name": "web"}]}


async def opened(sealed: dict[str, Any], *, secure: bool = True) -> dict[str, Any] | None:
    chain = VirtualChain([StubNode(ip=IP, pubkey="02", secure=secure)])
    return await BenchOpener(chain.bench_for(IP), Counters()).open(sealed, 5)


@pytest.mark.trio
async def test_a_secure_node_opens_what_an_owner_sealed() -> None:
    sealed = seal_spec(spec(), random.Random(1))
    assert sealed["compose"] == sealed["contacts"] == []
    assert "web" not in sealed["enterprise"]
    assert await opened(sealed) == {**spec(), "enterprise": sealed["enterprise"]}
    assert await opened(sealed, secure=False) is None


@pytest.mark.trio
@pytest.mark.parametrize("change", [{"owner": "1Other"}, {"name": "other"}, {"enterprise": "AAAA"}])
async def test_nothing_else_opens_it(change: dict[str, Any]) -> None:
    assert await opened({**seal_spec(spec(), random.Random(1)), **change}) is None


def test_owners_keep_the_ports_of_their_apps() -> None:
    owner = Owner("seed")
    plan = AppPlan(name="shop", parts=(PartPlan(name="a"), PartPlan(name="b")))
    first, second = owner.register(plan), owner.update(plan, 1_760_000_000_000)
    assert [part["ports"] for part in first.spec["compose"]] == [[31_000], [31_001]]
    assert second.spec["compose"] == first.spec["compose"]
    assert owner.ports == {"shop": [31_000, 31_001]}
    assert Owner("seed").register(plan).hash == first.hash
    assert Owner("other").register(plan).hash != first.hash


# --- stories can fail


def test_without_health_watch_containers_stay_down(monkeypatch: pytest.MonkeyPatch) -> None:
    async def idle(*_: object, **__: object) -> float:
        await trio.lowlevel.checkpoint()
        return float("inf")

    monkeypatch.setattr("trionode.containers.health.watch.HealthWatch._look", idle)
    with pytest.raises(RunFailed, match="up again after a removal by hand"):
        run_scenario(SCENARIOS["suite-23"], seed=20)


def test_a_network_that_is_left_behind_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr("trionode.containers.install.uninstaller.Uninstaller._network", nothing)
    with pytest.raises(RunFailed, match="network fluxDockerNetwork_shop is left over"):
        run_scenario(SCENARIOS["removals"], seed=20)
