"""Node addresses: `ip` or `ip:port`, bare meaning port 16127 (docs/spec/wire.md §2, §6, §15)."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

from trionode.errors import WireError

DEFAULT_PORT = 16127

_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!$)|$)){4}", re.ASCII)
_NOT_ROUTABLE = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "100.64.0.0/10",
    )
)


class AddressError(WireError):
    """A text is no node address."""


def split_address(address: str) -> tuple[str, int]:
    """`"ip[:port]"` -> (ip, port), port 16127 when absent. Raises AddressError for a bad port or no ip."""
    ip, colon, port_text = address.partition(":")
    if not ip:
        raise AddressError(f"address {address!r} has no ip", remedy="write ip or ip:port")
    if not colon:
        return ip, DEFAULT_PORT
    if not (
        port_text.isascii() and port_text.isdigit() and 0 < int(port_text[:6]) <= 65535 and len(port_text) < 6
    ):
        raise AddressError(f"address {address!r} has no valid port", remedy="write ip or ip:port")
    return ip, int(port_text)


def peer_key(ip: str, port: int) -> str:
    """The name of a peer: always with its port."""
    return f"{ip}:{port}"


def bare(ip: str, port: int) -> str:
    """Node-list form: the default port is left out."""
    return ip if port == DEFAULT_PORT else f"{ip}:{port}"


def with_port(address: str) -> str:
    """The same address with its port written out; a text with a colon is left as it is."""
    return address if ":" in address else f"{address}:{DEFAULT_PORT}"


def same_address(left: str, right: str) -> bool:
    """Whether two address texts name the same node (bare and :16127 are the same)."""
    return left == right or with_port(left) == with_port(right)


def forms(address: str) -> tuple[str, ...]:
    """The texts by which a node is announced, its own first: 8.17 writes the default port out, 8.13 not."""
    plain = address.removesuffix(f":{DEFAULT_PORT}")
    other = plain if plain != address else with_port(address)
    return (address,) if other == address else (address, other)


def is_ipv4(ip: str) -> bool:
    """Whether the text is a plain dotted IPv4 address."""
    return _IPV4.fullmatch(ip) is not None


@lru_cache(maxsize=16_384)  # peers report the same few thousand nodes again and again
def is_routable_ipv4(ip: str) -> bool:
    """False for private, loopback, link-local, carrier-NAT and non-IPv4 texts (§2 check 4)."""
    if not is_ipv4(ip):
        return False
    address = ipaddress.IPv4Address(ip)
    return not any(address in network for network in _NOT_ROUTABLE)


def provider(ip: str) -> str:
    """The /16 of an address: its first two octets."""
    return ".".join(ip.split(".", 2)[:2])


def same_provider(left: str, right: str) -> bool:
    """Whether two ips share their /16."""
    return provider(left) == provider(right)
