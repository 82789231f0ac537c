"""How the node is doing, for its status: boot, own connection, monitors, registry (docs/api.md).

The ports name what is asked of the services; a process without them (an observer, a test) has None.
"""

from __future__ import annotations

from typing import Any, Protocol

from trionode.api.containersport import ContainersPort
from trionode.api.registryports import RegistryParts
from trionode.hosting.boot import BootResults
from trionode.hosting.nodestatus import MonitorStatus
from trionode.lifecycle.boot import BootContext, BootDecision, BootWait
from trionode.runtime.gate import Gate


class BootPort(Protocol):
    """The boot manager (`hosting.boot.BootManager`)."""

    @property
    def context(self) -> BootContext: ...
    @property
    def decision(self) -> BootDecision | None: ...
    @property
    def waits_for(self) -> BootWait | None: ...
    @property
    def settled(self) -> Gate: ...
    @property
    def results(self) -> BootResults: ...


class WatchPort(Protocol):
    """The monitors (`trionode.watch.Watch`)."""

    def network_health(self) -> dict[str, Any]:
        """{status, inSteadyState, history}."""
        ...

    def monitor_status(self) -> MonitorStatus: ...

    def unsynced_for_s(self) -> float | None:
        """How long the daemon has been behind; None when it is not."""
        ...


def boot_document(boot: BootPort | None) -> dict[str, Any] | None:
    """What happened to the installed apps at this start, and why."""
    if boot is None:
        return None
    decision, results = boot.decision, boot.results
    return {
        "settled": boot.settled.is_open,
        "waitsFor": None if boot.waits_for is None else boot.waits_for.value,
        "action": None if decision is None else decision.action.value,
        "reason": None if decision is None else decision.reason,
        "context": boot.context.as_json(),
        "started": list(results.started),
        "removed": list(results.removed),
        "failed": [{"what": what, "problem": problem} for what, problem in results.failed],
    }


def monitor_document(watch: WatchPort | None) -> dict[str, Any] | None:
    """The own connection, the last round of the node-status monitor, and its last sweep."""
    if watch is None:
        return None
    status, network = watch.monitor_status(), watch.network_health()
    behind_s = watch.unsynced_for_s()
    swept = status.last_sweep
    return {
        "network": network["status"],
        "inSteadyState": network["inSteadyState"],
        "duty": status.duty,
        "because": status.reason,
        "removingApps": status.removing,
        "daemonBehindS": None if behind_s is None else round(behind_s, 1),
        "lastSweep": None
        if swept is None
        else {
            "ageS": status.last_sweep_age_s,
            "suspects": swept.suspects,
            "evicted": list(swept.evicted),
            "kept": [{"ip": ip, "because": why} for ip, why in swept.kept],
            "skipped": swept.skipped or None,
        },
    }


def hosting_document(containers: ContainersPort | None) -> dict[str, Any] | None:
    """How many apps are here, without asking the engine; None without one."""
    if containers is None:
        return None
    operation, running = containers.operations.current, containers.host.apps()
    return {
        "installed": len(containers.installed.rows()),
        "running": None if running is None else len(running),
        "problem": containers.engine_problem or None,
        "operation": None if operation is None else f"{operation.work.value} of {operation.app}",
        "stoppedOnPurpose": len(containers.stops.names),
    }


async def registry_document(registry: RegistryParts) -> dict[str, Any]:
    """How far the chain is read, and how many messages are here."""
    counts = await registry.store.hash_counts()
    rows = await registry.store.counts()
    explorer, sync = registry.explorer, registry.hash_sync
    hash_status = None if sync is None else sync.hash_status
    progress = None if explorer is None else explorer.status.progress
    return {
        "scannedHeight": None if explorer is None else explorer.scanned_height,
        "isSynced": None if explorer is None else explorer.is_synced,
        "scan": None if progress is None else progress.event(),
        "payments": counts.total,
        "missing": counts.missing,
        "unreachable": counts.unreachable,
        "inForce": rows["current"],
        "hashSync": None
        if hash_status is None or hash_status.progress is None
        else hash_status.progress.event(),
    }
