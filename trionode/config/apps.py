"""Settings of hosting: spawner, installer, redeploy, monitors, images, ports, file sync.

Facts: docs/spec/config.md §4 and §7, docs/spec/lifecycle.md §9-§19.
"""

from __future__ import annotations

from typing import Annotated, Literal

from trionode.config.section import Port, Seconds, Section, about


class HostingSettings(Section, frozen=True, kw_only=True):
    """Which apps this node takes at all, and where it keeps them."""

    apps_dir: Annotated[
        str, about("folder of app volumes; empty: DATA_DIR/apps", original="env FLUX_APPS_FOLDER")
    ] = ""
    engine: Annotated[
        Literal["none", "docker"],
        about("what runs the apps; none: this node hosts no apps"),
    ] = "none"
    engine_url: Annotated[
        str, about("where the container engine answers", original="fixed, /var/run/docker.sock")
    ] = "unix:///var/run/docker.sock"
    engine_timeout_s: Annotated[
        float, about("longest wait for one start or removal by the container engine", gt=0)
    ] = 300.0
    engine_sweep_s: Annotated[
        float, about("all containers are listed this often, should an event of the engine be missed", gt=0)
    ] = 60.0
    engine_away_s: Annotated[
        float, about("an engine away this long: its apps are no longer announced", gt=0)
    ] = 300.0
    parallel_starts: Annotated[
        int, about("apps started side by side at boot", ge=1, original="one by one")
    ] = 16
    stop_grace_s: Annotated[
        float,
        about("a container may take this to stop when the machine goes down", gt=0, original="fixed, 9 s"),
    ] = 9.0
    stop_extra_s: Annotated[
        float, about("on top of it, for the rest of an orderly stop with containers", gt=0)
    ] = 2.0
    max_containers: Annotated[
        int,
        about("running containers at which nothing new is taken", ge=0, original="fluxapps.maxAppsPerNode"),
    ] = 200
    blocked_ports: Annotated[
        tuple[Port, ...],
        about("ports no app may use here", max_length=100, original="userconfig blockedPorts"),
    ] = ()
    blocked_repositories: Annotated[
        tuple[str, ...],
        about("image repositories refused here", max_length=10, original="userconfig blockedRepositories"),
    ] = ()


