"""What a network is made of: counts, settings, and how the world looks before the nodes start.

The settings are the [test] column of docs/spec/config.md made about five times shorter again, so that
every acceptance suite fits a test; single suites override what they need.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from trionode.wire.keys import NodeKey

BootContext = Literal["running", "rebooted", "firstBoot"] | Mapping[str, Any]
"""What a node finds of its last run; a mapping changes members of the heartbeat, see `boot.prepare`."""


def role_key(role: str) -> NodeKey:
    """The key of a person, the same in every run: team, support, owner, user, or the admin of a node."""
    return NodeKey.generate(random.Random(f"key of {role}"), compressed=True)


TEAM = role_key("team")
SUPPORT = role_key("support")
OWNER = role_key("owner")
USER = role_key("user")


def admin_of(number: int) -> NodeKey:
    """The operator of a node."""
    return role_key(f"admin {number}")


class Env(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes are numbered from 1; the last `peer_stubs` numbers of the list are peer stubs, not nodes."""

    nodes: int = 16
    peer_stubs: int = 0
    held_back: tuple[int, ...] = ()
    """Started later, by the test."""
    overrides: Mapping[str, Any] = {}
    """`section.key` settings for all nodes."""
    node_overrides: Mapping[int, Mapping[str, Any]] = {}
    tiers: Mapping[int, str] = {}
    apps: Mapping[int, tuple[str, ...]] = {}
    """Names of the apps that a node runs."""
    ticker_s: float | None = None
    """Blocks come by themselves at this pace; None: only when the test mines them."""
    discovery: bool = True
    """Nodes look for peers at once; False: they wait for `Connected.start_discovery`."""
    statuses: Mapping[int, str] = {}
    """Node status overrides before the start; number 0 stands for all."""
    rpc_failures: tuple[int, ...] = ()
    """Nodes whose RPC fails from the start."""
    boot: BootContext | None = None
    """None: a fresh folder, which is a first boot."""
    engine_node: int = 0
    """This node runs its apps in a real container engine; 0: no node does, apps are lines of a file."""
    secure: tuple[int, ...] = ()
    """Nodes whose benchmark says that their system is locked down (Arcane) and unwraps keys."""


NO_DAEMON: dict[str, Any] = {"system.boot_daemon_timeout_s": 6.0}
"""For a boot that waits for the daemon in vain: settings of the node, or `Node.set_up`."""

NO_DATA: dict[str, Any] = {"system.boot_sync_timeout_s": 6.0}
"""For a boot that waits for the registry in vain."""

ENGINE_SETTINGS: dict[str, Any] = {
    "hosting.engine": "docker",
    # As with the grace of the node below.
    "hosting.stop_extra_s": 30.0,
    # The disk of the machine that tests run on need not be as large as that of a node.
    "resources.locked_hdd_gb": 0,
    "resources.locked_extra_hdd_gb": 0,
    "resources.locked_ram_mb": 0,
    "spawner.delay_factor": 0.002,
    "spawner.blocked_delay_s": 1.0,
    "spawner.reconfirm_delay_s": 3.0,
    "spawner.collision_wait_s": 1.0,
    "spawner.verify_wait_s": 1.0,
    "spawner.defer_plain_on_arcane_s": 0.5,
    "spawner.defer_targeted_s": 0.3,
    "spawner.defer_targeted_encrypted_s": 0.15,
    "spawner.defer_static_ip_s": 0.4,
    "spawner.defer_static_ip_encrypted_s": 0.2,
    "spawner.defer_datacenter_s": 0.5,
    "spawner.defer_datacenter_encrypted_s": 0.25,
    "port_test.bind_delay_s": 0.2,
    "port_test.propagation_delay_s": 0.2,
    "installer.redeploy_delay_s": 0.5,
    "installer.redeploy_component_delay_s": 0.2,
    "installer.network_release_s": 0.2,
    "installer.network_retry_s": 0.3,
    "installer.removal_spacing_s": 1.0,
    "images.update_interval_s": 5.0,
    "images.update_first_min_s": 1.0,
    "images.update_first_max_s": 2.0,
    "images.between_apps_s": 0.1,
    "images.after_redeploy_s": 1.0,
    "images.between_components_s": 0.1,
    "monitors.node_removal_spacing_s": 0.5,
    "monitors.confirmation_loss_s": 2.0,
    "monitors.dos_recovery_s": 2.0,
    "monitors.error_recovery_s": 2.0,
}
"""On top of the others, for the node with the engine."""

