"""Settings of peer links, the gossip pipeline, the event log and state sync.

Facts: docs/spec/wire.md §1-§9, docs/spec/events.md §1 and §10, docs/spec/lifecycle.md §8.
"""

from __future__ import annotations

from typing import Annotated

from trionode.config.section import Seconds, Section, about


class PeerSettings(Section, frozen=True, kw_only=True):
    """Links, discovery, liveness, limits (wire.md §1-§6)."""

    ping_interval_s: Annotated[
        float, about("pause between pings of a link", gt=0, original="peers.wsPingIntervalMs")
    ] = 15.0
    max_missed_pongs: Annotated[
        int, about("unanswered pings after which a link is dropped", ge=1, original="peers.wsMaxMissedPongs")
    ] = 3
    handshake_timeout_s: Annotated[
        float, about("opening of an outgoing link", gt=0, original="fluxapps.wsHandshakeTimeoutMs")
    ] = 10.0
    duplicate_check_timeout_s: Annotated[
        float, about("ping that decides whether an older link still lives", gt=0, original="fixed, 1 s")
    ] = 1.0
    refusal_delay_s: Annotated[
        float, about("wait before a refused link is closed", ge=0, original="fixed, 1 s")
    ] = 1.0
    close_timeout_s: Annotated[float, about("close handshake, then the link is cut", gt=0)] = 5.0
    send_timeout_s: Annotated[float, about("one send; when it is over the link is cut", gt=0)] = 20.0
    tcp_user_timeout_ms: Annotated[int, about("TCP_USER_TIMEOUT of the listening socket", ge=0)] = 20_000
    max_message_bytes: Annotated[
        int, about("largest message, after inflating", ge=1024, original="fixed, 100 MiB")
    ] = 100 * 1024 * 1024
    compression_threshold_bytes: Annotated[
        int, about("smaller messages are sent uncompressed", ge=0, original="fixed, 128")
    ] = 128
    receive_queue_frames: Annotated[int, about("received messages that may wait", ge=64)] = 64
    outbox_gossip_limit_bytes: Annotated[
        int, about("waiting bytes above which inventory is dropped, oldest first", ge=1024)
    ] = 256 * 1024
    outbox_limit_bytes: Annotated[
        int, about("waiting bytes at which a link is closed with 1013", ge=1024)
    ] = 16 * 1024 * 1024
    min_outbound: Annotated[
        int, about("outbound links wanted at least", ge=0, original="fluxapps.minOutgoing")
    ] = 8
    min_unique_outbound_ips: Annotated[
        int,
        about(
            "outbound addresses; size of the deterministic set",
            ge=0,
            original="fluxapps.minUniqueIpsOutgoing",
        ),
    ] = 7
    min_inbound: Annotated[
        int, about("inbound links wanted; sets the inbound cap", ge=0, original="fluxapps.minIncoming")
    ] = 4
    min_unique_inbound_ips: Annotated[
        int, about("inbound addresses wanted", ge=0, original="fluxapps.minUniqueIpsIncoming")
    ] = 3
    random_outbound: Annotated[
        int, about("outbound links that random dialling aims at", ge=0, original="fixed, 14")
    ] = 14
    random_outbound_ips: Annotated[
        int, about("outbound addresses that random dialling aims at", ge=0, original="fixed, 9")
    ] = 9
    random_inbound: Annotated[
        int, about("inbound links that invitations aim at", ge=0, original="fixed, 12")
    ] = 12
    random_inbound_ips: Annotated[
        int, about("inbound addresses that invitations aim at", ge=0, original="fixed, 5")
    ] = 5
    random_draws: Annotated[int, about("draws of one random pass", ge=1, original="fixed, 100")] = 100
    discovery_autostart: Annotated[
        bool,
        about("discover at start; else at /flux/startdiscovery", original="fluxapps.discoveryAutostart"),
    ] = True
    discovery_interval_s: Annotated[
        float, about("pause after a pass", gt=0, original="fluxapps.discoveryRetryMs")
    ] = 60.0
    discovery_retry_s: Annotated[
        float, about("pause after a pass that could not run", gt=0, original="fluxapps.discoveryFailRetryMs")
    ] = 120.0
    dial_spacing_s: Annotated[
        float, about("pause between two dials", ge=0, original="fluxapps.discoveryConnectionDelayMs")
    ] = 0.5
    invite_timeout_s: Annotated[float, about("one addoutgoingpeer request", gt=0, original="fixed, 5 s")] = (
        5.0
    )
    invite_backoff_s: Annotated[
        tuple[Seconds, ...],
        about("pauses after failed invitations", min_length=1, original="fluxapps.connectionBackoffMs"),
    ] = (120.0, 300.0, 600.0, 900.0)
    rate_limit_frames: Annotated[
        int, about("frames a link may send per interval", ge=1, original="fixed, 120")
    ] = 120
    rate_limit_interval_s: Annotated[
        float, about("interval of rate_limit_frames", gt=0, original="fixed, 1 s")
    ] = 1.0
    rate_limit_idle_s: Annotated[
        float, about("idle time after which a bucket is forgotten", gt=0, original="fixed, 15 s")
    ] = 15.0
    rate_limit_keys: Annotated[int, about("buckets that are kept", ge=1, original="fixed, 150")] = 150
    bad_message_limit: Annotated[
        int, about("bad messages within the window that close a link", ge=1, original="fixed, 5")
    ] = 5
    bad_message_window_s: Annotated[
        float, about("window of bad_message_limit", gt=0, original="fixed, 10 min")
    ] = 600.0
    threshold_reached: Annotated[
        int,
        about(
            "peers at which state sync may start, and the first broadcast",
            ge=1,
            original="fluxapps.appSyncPeerThreshold",
        ),
    ] = 12
    threshold_below: Annotated[
        int, about("fewer peers mean degraded", ge=0, original="fluxapps.appSyncDegradedThreshold")
    ] = 4
    health_losses: Annotated[
        int, about("lost links within the window that make us doubt our network", ge=1, original="fixed, 5")
    ] = 5
    health_window_s: Annotated[float, about("the window of health_losses", gt=0, original="fixed, 60 s")] = (
        60.0
    )
    health_link_age_s: Annotated[
        float, about("only the loss of a link older than this counts", ge=0, original="fixed, 30 s")
    ] = 30.0
    health_steady_s: Annotated[
        float, about("no doubts until so long after the first peer", ge=0, original="fixed, 120 s")
    ] = 120.0
    health_cooldown_s: Annotated[
        float, about("between two checks of the own network", gt=0, original="fixed, 30 s")
    ] = 30.0
    health_ping_timeout_s: Annotated[
        float, about("answer of a peer in such a check", gt=0, original="fixed, 2 s")
    ] = 2.0
    health_probe_timeout_s: Annotated[
        float, about("answer of a node that is no peer", gt=0, original="fixed, 5 s")
    ] = 5.0
    health_probe_nodes: Annotated[
        int, about("nodes asked when no peer answers", ge=1, original="fixed, 3")
    ] = 3
    health_recovered_peers: Annotated[
        int, about("peers at which all is well again", ge=1, original="fixed, 5")
    ] = 5
    exchange_update_delay_s: Annotated[
        float, about("collecting of peer list changes", ge=0, original="fixed, 2 s")
    ] = 2.0
    own_broadcast_outbound_delay_ms: Annotated[
        int, about("pause between outbound sends of an own broadcast", ge=0, original="fixed, 25")
    ] = 25
    own_broadcast_inbound_gap_ms: Annotated[
        int, about("pause before inbound sends of an own broadcast", ge=0, original="fixed, 500")
    ] = 500


