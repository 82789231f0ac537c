"""What the monitors of a node decide (docs/spec/lifecycle.md §10, events.md §8, §13 items 6 and 12).

Three decisions as data: what the node-status monitor does next, which addresses a sweep suspects and
evicts, and when a daemon that stays behind costs the node its apps. The services that ask the questions
and carry the answers out are in `trionode.hosting`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable

import msgspec

from trionode.config.tree import MonitorSettings
from trionode.wire.address import with_port
from trionode.wire.nodelist import NodeList

DOS_LIMIT = 100
"""A penalty from which on a node must not host anything."""

# --- the node-status monitor ------------------------------------------------------------------------


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How the node stands with the network. `confirmed` is None before the daemon's first answer."""

    penalty: float = 0
    stale: bool = False
    confirmed: bool | None = True


class Duty(enum.Enum):
    """What a round of the monitor has to do."""

    REMOVE_ALL = "remove all apps"
    SWEEP = "look for nodes that left"
    WAIT = "wait"


class Round(msgspec.Struct, frozen=True):
    """One row of the table: the first whose condition holds is the one. `pause` names a setting."""

    when: str
    holds: Callable[[Standing], bool]
    duty: Duty
    pause: str


ROUNDS = (
    Round("penalty", lambda at: at.penalty >= DOS_LIMIT, Duty.REMOVE_ALL, "dos_recovery_s"),
    Round("daemon silent", lambda at: at.stale, Duty.REMOVE_ALL, "confirmation_loss_s"),
    Round("not confirmed", lambda at: at.confirmed is False, Duty.REMOVE_ALL, "confirmation_loss_s"),
    # Not known is not "no": a node whose daemon has not answered since its start keeps its apps until
    # the daemon-health check has run out of patience.
    Round("not known", lambda at: at.confirmed is None, Duty.WAIT, "error_recovery_s"),
    Round("confirmed", lambda at: True, Duty.SWEEP, "node_interval_s"),
)


def next_round(standing: Standing) -> Round:
    """The round this standing asks for."""
    return next(row for row in ROUNDS if row.holds(standing))


def pause_s(row: Round, settings: MonitorSettings) -> float:
    """How long the monitor rests after that round."""
    return float(getattr(settings, row.pause))


# --- the eviction sweep -----------------------------------------------------------------------------

MASS_SHARE = 0.1
MASS_NODES = 16
"""More suspects at once than this share of all addresses, and more than this many, is no news of single
nodes: it is believed only when the next sweep finds as many."""


class Suspect(msgspec.Struct, frozen=True, order=True):
    """Records of a node that the list does not have. `source`: the address they are stored under.

    `address` is where its apps are said to run now, another one after a change of address.
    """

    source: str
    address: str


def suspects(
    rows: Iterable[tuple[str, Iterable[str]]], nodes: NodeList, own_address: str | None
) -> list[Suspect]:
    """`rows`: every stored address with the addresses its locations are served under, of all in the log.

    Listed is who is in the list under exactly that address (bare is :16127); one listed address of a
    node is enough. An address without locations has nothing to withdraw.
    """
    own = None if own_address is None else with_port(own_address)
    found = []
    for source, served in rows:
        addresses = dict.fromkeys(served)
        if not addresses or any(nodes.by_address(address) is not None for address in addresses):
            continue
        if own in (with_port(source), *map(with_port, addresses)):
            continue
        found.append(Suspect(source, next(iter(addresses))))
    return sorted(found)


def is_mass_departure(suspected: int, known: int) -> bool:
    """Too many at once to be taken at face value."""
    return suspected > MASS_NODES and suspected > known * MASS_SHARE


class Word(enum.Enum):
    """What the node at a suspected address says of itself."""

    CONFIRMED = "confirmed"
    OTHER = "not confirmed"
    SILENT = "no answer"


class Verdict(msgspec.Struct, frozen=True):
    """Whether to evict, and why or why not."""

    evict: bool
    reason: str


LEFT = Verdict(True, "key not listed")
MOVING = Verdict(False, "moving")
DENIES = Verdict(True, "not confirmed")
GONE = Verdict(True, "no answer")
OWN_OUTAGE = Verdict(False, "own network")


def verdict(word: Word, *, outward_works: bool) -> Verdict:
    """On a suspect whose key is still listed (or not known): its own word counts.

    `outward_works`: a listed node answered us just now, so that silence is not our own doing.
    """
    if word is Word.CONFIRMED:
        return MOVING
    if word is Word.OTHER:
        return DENIES
    return GONE if outward_works else OWN_OUTAGE


# --- daemon health ----------------------------------------------------------------------------------


class DaemonHealth(msgspec.Struct, frozen=True):
    """Since when the daemon has been behind, and whether the apps have gone because of it."""

    unsynced_since_s: float | None = None
    removed: bool = False


def after_check(
    health: DaemonHealth, *, synced: bool, now_s: float, limit_s: float
) -> tuple[DaemonHealth, bool]:
    """One check; True when the apps are to be removed now, which is once until it is synced again."""
    if synced:
        return DaemonHealth(), False
    since_s = now_s if health.unsynced_since_s is None else health.unsynced_since_s
    due = not health.removed and now_s - since_s >= limit_s
    return DaemonHealth(since_s, health.removed or due), due
