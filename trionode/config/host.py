"""Settings of the host's resources and of outside services.

Facts: docs/spec/config.md §1, §5 and §7.
"""

from __future__ import annotations

from typing import Annotated

from trionode.config.section import Section, about


class ResourceSettings(Section, frozen=True, kw_only=True):
    """What the host offers to apps, and what is kept for itself."""

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


class ServicesSettings(Section, frozen=True, kw_only=True):
    """Outside services; an empty URL switches one off."""

    lists_url: Annotated[
        str, about("where block lists and helpers/*.json are", original="github.rawBaseUrl")
    ] = "https://raw.githubusercontent.com/RunOnFlux/flux/master"
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
    http_timeout_s: Annotated[float, about("one outgoing request", gt=0, original="fixed, 20 s")] = 20.0