TIERS: dict[int, str] = {
    number: "CUMULUS" if number <= 4 or number == 16 else "NIMBUS" if number <= 10 else "STRATUS"
    for number in range(1, 17)
}

SETTINGS: dict[str, Any] = {
    # A stop that is cut short exits with an error; a busy machine takes its time for one in order.
    "node.shutdown_grace_s": 30.0,
    "api.event_stream": True,
    "api.test_controls": True,
    "api.team_id": TEAM.address,
    "api.support_id": SUPPORT.address,
    # Tests look back to the start of a node, however long a busy machine takes for all of a module.
    "api.event_ring": 100_000,
    "peers.ping_interval_s": 1.0,
    "peers.max_missed_pongs": 3,
    "peers.handshake_timeout_s": 3.0,
    "peers.min_unique_outbound_ips": 4,
    "peers.min_unique_inbound_ips": 2,
    # As in one /16 group, only the neighbours in the list are dialled: links are the same in every run.
    "peers.random_outbound": 0,
    "peers.random_outbound_ips": 0,
    "peers.random_inbound": 0,
    "peers.random_inbound_ips": 0,
    "peers.threshold_reached": 2,
    "peers.threshold_below": 1,
    "peers.discovery_interval_s": 2.0,
    "peers.discovery_retry_s": 1.0,
    "peers.dial_spacing_s": 0.05,
    "peers.invite_backoff_s": [1.0, 2.0, 3.0, 4.0],
    "peers.refusal_delay_s": 0.2,
    # A question asked again while it is remembered stays unanswered (wire.md §9): retries here come sooner.
    "gossip.cache_ttl_s": 5.0,
    "appstate.time_scale": 1.0,
    "appstate.announce_interval_s": 6.0,
    "state_sync.min_peer_uptime_s": 0.0,
    "state_sync.min_completions": 1,
    "state_sync.response_timeout_s": 10.0,
    "state_sync.serve_interval_s": 2.0,
    "chain.poll_interval_s": 1.0,
    "chain.confirmation_poll_interval_s": 1.0,
    "chain.confirmation_stale_s": 3.0,
    "chain.confirmation_expired_s": 6.0,
    "chain.node_list_min_interval_s": 1.0,
    "chain.node_list_retry_s": 1.0,
    "chain.start_gate_interval_s": 0.5,
    "explorer.tip_interval_s": 0.5,
    "explorer.sync_retry_s": 1.0,
    "explorer.restore_blocks": 0,
    "hash_sync.max_retries": 2,
    "hash_sync.retry_s": 2.0,
    # Answers that are all there end the wait at once; one that comes after it belongs to no run any more.
    "hash_sync.settle_s": 4.0,
    "hash_sync.response_extra_ms": 10_000,
    "hash_sync.ephemeral_peers": 3,
    "hash_sync.recheck_blocks": 10,
    "hash_sync.min_peers": 1,
    "hash_sync.retry_ladder_blocks": [0, 10, 20, 50],
    "registry.temporary_message_ttl_s": 300.0,
    "system.heartbeat_interval_s": 2.0,
    # Long enough for any machine; a test of the time's end has it shorter (`NO_DAEMON`, `NO_DATA`).
    "system.boot_daemon_timeout_s": 90.0,
    "system.boot_sync_timeout_s": 90.0,
    "boot.delay_factor": 0.01,
    "monitors.node_interval_s": 2.0,
    "supervisor.restart_delay_s": 0.5,
    "log.level": "info",
}
