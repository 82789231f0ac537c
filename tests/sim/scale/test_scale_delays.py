"""Delays of links: from places, or drawn from what a node measured."""

from __future__ import annotations

import json
import random

import pytest

from trionode.errors import ConfigError
from trionode.sim.scale.delays import delays_ms, read_latencies_ms
from trionode.sim.scale.sites import draw_sites, one_way_ms
from trionode.sim.scale.topology import Links

SITES = draw_sites(4, random.Random(1), slow_share=0.0, slow_bits_s=1e6)
LINKS = Links(outbound=[[1, 2], [2], [3], []], inbound=[[], [0], [0, 1], [2]])


def test_without_a_sample_places_decide() -> None:
    delays = delays_ms(SITES, LINKS, random.Random(1), factor=2.0)
    assert delays == {
        (here, there): 2 * one_way_ms(SITES[here], SITES[there])
        for here, there in [(0, 1), (0, 2), (1, 2), (2, 3)]
    }


def test_with_a_sample_every_link_has_one_of_its_values_and_the_seed_decides() -> None:
    delays = delays_ms(SITES, LINKS, random.Random(1), sample_ms=(10.0, 20.0))
    assert set(delays.values()) <= {10.0, 20.0}
    assert delays == delays_ms(SITES, LINKS, random.Random(1), sample_ms=(10.0, 20.0))


def test_a_sample_is_read_from_rows_of_peers_or_from_numbers() -> None:
    rows = [{"ip": "1.2.3.4", "latency": 5, "direction": "inbound"}] * 5 + [{"latency": None}]
    assert read_latencies_ms(json.dumps(rows)) == (5.0,) * 5
    assert read_latencies_ms("[1, 2.5, 3, 4, 5]") == (1.0, 2.5, 3.0, 4.0, 5.0)


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", '["a"]', "[1, 2, 3, 4, -5]", '[{"latency": "x"}]'])
def test_anything_else_is_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_latencies_ms(text)
    assert "trionode peers --json" in caught.value.remedy
