"""The files of a local network: one folder per node, the chain stand-in's node list.

Every node lives on its own loopback address with its own /16 (`127.<offset+i>.0.1`), because peers
take a dialler's address from the TCP source and random dialling wants distinct /16 groups
(docs/spec/wire.md §2, §3).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from trionode.errors import StartupError
from trionode.wire.keys import NodeKey

API_PORT = 16127
DAEMON_PORT = 16124
BENCH_PORT = 16224
CONTROL_PORT = 18232
RPC_USER = "devnet"
RPC_PASSWORD = "devnet"
MAX_NODES = 60
TIERS = ("CUMULUS", "NIMBUS", "STRATUS")


class NodePlace(msgspec.Struct, frozen=True):
    """Where one node of the local network lives and what it runs."""

    number: int
    ip: str
    folder: Path
    apps: tuple[str, ...]

    @property
    def config(self) -> Path:
        return self.folder / "trionode.toml"

    @property
    def log(self) -> Path:
        return self.folder / "node.log"

    @property
    def pid_file(self) -> Path:
        return self.folder / "pid"

    @property
    def boot_id(self) -> Path:
        """Stands for the machine's boot id when `system.boot_id_file` points to it."""
        return self.folder / "boot-id"

    @property
    def key(self) -> NodeKey:
        """The node's key, once the files are written."""
        return NodeKey.from_wif((self.folder / "node.key").read_text("ascii").strip())

    @property
    def api(self) -> str:
        return f"http://{self.ip}:{API_PORT}"


class Layout(msgspec.Struct, frozen=True):
    """A whole local network on disk."""

    folder: Path
    stub_ip: str
    nodes: tuple[NodePlace, ...]

    @property
    def node_list(self) -> Path:
        return self.folder / "nodes.json"

    @property
    def stub_log(self) -> Path:
        return self.folder / "daemon-stub.log"

    @property
    def expected_locations(self) -> set[tuple[str, str]]:
        """Every (app name, node address) pair the network should agree on."""
        return {(app, node.ip) for node in self.nodes for app in node.apps}


def usual_apps(number: int, count: int) -> tuple[str, ...]:
    """What a node of a network for people runs: one app of all, one of its own, one of its neighbour."""
    return tuple(dict.fromkeys(("shop", f"web{number}", f"web{number % count + 1}")))


def plan(
    folder: Path, count: int, offset: int, apps: Callable[[int, int], tuple[str, ...]] = usual_apps
) -> Layout:
    """Decide addresses and apps of `count` nodes; nothing is written yet.

    `apps(number, count)` names what a node runs. Raises StartupError when the count or the offset leave
    the loopback range.
    """
    if not 1 <= count <= MAX_NODES or not 0 <= offset <= 254 - count:
        raise StartupError(
            f"a local network of {count} nodes at offset {offset} does not fit the loopback range",
            remedy=f"use 1-{MAX_NODES} nodes and an offset of at most {254 - MAX_NODES}",
        )
    nodes = tuple(
        NodePlace(
            number=number,
            ip=f"127.{offset + number}.0.1",
            folder=folder / f"node{number}",
            apps=apps(number, count),
        )
        for number in range(1, count + 1)
    )
    return Layout(folder=folder, stub_ip=f"127.{offset}.255.1", nodes=nodes)


def write(
    layout: Layout,
    rng: random.Random,
    overrides: Mapping[str, Any] | None = None,
    *,
    node_overrides: Mapping[int, Mapping[str, Any]] | None = None,
    tiers: Mapping[int, str] | None = None,
    secure: Collection[int] = (),
) -> None:
    """Create the folders, keys, settings, app lists and the node list; keys survive a second run.

    `overrides` are extra `section.key` settings for every node, `node_overrides` for single ones by their
    number; `tiers` are the tiers of single nodes, `secure` the numbers of those whose benchmark says that
    their system is locked down.
    """
    rows = []
    for node in layout.nodes:
        node.folder.mkdir(parents=True, exist_ok=True)
        key = _key_of(node, rng)
        extra = {**(overrides or {}), **(node_overrides or {}).get(node.number, {})}
        node.config.write_text(_settings_text(layout, node, extra), "utf-8")
        (node.folder / "apps.toml").write_text(_apps_text(node), "utf-8")
        row = _node_row(node, key, (tiers or {}).get(node.number))
        rows.append({**row, "secure": True} if node.number in secure else row)
    layout.node_list.write_text(json.dumps(rows, indent=1), "utf-8")