class SpawnerSettings(Section, frozen=True, kw_only=True):
    """Choosing an app to install (lifecycle.md §11)."""

    delay_factor: Annotated[
        float, about("the loop's pauses times this", gt=0, original="fluxapps.spawnDelayMultiplier")
    ] = 1.0
    blocked_delay_s: Annotated[
        float, about("pause while something blocks the spawner", gt=0, original="fluxapps.installation.delay")
    ] = 120.0
    short_delay_s: Annotated[float, about("short pause", gt=0, original="fixed, 5 min")] = 300.0
    long_delay_s: Annotated[float, about("long pause", gt=0, original="fixed, 30 min")] = 1800.0
    busy_delay_s: Annotated[
        float, about("pause while there are several candidates", gt=0, original="fixed, 60 s")
    ] = 60.0
    enterprise_short_delay_s: Annotated[
        float, about("short pause of an enterprise node", gt=0, original="fixed, 30 s")
    ] = 30.0
    enterprise_long_delay_s: Annotated[
        float, about("long pause of an enterprise node", gt=0, original="fixed, 60 s")
    ] = 60.0
    reconfirm_delay_s: Annotated[
        float, about("pause after reconfirmation", ge=0, original="fluxapps.spawnReconfirmDelayMs")
    ] = 7500.0
    collision_wait_s: Annotated[
        float, about("wait after announcing an install", ge=0, original="fluxapps.installCollisionWaitMs")
    ] = 90.0
    verify_wait_s: Annotated[
        float, about("wait after an install before counting again", ge=0, original="fixed, 60 s")
    ] = 60.0
    defer_plain_on_arcane_s: Annotated[
        float,
        about("Arcane node, plain app", ge=0, original="fluxapps.nonEnterpriseSpawnDelayMs"),
    ] = 120.0
    defer_targeted_encrypted_s: Annotated[
        float,
        about("other nodes are targeted, encrypted app", ge=0, original="spawnDeferrals.targetedNodesMs"),
    ] = 1800.0
    defer_targeted_s: Annotated[
        float, about("other nodes are targeted", ge=0, original="spawnDeferrals.targetedNodesMs")
    ] = 3420.0
    defer_static_ip_encrypted_s: Annotated[
        float,
        about("static address not asked for, encrypted app", ge=0, original="spawnDeferrals.staticIpMs"),
    ] = 1620.0
    defer_static_ip_s: Annotated[
        float, about("static address not asked for", ge=0, original="spawnDeferrals.staticIpMs")
    ] = 3420.0
    defer_datacenter_encrypted_s: Annotated[
        float,
        about("datacenter not asked for, encrypted app", ge=0, original="spawnDeferrals.datacenterMs"),
    ] = 1620.0
    defer_datacenter_s: Annotated[
        float, about("datacenter not asked for", ge=0, original="spawnDeferrals.datacenterMs")
    ] = 3420.0
    defer_gap_large_encrypted_s: Annotated[
        float, about("tiny app on a large node, encrypted", ge=0, original="spawnDeferrals.capacityGap.large")
    ] = 1800.0
    defer_gap_large_s: Annotated[
        float, about("tiny app on a large node", ge=0, original="spawnDeferrals.capacityGap.large")
    ] = 7020.0
    defer_gap_medium_encrypted_s: Annotated[
        float,
        about("medium app on a large node, encrypted", ge=0, original="spawnDeferrals.capacityGap.medium"),
    ] = 1260.0
    defer_gap_medium_s: Annotated[
        float, about("medium app on a large node", ge=0, original="spawnDeferrals.capacityGap.medium")
    ] = 5220.0
    defer_gap_small_encrypted_s: Annotated[
        float,
        about("tiny app on a medium node, encrypted", ge=0, original="spawnDeferrals.capacityGap.small"),
    ] = 720.0
    defer_gap_small_s: Annotated[
        float, about("tiny app on a medium node", ge=0, original="spawnDeferrals.capacityGap.small")
    ] = 3420.0
    defer_file_sync_s: Annotated[
        float, about("a file sync peer is unreachable", ge=0, original="fixed, 27 min")
    ] = 1620.0
    tried_ttl_s: Annotated[float, about("a tried app is left alone", gt=0, original="fixed, 12 h")] = 43_200.0
    failed_ttl_s: Annotated[float, about("a failed app is left alone", gt=0, original="fixed, 7 d")] = (
        604_800.0
    )


class InstallerSettings(Section, frozen=True, kw_only=True):
    """Installing, removing and redeploying (lifecycle.md §12-§16)."""

    removal_spacing_s: Annotated[
        float, about("wait after a surplus removal", ge=0, original="fluxapps.removal.delay")
    ] = 300.0
    expiry_spacing_s: Annotated[
        float, about("wait between two expired apps", ge=0, original="fixed, 60 s")
    ] = 60.0
    redeploy_one_in: Annotated[
        int,
        about("chance of a redeploy per pass is 1 in this", ge=1, original="fluxapps.redeploy.probability"),
    ] = 2
    redeploy_delay_s: Annotated[
        float, about("between removal and new install", ge=0, original="fluxapps.redeploy.delay")
    ] = 30.0
    redeploy_component_delay_s: Annotated[
        float, about("between components", ge=0, original="fluxapps.redeploy.composedDelay")
    ] = 5.0
    network_tries: Annotated[int, about("subnets tried for an app's network", ge=1, original="fixed, 21")] = (
        21
    )
    stop_grace_s: Annotated[
        float, about("container stop at machine shutdown, then kill", gt=0, original="fixed, 9 s")
    ] = 9.0
    removal_stop_s: Annotated[
        float, about("a container may take this to stop before it is removed", gt=0, original="fixed, 10 s")
    ] = 10.0
    step_limit_s: Annotated[float, about("longest time of one step of an install or removal", gt=0)] = 300.0
    pull_limit_s: Annotated[float, about("longest time to fetch one image", gt=0)] = 3600.0
    undo_limit_s: Annotated[
        float, about("longest time to undo an install that failed; the rest at the next start", gt=0)
    ] = 120.0
    call_grace_s: Annotated[
        float, about("a call to the engine may take this to end when an install is broken off", ge=0)
    ] = 20.0
    network_release_s: Annotated[
        float,
        about("removal by force: pause before an app's network is taken apart", ge=0, original="fixed, 2 s"),
    ] = 2.0
    network_retry_s: Annotated[
        float, about("pause before that is tried once more", ge=0, original="fixed, 3 s")
    ] = 3.0
    storage_limit_bytes: Annotated[
        int, about("largest answer of an owner's storage (F_S_ENV, F_S_CMD)", ge=1024)
    ] = 64 * 1024 * 1024


