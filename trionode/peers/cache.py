"""What gossip remembers: verified envelopes by content hash, refused copies by hash and signature.

Content hashes cover only the data (wire.md §8, §9.3), so a forged copy has the hash of the genuine
message. Only verified envelopes may therefore occupy the dedupe cache and be served (wire.md §14);
a refused copy is remembered by its own signature and hides nothing but itself. Pure; the caller
passes monotonic seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from trionode.wire.envelope import Envelope

Key = TypeVar("Key")
Value = TypeVar("Value")


class ExpiringMap(Generic[Key, Value]):
    """At most `entries` entries for `ttl_s` seconds each; the oldest expiry goes first.

    Every entry lives equally long, so the order of insertion is the order of expiry.
    """

    def __init__(self, entries: int, ttl_s: float) -> None:
        self._entries = entries
        self._ttl_s = ttl_s
        self._items: OrderedDict[Key, tuple[float, Value]] = OrderedDict()

    def put(self, key: Key, value: Value, now_s: float) -> None:
        """Insert or renew an entry."""
        self._items.pop(key, None)
        self._items[key] = (now_s + self._ttl_s, value)
        if len(self._items) > self._entries:
            self.expire(now_s)
            while len(self._items) > self._entries:
                self._items.popitem(last=False)

    def get(self, key: Key, now_s: float) -> Value | None:
        """The value of a living entry."""
        item = self._items.get(key)
        if item is None:
            return None
        if item[0] <= now_s:
            del self._items[key]
            return None
        return item[1]

    def discard(self, key: Key) -> None:
        self._items.pop(key, None)

    def expire(self, now_s: float) -> None:
        """Drop what is past its time."""
        while self._items:
            key, (expires_s, _) = next(iter(self._items.items()))
            if expires_s > now_s:
                return
            del self._items[key]

    def __len__(self) -> int:
        return len(self._items)


class MessageCache(ExpiringMap[str, Envelope]):
    """Verified envelopes by data hash: the dedupe memory, and what hash requests are served from."""
