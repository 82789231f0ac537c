"""Firewall rules that keep containers away from private networks (docs/spec/lifecycle.md §1, §12).

An app of a stranger must not reach the router, the printer or another machine of whoever runs the node. It
may reach the containers of the networks it is attached to, answer whoever called it, and ask the name servers
of the machine.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

CHAIN = "TRIONODE-PRIVATE"
NODE_SERVICE = "169.254.43.43"
"""The node's own address for its containers."""
PRIVATE_RANGES = ("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")
DNS_PORT = 53
_INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_NETWORKS = tuple(ipaddress.ip_network(text) for text in PRIVATE_RANGES)


def is_interface(name: str) -> bool:
    """Whether it is the name of one interface; a pattern (`br-+`) is not."""
    return _INTERFACE.fullmatch(name) is not None


def private_name_servers(resolver_file: str) -> tuple[str, ...]:
    """The name servers of a resolv.conf that lie in the ranges containers are kept away from."""
    pieces = (line.split() for line in resolver_file.splitlines())
    named = [words[1] for words in pieces if len(words) >= 2 and words[0] == "nameserver"]
    return tuple(address for address in dict.fromkeys(named) if _is_private(address))


def guard_chain(interfaces: Sequence[str], name_servers: Iterable[str] = ()) -> str:
    """The whole chain as `iptables-restore --noflush` reads it: it takes the place of an earlier one.

    Refused rather than dropped: an app that tries learns it at once.
    """
    rules = [f"-A {CHAIN} -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"]
    for bridge in dict.fromkeys(interfaces):
        rules.append(f"-A {CHAIN} -i {bridge} -o {bridge} -j RETURN")
        rules.append(f"-A {CHAIN} -i {bridge} -d {NODE_SERVICE}/32 -j RETURN")
        rules += [
            f"-A {CHAIN} -i {bridge} -d {server}/32 -p {protocol} --dport {DNS_PORT} -j RETURN"
            for server in name_servers
            for protocol in ("udp", "tcp")
        ]
        rules += [f"-A {CHAIN} -i {bridge} -d {private} -j REJECT" for private in PRIVATE_RANGES]
    return "\n".join(["*filter", f":{CHAIN} - [0:0]", *rules, "COMMIT", ""])


def _is_private(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return any(address in network for network in _NETWORKS)
