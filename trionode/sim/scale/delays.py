"""How long a message takes over each link: from the places of its ends, or as a live node measured.

A node measures half the round trip to each of its peers (wire.md §4); such a sample, of one node or of
many, can stand for the delays of all links: `trionode peers --json` writes one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from trionode.errors import ConfigError
from trionode.sim.scale.sites import Site, one_way_ms
from trionode.sim.scale.topology import Links

FEWEST = 5
_REMEDY = "give what `trionode peers --json` writes, or a JSON list of milliseconds one way"

Delays = dict[tuple[int, int], float]
"""Milliseconds one way by link, as (dialler, dialled)."""


class _Row(msgspec.Struct):
    latency: float | None = None


def read_latencies_ms(text: str | bytes) -> tuple[float, ...]:
    """Milliseconds one way, from rows of peers or a plain list. Raises ConfigError."""
    try:
        entries = msgspec.json.decode(text, type=list[_Row | float])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"no sample of latencies: {error}", remedy=_REMEDY) from error
    found = [entry.latency if isinstance(entry, _Row) else entry for entry in entries]
    latencies_ms = tuple(value for value in found if value is not None)
    if len(latencies_ms) < FEWEST or min(latencies_ms) < 0:
        raise ConfigError(
            f"a sample of latencies needs at least {FEWEST} of them, none below zero", remedy=_REMEDY
        )
    return latencies_ms


def delays_ms(
    sites: Sequence[Site],
    links: Links,
    rng: random.Random,
    *,
    factor: float = 1.0,
    sample_ms: Sequence[float] = (),
) -> Delays:
    """The delay of each link, the same both ways. With a sample, each link has one of its values."""
    pairs = [(here, there) for here, peers in enumerate(links.outbound) for there in peers]
    if sample_ms:
        return {pair: rng.choice(sample_ms) * factor for pair in pairs}
    return {(here, there): one_way_ms(sites[here], sites[there]) * factor for here, there in pairs}
