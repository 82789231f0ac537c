"""The question put to the model: what does a message cost, and when is it everywhere?

One network per size; in it the same messages, from the same origins, once for each way of relaying.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Iterable, Sequence

import msgspec

from trionode.config.tree import PeerSettings
from trionode.sim.scale.delays import delays_ms
from trionode.sim.scale.sites import Site, draw_sites
from trionode.sim.scale.sizes import Sizes, running_message, sizes_of, upkeep_bytes_s
from trionode.sim.scale.spread import MODES, Mode, Network, Spread, lay_out, spread
from trionode.sim.scale.topology import Links, discover

OTHER_MESSAGES = 0.03
"""Installs, removals, address changes and registrations, for each hourly running message: a live node of
8,000 heard about 135 different messages a minute, of which 133 are the hourly ones (docs/scale.md)."""

NEVER_S = float("inf")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to model. `slow_share` of the addresses have an uplink of only `slow_bits_s`."""

    nodes: int = 8000
    messages: int = 3
    modes: tuple[Mode, ...] = MODES
    seed: int = 1
    apps: int = 5
    slow_share: float = 0.05
    slow_bits_s: float = 1e6
    delay_factor: float = 1.0
    sample_ms: tuple[float, ...] = ()
    """Delays one way that were measured; without them they follow from the places of the nodes."""
    jitter_ms: float = 10.0
    commit_ms: float = 2.0


