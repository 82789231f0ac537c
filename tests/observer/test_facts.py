"""Node list and height by majority: liars, laggards, dead sources, too few of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from observerworld import HEIGHT, Net, Watch, network, node_row

from trionode.observer.answers import NODES_PATH

pytestmark = pytest.mark.trio

Make = Callable[..., Watch]
SEEDS = ("9.1.0.1", "9.2.0.1", "9.3.0.1")


async def test_a_majority_is_found(autojump_clock: trio.testing.MockClock, net: Net, watch: Make) -> None:
    net.add(8)
    seen = watch(*SEEDS)
    assert await seen.facts.nodes_round()
    facts = seen.facts
    assert (len(facts.nodes), facts.height, facts.answered) == (8, HEIGHT, 5)
    assert facts.synced
    assert (facts.confirmed, facts.can_send) == (False, False)
    assert seen.events("chain:nodes") == [{"count": 8}]
    assert seen.events("observer:round")[0]["agreed"] is True
    assert seen.events("observer:disagreement") == []


async def test_one_seed_leads_to_further_sources(
    autojump_clock: trio.testing.MockClock, net: Net, watch: Make
) -> None:
    net.add(8)
    seen = watch("9.1.0.1")
    assert await seen.facts.nodes_round()
    assert seen.facts.answered == 5
    assert sum(source.is_seed for source in seen.book) == 1


async def test_dead_nodes_of_the_list_are_replaced_within_the_round(
    autojump_clock: trio.testing.MockClock, net: Net, watch: Make
) -> None:
    net.add(30)
    for number in range(4, 16):
        net.nodes[f"9.{number}.0.1"].is_up = False
    seen = watch(*SEEDS)
    assert await seen.facts.nodes_round()
    assert seen.facts.answered >= 3
    assert all(source.failures == 0 for source in seen.book)


async def test_with_two_sources_nothing_is_known(
    autojump_clock: trio.testing.MockClock, net: Net, watch: Make
) -> None:
    net.add(2)
    seen = watch("9.1.0.1", "9.2.0.1")
    assert not await seen.facts.nodes_round()
    facts = seen.facts
    assert len(facts.nodes) == 0
    assert facts.height == 0
    assert not facts.synced
    assert facts.last_error == "2 of 2 sources answered, at least 3 are needed"


async def test_what_was_agreed_stays_when_sources_die(
    autojump_clock: trio.testing.MockClock, net: Net, watch: Make
) -> None:
    nodes = net.add(3)
    seen = watch(*SEEDS)
    assert await seen.facts.nodes_round()
    for node in nodes[1:]:
        node.is_up = False
    assert not await seen.facts.nodes_round()
    assert len(seen.facts.nodes) == 3
    assert seen.facts.last_error == "1 of 3 sources answered, at least 3 are needed"
    await trio.sleep(301)
    assert not seen.facts.synced


async def test_a_lying_seed_is_outvoted_and_named(
    autojump_clock: trio.testing.MockClock, net: Net, watch: Make
) -> None:
    nodes = net.add(8)
    nodes[0].rows = [node_row(1, pubkey="02" + "ee" * 32), *network(8)[3:], node_row(66)]
    nodes[0].height = HEIGHT + 5000
    seen = watch(*SEEDS)
    assert await seen.facts.nodes_round()
    assert seen.facts.height == HEIGHT
    assert {entry.ip for entry in seen.facts.nodes} == {row["ip"] for row in network(8)}
    entry = seen.facts.nodes.by_address("9.1.0.1")
    assert entry is not None
    assert entry.pubkey == network(1)[0]["pubkey"]
    far, told = seen.events("observer:disagreement")
    assert far == {"source": "9.1.0.1:16127", "about": "height", "told": HEIGHT + 5000, "agreed": HEIGHT}
    assert (told["source"], told["about"]) == ("9.1.0.1:16127", "nodes")
    assert (told["missing"], told["extra"]) == (3, 2)
    assert await seen.facts.nodes_round()
    assert len(seen.events("observer:disagreement")) == 2, "what is told once is not told again"


async def test_a_lying_node_of_the_list_gives_its_place_to_another(
    autojump_clock: trio.testing.MockClock, net: Net, watch: Make
) -> None:
    nodes = net.add(6)
    for node in nodes[3:5]:
        node.rows = [node_row(number) for number in range(100, 140)]
    seen = watch(*SEEDS)
    await seen.facts.nodes_round()
    assert {source.key for source in seen.book} <= {f"9.{n}.0.1:16127" for n in (1, 2, 3, 6)}
    assert len(seen.facts.nodes) == 6


async def test_a_huge_told_list_of_one_seed_does_not_choose_the_other_sources(net: Net, watch: Make) -> None:
    # Without a clock that jumps: it would not wait for the thread that reads a list of this length.
    nodes = net.add(12)
    nodes[0].rows = [
        node_row(number, ip=f"9.250.{number // 250}.{number % 250}") for number in range(1, 5000)
    ]
    seen = watch(*SEEDS)
    assert await seen.facts.nodes_round()
    assert len(seen.facts.nodes) == 12
    assert seen.facts.answered == 5, "the huge list is one of those that were counted"
    assert not any(source.ip.startswith("9.250.") for source in seen.book)


async def test_an_unchanged_list_still_counts(
    autojump_clock: trio.testing.MockClock, net: Net, watch: Make
) -> None:
    for node in net.add(3):
        node.etag = 'W/"1-x"'
    seen = watch(*SEEDS)
    assert await seen.facts.nodes_round()
    assert await seen.facts.nodes_round()
    assert seen.counters["observer.unchanged"] == 3
    assert seen.facts.answered == 3


async def test_slow_and_garbled_sources_do_not_stop_the_others(
    autojump_clock: trio.testing.MockClock, net: Net, watch: Make
) -> None:
    nodes = net.add(3)
    net.add(0)
    for number, body in ((4, b"garbage"), (5, b'{"status":"success","data":[[]]}')):
        net.nodes[f"9.{number}.0.1"] = bad = type(nodes[0])(network(5))
        bad.bodies[NODES_PATH] = body
    net.nodes["9.5.0.1"].delay_s = 10_000
    seen = watch(*(f"9.{number}.0.1" for number in range(1, 6)))
    began_s = trio.current_time()
    assert await seen.facts.nodes_round()
    assert trio.current_time() - began_s <= seen.settings.list_limit_s + seen.settings.answer_limit_s + 5
    assert seen.facts.answered == 3
    failed = {source.key: source.last_error for source in seen.book if source.failures}
    assert failed.keys() == {"9.4.0.1:16127", "9.5.0.1:16127"}


async def test_it_asks_at_a_decent_pace(
    autojump_clock: trio.testing.MockClock, net: Net, watch: Make, nursery: trio.Nursery
) -> None:
    nodes = net.add(3)
    seen = watch(*SEEDS)
    await nursery.start(seen.facts.run)
    await trio.sleep(3600)
    for node in nodes:
        assert 4 <= node.asked.count(NODES_PATH) <= 7
        assert 50 <= len(node.asked) - node.asked.count(NODES_PATH) <= 68


async def test_without_a_majority_it_tries_again_more_and_more_seldom(
    autojump_clock: trio.testing.MockClock, net: Net, watch: Make, nursery: trio.Nursery
) -> None:
    (node,) = net.add(1)
    seen = watch("9.1.0.1")
    await nursery.start(seen.facts.run)
    await trio.sleep(60)
    assert node.asked.count(NODES_PATH) >= 2
    await trio.sleep(3600)
    assert node.asked.count(NODES_PATH) <= 20
    net.add(4)
    await trio.sleep(400)
    assert len(seen.facts.nodes) == 4


async def test_after_an_outage_of_everybody_it_comes_back(
    autojump_clock: trio.testing.MockClock, net: Net, watch: Make, nursery: trio.Nursery
) -> None:
    nodes = net.add(6)
    seen = watch(*SEEDS)
    await nursery.start(seen.facts.run)
    await trio.sleep(30)
    for node in nodes:
        node.is_up = False
    await trio.sleep(5000)
    assert seen.facts.daemon_reachable is False
    for node in nodes:
        node.is_up = True
    await trio.sleep(700)
    assert seen.facts.daemon_reachable is True
    assert seen.facts.answered >= 3