def _key_of(node: NodePlace, rng: random.Random) -> NodeKey:
    path = node.folder / "node.key"
    if path.exists():
        return NodeKey.from_wif(path.read_text("ascii").strip())
    key = NodeKey.generate(rng)
    path.touch(mode=0o600)
    path.write_text(key.wif + "\n", "ascii")
    return key


def _apps_text(node: NodePlace) -> str:
    entries = [
        f'[[app]]\nname = "{name}"\nhash = "{hashlib.sha256(name.encode()).hexdigest()}"\n'
        for name in node.apps
    ]
    return "\n".join(
        ["# What this node runs. Edit and save: the node announces the change to its peers.\n", *entries]
    )


def _node_row(node: NodePlace, key: NodeKey, tier: str | None) -> dict[str, Any]:
    collateral = hashlib.sha256(f"collateral-{node.ip}".encode()).hexdigest()
    return {
        "collateral": f"COutPoint({collateral}, 0)",
        "txhash": collateral,
        "outidx": "0",
        "ip": node.ip,
        "network": "",
        "added_height": 2_090_000 + node.number,
        "confirmed_height": 2_090_500,
        "last_confirmed_height": 2_099_990,
        "last_paid_height": 2_099_900,
        "tier": tier or TIERS[(node.number - 1) % len(TIERS)],
        "payment_address": key.address,
        "pubkey": key.public_key,
        "activesince": "1700000000",
        "lastpaid": "1700000000",
        "rank": node.number - 1,
    }


def _settings_text(layout: Layout, node: NodePlace, overrides: Mapping[str, Any]) -> str:
    count = len(layout.nodes)
    tree: dict[str, dict[str, Any]] = {
        "node": {
            "data_dir": str(node.folder / "data"),
            "bind_host": node.ip,
            "api_port": API_PORT,
            "key_file": str(node.folder / "node.key"),
            "apps_file": str(node.folder / "apps.toml"),
        },
        "network": {"allow_private_addresses": True},
        "peers": {
            "ping_interval_s": 2.0,
            "max_missed_pongs": 2,
            "discovery_interval_s": 3.0,
            "discovery_retry_s": 1.0,
            "dial_spacing_s": 0.1,
            "invite_backoff_s": [2.0, 5.0, 10.0, 15.0],
            "threshold_reached": max(1, min(12, count - 1)),
            "threshold_below": 1,
            # A small network has few links; registering an app asks for this many.
            "min_outbound": max(1, min(8, (count - 1) // 2)),
            "min_inbound": max(1, min(4, (count - 1) // 4)),
        },
        "appstate": {"time_scale": 0.01},
        "chain": {
            "daemon_host": layout.stub_ip,
            "daemon_port": DAEMON_PORT,
            "daemon_user": RPC_USER,
            "daemon_password": RPC_PASSWORD,
            "bench_host": layout.stub_ip,
            "bench_port": BENCH_PORT,
            "poll_interval_s": 2.0,
            "confirmation_poll_interval_s": 2.0,
            "node_list_min_interval_s": 2.0,
            "node_list_retry_s": 1.0,
        },
        "explorer": {"tip_interval_s": 1.0, "sync_retry_s": 2.0},
        "hash_sync": {
            "retry_s": 3.0,
            "settle_s": 1.0,
            "response_extra_ms": 2000,
            "recheck_blocks": 10,
            "min_peers": 1,
            "retry_ladder_blocks": [0, 2, 4, 10, 50],
        },
        # Nobody has been up for hours here, and there may be fewer than three peers to ask.
        "state_sync": {
            "min_peer_uptime_s": 0.0,
            "min_completions": max(1, min(3, count - 1)),
            "response_timeout_s": 10.0,
            "serve_interval_s": 10.0,
        },
        "log": {"level": "info"},
    }
    for dotted, value in overrides.items():
        section, _, name = dotted.partition(".")
        tree.setdefault(section, {})[name] = value
    lines = [
        f"# Node {node.number} of a local network; long times run 100 times faster (appstate.time_scale)."
    ]
    for section, values in tree.items():
        lines.append(f"\n[{section}]")
        # A JSON scalar or list of scalars is TOML of the same value.
        lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"
