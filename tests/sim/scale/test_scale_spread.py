"""One message in the model: what must hold whatever the seed, and the figures made of it."""

from __future__ import annotations

import math
import random

import msgspec
import pytest

from trionode.config.tree import GossipSettings
from trionode.sim.scale.delays import delays_ms
from trionode.sim.scale.sites import draw_sites
from trionode.sim.scale.sizes import MASK_BYTES, load, running_message, sizes_of, upkeep_bytes_s
from trionode.sim.scale.spread import MODES, Mode, Network, Spread, lay_out, spread
from trionode.sim.scale.study import Plan, at_share, study
from trionode.sim.scale.topology import Links, discover

NODES = 400
SIZES = sizes_of(running_message(5, random.Random(1)))


def build(seed: int, nodes: int = NODES, **more: float) -> tuple[Links, Network]:
    sites = draw_sites(nodes, random.Random(seed), slow_share=0.1, slow_bits_s=1e6)
    links = discover([site.address for site in sites], random.Random(seed))
    delays = delays_ms(sites, links, random.Random(seed))
    return links, lay_out(sites, links, delays, **more)


def peers_of(links: Links, node: int) -> int:
    return len(links.outbound[node]) + len(links.inbound[node])


@pytest.mark.parametrize("mode", MODES)
def test_the_same_seed_gives_the_same_spread_and_another_seed_another(mode: Mode) -> None:
    _, network = build(1)

    def once(seed: int) -> Spread:
        return spread(network, 5, mode, SIZES, random.Random(seed))

    assert once(1) == once(1)
    assert once(1).heard_s != once(2).heard_s


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_laws_of_conservation(mode: Mode, seed: int) -> None:
    links, network = build(seed)
    origin = seed * 17
    result = spread(network, origin, mode, SIZES, random.Random(seed))
    # everybody hears of it once as news, along a path of people who had it before
    assert result.reached == NODES
    assert result.hops[origin] == 0 == result.heard_s[origin]
    assert all(hop >= 1 for node, hop in enumerate(result.hops) if node != origin)
    # deliveries are news or duplicates, and each was sent
    assert result.texts == sum(result.texts_received) == NODES - 1 + result.duplicates
    assert sum(result.bytes_out) == sum(result.bytes_in)
    # a relay goes to everybody but its bearer: twice per link, less one per node that relays
    fanned_out = 2 * links.count - (NODES - 1)
    if mode.startswith("flood"):
        assert (result.texts, result.announcements, result.requests) == (fanned_out, 0, 0)
    else:
        own = peers_of(links, origin)
        assert result.announcements == fanned_out - own
        assert result.texts == own + result.requests


def test_asking_one_announcer_brings_a_second_copy_only_beside_the_texts_of_the_origin() -> None:
    links, network = build(4)
    result = spread(network, 40, "hash", SIZES, random.Random(4))
    assert result.requests <= NODES - 1
    origins_peers = {*links.outbound[40], *links.inbound[40]}
    assert all(count == 1 or node in origins_peers | {40} for node, count in enumerate(result.texts_received))


def test_asking_everybody_brings_the_same_text_many_times() -> None:
    _, network = build(4)
    one = spread(network, 40, "hash", SIZES, random.Random(4))
    everybody = spread(network, 40, "hash, ask all", SIZES, random.Random(4))
    assert everybody.duplicates > 20 * one.duplicates
    assert sum(everybody.bytes_out) > 2 * sum(one.bytes_out)


def test_a_hop_takes_at_least_its_delay_and_the_shortest_intake() -> None:
    _, network = build(5, jitter_ms=0)
    result = spread(network, 7, "flood at once", SIZES, random.Random(5))
    shortest_s = GossipSettings().intake_delay_min_ms / 1000
    for node, at_s in enumerate(result.heard_s):
        if node != 7:
            ways = {**network.outbound[node], **network.inbound[node]}
            bearers = [
                peer
                for peer, delay_s, _ in ways.values()
                if result.hops[peer] == result.hops[node] - 1
                and result.heard_s[peer] + delay_s + shortest_s <= at_s
            ]
            assert bearers, node