class Times(msgspec.Struct, frozen=True):
    """Seconds until a share of the nodes has a message: the mean over messages, None if some never came."""

    half_s: float | None
    most_s: float | None
    all_s: float | None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one way of relaying does in one network. Figures per node are per message unless named so."""

    mode: Mode
    reached: float
    hops_mean: float
    hops_max: int
    times: Times
    slow_times: Times
    copies: float
    duplicates: float
    announcements: float
    requests: float
    message_bytes: float
    node_out_bytes: float
    out_mb_h: float
    in_mb_h: float
    out_kbit_s: float
    slow_uplink_use: float
    curve_s: tuple[float, ...]
    real_s: float


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """The network that was modelled, and what came out for each way of relaying."""

    plan: Plan
    links: int
    outbound_mean: float
    inbound_mean: float
    peers_mean: float
    peers_min: int
    peers_max: int
    delay_half_ms: float
    delay_most_ms: float
    """Half, and nine tenths, of the links are no slower than this, one way."""
    text_chars: int
    text_bytes: int
    present_bytes: int
    messages_h: float
    upkeep_mb_h: float
    outcomes: tuple[Outcome, ...]
    real_s: float


def study(plan: Plan) -> Picture:
    """Build the network of a plan and send its messages through it; the same plan, the same figures."""
    begin_s = time.perf_counter()
    sites = draw_sites(
        plan.nodes,
        random.Random(f"{plan.seed}/sites"),
        slow_share=plan.slow_share,
        slow_bits_s=plan.slow_bits_s,
    )
    links = discover([site.address for site in sites], random.Random(f"{plan.seed}/links"))
    delays = delays_ms(
        sites,
        links,
        random.Random(f"{plan.seed}/delays"),
        factor=plan.delay_factor,
        sample_ms=plan.sample_ms,
    )
    network = lay_out(sites, links, delays, jitter_ms=plan.jitter_ms, commit_ms=plan.commit_ms)
    sizes = sizes_of(running_message(plan.apps, random.Random(f"{plan.seed}/text")))
    origins = random.Random(f"{plan.seed}/origins").choices(range(plan.nodes), k=plan.messages)
    outcomes = tuple(_outcome(plan, sites, network, sizes, origins, mode) for mode in plan.modes)
    return _picture(plan, links, sorted(delays.values()), sizes, outcomes, begin_s)


def _picture(
    plan: Plan,
    links: Links,
    ordered_delays_ms: Sequence[float],
    sizes: Sizes,
    outcomes: tuple[Outcome, ...],
    begin_s: float,
) -> Picture:
    peers = [len(out) + len(in_) for out, in_ in zip(links.outbound, links.inbound, strict=True)]
    upkeep_bytes = upkeep_bytes_s(statistics.fmean(peers), PeerSettings().ping_interval_s) * 3600
    return Picture(
        plan=plan,
        links=links.count,
        outbound_mean=statistics.fmean(map(len, links.outbound)),
        inbound_mean=statistics.fmean(map(len, links.inbound)),
        peers_mean=statistics.fmean(peers),
        peers_min=min(peers),
        peers_max=max(peers),
        delay_half_ms=at_share(ordered_delays_ms, 0.5),
        delay_most_ms=at_share(ordered_delays_ms, 0.9),
        text_chars=sizes.text_chars,
        text_bytes=sizes.text.sent_bytes,
        present_bytes=sizes.present.sent_bytes,
        messages_h=_messages_h(plan),
        upkeep_mb_h=upkeep_bytes / 1e6,
        outcomes=outcomes,
        real_s=time.perf_counter() - begin_s,
    )


def _messages_h(plan: Plan) -> float:
    return plan.nodes * (1 + OTHER_MESSAGES)


def _outcome(
    plan: Plan,
    sites: Sequence[Site],
    network: Network,
    sizes: Sizes,
    origins: Sequence[int],
    mode: Mode,
) -> Outcome:
    begin_s = time.perf_counter()
    spreads = [
        spread(network, origin, mode, sizes, random.Random(f"{plan.seed}/{mode}/{number}"))
        for number, origin in enumerate(origins)
    ]
    deliveries = plan.nodes * len(spreads)
    hourly = _messages_h(plan) / len(spreads) / 1e6
    out_mb_h = [sum(row) * hourly for row in zip(*(one.bytes_out for one in spreads), strict=True)]
    in_mb_h = [sum(row) * hourly for row in zip(*(one.bytes_in for one in spreads), strict=True)]
    slow = [number for number, site in enumerate(sites) if site.line == "slow"]
    slow_kbit_s = [out_mb_h[number] * 8000 / 3600 for number in slow]
    mean_out_mb_h = statistics.fmean(out_mb_h)
    hops = [
        hop
        for one in spreads
        for node, hop in enumerate(one.hops)
        if node != one.origin and one.heard_s[node] != NEVER_S
    ]
    return Outcome(
        mode=mode,
        reached=sum(one.reached for one in spreads) / deliveries,
        hops_mean=statistics.fmean(hops) if hops else 0.0,
        hops_max=max(hops, default=0),
        times=_times([one.heard_s for one in spreads]),
        slow_times=_times([[one.heard_s[node] for node in slow] for one in spreads]),
        copies=sum(one.texts for one in spreads) / deliveries,
        duplicates=sum(one.duplicates for one in spreads) / deliveries,
        announcements=sum(one.announcements for one in spreads) / deliveries,
        requests=sum(one.requests for one in spreads) / deliveries,
        message_bytes=statistics.fmean(sum(one.bytes_out) for one in spreads),
        node_out_bytes=sum(sum(one.bytes_out) for one in spreads) / deliveries,
        out_mb_h=mean_out_mb_h,
        in_mb_h=statistics.fmean(in_mb_h),
        out_kbit_s=mean_out_mb_h * 8000 / 3600,
        slow_uplink_use=statistics.fmean(slow_kbit_s or [0.0]) * 1000 / plan.slow_bits_s,
        curve_s=_curve(spreads),
        real_s=time.perf_counter() - begin_s,
    )


def _times(heard: Iterable[Sequence[float]]) -> Times:
    ordered = [sorted(one) for one in heard]
    return Times(*(_mean([at_share(one, share) for one in ordered if one]) for share in (0.5, 0.99, 1.0)))


def _mean(values: Sequence[float]) -> float | None:
    if not values or NEVER_S in values:
        return None
    return statistics.fmean(values)


def at_share(ordered: Sequence[float], share: float) -> float:
    """The smallest of the sorted values that `share` of them do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _curve(spreads: Sequence[Spread]) -> tuple[float, ...]:
    """Seconds until 0, 1, ... 100 % of the nodes have a message, over all messages together."""
    ordered = sorted(at_s for one in spreads for at_s in one.heard_s if at_s != NEVER_S)
    return tuple(at_share(ordered, percent / 100) for percent in range(101))