class GossipSettings(Section, frozen=True, kw_only=True):
    """The gossip pipeline (wire.md §9)."""

    intake_delay_min_ms: Annotated[
        int, about("shortest random delay before intake", ge=0, original="fixed, 1")
    ] = 1
    intake_delay_max_ms: Annotated[
        int, about("longest random delay before intake", ge=0, original="fixed, 75")
    ] = 75
    cache_entries: Annotated[int, about("messages remembered for requests", ge=1, original="fixed, 1000")] = (
        1000
    )
    cache_ttl_s: Annotated[float, about("how long they are remembered", gt=0, original="fixed, 5 min")] = (
        300.0
    )
    max_age_ms: Annotated[
        int, about("older messages are refused", ge=1, shared=True, original="fixed, 5 min")
    ] = 300_000
    max_future_ms: Annotated[
        int, about("messages further ahead are refused", ge=0, shared=True, original="fixed, 120 s")
    ] = 120_000
    intake_queue_messages: Annotated[int, about("messages that may wait for intake", ge=1)] = 2000
    verify_slice: Annotated[int, about("signatures checked before other tasks run", ge=1)] = 50
    intake_queue_bytes: Annotated[int, about("characters of text that may wait for intake", ge=1024)] = (
        32 * 1024 * 1024
    )
    max_text_bytes: Annotated[
        int,
        about("longest gossip text, in characters; sync answers that were asked for may be longer", ge=1024),
    ] = 512 * 1024
    hash_request_timeout_s: Annotated[
        float, about("wait for a requested message before another announcer is asked", gt=0)
    ] = 3.0


