"""The settings tree: frozen structs, one per subsystem, units in the names.

A service receives its own section, never the whole tree. Facts: docs/spec/config.md; the mapping to
the original's keys is `docs/config.md`.
"""

from __future__ import annotations

import msgspec


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all sections."""


class NodeSettings(Section, frozen=True, kw_only=True):
    """Who this node is and where it keeps things."""

    data_dir: str = "~/.trionode"
    bind_host: str = "0.0.0.0"
    api_port: int = 16127
    address: str = ""
    key_file: str = ""
    operator_id: str = ""
    compatibility_version: str = "8.13.1"
    shutdown_grace_s: float = 5.0
    apps_file: str = ""


class NetworkSettings(Section, frozen=True, kw_only=True):
    """Facts every node of a network must share."""

    allowed_api_ports: tuple[int, ...] = (16127, 16137, 16147, 16157, 16167, 16177, 16187, 16197)
    allow_private_addresses: bool = False
    hash_relay_height: int = 1_751_250
    minimum_compatible_version: str = "8.0.0"


class PeerSettings(Section, frozen=True, kw_only=True):
    """Links, discovery, liveness, limits (wire.md §1-§6)."""

    ping_interval_s: float = 15.0
    max_missed_pongs: int = 3
    handshake_timeout_s: float = 10.0
    duplicate_check_timeout_s: float = 1.0
    refusal_delay_s: float = 1.0
    close_timeout_s: float = 5.0
    send_timeout_s: float = 20.0
    tcp_user_timeout_ms: int = 20_000
    max_message_bytes: int = 100 * 1024 * 1024
    compression_threshold_bytes: int = 128
    receive_queue_frames: int = 64
    outbox_gossip_limit_bytes: int = 256 * 1024
    outbox_limit_bytes: int = 16 * 1024 * 1024
    min_outbound: int = 8
    min_unique_outbound_ips: int = 7
    min_inbound: int = 4
    min_unique_inbound_ips: int = 3
    random_outbound: int = 14
    random_outbound_ips: int = 9
    random_inbound: int = 12
    random_inbound_ips: int = 5
    random_draws: int = 100
    discovery_autostart: bool = True
    discovery_interval_s: float = 60.0
    discovery_retry_s: float = 120.0
    dial_spacing_s: float = 0.5
    invite_timeout_s: float = 5.0
    invite_backoff_s: tuple[float, ...] = (120.0, 300.0, 600.0, 900.0)
    rate_limit_frames: int = 120
    rate_limit_interval_s: float = 1.0
    rate_limit_idle_s: float = 15.0
    rate_limit_keys: int = 150
    bad_message_limit: int = 5
    bad_message_window_s: float = 600.0
    threshold_reached: int = 12
    threshold_below: int = 4
    exchange_update_delay_s: float = 2.0
    own_broadcast_outbound_delay_ms: int = 25
    own_broadcast_inbound_gap_ms: int = 500


class GossipSettings(Section, frozen=True, kw_only=True):
    """The gossip pipeline (wire.md §9)."""

    intake_delay_min_ms: int = 1
    intake_delay_max_ms: int = 75
    cache_entries: int = 1000
    cache_ttl_s: float = 300.0
    max_age_ms: int = 300_000
    max_future_ms: int = 120_000
    intake_queue_messages: int = 2000
    verify_slice: int = 50


class AppStateSettings(Section, frozen=True, kw_only=True):
    """Windows of the event log (events.md §1)."""

    time_scale: float = 1.0
    validity_ms: int = 300_000
    running_expiry_ms: int = 7_500_000
    evicted_expiry_ms: int = 7_500_000
    sigterm_grace_ms: int = 420_000
    installing_expiry_ms: int = 900_000
    install_error_expiry_ms: int = 86_400_000
    location_window_ms: int = 3_900_000
    relay_age_ms: int = 240_000
    dispatch_age_ms: int = 300_000
    max_future_ms: int = 120_000
    max_apps_per_node: int = 200
    max_sync_records: int = 2500
    announce_interval_s: float = 3600.0
    announce_min_peers: int = 12


class ChainSettings(Section, frozen=True, kw_only=True):
    """The chain daemon and the benchmark daemon (daemon-rpc.md)."""

    daemon_conf: str = ""
    daemon_host: str = "127.0.0.1"
    daemon_port: int = 0
    daemon_user: str = ""
    daemon_password: str = ""
    daemon_timeout_s: float = 40.0
    daemon_parallel_calls: int = 5
    bench_host: str = "127.0.0.1"
    bench_port: int = 16224
    bench_user: str = ""
    bench_password: str = ""
    bench_timeout_s: float = 10.0
    poll_interval_s: float = 30.0
    synced_within_s: float = 300.0
    confirmation_poll_interval_s: float = 30.0
    confirmation_stale_s: float = 7_500.0
    confirmation_expired_s: float = 19_200.0
    node_list_min_interval_s: float = 30.0
    node_list_retry_s: float = 15.0


class StoreSettings(Section, frozen=True, kw_only=True):
    """Where the node keeps its data."""

    url: str = ""
    commit_batch_changes: int = 2000
    queue_batches: int = 64


class ApiSettings(Section, frozen=True, kw_only=True):
    """The HTTP side of the one port (api.md)."""

    head_limit_bytes: int = 16 * 1024
    head_timeout_s: float = 10.0
    max_connections: int = 512
    body_limit_bytes: int = 16 * 1024 * 1024
    event_stream: bool = True
    event_ring: int = 1024
    sse_keepalive_s: float = 15.0
    team_id: str = "1hjy4bCYBJr4mny4zCE85J94RXa8W6q37"
    support_id: str = "16iJqiVbHptCx87q6XQwNpKdgEZnFtKcyP"
    session_days: float = 14.0
    login_phrase_ttl_s: float = 900.0


class LogSettings(Section, frozen=True, kw_only=True):
    """Logs."""

    level: str = "info"
    format: str = "auto"
    file: str = ""
    max_file_bytes: int = 20 * 1024 * 1024
    keep_files: int = 5


class SupervisorSettings(Section, frozen=True, kw_only=True):
    """Restarting services that crash."""

    restart_delay_s: float = 1.0
    restart_delay_max_s: float = 60.0
    stable_s: float = 60.0
    crash_limit: int = 5
    crash_window_s: float = 300.0


class SystemSettings(Section, frozen=True, kw_only=True):
    """The host, the boot and the event loop."""

    lag_interval_s: float = 0.05
    lag_window_s: float = 60.0
    lag_slow_ms: float = 100.0


class Settings(Section, frozen=True, kw_only=True):
    """The whole tree."""

    node: NodeSettings = NodeSettings()
    network: NetworkSettings = NetworkSettings()
    peers: PeerSettings = PeerSettings()
    gossip: GossipSettings = GossipSettings()
    appstate: AppStateSettings = AppStateSettings()
    chain: ChainSettings = ChainSettings()
    store: StoreSettings = StoreSettings()
    api: ApiSettings = ApiSettings()
    log: LogSettings = LogSettings()
    supervisor: SupervisorSettings = SupervisorSettings()
    system: SystemSettings = SystemSettings()
