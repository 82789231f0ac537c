"""Where the nodes of the model stand: region, address, line, and the delays between them.

No fact of the network's specification says where its nodes are or how far apart, so these are stated
assumptions (docs/scale.md): shares of regions as public node maps show them, medians of round trips
between regions as tables of public clouds show them, rounded. `Plan.delay_factor` stretches them all.
"""

from __future__ import annotations

import random
from itertools import accumulate
from typing import Literal

import msgspec

from trionode.wire.address import DEFAULT_PORT, bare

Line = Literal["hosted", "home", "slow"]


class Region(msgspec.Struct, frozen=True):
    """`share` of all nodes; `prefixes`: /16 networks they are spread over, unevenly."""

    name: str
    share: float
    prefixes: int


REGIONS = (
    Region("central Europe", 0.46, 90),
    Region("northern Europe", 0.13, 30),
    Region("eastern North America", 0.20, 60),
    Region("western North America", 0.09, 40),
    Region("eastern Asia", 0.05, 30),
    Region("south-eastern Asia", 0.04, 25),
    Region("Oceania", 0.02, 12),
    Region("South America", 0.01, 8),
)

ROUND_TRIP_MS = (
    (14, 28, 90, 150, 235, 165, 280, 205),
    (28, 9, 110, 170, 245, 185, 300, 225),
    (90, 110, 20, 65, 160, 220, 200, 115),
    (150, 170, 65, 25, 105, 175, 140, 175),
    (235, 245, 160, 105, 35, 70, 105, 260),
    (165, 185, 220, 175, 70, 30, 95, 325),
    (280, 300, 200, 140, 105, 95, 15, 310),
    (205, 225, 115, 175, 260, 325, 310, 25),
)
"""Medians between (and within) the regions, in the order of `REGIONS`."""

HOME_SHARE = 0.15
HOME_GROUP = 4
"""Home operators run several nodes behind one address, at ports ten apart."""

HOSTED_ACCESS_MS = 0.5
HOME_ACCESS_MEDIAN_MS = 6.0
HOME_ACCESS_SPREAD = 0.5
UPLINK_BITS_S: dict[Line, float] = {"hosted": 200e6, "home": 20e6}
FIRST_OCTET = 20
PORT_STEP = 10


class Site(msgspec.Struct, frozen=True):
    """One node. `access_ms`: one way, from the node to where its region begins."""

    address: str
    ip: str
    port: int
    region: int
    line: Line
    access_ms: float
    uplink_bits_s: float


def draw_sites(count: int, rng: random.Random, *, slow_share: float, slow_bits_s: float) -> list[Site]:
    """The nodes in the order of the node list; neighbours in it may share an address."""
    cuts = list(accumulate(region.share for region in REGIONS))
    hosts = _Addresses(rng)
    sites: list[Site] = []
    while len(sites) < count:
        draw = rng.random() * cuts[-1]
        region = next(number for number, cut in enumerate(cuts) if draw <= cut)
        ip = hosts.next_in(region)
        line_draw = rng.random()
        # A home address stands for several nodes, so it is drawn that much less often.
        home = line_draw < HOME_SHARE / (HOME_SHARE + HOME_GROUP * (1 - HOME_SHARE))
        group = min(HOME_GROUP if home else 1, count - len(sites))
        line: Line = "home" if home else "hosted"
        if rng.random() < slow_share:
            line = "slow"
        at_home = home or line == "slow"
        access_ms = (
            HOME_ACCESS_MEDIAN_MS * rng.lognormvariate(0, HOME_ACCESS_SPREAD) if at_home else HOSTED_ACCESS_MS
        )
        uplink_bits_s = slow_bits_s if line == "slow" else UPLINK_BITS_S[line]
        for number in range(group):
            port = DEFAULT_PORT + PORT_STEP * number
            sites.append(Site(bare(ip, port), ip, port, region, line, access_ms, uplink_bits_s))
    return sites


def one_way_ms(here: Site, there: Site) -> float:
    """Delay of one message, without jitter and without the time its bytes take on the line."""
    return ROUND_TRIP_MS[here.region][there.region] / 2 + here.access_ms + there.access_ms


class _Addresses:
    """Unused addresses; the first /16s of a region hold most of its nodes, as those of big hosters do."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        first = list(accumulate((region.prefixes for region in REGIONS), initial=0))
        self._first = first[:-1]
        self._weights = [
            list(accumulate(1 / (place + 1) for place in range(region.prefixes))) for region in REGIONS
        ]
        self._used = [0] * first[-1]

    def next_in(self, region: int) -> str:
        weights = self._weights[region]
        places = range(len(weights))
        number = self._first[region] + self._rng.choices(places, cum_weights=weights)[0]
        host = self._used[number]
        self._used[number] += 1
        return f"{FIRST_OCTET + number // 256}.{number % 256}.{host // 250}.{1 + host % 250}"
