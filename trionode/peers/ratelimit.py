"""The frame rate limit per peer key (wire.md §5), pure: the caller passes the time.

A key starts with a bucket of 120 that is refilled whole once at least a second has passed since
the last refill. The first message of a key opens its bucket without taking from it and a bucket
is empty only below zero, so 122 messages pass in the first second and 121 in later ones.
"""

from __future__ import annotations

from collections import OrderedDict


class RateLimiter:
    """Buckets of many keys, bounded: the key unused for longest makes room for a new one.

    limit: size of a bucket, in frames. interval_s: shortest time between refills. idle_s: a key
    unused for this long is forgotten. max_keys: number of keys kept.
    """

    def __init__(self, limit: int, interval_s: float, idle_s: float, max_keys: int) -> None:
        self._limit = limit
        self._interval_s = interval_s
        self._idle_s = idle_s
        self._max_keys = max_keys
        # key -> [tokens, refilled_s, used_s]; a list because it changes with every frame
        self._buckets: OrderedDict[str, list[float]] = OrderedDict()

    def allow(self, key: str, now_s: float) -> bool:
        """Take one message of `key` at monotonic time `now_s`; False means drop it silently."""
        bucket = self._buckets.get(key)
        if bucket is None or now_s - bucket[2] >= self._idle_s:
            self._open(key, now_s)
            return True
        bucket[2] = now_s
        self._buckets.move_to_end(key)
        if now_s - bucket[1] >= self._interval_s:
            bucket[0] = self._limit
            bucket[1] = now_s
        if bucket[0] < 0:
            return False
        bucket[0] -= 1
        return True

    def _open(self, key: str, now_s: float) -> None:
        self._buckets[key] = [self._limit, now_s, now_s]
        self._buckets.move_to_end(key)
        while len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)

    def __len__(self) -> int:
        return len(self._buckets)
