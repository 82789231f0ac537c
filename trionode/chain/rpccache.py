"""Short memory of daemon answers (docs/spec/daemon-rpc.md §3). Pure: time is handed in.

Three stores: blocks (150 entries, 1 h), transactions (300, 1 h), everything else (50, 20 s). A
falsy result is never a hit. Methods whose answer must be current are never kept at all.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

MISS = object()
"""What `get` returns when nothing (usable) is remembered."""

NEVER_CACHED = frozenset({"getzelnodestatus", "getfluxnodestatus", "sendrawtransaction", "stop", "ping"})


class LruTtl:
    """At most `max_entries` values, each for `ttl_s`; the least recently used one goes first."""

    def __init__(self, max_entries: int, ttl_s: float, now_s: Callable[[], float]) -> None:
        self._max_entries = max_entries
        self._ttl_s = ttl_s
        self._now_s = now_s
        self._entries: OrderedDict[str, tuple[float, Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Any:
        """The value, or MISS when it is unknown, too old or falsy."""
        entry = self._entries.get(key)
        if entry is None:
            return MISS
        expires_s, value = entry
        if self._now_s() >= expires_s:
            del self._entries[key]
            return MISS
        self._entries.move_to_end(key)
        return value or MISS

    def put(self, key: str, value: Any) -> None:
        """Remember `value`; its time starts anew."""
        self._entries[key] = (self._now_s() + self._ttl_s, value)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        self._entries.clear()


class ResultCache:
    """The daemon client's cache: one `LruTtl` per class of method."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._blocks = LruTtl(150, 3600.0, now_s)
        self._transactions = LruTtl(300, 3600.0, now_s)
        self._others = LruTtl(50, 20.0, now_s)

    def _store(self, method: str) -> LruTtl:
        if method == "getblock":
            return self._blocks
        if method == "getrawtransaction":
            return self._transactions
        return self._others

    def get(self, method: str, params: Sequence[Any]) -> Any:
        """A remembered result or MISS."""
        return self._store(method).get(_key(method, params))

    def put(self, method: str, params: Sequence[Any], result: Any) -> None:
        """Remember a result, unless the method is never cached or the result is falsy."""
        if method not in NEVER_CACHED and result:
            self._store(method).put(_key(method, params), result)


def _key(method: str, params: Sequence[Any]) -> str:
    return method + json.dumps(list(params), separators=(",", ":"))
