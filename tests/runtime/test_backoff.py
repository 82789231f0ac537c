"""Backoff: doubles, is capped, jitter only shortens, never overflows."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.runtime.backoff import Backoff


def test_doubles_up_to_the_cap() -> None:
    policy = Backoff(base_s=1, cap_s=60)
    assert [policy.nominal_s(n) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


@given(attempt=st.integers(1, 10**9), seed=st.integers())
def test_jitter_only_shortens(attempt: int, seed: int) -> None:
    policy = Backoff(base_s=0.5, cap_s=30, jitter=0.25)
    nominal = policy.nominal_s(attempt)
    delay = policy.delay_s(attempt, random.Random(seed))
    assert nominal * 0.75 <= delay <= nominal <= 30


def test_same_seed_same_delays() -> None:
    policy = Backoff(base_s=1, cap_s=60)
    runs = [[policy.delay_s(n, rng) for n in range(1, 20)] for rng in (random.Random(7), random.Random(7))]
    assert runs[0] == runs[1]
    assert len(set(runs[0])) > 10


def test_attempts_count_from_one() -> None:
    with pytest.raises(ValueError, match="count from 1"):
        Backoff(base_s=1, cap_s=2).nominal_s(0)
