"""Settings of the daemons, the block explorer, the app registry and its economy.

Facts: docs/spec/daemon-rpc.md, docs/spec/registry.md, docs/spec/config.md §1 and §3. Everything
marked as shared decides what a node accepts: change it only for a network of one's own.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from trionode.config.section import Blocks, Section, about


class ChainSettings(Section, frozen=True, kw_only=True):
    """The chain daemon and the benchmark daemon (daemon-rpc.md)."""

    daemon_conf: Annotated[
        str,
        about(
            "daemon conf file; empty: ~/.flux/flux.conf, then ~/.zelcash/zelcash.conf",
            original="env FLUXD_CONFIG_PATH",
        ),
    ] = ""
    daemon_host: Annotated[str, about("host of the chain daemon", original="daemon.host")] = "127.0.0.1"
    daemon_port: Annotated[
        int, about("its RPC port; 0: from the conf, else 16124", ge=0, le=65535, original="daemon.rpcport")
    ] = 0
    daemon_user: Annotated[str, about("RPC user; empty: from the conf", original="flux.conf rpcuser")] = ""
    daemon_password: Annotated[
        str, about("RPC password; empty: from the conf", original="flux.conf rpcpassword")
    ] = ""
    daemon_timeout_s: Annotated[float, about("one daemon call", gt=0, original="fixed, 40 s")] = 40.0
    daemon_parallel_calls: Annotated[
        int, about("daemon calls at a time", ge=1, le=64, original="fixed, 5")
    ] = 5
    bench_host: Annotated[str, about("host of the benchmark daemon", original="benchmark.host")] = "127.0.0.1"
    bench_port: Annotated[int, about("its RPC port", ge=1, le=65535, original="benchmark.rpcport")] = 16224
    bench_user: Annotated[str, about("RPC user; empty: the daemon's well-known one")] = ""
    bench_password: Annotated[str, about("RPC password; empty: the daemon's well-known one")] = ""
    bench_timeout_s: Annotated[float, about("one bench call", gt=0, original="fixed, 10 s")] = 10.0
    poll_interval_s: Annotated[
        float, about("chain info poll", gt=0, original="fluxapps.daemonInfoIntervalMs")
    ] = 30.0
    synced_within_s: Annotated[
        float,
        about("age of a good poll up to which the chain counts as synced", gt=0, original="fixed, 300 s"),
    ] = 300.0
    synced_within_blocks: Annotated[
        int, about("not synced when headers are this many blocks ahead", ge=1, original="fixed, 5")
    ] = 5
    confirmation_poll_interval_s: Annotated[
        float, about("node status poll", gt=0, original="confirmation.pollIntervalMs")
    ] = 30.0
    confirmation_stale_s: Annotated[
        float,
        about("age of a good poll that removes hosted apps", gt=0, original="confirmation.daemonStaleMs"),
    ] = 7_500.0
    confirmation_expired_s: Annotated[
        float,
        about("age of a good poll that means unconfirmed", gt=0, original="confirmation.daemonExpiredMs"),
    ] = 19_200.0
    node_list_min_interval_s: Annotated[
        float, about("shortest time between node list fetches", ge=0, original="fixed, 30 s")
    ] = 30.0
    node_list_retry_s: Annotated[
        float, about("retry of the first node list", gt=0, original="fixed, 15 s")
    ] = 15.0
    start_gate_interval_s: Annotated[
        float,
        about(
            "pause between polls until the daemon first answered; at most poll_interval_s",
            gt=0,
            original="fixed, 5 s",
        ),
    ] = 5.0


class ExplorerSettings(Section, frozen=True, kw_only=True):
    """Reading blocks (daemon-rpc.md §5)."""

    first_height: Annotated[
        int, about("first height scanned for payments", ge=0, original="fluxapps.epochstart", shared=True)
    ] = 694_000
    sync_retry_s: Annotated[
        float, about("waiting for a synced daemon", gt=0, original="fluxapps.explorerSyncRetryMs")
    ] = 120.0
    restore_blocks: Annotated[
        int, about("blocks scanned again after a start", ge=0, original="fluxapps.explorerDeepRestoreBlocks")
    ] = 100
    tip_interval_s: Annotated[
        float, about("look for a new block at the tip", gt=0, original="fixed, 5 s")
    ] = 5.0
    pon_height: Annotated[
        int,
        about(
            "first block of proof of node (30 s blocks)", ge=0, original="fluxapps.daemonPONFork", shared=True
        ),
    ] = 2_020_000
    pon_speedup: Annotated[
        int, about("blocks are this much faster from there", ge=1, original="fixed, 4", shared=True)
    ] = 4
    expire_period_blocks: Annotated[
        int, about("pass that expires apps, before the PON factor", ge=1, original="fixed, 2")
    ] = 2
    surplus_period_blocks: Annotated[
        int, about("surplus instance check", ge=1, original="fluxapps.removeFluxAppsPeriod")
    ] = 11
    rebuild_period_blocks: Annotated[
        int, about("audit of the hash set", ge=1, original="fluxapps.reconstructAppMessagesHashPeriod")
    ] = 3600


class HashSyncSettings(Section, frozen=True, kw_only=True):
    """Fetching the messages behind hashes seen on the chain (registry.md, hash sync)."""

    max_retries: Annotated[
        int, about("failed runs before only blocks retry", ge=0, original="fluxapps.hashSyncMaxRetries")
    ] = 3
    retry_s: Annotated[
        float, about("pause after a failed run", gt=0, original="fluxapps.hashSyncRetryMs")
    ] = 300.0
    peer_grace_s: Annotated[
        float, about("the first run waits that long for enough peers; 0: not at all", ge=0)
    ] = 15.0
    settle_s: Annotated[
        float, about("quiet time that ends a response", gt=0, original="fluxapps.hashSyncSettleMs")
    ] = 4.0
    response_per_hash_ms: Annotated[
        int, about("response time allowed per hash", ge=0, original="fluxapps.hashSyncResponseTimePerHashMs")
    ] = 150
    response_extra_ms: Annotated[
        int, about("response time allowed on top", ge=0, original="fluxapps.hashSyncBufferMs")
    ] = 5000
    max_rounds: Annotated[
        int, about("rounds of a targeted sync", ge=1, original="fluxapps.hashSyncMaxRounds")
    ] = 4
    peers_per_round: Annotated[
        int, about("peers asked per round", ge=1, original="fluxapps.hashSyncPeersPerRound")
    ] = 3
    ephemeral_peers: Annotated[
        int, about("short links opened for it", ge=0, original="fluxapps.hashSyncEphemeralPeers")
    ] = 5
    recheck_blocks: Annotated[
        int,
        about(
            "missing hashes are tried again after", ge=1, original="fluxapps.hashSyncFallbackRecheckBlocks"
        ),
    ] = 100
    min_peers: Annotated[
        int,
        about("peers needed to ask for a new block's messages", ge=1, original="fluxapps.minHashSyncPeers"),
    ] = 12
    retry_ladder_blocks: Annotated[
        tuple[Blocks, ...], about("distances of the tries for one hash", min_length=1, original="fixed")
    ] = (0, 100, 500, 2500, 12_500, 50_000, 100_000)
    give_up_blocks: Annotated[
        int, about("hashes older than this are forgotten", ge=1, original="fixed, 1051200")
    ] = 1_051_200


class VersionHeight(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A spec version and the height from which it is accepted."""

    version: Annotated[int, msgspec.Meta(ge=1, le=99)]
    height: Blocks