class ImageSettings(Section, frozen=True, kw_only=True):
    """Image checks and updates (lifecycle.md §16)."""

    compliance_interval_s: Annotated[
        float, about("removal of blocked images", gt=0, original="fluxapps.imageComplianceIntervalMs")
    ] = 3600.0
    compliance_spacing_s: Annotated[
        float, about("between two removals of blocked images", ge=0, original="fixed, 3 min")
    ] = 180.0
    lists_keep_s: Annotated[
        float, about("block lists are fetched anew after this", gt=0, original="fixed, 6 h")
    ] = 21_600.0
    lists_retry_s: Annotated[float, about("block lists that could not be had are asked for again", gt=0)] = (
        300.0
    )
    update_interval_s: Annotated[
        float, about("look for newer images", gt=0, original="fluxapps.imageUpdateCheckIntervalMs")
    ] = 21_600.0
    update_first_min_s: Annotated[
        float, about("earliest first look", ge=0, original="fluxapps.imageUpdateInitialDelayMinMs")
    ] = 600.0
    update_first_max_s: Annotated[
        float, about("latest first look", ge=0, original="fluxapps.imageUpdateInitialDelayMaxMs")
    ] = 1800.0
    between_apps_s: Annotated[
        float, about("pause between apps", ge=0, original="fluxapps.imageUpdateDelayBetweenAppsMs")
    ] = 5.0
    after_redeploy_s: Annotated[
        float, about("pause after a redeploy", ge=0, original="fluxapps.imageUpdateDelayAfterRedeployMs")
    ] = 120.0
    between_components_s: Annotated[
        float,
        about("pause between components", ge=0, original="fluxapps.imageUpdateDelayBetweenComponentsMs"),
    ] = 1.0
    registry_token_margin_s: Annotated[
        float,
        about("registry tokens are renewed this early", ge=0, original="registryAuth.tokenRefreshBufferMs"),
    ] = 900.0


