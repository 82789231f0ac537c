"""The response cache of public routes (docs/spec/api.md §1.4).

Key is the full URL with its query string. Only public routes asked without credentials come here,
so nobody is ever served another caller's answer. Bounded by entries and bytes: the oldest goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MAX_ENTRIES = 512
MAX_BYTES = 64 * 1024 * 1024


@dataclass
class Body:
    """A finished body. `gzipped` is made at the first request that accepts it and then kept."""

    status: int
    content_type: str
    content: bytes
    etag: str | None
    gzipped: bytes | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.content) + len(self.gzipped or b"")


@dataclass(frozen=True)
class Entry:
    """A body and the moment (seconds of the injected clock) at which it is no longer served."""

    body: Body
    deadline_s: float


class ResponseCache:
    """Bodies by URL; `now_s` is a steady clock (`trio.current_time` in a node)."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, url: str) -> tuple[Body, int] | None:
        """The body kept for `url` and the whole seconds (at least 1) it has left."""
        entry = self._entries.get(url)
        if entry is None:
            return None
        left_s = entry.deadline_s - self._now_s()
        if left_s <= 0:
            self._drop(url)
            return None
        return entry.body, max(1, round(left_s))

    def put(self, url: str, body: Body, life_s: float) -> None:
        """Keep `body` for `life_s`; a body too large for the whole cache is not kept."""
        self._drop(url)
        if body.size_bytes > MAX_BYTES // 2:
            return
        while self._entries and (
            len(self._entries) >= MAX_ENTRIES or self._bytes + body.size_bytes > MAX_BYTES
        ):
            self._drop(next(iter(self._entries)))
        self._entries[url] = Entry(body, self._now_s() + life_s)
        self._bytes += len(body.content)

    def _drop(self, url: str) -> None:
        entry = self._entries.pop(url, None)
        if entry is not None:
            self._bytes -= len(entry.body.content)
