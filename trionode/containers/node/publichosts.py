"""Which machines somebody else may send this node to: those of the internet, none of its own network.

An address in a specification is written by a stranger. Asked as it is, the node would look for him into the
network it stands in, or at the metadata service of its cloud. Names are looked up here, once, and the request
goes to the very address that was judged.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import trio

from trionode.errors import HostError
from trionode.wire.address import is_routable_ipv4

LookUp = Callable[[str, int], Awaitable[Sequence[str]]]
MOST_ADDRESSES = 4


class NotPublic(HostError):
    """A host that a stranger may not send this node to, or that cannot be a host at all."""

    code = "not_public"


class NotFoundNow(HostError):
    """Nobody says now where a host is."""

    code = "host_unknown"


class Hosts(Protocol):
    """Tells where a host is."""

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """The addresses to be tried, at least one. Raises NotPublic, NotFoundNow."""
        ...


class PublicHosts:
    """`Hosts` of the internet. `allow_private`: of local networks too, for tests and networks at home."""

    def __init__(self, *, allow_private: bool = False, look_up: LookUp | None = None) -> None:
        self._allow_private = allow_private
        self._look_up = look_up if look_up is not None else _ask_the_system

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """See `Hosts.addresses`."""
        try:
            found = await self._look_up(host, port)
        except ValueError:
            raise NotPublic("its address names no host", remedy="correct it") from None
        except OSError:
            raise NotFoundNow("its host is not known now", remedy="see whether its name resolves") from None
        public = [address for address in found if self._allow_private or is_public(address)]
        if not public:
            raise NotPublic(
                "its host is not on the public internet",
                remedy="use a public address; networks of their own set network.allow_private_addresses",
            )
        return public[:MOST_ADDRESSES]


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        return ip.is_global and not ip.is_multicast and (inner is None or is_public(str(inner)))
    return ip.is_global and not ip.is_multicast and is_routable_ipv4(address)


async def _ask_the_system(host: str, port: int) -> Sequence[str]:
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[4][0]) for place in found))
