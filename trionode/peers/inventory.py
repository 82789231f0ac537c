"""Hash announcements: what to fetch, from whom, and when to ask somebody else (wire.md §9).

The original asks every announcer at once; here one announcer is asked, the others are kept as
substitutes for the case that the answer does not come in time, the asked peer leaves, or its copy
turns out to be forged. Pure: monotonic seconds come in, the peers to ask come out.
"""

from __future__ import annotations

from collections import Counter, deque

import msgspec

MAX_SUBSTITUTES = 16
MAX_WANTED_PER_PEER = 512
MAX_REFUSED = 4096


class Ask(msgspec.Struct, frozen=True):
    """Request `hash` from the peer `peer`."""

    hash: str
    peer: str


class _Wanted(msgspec.Struct):
    """One hash on its way. `owner` is charged for it; `asked` was requested until `until_s`."""

    owner: str
    asked: str
    until_s: float
    substitutes: deque[str]


class Inventory:
    """Hashes announced to us that we do not have yet.

    timeout_s: how long an asked peer has. A peer can have at most 512 hashes wanted on its word,
    so that one flooding peer does not push out what others announce.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._wanted: dict[str, _Wanted] = {}
        self._charged: Counter[str] = Counter()
        # deadlines in order, because all time-outs are equally long
        self._deadlines: deque[tuple[float, str]] = deque()
        # copies already refused, by (hash, announcer): asking again would bring the same copy
        self._refused: dict[tuple[str, str], None] = {}

    def __len__(self) -> int:
        return len(self._wanted)

    def announced(self, hash_hex: str, peer: str, now_s: float) -> Ask | None:
        """`peer` has a message we lack. Returns the request to send, if any."""
        wanted = self._wanted.get(hash_hex)
        if wanted is not None:
            if (
                peer != wanted.asked
                and len(wanted.substitutes) < MAX_SUBSTITUTES
                and peer not in wanted.substitutes
                and (hash_hex, peer) not in self._refused
            ):
                wanted.substitutes.append(peer)
            return None
        if self._charged[peer] >= MAX_WANTED_PER_PEER or (hash_hex, peer) in self._refused:
            return None
        self._charged[peer] += 1
        self._wanted[hash_hex] = _Wanted(peer, peer, now_s + self._timeout_s, deque())
        self._deadlines.append((now_s + self._timeout_s, hash_hex))
        return Ask(hash_hex, peer)

    def resolved(self, hash_hex: str) -> None:
        """A verified copy is here, from whomever."""
        self._drop(hash_hex)

    def refused(self, hash_hex: str, peer: str, now_s: float) -> Ask | None:
        """The copy `peer` sent is not acceptable; try the next announcer."""
        self._refused[hash_hex, peer] = None
        if len(self._refused) > MAX_REFUSED:
            del self._refused[next(iter(self._refused))]
        wanted = self._wanted.get(hash_hex)
        if wanted is None:
            return None
        if wanted.asked != peer:
            if peer in wanted.substitutes:
                wanted.substitutes.remove(peer)
            return None
        return self._ask_next(hash_hex, now_s)

    def lists_changed(self) -> None:
        """A new node list may accept what was refused before: every announcer may be asked again."""
        self._refused.clear()

    def gone(self, peer: str, now_s: float) -> list[Ask]:
        """`peer` disconnected: its open requests go to substitutes."""
        asks = []
        for hash_hex, wanted in list(self._wanted.items()):
            if peer in wanted.substitutes:
                wanted.substitutes.remove(peer)
            if wanted.asked == peer:
                ask = self._ask_next(hash_hex, now_s)
                if ask is not None:
                    asks.append(ask)
        return asks

    def next_deadline_s(self) -> float | None:
        """When `overdue` has something to do, None if nothing is wanted."""
        while self._deadlines:
            until_s, hash_hex = self._deadlines[0]
            wanted = self._wanted.get(hash_hex)
            if wanted is not None and wanted.until_s == until_s:
                return until_s
            self._deadlines.popleft()
        return None

    def overdue(self, now_s: float) -> list[Ask]:
        """Requests that were not answered in time, each passed on to its next announcer."""
        asks = []
        while (until_s := self.next_deadline_s()) is not None and until_s <= now_s:
            _, hash_hex = self._deadlines.popleft()
            ask = self._ask_next(hash_hex, now_s)
            if ask is not None:
                asks.append(ask)
        return asks

    def _ask_next(self, hash_hex: str, now_s: float) -> Ask | None:
        wanted = self._wanted[hash_hex]
        if not wanted.substitutes:
            self._drop(hash_hex)
            return None
        wanted.asked = wanted.substitutes.popleft()
        wanted.until_s = now_s + self._timeout_s
        self._deadlines.append((wanted.until_s, hash_hex))
        return Ask(hash_hex, wanted.asked)

    def _drop(self, hash_hex: str) -> None:
        wanted = self._wanted.pop(hash_hex, None)
        if wanted is not None:
            self._charged[wanted.owner] -= 1
            if self._charged[wanted.owner] <= 0:
                del self._charged[wanted.owner]