class AppStateSettings(Section, frozen=True, kw_only=True):
    """Windows of the event log (events.md §1)."""

    time_scale: Annotated[
        float,
        about("all expiries and intervals of this section times this (local networks)", gt=0, le=1000),
    ] = 1.0
    validity_ms: Annotated[
        int, about("age up to which gossip counts", ge=1, original="fixed, 5 min", shared=True)
    ] = 300_000
    running_expiry_ms: Annotated[
        int, about("life of a running record", ge=1, original="fixed, 125 min", shared=True)
    ] = 7_500_000
    evicted_expiry_ms: Annotated[
        int, about("life of an evicted record", ge=1, original="fixed, 125 min", shared=True)
    ] = 7_500_000
    sigterm_grace_ms: Annotated[
        int,
        about("life left to the apps of a node that went down", ge=1, original="fixed, 420 s", shared=True),
    ] = 420_000
    installing_expiry_ms: Annotated[
        int, about("life of an installing record", ge=1, original="fixed, 15 min", shared=True)
    ] = 900_000
    install_error_expiry_ms: Annotated[
        int, about("life of an install error record", ge=1, original="fixed, 24 h", shared=True)
    ] = 86_400_000
    location_window_ms: Annotated[
        int, about("age up to which removals and address changes count", ge=1, original="fixed, 65 min")
    ] = 3_900_000
    relay_age_ms: Annotated[int, about("older messages are not relayed", ge=1, original="fixed, 4 min")] = (
        240_000
    )
    dispatch_age_ms: Annotated[
        int, about("older messages are not dispatched", ge=1, original="fixed, 5 min")
    ] = 300_000
    max_future_ms: Annotated[
        int, about("records further ahead are refused", ge=0, original="fixed, 120 s")
    ] = 120_000
    max_apps_per_node: Annotated[
        int, about("entries of a running message", ge=1, original="fluxapps.maxAppsPerNode", shared=True)
    ] = 200
    max_sync_records: Annotated[int, about("records of one sync response", ge=1, original="fixed, 2500")] = (
        2500
    )
    announce_interval_s: Annotated[
        float, about("running broadcast", gt=0, original="fluxapps.peerNotifyIntervalMs")
    ] = 3600.0


class StateSyncSettings(Section, frozen=True, kw_only=True):
    """Asking peers for app state, and the way to READY (lifecycle.md §8)."""

    min_peer_uptime_s: Annotated[
        float, about("uptime a source must report", ge=0, original="fluxapps.appSyncMinPeerUptime")
    ] = 7500.0
    min_completions: Annotated[
        int, about("peers asked, and completions per kind", ge=1, original="fluxapps.appSyncMinCompletions")
    ] = 3
    response_timeout_s: Annotated[
        float, about("time to answer a sync request", gt=0, original="fluxapps.syncTimeoutMs")
    ] = 120.0
    serve_interval_s: Annotated[
        float,
        about(
            "a peer is served once per kind and this long", ge=0, original="fluxapps.syncResponseThrottleMs"
        ),
    ] = 300.0
    ready_after_blocks: Annotated[
        int, about("blocks after which missing parts are waived", ge=1, original="fixed, 250")
    ] = 250
    ready_after_blocks_enterprise: Annotated[
        int, about("the same for an enterprise node", ge=1, original="fixed, 124")
    ] = 124
