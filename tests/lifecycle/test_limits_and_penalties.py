"""What a machine can bear, and what a node holds against itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.config.tree import ResourceSettings, SpawnerSettings
from trionode.lifecycle.dos import ADDRESS_UNKNOWN, COLLISION, FEW_PEERS, collides, grown, message_of
from trionode.lifecycle.limits import Machine, Need, Pauses, apps_without_room, cpu_burst, spawn_pauses
from trionode.wire.nodelist import NodeEntry

RESOURCES = ResourceSettings()


def test_the_spawner_factor_scales_both_pauses() -> None:
    settings = SpawnerSettings(delay_factor=0.5)
    assert spawn_pauses(settings, enterprise_node=False, candidates=1) == Pauses(150, 900)
    assert spawn_pauses(settings, enterprise_node=True, candidates=9) == Pauses(15, 30)


@given(st.floats(0.1, 64), st.integers(1, 128))
def test_a_burst_never_takes_the_reserved_core(cores: float, host_cpus: int) -> None:
    burst = cpu_burst(RESOURCES, cores=cores, host_cpus=host_cpus)
    assert 0 <= burst.burst_us <= burst.quota_us
    if burst.burst_us:
        assert burst.quota_us + burst.burst_us <= (host_cpus - 1) * burst.period_us


def test_without_a_known_disk_nobody_goes() -> None:
    big = Need("big", 1, 100, 1e6, 1e6)
    assert apps_without_room(Machine(4, 8000, 0), [big], RESOURCES) == []
    assert apps_without_room(Machine(4, 8000, 440), [big], RESOURCES) == ["big"]


def test_an_app_that_goes_leaves_its_room_to_later_ones() -> None:
    needs = [Need("old", 1, 2, 1000, 10), Need("greedy", 2, 5, 1000, 10), Need("late", 3, 1, 1000, 10)]
    assert apps_without_room(Machine(4, 16000, 440), needs, RESOURCES) == ["greedy"]


def test_penalties_grow_and_tell_why_when_they_matter() -> None:
    amount = 0.0
    for _ in range(77):
        amount = grown(FEW_PEERS, amount)
    assert amount == 10.01
    assert message_of(FEW_PEERS, amount) == FEW_PEERS.message
    assert message_of(ADDRESS_UNKNOWN, 10) is None
    assert grown(COLLISION, 0) == grown(COLLISION, 100) == 100


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], False),
        ([("1.1.1.1", "me", 5)], False),
        ([("1.1.1.1:16127", "other", 5)], True),
        ([("1.1.1.1:16137", "other", 5)], False),
        ([("1.1.1.1", "other", 5), ("1.1.1.1", "me", 4)], False),
        ([("1.1.1.1", "other", 4), ("1.1.1.1", "me", 5)], True),
    ],
)
def test_whose_address_it_is(entries: list[tuple[str, str, int]], expected: bool) -> None:
    rows = [NodeEntry(ip=ip, pubkey=key, added_height=height) for ip, key, height in entries]
    assert collides(rows, "1.1.1.1", "me") is expected
