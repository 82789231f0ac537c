"""Which ports an app may have, and the loop that tests them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.plans.parts import parts_of
from trionode.plans.ports import (
    PortWatch,
    after_test,
    next_port,
    pass_over,
    ports_of,
    unusable_port,
)

NOW_HEIGHT = 2_100_000


@pytest.mark.parametrize(
    ("ports", "word"),
    [
        ([31000], None),
        ([31000, 31000], "twice"),
        ([22], "may not"),
        ([70000], "may not"),
        ([31001], "here by other"),
        ([31002], "behind the same address by far"),
        ([31003], None),
    ],
)
def test_ports(ports: list[int], word: str | None) -> None:
    told = unusable_port(
        ports,
        local={"other": {31001}, "own": {31003}},
        on_this_ip={"far": {31002}},
        app="own",
        height=NOW_HEIGHT,
    )
    assert told is None if word is None else told is not None and word in told


def test_ports_of_all_components() -> None:
    compose = [{"name": "a", "ports": [1, 2]}, {"name": "b", "ports": [3]}]
    assert ports_of(parts_of({"version": 8, "name": "x", "compose": compose}) or ()) == (1, 2, 3)


@given(st.integers(1, 65535), st.integers(0, 2**32))
def test_a_shut_port_leads_along_its_neighbours_and_a_good_one_forgives(first: int, seed: int) -> None:
    rng, watch, port = random.Random(seed), PortWatch(), first
    tested = set()
    for _ in range(60):
        tested.add(port)
        verdict = after_test(watch, port, reachable=False, rng=rng)
        watch = verdict.watch
        assert 1 <= next_port(watch, rng, height=NOW_HEIGHT) <= 65535
        port = next_port(watch, rng, height=NOW_HEIGHT)
    assert watch.bad == tested
    assert after_test(watch, port, reachable=True, rng=rng).watch == PortWatch()


def test_many_shut_ports_end_in_a_penalty_and_one_by_one_in_pardon() -> None:
    rng, watch, message = random.Random(1), PortWatch(), None
    for _ in range(100):
        watch = after_test(watch, next_port(watch, rng, height=NOW_HEIGHT), reachable=False, rng=rng).watch
    assert len(watch.bad) == 100
    rounds = 0
    while message is None:
        verdict = after_test(watch, next_port(watch, rng), reachable=False, rng=rng)
        watch, message, rounds = verdict.watch, verdict.message, rounds + 1
    assert rounds == 25
    for _ in range(20):
        watch = after_test(watch, next_port(watch, rng, height=NOW_HEIGHT), reachable=True, rng=rng).watch
    assert len(watch.bad) == 80
    assert after_test(watch, 5, reachable=True, rng=rng).watch == PortWatch()


def test_a_port_that_cannot_be_tested_does_not_hold_up_the_walk() -> None:
    rng = random.Random(1)
    watch = after_test(PortWatch(), 65_535, reachable=False, rng=rng).watch
    assert watch.retest == 65_534
    assert pass_over(watch, 65_534).watch.retest == 65_533
    assert pass_over(PortWatch(), 7).watch == PortWatch()
