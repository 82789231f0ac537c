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
        self.discard(key)
        self._items[key] = (now_s + self._ttl_s, value)
        if len(self._items) > self._entries:
            self.expire(now_s)
            while len(self._items) > self._entries:
                self._forget(next(iter(self._items)))

    def get(self, key: Key, now_s: float) -> Value | None:
        """The value of a living entry."""
        item = self._items.get(key)
        if item is None:
            return None
        if item[0] <= now_s:
            self._forget(key)
            return None
        return item[1]

    def discard(self, key: Key) -> None:
        if key in self._items:
            self._forget(key)

    def _forget(self, key: Key) -> None:
        del self._items[key]

    def expire(self, now_s: float) -> None:
        """Drop what is past its time."""
        while self._items:
            key, (expires_s, _) = next(iter(self._items.items()))
            if expires_s > now_s:
                return
            self._forget(key)

    def __len__(self) -> int:
        return len(self._items)


class MessageCache(ExpiringMap[str, Envelope]):
    """Verified envelopes by data hash: the dedupe memory, and what hash requests are served from.

    Also bounded by `max_chars` of message text: a listed node may send a thousand messages of the largest
    size, and nobody would want to keep half a gigabyte of them. The oldest go first.
    """

    def __init__(self, entries: int, ttl_s: float, max_chars: int) -> None:
        super().__init__(entries, ttl_s)
        self._max_chars = max_chars
        self.chars = 0

    def put(self, key: str, value: Envelope, now_s: float) -> None:
        self.chars += len(value.data_text)
        super().put(key, value, now_s)
        while self.chars > self._max_chars and len(self._items) > 1:
            self._forget(next(iter(self._items)))

    def _forget(self, key: str) -> None:
        self.chars -= len(self._items[key][1].data_text)
        super()._forget(key)
