"""The networks of apps: names, subnets, addresses (docs/spec/lifecycle.md §12, §13).

Every app has a bridge 172.23.N.0/24 of its own. N is drawn among those no other network has; the names
that were there before this rule keep theirs.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from trionode.plans import labels

NETWORK_PREFIX = "fluxDockerNetwork_"
SUBNET_HEAD = "172.23"
OCTETS = 256
LEGACY_NAMES = frozenset(
    {
        "HNSDoH",
        "dane",
        "fdm",
        "Jetpack2",
        "fdmdedicated",
        "isokosse",
        "ChainBraryDApp",
        "health",
        "ethercalc",
    }
)
"""Apps whose third octet is the code of the last letter of their name."""
ALREADY_CONNECTED = ("already exists in network", "already connected")
"""What engines say of a connection that is there."""


def network_name(app: str) -> str:
    """The network of an app."""
    return f"{NETWORK_PREFIX}{app}"


def app_of_network(network: str) -> str | None:
    """The app a network is named after; None for networks of others."""
    return network.removeprefix(NETWORK_PREFIX) if network.startswith(NETWORK_PREFIX) else None


class Subnet(msgspec.Struct, frozen=True):
    """172.23.`octet`.0/24."""

    octet: int

    @property
    def cidr(self) -> str:
        return f"{SUBNET_HEAD}.{self.octet}.0/24"

    @property
    def gateway(self) -> str:
        return f"{SUBNET_HEAD}.{self.octet}.1"


class ReuseNetwork(msgspec.Struct, frozen=True):
    """The network is there already."""

    network: str
    reason: str = "the network of the app is there already"


class CreateNetwork(msgspec.Struct, frozen=True):
    """Create the network with the first of these subnets the engine accepts; none left: the install fails."""

    network: str
    subnets: tuple[Subnet, ...]
    reason: str = "the app has no network yet"


def plan_network(
    app: str, networks: Mapping[str, Sequence[str]], rng: random.Random, *, tries: int
) -> ReuseNetwork | CreateNetwork:
    """How an app gets its network. `networks`: those of the engine with their subnets."""
    name = network_name(app)
    if name in networks:
        return ReuseNetwork(name)
    if app in LEGACY_NAMES:
        return CreateNetwork(name, (Subnet(ord(app[-1])),))
    taken = {octet for subnets in networks.values() for subnet in subnets for octet in _octets(subnet)}
    free = [Subnet(octet) for octet in range(OCTETS) if octet not in taken]
    return CreateNetwork(name, tuple(rng.sample(free, min(tries, len(free)))))


def network_body(network: str, subnet: Subnet, app: str | None = None) -> dict[str, Any]:
    """What the engine is sent to create a network; `app`: whose it is, told by a label."""
    body: dict[str, Any] = {
        "Name": network,
        "IPAM": {"Config": [{"Subnet": subnet.cidr, "Gateway": subnet.gateway}]},
    }
    if app is not None:
        body["Labels"] = {labels.OWNER: app}
    return body


def is_already_connected(problem: str) -> bool:
    """Whether a refused connection means that it was there before."""
    return any(words in problem for words in ALREADY_CONNECTED)


def app_of_address(address: str, networks: Iterable[tuple[str, str]]) -> str | None:
    """The app whose network an address is of. `networks`: (subnet, app)."""
    try:
        ip = ipaddress.IPv4Address(address)
    except ValueError:
        return None
    for subnet, app in networks:
        network = _network(subnet)
        if network is not None and ip in network:
            return app
    return None


class NetworkState(msgspec.Struct, frozen=True):
    """What is known of an app's network. `taken`: addresses attached or set for a container of the app."""

    subnet: str
    gateway: str = ""
    taken: frozenset[str] = frozenset()


def next_free_address(state: NetworkState | None) -> str | None:
    """The lowest address nobody has; None when the network is unknown or full."""
    network = None if state is None else _network(state.subnet)
    if state is None or network is None:
        return None
    for host in network.hosts():
        address = str(host)
        if address != state.gateway and address not in state.taken:
            return address
    return None


def _octets(subnet: str) -> range:
    """The third octets of ours that a network touches."""
    network, all_ours = _network(subnet), ipaddress.IPv4Network(f"{SUBNET_HEAD}.0.0/16")
    if network is None or not network.overlaps(all_ours):
        return range(0)
    base, last = int(all_ours.network_address), int(all_ours.broadcast_address)
    first = max(int(network.network_address), base)
    return range((first - base) >> 8, ((min(int(network.broadcast_address), last) - base) >> 8) + 1)


def _network(subnet: str) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(subnet, strict=False)
    except ValueError:
        return None
