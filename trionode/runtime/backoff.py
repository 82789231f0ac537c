"""Backoff: how long to wait before the next try (pure; randomness is handed in).

The delay doubles from `base_s` up to `cap_s`; jitter only ever shortens it, so the cap is a true
upper bound and two nodes that failed together do not try again together.
"""

from __future__ import annotations

import random

import msgspec

_MAX_EXPONENT = 64
"""Past this the nominal delay is above any sensible cap; keeps `factor ** n` from overflowing."""


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """A policy: attempt number in, delay out. Attempts count from 1 (the first failure)."""

    base_s: float
    cap_s: float
    factor: float = 2.0
    jitter: float = 0.25

    def nominal_s(self, attempt: int) -> float:
        """The delay after failure number `attempt`, before jitter."""
        if attempt < 1:
            raise ValueError(f"attempts count from 1, got {attempt}")
        grown: float = self.base_s * self.factor ** min(attempt - 1, _MAX_EXPONENT)
        return min(self.cap_s, grown)

    def delay_s(self, attempt: int, rng: random.Random) -> float:
        """`nominal_s` shortened by a random share of at most `jitter`."""
        return self.nominal_s(attempt) * rng.uniform(1.0 - self.jitter, 1.0)