def test_an_unanswered_request_goes_to_the_next_announcer() -> None:
    # node 0 tells 1 and 2; 3 hears of it from both. 1 has an uplink that takes minutes for a text.
    way = 0.010
    links = {0: (1, 2), 1: (3,), 2: (3,), 3: ()}
    network = Network(
        names=[f"node{number}" for number in range(4)],
        outbound=[{peer: (peer, way, MASK_BYTES) for peer in peers} for peers in links.values()],
        inbound=[
            {peer: (peer, way, 0) for peer, peers in links.items() if node in peers} for node in range(4)
        ],
        seconds_per_byte=[0.0, 1.0, 0.0, 0.0],
        jitter_s=0.0,
        commit_s=0.0,
    )
    sizes = msgspec.structs.replace(SIZES, present=load(0))
    slow_present_s = sizes.present.sent_bytes + MASK_BYTES
    for seed in range(20):
        result = spread(network, 0, "hash", sizes, random.Random(seed))
        assert result.reached == 4
        # 2 is fast, so 3 asks 2 first and has the text before 1 has told it anything
        assert result.heard_s[3] < slow_present_s
    # when only the slow one had told it in time, it asks the other after the time-out
    outbound = list(network.outbound)
    outbound[2] = {3: (3, slow_present_s + 1.0, MASK_BYTES)}
    late = msgspec.structs.replace(network, outbound=outbound)
    result = spread(late, 0, "hash", sizes, random.Random(1))
    assert result.reached == 4
    assert result.requests >= 2
    timeout_s = GossipSettings().hash_request_timeout_s
    assert result.heard_s[3] > slow_present_s + timeout_s


def test_slow_uplinks_delay_what_hangs_on_them() -> None:
    links, fast = build(6)
    slow = msgspec.structs.replace(fast, seconds_per_byte=[8 / 20_000] * NODES)
    at_once = [spread(network, 3, "flood at once", SIZES, random.Random(6)) for network in (fast, slow)]
    assert max(at_once[1].heard_s) > 2 * max(at_once[0].heard_s)
    assert links.count > 0


def test_sizes_are_those_of_the_encoders() -> None:
    text = running_message(3, random.Random(9))
    sizes = sizes_of(text)
    assert sizes.text_chars == len(text)
    assert sizes.present.sent_bytes == 21 + 2 + 52
    assert sizes.present == sizes.request
    assert len(text) / 3 < sizes.text.sent_bytes < len(text)


@pytest.mark.parametrize(
    ("payload", "sent", "acks"), [(21, 75, 52), (125, 179, 52), (126, 182, 52), (3000, 3004 + 3 * 52, 104)]
)
def test_bytes_of_one_message_on_the_line(payload: int, sent: int, acks: int) -> None:
    assert (load(payload).sent_bytes, load(payload).ack_bytes) == (sent, acks)


def test_keeping_links_costs_by_their_number() -> None:
    assert upkeep_bytes_s(28, 15) == pytest.approx(28 * upkeep_bytes_s(1, 15))


def test_at_share_takes_the_value_that_enough_do_not_exceed() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [at_share(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]


def test_a_study_is_fixed_by_its_plan() -> None:
    plan = Plan(nodes=120, messages=2)

    def figures(seed: int) -> list[object]:
        picture = study(msgspec.structs.replace(plan, seed=seed))
        return [msgspec.structs.replace(outcome, real_s=0.0) for outcome in picture.outcomes]

    assert figures(1) == figures(1)
    assert figures(1) != figures(2)


def test_the_figures_of_a_study_fit_together() -> None:
    picture = study(Plan(nodes=150, messages=3))
    assert picture.messages_h == pytest.approx(150 * 1.03)
    for outcome in picture.outcomes:
        assert outcome.reached == 1.0
        times = outcome.times
        assert times.half_s is not None
        assert times.most_s is not None
        assert times.all_s is not None
        assert 0 < times.half_s <= times.most_s <= times.all_s
        assert outcome.copies == pytest.approx(149 / 150 + outcome.duplicates)
        assert outcome.out_mb_h == pytest.approx(outcome.in_mb_h)
        assert outcome.out_mb_h == pytest.approx(outcome.node_out_bytes * picture.messages_h / 1e6)
        assert outcome.message_bytes == pytest.approx(outcome.node_out_bytes * 150)
        assert len(outcome.curve_s) == 101
        assert list(outcome.curve_s) == sorted(outcome.curve_s)
        assert math.isclose(outcome.curve_s[-1], max(outcome.curve_s))
