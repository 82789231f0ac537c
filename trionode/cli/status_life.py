"""The lines of `trionode status` on the life of the node: boot, own network, monitors, registry."""

from __future__ import annotations

from typing import Any

from trionode.cli.render import duration, line

ACTIONS = {
    "none": "apps left as they were",
    "reconcile": "apps started again",
    "remove_all": "all apps removed",
}
WAITS = {"daemon": "the chain daemon", "status": "the confirmation", "data": "the app data"}


def overview(found: dict[str, Any]) -> None:
    """Everything that is known; members a process does not have are left out."""
    if found.get("boot") is not None:
        _boot(found["boot"])
    if found.get("hosting") is not None:
        _hosting(found["hosting"])
    if found.get("monitor") is not None:
        _monitor(found["monitor"])
    if found.get("store") is not None:
        store_lines(found["store"])
    if found.get("registry") is not None:
        _registry(found["registry"])


def _boot(boot: dict[str, Any]) -> None:
    if boot["action"] is None:
        what = WAITS.get(boot["waitsFor"], "nothing yet")
        line("boot", f"decision waits for {what}")
        return
    state = "" if boot["settled"] else ", under way"
    line("boot", f"{ACTIONS.get(boot['action'], boot['action'])}: {boot['reason']}{state}")
    for failed in boot["failed"]:
        line("", f"{failed['what']}: {failed['problem']}")


def _hosting(hosting: dict[str, Any]) -> None:
    running = "engine away" if hosting["running"] is None else f"{hosting['running']} run"
    words = [f"{hosting['installed']} installed", running]
    if hosting["stoppedOnPurpose"]:
        words.append(f"{hosting['stoppedOnPurpose']} components stopped on purpose")
    if hosting["operation"]:
        words.append(hosting["operation"])
    line("hosting", ", ".join(words))
    if hosting.get("problem"):
        line("", f"the container engine is away: {hosting['problem']}")


def _monitor(monitor: dict[str, Any]) -> None:
    steady = "" if monitor["inSteadyState"] else ", not long enough connected to judge"
    line("network", f"{monitor['network'].replace('_', ' ').lower()}{steady}")
    if monitor["removingApps"]:
        line("monitor", f"apps are being removed: {monitor['because'] or 'standing lost'}")
    elif monitor["duty"] == "remove all apps":
        line("monitor", f"no apps here: {monitor['because']}")
    if monitor["daemonBehindS"] is not None:
        line("daemon", f"behind for {duration(monitor['daemonBehindS'])}")
    swept = monitor["lastSweep"]
    if swept is None:
        return
    if swept["skipped"]:
        line("last sweep", f"skipped: {swept['skipped']}")
        return
    words = f"{swept['suspects']} not listed, {len(swept['evicted'])} evicted"
    line("last sweep", f"{words}, {duration(swept['ageS'])} ago")


def store_lines(store: dict[str, Any]) -> None:
    """Where the data is; while something does not work, what, and what to do."""
    if store["connected"]:
        line("store", store_place(store))
        return
    line("store", f"{store_place(store)} {store_trouble(store)}")
    if store["remedy"]:
        line("", store["remedy"])


def store_place(store: dict[str, Any]) -> str:
    """Where the node keeps its data."""
    return f"{store['kind']} {'in' if store['kind'] == 'SQLite' else 'at'} {store['server']}"


def store_trouble(store: dict[str, Any]) -> str:
    """What does not work, since when, and why."""
    what = "cannot be written" if store["readable"] else "does not answer"
    return f"{what}, for {duration(store['lostForS'])}: {store['problem']}"


def _registry(registry: dict[str, Any]) -> None:
    if registry["scannedHeight"] is None and not registry["payments"]:
        return
    words = [f"{registry['inForce']} specifications in force"]
    if registry["scannedHeight"] is not None:
        words.append(f"read to block {registry['scannedHeight']}")
    missing, given_up = registry["missing"], registry["unreachable"]
    of_them = f", {given_up} of them given up" if given_up else ""
    words.append(f"{missing} of {registry['payments']} messages missing{of_them}")
    line("registry", ", ".join(words))
    for name, member in (("reading", "scan"), ("fetching", "hashSync")):
        progress = registry[member]
        if progress is not None and progress["done"] < progress["total"]:
            left = "" if progress["leftS"] is None else f", {duration(progress['leftS'])} left"
            done = f"{progress['done']} of {progress['total']} {progress['phase']}"
            line(name, f"{done}, {progress['perSecond']:g} a second{left}")