class RegistrySettings(Section, frozen=True, kw_only=True):
    """What app registrations may say (registry.md)."""

    latest_spec_version: Annotated[
        int,
        about("newest spec format", ge=1, le=99, original="fluxapps.latestAppSpecification", shared=True),
    ] = 8
    spec_heights: Annotated[
        tuple[VersionHeight, ...],
        about(
            "spec formats and their first heights",
            min_length=1,
            original="fluxapps.appSpecsEnforcementHeights",
            shared=True,
        ),
    ] = (
        VersionHeight(1, 0),
        VersionHeight(2, 0),
        VersionHeight(3, 983_000),
        VersionHeight(4, 1_004_000),
        VersionHeight(5, 1_142_000),
        VersionHeight(6, 1_300_000),
        VersionHeight(7, 1_420_000),
        VersionHeight(8, 1_932_380),
    )
    temporary_message_ttl_s: Annotated[
        float, about("life of an unpaid app message", gt=0, original="fluxapps.tempMsgTtlS")
    ] = 3600.0
    pending_update_ttl_s: Annotated[
        float,
        about("an update waits this long for its registration", gt=0, original="fixed, 30 min"),
    ] = 1800.0
    max_image_bytes: Annotated[
        int, about("largest image", ge=1, original="fluxapps.maxImageSize", shared=True)
    ] = 5_000_000_000
    min_instances: Annotated[
        int, about("fewest instances", ge=1, original="fluxapps.minimumInstances", shared=True)
    ] = 3
    min_instances_v8: Annotated[
        int, about("fewest instances, format 8", ge=1, original="fluxapps.minimumInstancesV8", shared=True)
    ] = 1
    min_instances_v8_height: Annotated[
        int,
        about(
            "first height of min_instances_v8", ge=0, original="fluxapps.minimumInstancesV8Block", shared=True
        ),
    ] = 2_176_519
    max_instances: Annotated[
        int, about("most instances", ge=1, original="fluxapps.maximumInstances", shared=True)
    ] = 100
    lifetime_blocks: Annotated[
        int, about("life of an app that names none", ge=1, original="fluxapps.blocksLasting", shared=True)
    ] = 22_000
    min_lifetime_blocks: Annotated[
        int, about("shortest life at first", ge=1, original="fluxapps lifetime minimum", shared=True)
    ] = 5000
    new_min_lifetime_blocks: Annotated[
        int, about("shortest life later", ge=1, original="fluxapps lifetime newMin", shared=True)
    ] = 100
    new_min_lifetime_height: Annotated[
        int,
        about("first height of it", ge=0, original="fluxapps lifetime newMin (height)", shared=True),
    ] = 1_630_040
    cancel_lifetime_blocks: Annotated[
        int,
        about(
            "shortest life for cancelling",
            ge=1,
            original="fluxapps lifetime cancel1Block",
            shared=True,
        ),
    ] = 1
    cancel_lifetime_height: Annotated[
        int,
        about("first height of it", ge=0, original="fluxapps lifetime cancel1Block (height)", shared=True),
    ] = 1_964_447
    max_lifetime_blocks: Annotated[
        int, about("longest life", ge=1, original="fluxapps.maxBlocksAllowance", shared=True)
    ] = 264_000
    max_lifetime_pon_blocks: Annotated[
        int, about("longest life with PON", ge=1, original="fluxapps lifetime postPon", shared=True)
    ] = 1_056_000
    lifetime_step_blocks: Annotated[
        int,
        about("lives are multiples of this", ge=1, original="fluxapps.blocksAllowanceInterval", shared=True),
    ] = 1000
    lifetime_step_until_height: Annotated[
        int,
        about("up to this height", ge=0, original="fluxapps blocksAllowanceInterval (height)", shared=True),
    ] = 1_625_000
    owner_rename_blocks: Annotated[
        int,
        about(
            "owner's right to the name after expiry", ge=0, original="fluxapps.ownerAppAllowance", shared=True
        ),
    ] = 1000
    temporary_allowance_blocks: Annotated[
        int, about("life of a temporary claim", ge=0, original="fluxapps.temporaryAppAllowance", shared=True)
    ] = 200
    min_port_legacy: Annotated[
        int, about("lowest app port at first", ge=1, le=65535, original="fluxapps.portMinLegacy", shared=True)
    ] = 31_000
    max_port_legacy: Annotated[
        int,
        about("highest app port at first", ge=1, le=65535, original="fluxapps.portMaxLegacy", shared=True),
    ] = 39_999
    all_ports_height: Annotated[
        int,
        about(
            "height from which ports 1-65535 may be used",
            ge=0,
            original="fluxapps.portBlockheightChange",
            shared=True,
        ),
    ] = 1_420_000
    banned_ports: Annotated[
        tuple[str, ...],
        about("ports apps may not use, single or FROM-TO", original="fluxapps.bannedPorts", shared=True),
    ] = (
        *("16100-16299", "26100-26299", "30000-30099", "8384", "27017", "22", "23", "25", "3389", "5900"),
        *("5800", "161", "512", "513", "5901", "3388", "4444", "123", "53"),
    )
    enterprise_ports: Annotated[
        tuple[str, ...],
        about("ports that cost extra, single or FROM-TO", original="fluxapps.enterprisePorts", shared=True),
    ] = ("0-1023", "8080", "8081", "8443", "6667")
