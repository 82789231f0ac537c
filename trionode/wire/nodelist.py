"""The chain's node list as an immutable index (docs/spec/wire.md §13, daemon-rpc.md §4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from trionode.wire.address import with_port


class NodeEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One registered node. `ip` is its address as listed (`ip` or `ip:port`), heights are block heights."""

    ip: str
    pubkey: str
    added_height: int = 0
    txhash: str = ""
    outidx: str = ""
    collateral: str = ""
    tier: str = ""
    confirmed_height: int = 0
    last_confirmed_height: int = 0
    last_paid_height: int = 0
    rank: int = 0
    payment_address: str = ""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> NodeEntry:
        """Read one row of `viewdeterministiczelnodelist`; fields missing or of a wrong type get defaults."""

        def text(name: str) -> str:
            value = row.get(name)
            return value if isinstance(value, str) else "" if value is None else str(value)

        def number(name: str) -> int:
            value = row.get(name)
            return value if isinstance(value, int) and not isinstance(value, bool) else 0

        return cls(
            ip=text("ip"),
            pubkey=text("pubkey"),
            added_height=number("added_height"),
            txhash=text("txhash"),
            outidx=text("outidx"),
            collateral=text("collateral"),
            tier=text("tier"),
            confirmed_height=number("confirmed_height"),
            last_confirmed_height=number("last_confirmed_height"),
            last_paid_height=number("last_paid_height"),
            rank=number("rank"),
            payment_address=text("payment_address"),
        )


def sorted_by_height(entries: Iterable[NodeEntry]) -> list[NodeEntry]:
    """Ascending by added_height; equal heights keep the daemon's order (§3 step 1)."""
    return sorted(entries, key=lambda entry: entry.added_height)


_NOBODY: Mapping[str, NodeEntry] = MappingProxyType({})


class NodeList:
    """Look-ups over one fetched list. Addresses are found in bare and in :16127 form alike; last row wins."""

    __slots__ = ("_by_address", "_by_pubkey", "entries")

    def __init__(self, entries: Iterable[NodeEntry] = ()) -> None:
        self.entries: tuple[NodeEntry, ...] = tuple(entries)
        self._by_address: dict[str, NodeEntry] = {}
        self._by_pubkey: dict[str, dict[str, NodeEntry]] = {}
        for entry in self.entries:
            if entry.ip:
                self._by_address[with_port(entry.ip)] = entry
            self._by_pubkey.setdefault(entry.pubkey, {})[entry.ip] = entry

    @classmethod
    def from_rpc(cls, rows: Sequence[Any]) -> NodeList:
        """Index the daemon's answer; rows that are no objects are left out."""
        return cls(NodeEntry.from_row(row) for row in rows if isinstance(row, Mapping))

    def by_address(self, address: object) -> NodeEntry | None:
        """The node at `ip` or `ip:port`; None for anything else, also for values that are no texts."""
        if not isinstance(address, str) or not address:
            return None
        return self._by_address.get(with_port(address))

    def by_pubkey(self, public_key: str) -> Mapping[str, NodeEntry]:
        """All nodes of a key: address as listed -> entry."""
        return self._by_pubkey.get(public_key, _NOBODY)

    def has_pubkey(self, public_key: str) -> bool:
        return public_key in self._by_pubkey

    def sorted_for_discovery(self) -> list[NodeEntry]:
        """Nodes that have an address, in the order discovery walks them (§3 step 1)."""
        return sorted_by_height(entry for entry in self.entries if entry.ip)

    def addresses(self) -> list[str]:
        """Addresses as listed, in the daemon's order, empty ones left out."""
        return [entry.ip for entry in self.entries if entry.ip]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[NodeEntry]:
        return iter(self.entries)

    def __repr__(self) -> str:
        return f"NodeList({len(self.entries)} nodes)"
