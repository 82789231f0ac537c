"""All container machines of a world, and what can be asked about them together (lifecycle.md §11, §17).

Ports are reached when something accepts connections and the firewall lets them through; a domain manager
lists the first machine on which an elected container runs, as a health check would.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from trionode.runtime.clock import WallClock
from trionode.sim.chain import VirtualChain
from trionode.sim.chainnodes import StubNode
from trionode.sim.internet import Internet
from trionode.sim.machines import ContainerMachine, Hardware
from trionode.sim.node import SimNode
from trionode.sim.source import SimHttp
from trionode.wire.address import split_address


class Fleet:
    """Machines by IP, and the internet they share."""

    def __init__(self, hardware: Hardware) -> None:
        self.internet = Internet()
        self.machines: dict[str, ContainerMachine] = {}
        self._hardware = hardware

    def machine(self, number: int, address: str, clock: WallClock) -> ContainerMachine:
        """The machine of the node at this address; made once."""
        ip = split_address(address)[0]
        made = ContainerMachine(f"node{number}", clock, self.internet, self._hardware)
        self.machines[ip] = made
        self._place(ip, self._hardware)
        return made

    def connect(self, http: SimHttp) -> None:
        """What nodes ask about machines is answered from them."""
        http.port_answers = lambda ip, port: ip in self.machines and self.machines[ip].answers(port)
        http.containers_of = lambda ip: self.machines[ip].running() if ip in self.machines else ()

    def outfit(self, chain: VirtualChain, nodes: Iterable[SimNode], hardware: Hardware) -> None:
        """Give these nodes other machines, before their first start."""
        for node in nodes:
            old = self.machines[node.ip]
            node.box = ContainerMachine(old.name, node.clock, self.internet, hardware)
            self.machines[node.ip] = node.box
            self._place(node.ip, hardware)
            chain.add_node(stub_node(node))

    def serve_where_running(self, containers: dict[str, str]) -> None:
        """Domain managers list the machine that runs the named container of an app."""

        def serving(app: str) -> list[str]:
            wanted = containers.get(app)
            return [ip for ip, machine in self.machines.items() if wanted in machine.running()][:1]

        self.internet.serving = serving

    def running(self, container: str) -> list[str]:
        """IPs of the machines on which a container of this name runs."""
        return [ip for ip, machine in self.machines.items() if container in machine.running()]

    def _place(self, ip: str, hardware: Hardware) -> None:
        static = hardware.static_ip or hardware.datacenter
        self.internet.places[ip] = {"static": static, "hosting": hardware.datacenter}


def stub_node(node: SimNode) -> StubNode:
    """How the chain lists a node."""
    listed = StubNode(ip=node.address, pubkey=node.key.public_key)
    if node.box is None:
        return listed
    hardware = node.box.hardware
    return msgspec.structs.replace(listed, tier=hardware.tier, secure=hardware.secure)
