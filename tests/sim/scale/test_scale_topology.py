"""The links of the model: those that the node's discovery makes, and their laws."""

from __future__ import annotations

import random

from trionode.config.tree import PeerSettings
from trionode.peers.admission import max_inbound
from trionode.peers.discovery import deterministic_inbound, deterministic_outbound
from trionode.sim.scale.sites import HOME_GROUP, REGIONS, ROUND_TRIP_MS, Site, draw_sites, one_way_ms
from trionode.sim.scale.topology import Links, _Discovery, discover
from trionode.wire.address import is_routable_ipv4, peer_key, provider, split_address

NODES = 600


def sites_of(seed: int, nodes: int = NODES) -> list[Site]:
    return draw_sites(nodes, random.Random(seed), slow_share=0.05, slow_bits_s=1e6)


def links_of(sites: list[Site], seed: int) -> Links:
    return discover([site.address for site in sites], random.Random(seed))


def test_sites_have_addresses_of_their_own_that_may_be_dialled() -> None:
    sites = sites_of(1)
    assert len({site.address for site in sites}) == NODES
    assert all(is_routable_ipv4(site.ip) for site in sites)
    assert all(split_address(site.address) == (site.ip, site.port) for site in sites)


def test_home_operators_share_addresses_and_hosted_nodes_do_not() -> None:
    sites = sites_of(1)
    for site in sites:
        sharing = [other for other in sites if other.ip == site.ip]
        assert len(sharing) <= HOME_GROUP
        if site.line == "hosted":
            assert sharing == [site]


def test_delays_are_the_same_both_ways_and_defined_between_all_regions() -> None:
    sites = sites_of(2)
    for here, there in zip(sites, reversed(sites), strict=True):
        assert one_way_ms(here, there) == one_way_ms(there, here) > 0
    assert [len(row) for row in ROUND_TRIP_MS] == [len(REGIONS)] * len(REGIONS)


def test_the_same_seed_gives_the_same_links_and_another_seed_others() -> None:
    sites = sites_of(3)
    assert links_of(sites, 1) == links_of(sites, 1)
    assert links_of(sites, 1) != links_of(sites, 2)


def test_both_ends_know_of_a_link_and_there_is_one_per_pair() -> None:
    links = links_of(sites_of(4), 4)
    dialled = {(here, there) for here, peers in enumerate(links.outbound) for there in peers}
    accepted = {(here, there) for there, peers in enumerate(links.inbound) for here in peers}
    assert dialled == accepted
    assert len(dialled) == links.count == sum(map(len, links.inbound))
    assert not any((there, here) in dialled for here, there in dialled)


def test_everybody_has_the_links_that_discovery_aims_at_and_no_more_than_admission_allows() -> None:
    settings = PeerSettings()
    links = links_of(sites_of(5), 5)
    assert min(map(len, links.outbound)) >= settings.random_outbound
    assert min(map(len, links.inbound)) >= settings.random_inbound
    assert max(map(len, links.inbound)) <= max_inbound(NODES, settings.min_inbound) + 1


def test_random_links_go_to_foreign_networks() -> None:
    sites = sites_of(6)
    links = links_of(sites, 6)
    size = PeerSettings().min_outbound
    for here, peers in enumerate(links.outbound):
        near = {(here + step) % NODES for step in range(-size, size + 1)}
        for there in set(peers) - near:
            assert provider(sites[here].ip) != provider(sites[there].ip)


def test_the_part_of_the_list_that_the_model_looks_at_gives_the_choices_of_the_whole() -> None:
    addresses = [site.address for site in sites_of(7, nodes=60)]
    discovery = _Discovery(addresses, random.Random(1), PeerSettings())
    for node, own in enumerate(addresses):
        part = discovery._neighbourhood(node, 8)
        assert deterministic_outbound(part, own, 8) == deterministic_outbound(addresses, own, 8)
        assert deterministic_inbound(part, own, 8) == deterministic_inbound(addresses, own, 8)


def test_a_network_smaller_than_the_links_wanted_is_linked_whole() -> None:
    sites = sites_of(8, nodes=20)
    links = links_of(sites, 8)
    names = [peer_key(site.ip, site.port) for site in sites]
    for node, name in enumerate(names):
        linked = {names[peer] for peer in (*links.outbound[node], *links.inbound[node])}
        elsewhere = {other for other, site in zip(names, sites, strict=True) if site.ip != sites[node].ip}
        assert linked == elsewhere, name
