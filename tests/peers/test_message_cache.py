"""The cache of verified messages is bounded by number, by age, and by the text it holds."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from trionode.peers.cache import MessageCache
from trionode.wire.envelope import Envelope, seal
from trionode.wire.keys import NodeKey

KEY = NodeKey.generate(random.Random(1))


def message(number: int, chars: int) -> Envelope:
    return seal({"type": "x", "number": number, "text": "a" * chars}, KEY, 1)


def test_the_oldest_go_when_there_is_too_much_text() -> None:
    cache = MessageCache(100, 300.0, 10_000)
    for number in range(12):
        cache.put(str(number), message(number, 1_000), 0.0)
    assert cache.chars <= 10_000
    assert cache.get("0", 1.0) is None
    assert cache.get("11", 1.0) is not None


def test_one_message_beyond_the_bound_is_kept_alone() -> None:
    cache = MessageCache(100, 300.0, 1_000)
    cache.put("small", message(1, 10), 0.0)
    cache.put("huge", message(2, 5_000), 0.0)
    assert len(cache) == 1
    assert cache.get("huge", 1.0) is not None


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 400), st.integers(0, 40)), max_size=60))
def test_the_count_of_text_is_that_of_the_messages(steps: list[tuple[int, int, int]]) -> None:
    cache = MessageCache(5, 100.0, 1_200)
    now_s = 0.0
    for key, chars, pause_s in steps:
        now_s += pause_s
        if chars % 3:
            cache.put(str(key), message(key, chars), now_s)
        elif chars % 2:
            cache.discard(str(key))
        else:
            cache.get(str(key), now_s)
        held = [value for _, value in cache._items.values()]
        assert cache.chars == sum(len(envelope.data_text) for envelope in held)
        assert len(cache) <= 5
