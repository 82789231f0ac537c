"""The penalties a node gives itself, as a table (docs/spec/lifecycle.md §10, daemon-rpc.md §7).

Above 10 nobody but the operator's tools may sign in and the message tells why; from 100 on the node hosts
nothing. What tests of single ports add up to is in `plans.ports`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

from trionode.wire.address import same_address
from trionode.wire.nodelist import NodeEntry

LONG_UPTIME = 12
"""A network too small for the wanted links may be held against us only after 12 x min_uptime_s."""
NOTICE_ABOVE = 10
"""A growing penalty gets its message only here: a hiccup is not worth alarming anybody."""


class Penalty(msgspec.Struct, frozen=True, kw_only=True):
    """One source: by how much it grows at each check, or what it is at once (`at_once`)."""

    source: str
    message: str
    step: float = 0
    at_once: float = 0
    name: str = "CONNERROR"
    """Error name shown to people refused to sign in (api.md §2.2)."""


ADDRESS_UNKNOWN = Penalty(source="address", step=1, message="Flux IP detection failed", name="DOS")
FEW_PEERS = Penalty(
    source="peers", step=0.13, message="Not enough connections to the Flux network established"
)
COLLISION = Penalty(
    source="collision", at_once=100, message="Another node is listed at the address of this one", name="DOS"
)
UNREACHABLE = Penalty(source="reachability", step=2, message="Other nodes cannot reach this one")
ADDRESS_UNCLEAR = Penalty(
    source="public address",
    step=15,
    message="The public address of this node cannot be found out",
    name="DOS",
)
ADDRESS_UNSTEADY = Penalty(
    source="address changes",
    step=11,
    message="The address of this node changed twice within a day",
    name="DOS",
)


class Knock(enum.Enum):
    """What another node said when it was asked to knock at our ports."""

    REACHED = "reached"
    SHUT = "shut"
    SILENT = "silent"
    """It did not answer, or something that says neither."""


def may_be_asked(nodes: int, links_wanted: int, uptime_s: float, min_uptime_s: float) -> bool:
    """Whether the network is large enough, or we are there long enough, for its opinion to count."""
    return nodes > links_wanted or uptime_s > LONG_UPTIME * min_uptime_s


def grown(penalty: Penalty, amount: float) -> float:
    """What a source amounts to after one more check that it failed."""
    return max(penalty.at_once, round(amount + penalty.step, 2))


def message_of(penalty: Penalty, amount: float) -> str | None:
    """Its message, once it is large enough to be noticed."""
    return penalty.message if amount > NOTICE_ABOVE else None


def collides(entries: Iterable[NodeEntry], address: str, own_key: str) -> bool:
    """Whether the address belongs to another node: the one that is listed longest there has it."""
    ip = address.partition(":")[0]
    there = [entry for entry in entries if entry.ip.startswith(ip) and same_address(entry.ip, address)]
    if not there:
        return False
    return min(there, key=lambda entry: entry.added_height).pubkey != own_key
