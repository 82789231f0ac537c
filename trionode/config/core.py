"""Settings of the node itself: identity, store, API, logs, supervision, host.

Facts: docs/spec/config.md §1, §2, §6; docs/spec/api.md; docs/spec/lifecycle.md §1.1 (boot schedule).
"""

from __future__ import annotations

from typing import Annotated, Literal

from trionode.config.section import Port, Section, about


class NodeSettings(Section, frozen=True, kw_only=True):
    """Who this node is and where it keeps things."""

    data_dir: Annotated[str, about("folder for everything the node writes", min_length=1)] = "~/.trionode"
    bind_host: Annotated[
        str, about("local address the API and peer port listens on and calls go out from", min_length=1)
    ] = "0.0.0.0"
    api_port: Annotated[
        int,
        about(
            "the one TCP port of API and peer links; one of network.allowed_api_ports",
            ge=1,
            le=65535,
            original="server.apiport, userconfig apiport",
        ),
    ] = 16127
    address: Annotated[
        str,
        about("own public address, ip or ip:port; empty: asked from bench", original="userconfig ipaddress"),
    ] = ""
    key_file: Annotated[
        str,
        about(
            "file that holds the node key (WIF); empty: DATA_DIR/node.key, then zelnodeprivkey of the daemon",
            original="flux.conf zelnodeprivkey",
        ),
    ] = ""
    operator_id: Annotated[
        str, about("Flux ID of the operator, who has admin rights", original="userconfig zelid")
    ] = ""
    kadena_address: Annotated[
        str, about("payout address on Kadena, only shown", original="userconfig kadena")
    ] = ""
    compatibility_version: Annotated[
        str,
        about(
            "version told to peers and clients (docs/spec/wire.md §15)",
            pattern=r"^\d+\.\d+\.\d+$",
            original="its own version",
        ),
    ] = "8.13.1"
    shutdown_grace_s: Annotated[
        float, about("time for a whole orderly stop when no container must be stopped", gt=0, le=300)
    ] = 5.0
    apps_file: Annotated[
        str, about("TOML file naming the running apps (local networks without containers)")
    ] = ""


class NetworkSettings(Section, frozen=True, kw_only=True):
    """Facts every node of a network must share."""

    allowed_api_ports: Annotated[
        tuple[Port, ...],
        about("API ports a node may use", min_length=1, original="server.allowedPorts", shared=True),
    ] = (16127, 16137, 16147, 16157, 16167, 16177, 16187, 16197)
    allow_private_addresses: Annotated[
        bool, about("accept and dial peers at private and loopback addresses (local networks)")
    ] = False
    hash_relay_height: Annotated[
        int,
        about(
            "height from which relays announce hashes instead of whole messages",
            ge=0,
            original="messagesBroadcastRefactorStart",
            shared=True,
        ),
    ] = 1_751_250
    minimum_compatible_version: Annotated[
        str,
        about(
            "oldest version a peer may report",
            pattern=r"^\d+\.\d+\.\d+$",
            original="minimumFluxOSAllowedVersion",
            shared=True,
        ),
    ] = "8.0.0"
    minimum_bench_version: Annotated[
        str,
        about(
            "oldest acceptable benchmark daemon",
            pattern=r"^\d+\.\d+\.\d+$",
            original="minimumFluxBenchAllowedVersion",
            shared=True,
        ),
    ] = "5.0.0"


class SupervisorSettings(Section, frozen=True, kw_only=True):
    """Restarting services that crash."""

    restart_delay_s: Annotated[float, about("wait before the first restart; doubles", gt=0)] = 1.0
    restart_delay_max_s: Annotated[float, about("longest wait before a restart", gt=0)] = 60.0
    stable_s: Annotated[float, about("running this long forgives earlier crashes", gt=0)] = 60.0
    crash_limit: Annotated[
        int, about("this many crashes of an essential service within the window end the node", ge=1)
    ] = 5
    crash_window_s: Annotated[float, about("the window of crash_limit", gt=0)] = 300.0


class SystemSettings(Section, frozen=True, kw_only=True):
    """The host, the boot and the event loop."""

    boot_id_file: Annotated[
        str, about("file that changes with every boot of the machine", original="system.bootIdPath")
    ] = "/proc/sys/kernel/random/boot_id"
    heartbeat_interval_s: Annotated[
        float, about("alive record in the store", gt=0, original="system.heartbeatIntervalMs")
    ] = 30.0
    boot_daemon_timeout_s: Annotated[
        float,
        about("boot decision: longest wait for the daemon", gt=0, original="system.bootDaemonTimeoutMs"),
    ] = 300.0
    boot_sync_timeout_s: Annotated[
        float,
        about("boot decision: longest wait for app data", gt=0, original="system.bootSyncTimeoutMs"),
    ] = 300.0
    shutdown_marker_files: Annotated[
        tuple[str, ...],
        about("files that are there while the machine goes down; the first is looked at first"),
    ] = ("/run/systemd/shutdown/scheduled", "/run/nologin")
    shutdown_commands: Annotated[
        bool, about("also ask systemctl, pgrep and runlevel whether the machine goes down")
    ] = True
    shutdown_check_s: Annotated[
        float, about("longest wait for one of these commands", gt=0, le=60, original="fixed, 5 s")
    ] = 5.0
    lag_interval_s: Annotated[float, about("pause between two samples of the loop lag", gt=0, le=60)] = 0.2
    lag_window_s: Annotated[float, about("how far back lag percentiles look", gt=0, le=3600)] = 60.0
    lag_slow_ms: Annotated[float, about("samples above this are counted as slow", gt=0)] = 100.0


