"""Who may connect to us: the inbound checks of wire.md §2 in their order, as pure decisions.

The same address rule serves admission, dialling and peer exchange (wire.md §14): one switch,
`network.allow_private_addresses`, opens all three at once.
"""

from __future__ import annotations

import enum
import ipaddress

import msgspec

from trionode.peers import closecodes
from trionode.wire.address import is_routable_ipv4

NODES_PER_CONNECTION = 160
HIGHEST_PORT = 65_535


class Refusal(msgspec.Struct, frozen=True):
    """Close the new link with this code and reason, after `delayed` the refusal delay or at once."""

    code: int
    reason: str
    delayed: bool


NOT_CONFIRMED = Refusal(closecodes.UNCONFIRMED, "node not confirmed", delayed=False)
PRIVATE = Refusal(closecodes.PRIVATE_ADDRESS, "Peer received is using internal IP", delayed=True)
ALREADY_CONNECTED = Refusal(closecodes.DUPLICATE, "Peer already connected", delayed=True)
VERIFIED_ALIVE = Refusal(closecodes.DUPLICATE, "Existing connection verified alive", delayed=False)
BAD_PORT = Refusal(closecodes.POLICY, "Peer port is not a port number", delayed=True)


class Duplicate(enum.Enum):
    """What to do with a new link whose key is already connected."""

    ACCEPT = "accept"
    REPLACE = "replace"
    VERIFY = "verify"
    REFUSE = "refuse"


def address_allowed(ip: str, *, allow_private: bool) -> bool:
    """Whether links with this address are allowed: public IPv4, or any IPv4 when switched on."""
    if is_routable_ipv4(ip):
        return True
    if not allow_private:
        return False
    try:
        ipaddress.IPv4Address(ip)
    except ValueError:
        return False
    return True


def max_inbound(known_nodes: int, min_inbound: int) -> float:
    """maxCon: a hundred-and-sixtieth of the network within 4 and 9 times `min_inbound`.

    Not rounded, as the reason text shows it; one more peer than this can be connected because the
    check is "more than".
    """
    return max(4 * min_inbound, min(known_nodes / NODES_PER_CONNECTION, 9 * min_inbound))


def max_inbound_text(value: float) -> str:
    """The number as the refusal reason shows it: `16`, `16.00625`."""
    return str(int(value)) if value == int(value) else repr(value)


def check_inbound(
    *,
    accepting: bool,
    inbound_count: int,
    max_connections: float,
    remote_ip: str,
    allow_private: bool,
) -> Refusal | None:
    """Checks 1, 2 and 4; None lets the link go on to the duplicate check.

    Check 3 (is the source address known) cannot fail here: the transport always knows it.
    """
    if not accepting:
        return NOT_CONFIRMED
    if inbound_count > max_connections:
        text = max_inbound_text(max_connections)
        return Refusal(
            closecodes.MAX_CONNECTIONS, f"Max number of incomming connections {text} reached", delayed=True
        )
    if not address_allowed(remote_ip, allow_private=allow_private):
        return PRIVATE
    return None


def check_duplicate(*, connected: bool, alive: bool, reconnecting: bool, crossing: bool = False) -> Duplicate:
    """Check 5. `alive` is about the link we hold, `reconnecting` the header of the new one.

    `crossing`: the link we hold is a dial of ours that met this one half-way, and the other side's
    dial is the one to keep (see `dial_wins`).
    """
    if not connected:
        return Duplicate.ACCEPT
    if not alive or crossing:
        return Duplicate.REPLACE
    return Duplicate.VERIFY if reconnecting else Duplicate.REFUSE


def dial_wins(dialler_key: str, dialled_key: str) -> bool:
    """Which of two crossing dials survives: that of the smaller key, on both sides alike.

    The original lets both replace each other and heals in the next cycle (wire.md §2).
    """
    return dialler_key < dialled_key


def dial_port(text: str) -> int | None:
    """The port a peer names in its dial path, None if it is not one.

    The original takes any text into the peer's key; such a peer could neither be dialled back nor
    be told to others, so ours refuses it.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= 5):
        return None
    port = int(text)
    return port if 0 < port <= HIGHEST_PORT else None
