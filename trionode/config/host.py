"""Settings of the host's resources and of outside services.

Facts: docs/spec/config.md §1, §5 and §7.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from trionode.config.section import Section, about

Whole = Annotated[int, msgspec.Meta(ge=0)]


class Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a node of a tier offers: cpu in tenths of a core, ram in MB, hdd in GB, FLUX locked."""

    cpu_tenths: Whole
    ram_mb: Whole
    hdd_gb: Whole
    collateral: Whole
    old_collateral: Whole


class Tiers(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The three tiers."""

    cumulus: Tier = Tier(cpu_tenths=40, ram_mb=7000, hdd_gb=220, collateral=1000, old_collateral=10_000)
    nimbus: Tier = Tier(cpu_tenths=80, ram_mb=30_000, hdd_gb=440, collateral=12_500, old_collateral=25_000)
    stratus: Tier = Tier(cpu_tenths=160, ram_mb=61_000, hdd_gb=880, collateral=40_000, old_collateral=100_000)


class ResourceSettings(Section, frozen=True, kw_only=True):
    """What the host offers to apps, and what is kept for itself."""

    tiers: Annotated[Tiers, about("what each tier offers", original="fluxSpecifics", shared=True)] = Tiers()
    locked_cpu_tenths: Annotated[
        int, about("tenths of a core kept", ge=0, original="lockedSystemResources.cpu", shared=True)
    ] = 10
    locked_ram_mb: Annotated[
        int, about("memory kept", ge=0, original="lockedSystemResources.ram", shared=True)
    ] = 2000
    locked_hdd_gb: Annotated[
        int, about("disk kept", ge=0, original="lockedSystemResources.hdd", shared=True)
    ] = 60
    locked_extra_hdd_gb: Annotated[
        int, about("disk kept on top", ge=0, original="lockedSystemResources.extrahdd", shared=True)
    ] = 20
    usable_hdd_share: Annotated[
        float, about("share of the disk that counts", gt=0, le=1, original="fixed, 0.95")
    ] = 0.95
    component_hdd_gb: Annotated[
        int, about("disk added per component", ge=0, original="fluxapps.hddFileSystemMinimum", shared=True)
    ] = 10
    component_swap_gb: Annotated[
        int, about("swap added per component", ge=0, original="fluxapps.defaultSwap", shared=True)
    ] = 2
    cpu_burst: Annotated[
        bool, about("CPU burst for apps of enterprise owners", original="cpuBurst.enabled")
    ] = True
    cpu_burst_period_us: Annotated[
        int, about("its CFS period", ge=1000, le=1_000_000, original="cpuBurst.periodUs")
    ] = 100_000
    cpu_burst_reserved_cores: Annotated[
        int, about("cores burst never touches", ge=0, original="cpuBurst.reservedCores")
    ] = 1


class EnterpriseSettings(Section, frozen=True, kw_only=True):
    """Enterprise owners and nodes (docs/spec/README.md, glossary)."""

    owners: Annotated[
        tuple[str, ...],
        about("owners whose apps only enterprise nodes host", original="enterpriseAppOwners", shared=True),
    ] = ("15ULw4JU6wqGESRYU3z3MjFETqLN3sA9Gn",)
    node_keys: Annotated[
        tuple[str, ...],
        about("public keys of enterprise nodes", original="enterpriseNodesPublicKeys", shared=True),
    ] = ("027595b0b8257d7b901fc024d7c5b66a7af68b64240dea0359dec3ffb1f2a33a8d",)
    opens_encrypted: Annotated[
        bool,
        about(
            "the benchmark of this locked-down (Arcane) system unwraps keys of encrypted apps",
            original="env FLUXOS_PATH",
        ),
    ] = False
    trusted_keys: Annotated[
        tuple[str, ...],
        about("node keys that score higher for encrypted apps", original="enterprisePublicKeys", shared=True),
    ] = ()
    refresh_s: Annotated[
        float, about("refresh of the published lists", gt=0, original="fixed, 6 h (8.17)")
    ] = 21_600.0


class ServicesSettings(Section, frozen=True, kw_only=True):
    """Outside services; an empty URL switches one off."""

    lists_url: Annotated[
        str, about("where block lists and helpers/*.json are", original="github.rawBaseUrl")
    ] = "https://raw.githubusercontent.com/RunOnFlux/flux/master"
    releases_url: Annotated[str, about("where releases are listed", original="github.apiBaseUrl")] = (
        "https://api.github.com"
    )
    geolocation_url: Annotated[str, about("address look-up", original="geolocation.ipApiBaseUrl")] = (
        "http://ip-api.com"
    )
    stats_url: Annotated[str, about("network statistics, prices", original="geolocation.statsApiBaseUrl")] = (
        "https://stats.runonflux.io"
    )
    managers_url: Annotated[
        str,
        about(
            "domain managers that know the primary of g: apps; {region}, {group} and {app} are filled in",
            original="fixed",
        ),
    ] = "http://fdm-{region}-1-{group}.runonflux.io:16130/appips/{app}"
    host_info_address: Annotated[
        str, about("local address of the host info service", original="server.fluxNodeServiceAddress")
    ] = "169.254.43.43"
    host_info_port: Annotated[int, about("its port", ge=1, le=65535, original="fixed, 16101")] = 16101
    http_timeout_s: Annotated[float, about("one outgoing request", gt=0, original="fixed, 20 s")] = 20.0


class FileSyncSettings(Section, frozen=True, kw_only=True):
    """Syncthing, which keeps app folders equal across instances."""

    host: Annotated[str, about("host of its API", original="syncthing.ip")] = "127.0.0.1"
    port: Annotated[int, about("port of its API", ge=1, le=65535, original="syncthing.port")] = 8384
    minimum_version: Annotated[
        str, about("oldest acceptable", pattern=r"^\d+\.\d+\.\d+$", original="minimumSyncthingAllowedVersion")
    ] = "2.0.10"
    interval_s: Annotated[float, about("monitor pass", gt=0, original="syncthing.monitorIntervalMs")] = 30.0
    nudge_after_s: Annotated[
        float, about("a stalled folder is nudged after", gt=0, original="syncthing.stallNudgeAfterMs")
    ] = 180.0
    nudge_interval_max_s: Annotated[
        float, about("longest pause between nudges", gt=0, original="syncthing.stallNudgeMaxIntervalMs")
    ] = 900.0
    stall_removal_s: Annotated[
        float, about("stalled this long: removed", gt=0, original="syncthing.stallRemoveMinWindowMs")
    ] = 1200.0
    stall_removal_nudges: Annotated[
        int, about("but only after this many nudges", ge=1, original="syncthing.stallRemoveMinNudges")
    ] = 3


class RouterSettings(Section, frozen=True, kw_only=True):
    """A node behind a home router (UPnP)."""

    router_ip: Annotated[
        str, about("address of the router; empty: no UPnP", original="userconfig routerIP")
    ] = ""
    gateway_url: Annotated[str, about("fixed UPnP gateway", original="upnp.gatewayUrl")] = ""
    lan_ip: Annotated[str, about("own address in the home network", original="upnp.nodeIp")] = ""
