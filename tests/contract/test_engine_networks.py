"""Networks: what every engine behind the Engine port does the same (docs/spec/lifecycle.md §12-§14)."""

from __future__ import annotations

import pytest
from engineworld import APP, NETWORK, World, options

from trionode.containers.engine import Conflict, EngineError, NotFound
from trionode.plans.networks import Subnet

pytestmark = pytest.mark.trio

NAME = f"fluxweb_{APP}"
SUBNET = Subnet(231)
OTHER = f"{NETWORK}2"
OTHER_SUBNET = Subnet(232)


async def test_a_network_is_listed_with_subnet_gateway_and_owner(networked: World) -> None:
    made = next(one for one in await networked.engine.networks() if one.name == NETWORK)
    assert (made.driver, made.subnet, made.gateway) == ("bridge", "172.23.231.0/24", "172.23.231.1")
    assert made.labels["trionode.app"] == APP
    assert {"bridge", "host", "none"} <= {one.name for one in await networked.engine.networks()}
    looked = await networked.engine.network(NETWORK)
    assert (looked.id, looked.subnet, dict(looked.endpoints)) == (made.id, made.subnet, {})
    assert (await networked.engine.network(made.id)).name == NETWORK


async def test_names_and_subnets_are_used_once(networked: World) -> None:
    with pytest.raises(Conflict):
        await networked.engine.create_network(NETWORK, OTHER_SUBNET, APP)
    with pytest.raises(Conflict):
        await networked.engine.create_network(OTHER, SUBNET, APP)
    assert OTHER not in {one.name for one in await networked.engine.networks()}
    await networked.engine.create_network(OTHER, OTHER_SUBNET, APP)


async def test_remove(networked: World) -> None:
    engine = networked.engine
    await engine.create(options())
    await engine.start(NAME)
    with pytest.raises(Conflict):
        await engine.remove_network(NETWORK)
    await engine.kill(NAME)
    # A container that does not run keeps no network alive: it cannot start any more.
    await engine.remove_network(NETWORK)
    with pytest.raises(NotFound):
        await engine.remove_network(NETWORK)
    with pytest.raises(NotFound):
        await engine.network(NETWORK)
    with pytest.raises(NotFound, match="network"):
        await engine.start(NAME)


async def test_the_own_networks_of_the_engine_stay(world: World) -> None:
    with pytest.raises(Conflict):
        await world.engine.remove_network("bridge")


async def test_a_running_container_has_an_address(networked: World) -> None:
    engine = networked.engine
    await engine.create(options())
    assert dict((await engine.inspect(NAME)).addresses) == {NETWORK: ""}
    assert dict((await engine.network(NETWORK)).endpoints) == {}
    await engine.start(NAME)
    address = (await engine.inspect(NAME)).addresses[NETWORK]
    assert address == "172.23.231.2"
    assert dict((await engine.network(NETWORK)).endpoints) == {NAME: address}
    await engine.stop(NAME, 3)
    assert dict((await engine.inspect(NAME)).addresses) == {NETWORK: ""}
    assert dict((await engine.network(NETWORK)).endpoints) == {}


async def test_a_static_address_is_shown_before_the_start_and_kept(networked: World) -> None:
    engine = networked.engine
    await engine.create(options(static_ip="172.23.231.9"))
    for action in (engine.start, engine.kill, engine.start):
        assert (await engine.inspect(NAME)).addresses[NETWORK] == "172.23.231.9"
        await action(NAME)
    assert dict((await engine.network(NETWORK)).endpoints) == {NAME: "172.23.231.9"}


async def test_a_static_address_must_be_free_and_of_the_network(networked: World) -> None:
    engine = networked.engine
    await engine.create(options(static_ip="172.23.231.9"))
    await engine.start(NAME)
    for number, address in enumerate(("172.23.231.9", "172.23.77.9")):
        other = f"fluxother{number}_{APP}"
        await engine.create(options(other, static_ip=address))
        with pytest.raises(EngineError):
            await engine.start(other)
        assert (await engine.inspect(other)).state == "created"


async def test_connect_and_disconnect_a_running_container(networked: World) -> None:
    engine = networked.engine
    await engine.create_network(OTHER, OTHER_SUBNET, APP)
    await engine.create(options())
    await engine.start(NAME)
    await engine.connect(NAME, OTHER)
    with pytest.raises(Conflict):
        await engine.connect(NAME, OTHER)
    addresses = (await engine.inspect(NAME)).addresses
    assert set(addresses) == {NETWORK, OTHER}
    assert dict((await engine.network(OTHER)).endpoints) == {NAME: addresses[OTHER]}
    with pytest.raises(Conflict):
        await engine.remove_network(OTHER)
    await engine.disconnect(NAME, OTHER)
    with pytest.raises(Conflict):
        await engine.disconnect(NAME, OTHER)
    assert set((await engine.inspect(NAME)).addresses) == {NETWORK}
    await engine.remove_network(OTHER)


async def test_connect_and_disconnect_one_that_does_not_run(networked: World) -> None:
    engine = networked.engine
    await engine.create_network(OTHER, OTHER_SUBNET, APP)
    await engine.create(options())
    await engine.connect(NAME, OTHER)
    await engine.connect(NAME, OTHER)
    assert dict((await engine.inspect(NAME)).addresses) == {NETWORK: "", OTHER: ""}
    await engine.start(NAME)
    assert set((await engine.network(OTHER)).endpoints) == {NAME}
    await engine.kill(NAME)
    await engine.disconnect(NAME, OTHER)
    with pytest.raises(Conflict):
        await engine.disconnect(NAME, OTHER)
    assert set((await engine.inspect(NAME)).addresses) == {NETWORK}


async def test_a_network_that_is_gone_can_be_left(networked: World) -> None:
    engine = networked.engine
    await engine.create_network(OTHER, OTHER_SUBNET, APP)
    await engine.create(options())
    await engine.connect(NAME, OTHER)
    await engine.remove_network(OTHER)
    with pytest.raises(NotFound):
        await engine.start(NAME)
    # Attached to all or to none.
    assert dict((await engine.network(NETWORK)).endpoints) == {}
    await engine.disconnect(NAME, OTHER, force=True)
    await engine.start(NAME)
    assert (await engine.inspect(NAME)).state == "running"


async def test_a_network_made_anew_under_its_name_is_another_one(networked: World) -> None:
    engine = networked.engine
    await engine.create_network(OTHER, OTHER_SUBNET, APP)
    await engine.create(options())
    await engine.connect(NAME, OTHER)
    assert dict((await engine.inspect(NAME)).network_ids) == {NETWORK: "", OTHER: ""}
    await engine.start(NAME)
    first = (await engine.network(OTHER)).id
    assert (await engine.inspect(NAME)).network_ids[OTHER] == first
    await engine.kill(NAME)
    await engine.remove_network(OTHER)
    await engine.create_network(OTHER, OTHER_SUBNET, APP)
    with pytest.raises(NotFound):
        await engine.start(NAME)
    assert (await engine.inspect(NAME)).network_ids[OTHER] == first
    await engine.connect(NAME, OTHER)
    await engine.start(NAME)
    second = (await engine.inspect(NAME)).network_ids[OTHER]
    assert second == (await engine.network(OTHER)).id != first


async def test_both_must_be_there(networked: World) -> None:
    engine = networked.engine
    await engine.create(options())
    await engine.start(NAME)
    for call in (engine.connect, engine.disconnect):
        with pytest.raises(NotFound):
            await call(NAME, "fluxDockerNetwork_nobody")
        with pytest.raises(NotFound):
            await call("fluxnobody_contractapp", NETWORK)