class MonitorSettings(Section, frozen=True, kw_only=True):
    """Loops that watch the node and its containers (lifecycle.md §9, §10, §17-§19)."""

    node_interval_s: Annotated[
        float, about("eviction sweep", gt=0, original="fluxapps.nodeMonitorIntervalMs")
    ] = 1200.0
    node_removal_spacing_s: Annotated[
        float, about("between two removals", ge=0, original="fluxapps.nodeMonitorRemovalDelayMs")
    ] = 60.0
    dos_recovery_s: Annotated[
        float, about("pause after a DOS removal", ge=0, original="fluxapps.nodeMonitorDosRecoveryDelayMs")
    ] = 600.0
    confirmation_loss_s: Annotated[
        float,
        about("pause after lost confirmation", ge=0, original="fluxapps.nodeMonitorConfirmationLossDelayMs"),
    ] = 1200.0
    error_recovery_s: Annotated[
        float, about("pause after an error", ge=0, original="fluxapps.nodeMonitorErrorRecoveryDelayMs")
    ] = 120.0
    check_timeout_s: Annotated[
        float, about("asking a node that may be evicted", gt=0, original="fluxapps.nodeMonitorCheckTimeoutMs")
    ] = 10.0
    check_cancel_s: Annotated[
        float, about("longest time for its whole answer", gt=0, original="fixed, 20 s")
    ] = 20.0
    node_probe_limit: Annotated[
        int, about("nodes asked at the same time", ge=1, le=64, original="fixed, 1")
    ] = 8
    address_change_window_s: Annotated[
        float, about("a second change of address within this costs the apps", gt=0, original="fixed, 20 h")
    ] = 72_000.0
    min_uptime_s: Annotated[
        float, about("uptime before peer counts are held against us", ge=0, original="fluxapps.minUpTime")
    ] = 1800.0
    availability_interval_s: Annotated[
        float, about("own reachability check", gt=0, original="fixed, 60 s")
    ] = 60.0
    availability_timeout_s: Annotated[
        float, about("one check by another node", gt=0, original="fixed, 7 s")
    ] = 7.0
    port_restore_interval_s: Annotated[
        float,
        about("firewall rules of apps again", gt=0, original="fluxapps.portRestoreIntervalMs"),
    ] = 600.0
    forced_removal_interval_s: Annotated[
        float, about("removal of orphan containers", gt=0, original="fluxapps.forceRemovalIntervalMs")
    ] = 7200.0
    hardware_interval_s: Annotated[
        float, about("whether the machine still has room for its apps", gt=0, original="fixed, at start")
    ] = 21_600.0
    hardware_removal_spacing_s: Annotated[
        float, about("between two of those removals", ge=0, original="fixed, 5 s")
    ] = 5.0
    storage_delay_s: Annotated[
        float,
        about(
            "first look at the size of root file systems, times boot.delay_factor",
            ge=0,
            original="fixed, 20 min",
        ),
    ] = 1200.0
    storage_interval_s: Annotated[
        float, about("look at the size of root file systems", gt=0, original="fixed, 30 min")
    ] = 1800.0
    storage_spacing_s: Annotated[
        float, about("between two apps that were too large", ge=0, original="fixed, 2 min")
    ] = 120.0
    primary_interval_s: Annotated[
        float, about("choice of the primary of g: apps", gt=0, original="fluxapps.masterSlaveIntervalMs")
    ] = 30.0
    unsynced_removal_s: Annotated[
        float, about("daemon unsynced this long: apps are removed", gt=0, original="fixed, 2 h")
    ] = 7200.0
    unsynced_removal_spacing_s: Annotated[
        float, about("between two of those removals", ge=0, original="fixed, 3 min")
    ] = 180.0
    crash_backoff_s: Annotated[
        tuple[Seconds, ...],
        about("waits before a crashing app is started", min_length=1, original="system.crashBackoffDelaysMs"),
    ] = (0.0, 30.0, 300.0, 900.0, 1800.0)
    crash_stable_s: Annotated[
        float, about("running this long forgives crashes", gt=0, original="system.crashBackoffStableRunMs")
    ] = 600.0


class PortTestSettings(Section, frozen=True, kw_only=True):
    """Asking other nodes whether an app's ports can be reached (lifecycle.md §18)."""

    bind_delay_s: Annotated[
        float, about("after opening the listener", ge=0, original="fluxapps.portTestBindDelayMs")
    ] = 5.0
    propagation_delay_s: Annotated[
        float, about("after opening all ports", ge=0, original="fluxapps.portTestPropagationDelayMs")
    ] = 10.0
    peer_timeout_s: Annotated[
        float, about("answer of a testing node", gt=0, original="fluxapps.portTestPeerTimeoutMs")
    ] = 30.0
    max_attempts: Annotated[
        int, about("nodes that are asked", ge=1, original="fluxapps.portTestMaxAttempts")
    ] = 5