class BootSettings(Section, frozen=True, kw_only=True):
    """The boot (docs/spec/lifecycle.md §4), and when the jobs that watch the host run first (§1.1)."""

    delay_factor: Annotated[
        float, about("all delays of this section times this", gt=0, original="fluxapps.bootDelayMultiplier")
    ] = 1.0
    start_spacing_s: Annotated[
        float, about("boot decision: pause after each app or component", ge=0, original="fixed, 2 s")
    ] = 2.0
    hardware_delay_s: Annotated[float, about("hardware validation", ge=0, original="fixed, 50 s")] = 50.0
    node_monitor_delay_s: Annotated[float, about("node status monitor", ge=0, original="fixed, 90 s")] = 90.0
    availability_delay_s: Annotated[
        float, about("port availability and file sync monitors", ge=0, original="fixed, 180 s")
    ] = 180.0
    daemon_health_delay_s: Annotated[
        float, about("first daemon health check", ge=0, original="fixed, 5 min")
    ] = 300.0
    daemon_health_interval_s: Annotated[
        float, about("daemon health check", gt=0, original="fixed, 15 min")
    ] = 900.0
    forced_removal_delay_s: Annotated[
        float, about("first removal of orphan containers", ge=0, original="fixed, 30 min")
    ] = 1800.0


class StoreSettings(Section, frozen=True, kw_only=True):
    """Where the node keeps its data."""

    url: Annotated[
        str,
        about(
            "sqlite:PATH, mongodb://..., mongodb+srv://..., or memory: (nothing survives a restart);"
            " empty: SQLite in the data folder",
            original="database.url, database.port",
        ),
    ] = ""
    commit_batch_changes: Annotated[int, about("most changes in one commit", ge=1)] = 2000
    queue_batches: Annotated[int, about("batches that may wait for the writer", ge=1)] = 64
    sqlite_retry_s: Annotated[
        float,
        about("how long a write is tried again while the disk is full or the file locked", ge=0, le=3600),
    ] = 75.0
    mongo_prefix: Annotated[
        str,
        about(
            "put before the database names; one for each node on a shared server",
            pattern=r"^[A-Za-z0-9_-]{0,32}$",
            original="database.*.database",
        ),
    ] = ""
    mongo_call_s: Annotated[float, about("longest wait for one answer of MongoDB", gt=0, le=600)] = 20.0
    mongo_connect_s: Annotated[
        float, about("longest wait for a connection to MongoDB, or for a primary", gt=0, le=600)
    ] = 10.0
    mongo_retry_s: Annotated[
        float, about("how long a call is tried again while MongoDB is away", ge=0, le=3600)
    ] = 75.0
    mongo_threads: Annotated[int, about("reads of MongoDB at the same time", ge=1, le=64)] = 4


class ApiSettings(Section, frozen=True, kw_only=True):
    """The HTTP side of the one port (docs/spec/api.md)."""

    head_limit_bytes: Annotated[int, about("largest request head", ge=1024, le=1024 * 1024)] = 16 * 1024
    head_timeout_s: Annotated[float, about("time to send a request head", gt=0)] = 10.0
    max_connections: Annotated[int, about("open connections, peers included", ge=1)] = 512
    body_limit_bytes: Annotated[int, about("largest request body", ge=1024)] = 16 * 1024 * 1024
    side_ports: Annotated[
        bool,
        about(
            "serve the home page on node.api_port - 1 and accept on + 2; other nodes check both",
            original="server.apiport − 1, + 2",
        ),
    ] = True
    event_stream: Annotated[
        bool, about("serve /flux/eventstream", original="testEventStream (default false)")
    ] = True
    test_controls: Annotated[
        bool,
        about(
            "let the team set the penalty state and make store reads fail (test networks)",
            original="testEventStream (default false)",
        ),
    ] = False
    event_ring: Annotated[int, about("events kept for late readers", ge=1, le=1_000_000)] = 1024
    sse_keepalive_s: Annotated[float, about("comment line on a quiet event stream", gt=0)] = 15.0
    team_id: Annotated[str, about("Flux ID with team rights", original="fluxTeamFluxID", shared=True)] = (
        "1hjy4bCYBJr4mny4zCE85J94RXa8W6q37"
    )
    support_id: Annotated[
        str, about("Flux ID with support rights", original="fluxSupportTeamFluxID", shared=True)
    ] = "16iJqiVbHptCx87q6XQwNpKdgEZnFtKcyP"
    session_days: Annotated[float, about("life of a sign-in", gt=0, original="TTL of loggedusers")] = 14.0
    login_phrase_ttl_s: Annotated[
        float, about("life of a login phrase", gt=0, original="TTL of activeloginphrases")
    ] = 900.0
    fan_out_spacing_s: Annotated[
        float,
        about("pause between two nodes of a global command", ge=0, original="fluxapps.globalCmdDelayMs"),
    ] = 0.5


class LogSettings(Section, frozen=True, kw_only=True):
    """Logs."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        about("least important lines that are written", original="loglevel (unread)"),
    ] = "info"
    format: Annotated[
        Literal["auto", "human", "json"], about("auto: human on a terminal, json elsewhere")
    ] = "auto"
    file: Annotated[
        str, about("also write to this file; empty: stderr only", original="logConsole (inverse)")
    ] = ""
    max_file_bytes: Annotated[int, about("size at which log.file is rotated", ge=64 * 1024)] = (
        20 * 1024 * 1024
    )
    keep_files: Annotated[int, about("rotated files that are kept", ge=1, le=100)] = 5
