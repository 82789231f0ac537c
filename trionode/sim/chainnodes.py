"""The nodes of the virtual chain and how they look in the node list (docs/spec/testnet.md §2)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from trionode.errors import ConfigError

TIERS: dict[str, int] = {"CUMULUS": 1000, "NIMBUS": 12_500, "STRATUS": 40_000}
"""Tier names and their collateral in FLUX."""

ADDED_HEIGHT = 2_090_000


class StubNode(msgspec.Struct, frozen=True):
    """One node. `ip` is its address as the list shows it: bare for port 16127, else `ip:port`."""

    ip: str
    pubkey: str
    tier: str = "CUMULUS"
    payment_address: str = ""
    added_height: int = ADDED_HEIGHT
    txhash: str = ""
    """Collateral transaction; "" derives one from the address."""
    secure: bool = False
    """Its benchmark daemon says so, and unwraps keys of encrypted specifications."""

    def with_tier(self, tier: str) -> StubNode:
        """The same node in another tier. Raises ConfigError for an unknown one."""
        tier = tier.upper()
        if tier not in TIERS:
            raise ConfigError(f"unknown tier {tier!r}", remedy=f"use one of {', '.join(TIERS)}")
        return msgspec.structs.replace(self, tier=tier)

    @property
    def collateral_txid(self) -> str:
        return self.txhash or hashlib.sha256(f"collateral {self.ip}".encode()).hexdigest()

    @property
    def collateral_flux(self) -> int:
        return TIERS[self.tier]

    def row(self, rank: int) -> dict[str, Any]:
        """The node-list entry with every field of the fixture."""
        return {
            "collateral": f"COutPoint({self.collateral_txid}, 0)",
            "txhash": self.collateral_txid,
            "outidx": "0",
            "ip": self.ip,
            "network": "",
            "added_height": self.added_height,
            "confirmed_height": self.added_height + 500,
            "last_confirmed_height": self.added_height + 9990,
            "last_paid_height": self.added_height + 9900,
            "tier": self.tier,
            "payment_address": self.payment_address,
            "pubkey": self.pubkey,
            "activesince": "1700000000",
            "lastpaid": "1700000000",
            "rank": rank,
        }


def bare_ip(address: str) -> str:
    """The ip of an `ip` or `ip:port` text."""
    return address.partition(":")[0]


def nodes_from(rows: Iterable[Mapping[str, Any]], where: str) -> list[StubNode]:
    """Nodes of objects with at least `ip` and `pubkey`; further fixture fields are passed over.

    Raises ConfigError naming the row of `where` that is wrong.
    """
    nodes: list[StubNode] = []
    for number, row in enumerate(rows, start=1):
        wanted = {key: row[key] for key in StubNode.__struct_fields__ if key in row}
        try:
            node = msgspec.convert(wanted, StubNode)
        except msgspec.ValidationError as error:
            raise ConfigError(
                f"{where}: node {number}: {error}", remedy='give {"ip": ..., "pubkey": ..., "tier": ...}'
            ) from error
        nodes.append(node.with_tier(node.tier))
    return nodes


def read_nodes(path: Path) -> list[StubNode]:
    """Nodes of a JSON file: a list, or an object with the list under "nodes"."""
    try:
        content = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"cannot read the node file {path}: {error}", remedy="give a JSON list") from error
    rows = content.get("nodes") if isinstance(content, dict) else content
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"{path} holds no list of nodes", remedy="give a JSON list of objects")
    return nodes_from(rows, str(path))
