"""The pure decisions of relaying: form, targets, pacing."""

from __future__ import annotations

import pytest

from trionode.peers.relay import goes_by_hash, paced_offsets_s, relay_targets


@pytest.mark.parametrize(("height", "by_hash"), [(1_751_249, False), (1_751_250, True), (2_000_000, True)])
def test_relays_go_by_hash_from_its_height_on(height: int, by_hash: bool) -> None:
    assert goes_by_hash(height, 1_751_250) is by_hash


def test_the_bearer_gets_nothing_back() -> None:
    peers = ["a", "b", "c"]
    assert relay_targets(peers, "b") == ["a", "c"]
    assert relay_targets(peers, None) == peers


def test_outbound_peers_come_first_and_a_gap_later_the_inbound_ones() -> None:
    offsets_s = list(paced_offsets_s([2, 2], 0.025, 0.5))
    assert offsets_s == pytest.approx([0.025, 0.05, 0.575, 0.6])


def test_without_outbound_peers_the_gap_is_kept() -> None:
    assert list(paced_offsets_s([0, 1], 0.025, 0.5)) == pytest.approx([0.525])
