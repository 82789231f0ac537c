"""The answer cache: sizes, lifetimes, what is never a hit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.chain.rpccache import MISS, LruTtl, ResultCache


class Now:
    """A clock one sets by hand."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


@pytest.mark.parametrize(
    ("method", "ttl_s", "entries"),
    [("getblock", 3600, 150), ("getrawtransaction", 3600, 300), ("getinfo", 20, 50)],
)
def test_lifetimes_and_sizes(method: str, ttl_s: float, entries: int) -> None:
    now = Now()
    cache = ResultCache(now)
    for number in range(entries + 1):
        cache.put(method, [number], {"n": number})
    assert cache.get(method, [0]) is MISS
    assert cache.get(method, [1]) == {"n": 1}
    now.s = ttl_s - 0.001
    assert cache.get(method, [entries]) == {"n": entries}
    now.s = ttl_s
    assert cache.get(method, [entries]) is MISS


@pytest.mark.parametrize("falsy", [0, "", None, False, [], {}])
def test_falsy_results_are_never_a_hit(falsy: Any) -> None:
    cache = ResultCache(Now())
    cache.put("getinfo", [], falsy)
    assert cache.get("getinfo", []) is MISS


@pytest.mark.parametrize("method", ["getzelnodestatus", "getfluxnodestatus"])
def test_the_node_status_is_never_kept(method: str) -> None:
    cache = ResultCache(Now())
    cache.put(method, [], {"status": "CONFIRMED"})
    assert cache.get(method, []) is MISS


def test_parameters_are_part_of_the_key() -> None:
    cache = ResultCache(Now())
    cache.put("getblock", ["5", 2], "two")
    assert cache.get("getblock", ["5", 1]) is MISS
    assert cache.get("getblock", [5, 2]) is MISS
    assert cache.get("getblock", ("5", 2)) == "two"


@given(st.lists(st.tuples(st.sampled_from("pgt"), st.integers(0, 6)), max_size=60))
def test_it_agrees_with_a_plain_model(steps: list[tuple[str, int]]) -> None:
    now = Now()
    cache = LruTtl(3, 10.0, now)
    model: dict[str, tuple[float, int]] = {}
    for step, number in steps:
        key = str(number)
        if step == "t":
            now.s += number
        elif step == "p":
            model.pop(key, None)
            model[key] = (now.s + 10, number + 1)
            cache.put(key, number + 1)
            if len(model) > 3:
                del model[next(iter(model))]
        else:
            expires_s, value = model.get(key, (0.0, 0))
            if key in model and now.s >= expires_s:
                del model[key]
            if key in model:
                model[key] = model.pop(key)
                assert cache.get(key) == value
            else:
                assert cache.get(key) is MISS
        assert len(cache) <= 3
