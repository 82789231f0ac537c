"""Known, without effect: keys of the original, and settings of earlier versions, that nothing here reads.

The one place that says why. The loader passes over a setting that stands here and tells it (`trionode
config check`, a line at start), `trionode init --from` says it of keys it meets, docs/config.md prints the
table, and `/apps/registrationinformation` still names those that programs may look for
(docs/spec/config.md, docs/spec/api.md §7).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec


class WithoutEffect(msgspec.Struct, frozen=True):
    """Keys of the original and former settings here that share one reason.

    `answers`: name below `fluxapps` -> the value the network knows it by.
    """

    originals: tuple[str, ...]
    why: str
    settings: tuple[str, ...] = ()
    answers: Mapping[str, Any] = {}


_UNREAD_BELOW_FLUXAPPS = (
    *("publicepochstart", "spawnDelayMs", "removalSpacingMs", "locationTtlS", "installingTtlS"),
    *("installErrorTtlS", "hashSyncIntervalMs", "updateFluxAppsPeriod", "installation.probability"),
    "removal.probability",
)

TABLE = (
    WithoutEffect(
        (
            *("loglevel", "benchmark.port", "benchmark.porttestnet", "daemon.port", "daemon.porttestnet"),
            *("minimumDockerAllowedVersion", "deterministicNodesStart"),
            *(f"fluxapps.{name}" for name in _UNREAD_BELOW_FLUXAPPS),
        ),
        "not read by the original either",
    ),
    WithoutEffect(
        ("fluxapps.expireFluxAppsPeriod",),
        "not read by the original; the real period is `explorer.expire_period_blocks`",
    ),
    WithoutEffect(
        ("benchmark.rpcporttestnet", "daemon.rpcporttestnet", "userconfig testnet"),
        "the coin's test chain: set `chain.daemon_port` and `chain.bench_port`",
    ),
    WithoutEffect(
        ("development", "userconfig development"),
        "switches heights: set `registry` heights and `economy.accept_development`",
    ),
    WithoutEffect(("daemon.zmqport",), "only ever written into flux.conf; nothing subscribes"),
    WithoutEffect(("analytics.url",), "trionode reports to nobody"),
    WithoutEffect(("latestSupportedSpecVersion",), "same as `registry.latest_spec_version`"),
    WithoutEffect(
        ("database.*.database and .collections.*",),
        "names are fixed, the contract with existing data (docs/spec/config.md §2); `store.mongo_prefix` "
        "stands before them",
    ),
    WithoutEffect(("TTL of tampering records",), "fixed: 30 days"),
    WithoutEffect(
        ("fluxapps.minPrice",),
        "see `minimum` of `economy.prices`; addresses are `economy.payment_address` and the multisig ones",
    ),
    WithoutEffect(("server.apiport + 1",), "HTTPS of the original: left to a reverse proxy"),
    WithoutEffect(
        ("userconfig pgpPrivateKey", "userconfig pgpPublicKey", "userconfig debug"),
        "nothing here needs it",
    ),
    WithoutEffect(
        (
            *("FLUXOS_PATH", "FLUXOS_VERSION", "FLUXOS_HUMAN_VERSION", "FLUXD_PATH", "FLUXBENCH_PATH"),
            *("SYNCTHING_PATH", "FLUX_APIPORT", "FLUX_CONFIG_CONNECTION", "FLUX_WATCHDOG_PATH"),
            "NODE_CONFIG",
        ),
        "environment of the original's host system; FLUXD_CONFIG_PATH is honoured",
    ),
    WithoutEffect(
        (
            *("upnp.gatewayUrl", "upnp.nodeIp", "userconfig routerIP", "fluxapps.upnpBannedPorts"),
            "fluxapps.benchUpnpPeriod",
        ),
        "there is no UPnP: forward the ports at the router by hand (docs/containers-disk.md)",
        settings=(
            *("router.router_ip", "router.gateway_url", "router.lan_ip", "registry.upnp_banned_ports"),
            "explorer.bench_ports_period_blocks",
        ),
        answers={"upnpBannedPorts": [], "benchUpnpPeriod": 6480},
    ),
    WithoutEffect(
        ("fluxapps.cpuCheckIntervalMs",),
        "CPU is not throttled: the limits are in the containers",
        settings=("monitors.cpu_interval_s",),
        answers={"cpuCheckIntervalMs": 900_000},
    ),
    WithoutEffect(
        (
            *("syncthing.ip", "syncthing.port", "syncthing.monitorIntervalMs", "syncthing.stallNudgeAfterMs"),
            *("syncthing.stallNudgeMaxIntervalMs", "syncthing.stallRemoveMinWindowMs"),
            *("syncthing.stallRemoveMinNudges", "minimumSyncthingAllowedVersion"),
        ),
        "Syncthing is not spoken to: nothing keeps app folders equal across instances",
        settings=(
            *("file_sync.host", "file_sync.port", "file_sync.minimum_version", "file_sync.interval_s"),
            *("file_sync.nudge_after_s", "file_sync.nudge_interval_max_s", "file_sync.stall_removal_s"),
            "file_sync.stall_removal_nudges",
        ),
    ),
    WithoutEffect(
        ("daemon.chainValidHeight",),
        "each block must continue the one before, at any height",
        settings=("explorer.reorg_check_height",),
    ),
    WithoutEffect(
        ("fixed: 15 min after a failed recovery",),
        "after a failure `explorer.tip_interval_s`, doubling up to `explorer.sync_retry_s`",
        settings=("explorer.recovery_retry_s",),
    ),
    WithoutEffect(
        ("TTL of activepaymentrequests and completedpayments",),
        "the node takes no payments",
        settings=("api.payment_request_ttl_s", "api.completed_payment_ttl_s"),
    ),
    WithoutEffect(
        ("fluxSpecifics",),
        "a node offers what its machine has; the most an app may ask for is a rule of the registry "
        "(docs/spec/registry.md §6)",
        settings=("resources.tiers",),
    ),
    WithoutEffect(
        ("enterprisePublicKeys",),
        "nodes are not scored",
        settings=("enterprise.trusted_keys",),
    ),
    WithoutEffect(
        ("fixed: 6 h between readings of helpers/enterprisenodes.json (8.17)",),
        "not fetched: `enterprise.owners` and `enterprise.node_keys` say it",
        settings=("enterprise.refresh_s",),
    ),
    WithoutEffect(
        ("github.apiBaseUrl",),
        "trionode does not update itself",
        settings=("services.releases_url",),
    ),
    WithoutEffect(
        ("fixed: port 16101 of the host info service",),
        "there is no such service yet; containers are told `services.host_info_address`",
        settings=("services.host_info_port",),
    ),
    WithoutEffect(
        ("server.allowedPorts (how many there are)",),
        "nodes behind one address are not counted",
        settings=("network.same_address_ports_max",),
    ),
    WithoutEffect(
        ("fixed: boot schedule, 30 s firewall",),
        "the rules are applied as soon as the engine answers",
        settings=("boot.firewall_delay_s",),
    ),
    WithoutEffect(
        ("fixed: boot schedule, 45 s volumes",),
        "volumes are mounted before any app is started",
        settings=("boot.volumes_delay_s",),
    ),
    WithoutEffect(
        ("fixed: boot schedule, 60 s and each 2 h foreign containers",),
        "containers that are no apps are left alone",
        settings=("boot.foreign_containers_delay_s", "boot.foreign_containers_interval_s"),
    ),
    WithoutEffect(
        ("fixed: boot schedule, 10 min image updater",),
        "`images.update_first_min_s` and `images.update_first_max_s` count from the start",
        settings=("boot.image_updater_delay_s",),
    ),
    WithoutEffect(
        ("fixed: boot schedule, 25 min backup cleaner",),
        "backups are not made here",
        settings=("boot.backup_cleanup_interval_s",),
    ),
    WithoutEffect(
        (),
        "it was there twice: set `monitors.storage_delay_s` and `monitors.storage_interval_s`",
        settings=("boot.storage_delay_s", "boot.storage_interval_s"),
    ),
    WithoutEffect(
        (),
        "never read here: set `registry.pending_update_ttl_s`",
        settings=("spawner.pending_update_ttl_s",),
    ),
)

FORMER_SETTINGS: Mapping[str, str] = {key: row.why for row in TABLE for key in row.settings}
"""Full key `section.name` of a setting that is no more -> why it has no effect."""

FORMER_SECTIONS = frozenset(key.partition(".")[0] for key in FORMER_SETTINGS)

ANSWERS: Mapping[str, Any] = {name: value for row in TABLE for name, value in row.answers.items()}
"""What `/apps/registrationinformation` tells of names below `fluxapps` that are no settings here."""

_USER_CONFIG = "userconfig "
_OF_USER_CONFIG: Mapping[str, str] = {
    original.removeprefix(_USER_CONFIG): row.why
    for row in TABLE
    for original in row.originals
    if original.startswith(_USER_CONFIG)
}


def why_not_taken(key: str) -> str:
    """Why a key of userconfig.js or flux.conf that is no setting here has no effect."""
    return _OF_USER_CONFIG.get(key, "trionode has no use for it").replace("`", "")
