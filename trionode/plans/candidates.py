"""Which apps this node might take: too few instances, not ended, allowed here (docs/spec/lifecycle.md §11).

The choice among them is drawn with a random source that is handed in.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from trionode.registry.constants import MAINNET, Constants
from trionode.registry.expiry import expiration_height
from trionode.wire.address import same_address

LEAST_BLOCKS_LEFT = 100
TARGETS_LATER_VERSION = 8
"""From here on apps with targets stay candidates elsewhere too, and are deferred instead."""
ALL, NONE = "_ALL", "_NONE"


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """An app that runs too few times. `required`: how often it wants to run."""

    name: str
    hash: str
    required: int = 3
    version: int = 8
    owner: str = ""
    nodes: tuple[str, ...] = ()
    geolocation: tuple[str, ...] = ()
    encrypted: bool = False


class SpecRow(msgspec.Struct, frozen=True):
    """A specification in force, as far as the choice of candidates needs it."""

    candidate: Candidate
    height: int
    expire: int | None = None


def select_candidates(
    rows: Iterable[SpecRow],
    instances: Mapping[str, int],
    daemon_height: int,
    constants: Constants = MAINNET,
) -> tuple[Candidate, ...]:
    """The apps with fewer location rows than wanted that do not end soon, by name."""
    found = [
        row.candidate
        for row in rows
        if instances.get(row.candidate.name, 0) < row.candidate.required
        and expiration_height(row.height, row.expire, constants) > daemon_height + LEAST_BLOCKS_LEFT
    ]
    return tuple(sorted(found, key=lambda candidate: candidate.name))


class Chooser(msgspec.Struct, frozen=True, kw_only=True):
    """What this node is when it chooses. `place`: CONT_CC_REGION. `skipped`: hashes not to try now."""

    address: str
    place: str
    enterprise: bool
    enterprise_owners: Collection[str] = ()
    skipped: Collection[str] = ()

    def allows(self, candidate: Candidate) -> bool:
        """Whether the node would take it at all."""
        return (
            candidate.hash not in self.skipped
            and self._is_targeted(candidate)
            and region_allowed(candidate.geolocation, self.place)
            and (candidate.owner in self.enterprise_owners) == self.enterprise
        )

    def targets_us(self, candidate: Candidate) -> bool:
        return any(same_address(node, self.address) for node in candidate.nodes)

    def _is_targeted(self, candidate: Candidate) -> bool:
        free = not candidate.nodes or candidate.version >= TARGETS_LATER_VERSION
        return free or self.targets_us(candidate)


def pool(candidates: Sequence[Candidate], chooser: Chooser) -> list[Candidate]:
    """Those that are allowed; those that target this node come first and leave the others out."""
    allowed = [candidate for candidate in candidates if chooser.allows(candidate)]
    return [candidate for candidate in allowed if chooser.targets_us(candidate)] or allowed


def choose(candidates: Sequence[Candidate], chooser: Chooser, rng: random.Random) -> Candidate | None:
    """One of the pool, each as likely."""
    found = pool(candidates, chooser)
    return found[int(rng.random() * len(found))] if found else None


def region_allowed(entries: Sequence[str], place: str) -> bool:
    """A coarse look at `geolocation`: regions as prefixes of CONT_CC_REGION.

    `_ALL` and the bare `ALL` are understood as the requirements do (D-19).
    """
    forbidden = [entry.removesuffix(NONE) for entry in entries if entry.startswith("a!c")]
    if any(f"a!c{place}".startswith(entry) for entry in forbidden):
        return False
    wanted = [entry for entry in entries if entry.startswith("ac")]
    return not wanted or any(
        entry == "acALL" or f"ac{place}".startswith(entry.removesuffix(ALL)) for entry in wanted
    )
