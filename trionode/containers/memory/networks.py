"""The networks of the engine twin: subnets that must not overlap, and addresses (lifecycle.md §13)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from trionode.containers.engine import Conflict, EngineError, Network, NotFound
from trionode.containers.memory.events import EventHub
from trionode.containers.memory.objects import MemoryContainer, MemoryNetwork, digest_of, overlapping

BUILT_IN = {"bridge": "172.17.0.0/16", "host": "", "none": ""}


class MemoryNetworks:
    """All networks of one engine. Its own three cannot be removed."""

    def __init__(self, seed: str, hub: EventHub) -> None:
        self._seed = seed
        self._hub = hub
        self._made = 0
        self.by_name: dict[str, MemoryNetwork] = {}
        for name, subnet in BUILT_IN.items():
            driver = "null" if name == "none" else name
            self.add(name, ipaddress.IPv4Network(subnet) if subnet else None, driver=driver)

    def add(
        self,
        name: str,
        subnet: ipaddress.IPv4Network | None,
        *,
        driver: str = "bridge",
        gateway: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> MemoryNetwork:
        """Raises Conflict when the name is taken or the subnet overlaps with another."""
        if name in self.by_name:
            raise Conflict(f"network with name {name} already exists", status=409)
        other = None if subnet is None else overlapping(subnet, self.by_name.values())
        if other is not None:
            raise Conflict(
                f"Pool overlaps with other one on this address space: {subnet} with {other.name}", status=403
            )
        self._made += 1
        if subnet is not None and not gateway:
            gateway = str(subnet[1])
        made = MemoryNetwork(
            id=digest_of(self._seed, "network", self._made),
            name=name,
            driver=driver,
            subnet=subnet,
            gateway=gateway,
            labels=labels or {},
        )
        self.by_name[name] = made
        if name not in BUILT_IN:
            self._hub.tell("network", "create", name, {"name": name, "type": driver})
        return made

    def find(self, name: str) -> MemoryNetwork:
        """By name or id."""
        found = self.by_name.get(name)
        if found is None:
            found = next((network for network in self.by_name.values() if network.id == name), None)
        if found is None:
            raise NotFound(f"network {name} not found", remedy="create the network first", status=404)
        return found

    def remove(self, name: str) -> None:
        network = self.find(name)
        if network.name in BUILT_IN:
            raise Conflict(f"{name} is a pre-defined network and cannot be removed", status=403)
        if network.endpoints:
            raise Conflict(
                f"network {network.name} has active endpoints: {', '.join(network.endpoints)}", status=403
            )
        del self.by_name[network.name]
        self._hub.tell("network", "destroy", network.name, {"name": network.name, "type": network.driver})

    def connect(self, container: MemoryContainer, name: str) -> None:
        """Of a container that does not run the network is looked for at the start only; told again of one
        that is not there, it forgets the address that was set for it."""
        if not container.is_alive:
            known = self._own_name(name)
            container.networks[known] = container.networks.get(known) if known in self.by_name else None
            container.network_ids.pop(known, None)
            return
        network = self.find(name)
        if network.name in container.networks:
            raise Conflict(
                f"endpoint with name {container.name} already exists in network {network.name}", status=403
            )
        self._join(container, network, None)
        container.networks[network.name] = None

    def disconnect(self, container: MemoryContainer, name: str) -> None:
        """A container that does not run can leave a network that is gone."""
        known = self.find(name).name if container.is_alive else self._own_name(name)
        if known not in container.networks:
            raise Conflict(f"container {container.name} is not connected to network {name}", status=500)
        del container.networks[known]
        container.network_ids.pop(known, None)
        if known in self.by_name:
            self._leave(container, self.by_name[known])

    def join_all(self, container: MemoryContainer) -> None:
        """It starts: all its networks or none."""
        joined: list[MemoryNetwork] = []
        ids = container.network_ids
        wanted = [(self.find(ids.get(name, name)), static) for name, static in container.networks.items()]
        try:
            for network, static in wanted:
                self._join(container, network, static)
                joined.append(network)
        except EngineError:
            for network in joined:
                self._leave(container, network)
            raise

    def leave_all(self, container: MemoryContainer) -> None:
        """It ended."""
        for name in container.networks:
            network = self.by_name.get(name)
            if network is not None:
                self._leave(container, network)

    def cut(self) -> None:
        """The machine went down: nothing is attached any more."""
        for network in self.by_name.values():
            network.endpoints.clear()

    def _own_name(self, name: str) -> str:
        """The name of a network given by name or id; of one that is not there what it was given as."""
        return next((network.name for network in self.by_name.values() if network.id == name), name)

    def _join(self, container: MemoryContainer, network: MemoryNetwork, static: str | None) -> None:
        address = network.free_address(static)
        if address is None:
            raise EngineError(
                f"cannot start {container.name}: address {static or ''} of {network.name} is not to be had",
                status=403,
            )
        network.endpoints[container.name] = address
        container.network_ids[network.name] = network.id
        self._hub.tell("network", "connect", network.name, _attributes(container, network))

    def _leave(self, container: MemoryContainer, network: MemoryNetwork) -> None:
        if network.endpoints.pop(container.name, None) is not None:
            self._hub.tell("network", "disconnect", network.name, _attributes(container, network))


def network_of(network: MemoryNetwork, *, endpoints: bool) -> Network:
    """A network as the port shows it."""
    return Network(
        id=network.id,
        name=network.name,
        driver=network.driver,
        subnet=str(network.subnet or ""),
        gateway=network.gateway,
        labels=network.labels,
        endpoints=dict(network.endpoints) if endpoints else {},
    )


def _attributes(container: MemoryContainer, network: MemoryNetwork) -> dict[str, str]:
    return {"container": container.id, "name": network.name, "type": network.driver}
