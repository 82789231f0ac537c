"""The gossip intake queue: fair between peers, bounded as a whole (wire.md §9.2), pure.

Every text waits a random 1-75 ms after its arrival, then its peer's turn. Peers take turns by
bytes (deficit round robin), so one that sends much or huge messages delays only itself. When the
queue as a whole is full, the peer that occupies most of it loses its oldest message: a flood can
only push out the flood. Times are monotonic seconds.
"""

from __future__ import annotations

from collections import OrderedDict, deque

import msgspec

from trionode.peers.peer import Peer

QUANTUM_BYTES = 64 * 1024
MESSAGE_COST_BYTES = 1024
"""What a message costs beyond its length: hashing and one signature check take as long as 1 KB."""


class Item(msgspec.Struct, frozen=True):
    """One received text. `due_s`: not to be looked at earlier."""

    peer: Peer
    body: str
    size: int
    due_s: float


class _Line(msgspec.Struct):
    """The waiting items of one peer, in order of arrival, and the bytes it may still use."""

    items: deque[Item]
    size: int = 0
    credit: int = 0


class FairIntake:
    """max_messages and max_bytes bound the whole queue; bytes are counted as characters of text."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._lines: OrderedDict[Peer, _Line] = OrderedDict()
        self._messages = 0
        self._bytes = 0

    def __len__(self) -> int:
        return self._messages

    @property
    def size_bytes(self) -> int:
        return self._bytes

    def put(self, item: Item) -> Item | None:
        """Queue an item; returns the one that had to be dropped for it, if any.

        One drop is enough to keep the message bound; the byte bound may be exceeded by one
        message for as long as the next arrivals take to push out the rest.
        """
        line = self._lines.get(item.peer)
        if line is None:
            line = self._lines[item.peer] = _Line(deque())
        line.items.append(item)
        line.size += item.size
        self._messages += 1
        self._bytes += item.size
        if self._messages <= self._max_messages and self._bytes <= self._max_bytes:
            return None
        return self._drop_from_longest()

    def take(self, now_s: float) -> Item | None:
        """The next item whose time has come, None if there is none yet.

        The peer at the front is served while its credit lasts, then goes to the back; one whose
        huge message used up several turns is passed over as long as anybody else has something.
        """
        debtor: Peer | None = None
        for _ in range(len(self._lines)):
            peer, line = next(iter(self._lines.items()))
            if line.items[0].due_s > now_s:
                self._lines.move_to_end(peer)
                continue
            if line.credit <= 0:
                line.credit += QUANTUM_BYTES
            if line.credit > 0:
                return self._serve(peer, line)
            self._lines.move_to_end(peer)
            if debtor is None:
                debtor = peer
        if debtor is None:
            return None
        return self._serve(debtor, self._lines[debtor])

    def _serve(self, peer: Peer, line: _Line) -> Item:
        item = line.items.popleft()
        line.credit -= item.size + MESSAGE_COST_BYTES
        self._forget(peer, line, item)
        if line.credit <= 0 and line.items:
            self._lines.move_to_end(peer)
        return item

    def next_due_s(self) -> float | None:
        """When the earliest item at the head of a line may be looked at."""
        if not self._lines:
            return None
        return min(line.items[0].due_s for line in self._lines.values())

    def _forget(self, peer: Peer, line: _Line, item: Item) -> None:
        line.size -= item.size
        self._messages -= 1
        self._bytes -= item.size
        if not line.items:
            del self._lines[peer]

    def _drop_from_longest(self) -> Item:
        peer, line = max(self._lines.items(), key=lambda entry: (entry[1].size, len(entry[1].items)))
        item = line.items.popleft()
        self._forget(peer, line, item)
        return item
