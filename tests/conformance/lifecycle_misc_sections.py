"""lifecycle.json, section i: event stream, ports, pauses, bursts, hardware, daemon health."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import trio
from runner import Context, Outcome, describe_kind, each, expect, fields, register
from trio.testing import MockClock

from trionode.config.tree import (
    EconomySettings,
    ExplorerSettings,
    MonitorSettings,
    RegistrySettings,
    ResourceSettings,
    SpawnerSettings,
)
from trionode.lifecycle.limits import Machine, Need, apps_without_room, cpu_burst, spawn_pauses
from trionode.lifecycle.monitors import DaemonHealth, after_check
from trionode.registry.constants import Constants

describe_kind("lifecycle", ("meta",))

API_HARNESS = Path(__file__).resolve().parent.parent / "api" / "conftest.py"
REMOVAL = ["a", None, True, True, True]
"""Forced, ends the response, told to the network: what every removal of ours is."""


@register("lifecycle", "i_misc.ports")
def ports(section: Any, context: Context) -> Iterator[Outcome]:
    constants = Constants(RegistrySettings(), EconomySettings(), ExplorerSettings())

    def check(case: Any) -> None:
        case = fields(case, "port banned enterprise")
        expect("banned", case["port"] in constants.banned_ports, case["banned"])
        expect("enterprise", case["port"] in constants.enterprise_ports, case["enterprise"])

    return each("i_misc.ports", section, check, ("port",))


@register("lifecycle", "i_misc.spawnDelays")
def spawn_delays(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        case = fields(case, "enterpriseNode candidates expected")
        expected = fields(case["expected"], "shortDelayTime delayTime")
        pauses = spawn_pauses(
            SpawnerSettings(), enterprise_node=case["enterpriseNode"], candidates=case["candidates"]
        )
        expect("shortDelayTime", round(pauses.short_s * 1000), expected["shortDelayTime"])
        expect("delayTime", round(pauses.long_s * 1000), expected["delayTime"])

    return each("i_misc.spawnDelays", section, check, ("candidates",))


@register("lifecycle", "i_misc.cpuBurst")
def cpu_bursts(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        case = fields(case, "cores hostCpus expected")
        expected = fields(case["expected"], "periodUs quotaUs burstUs")
        burst = cpu_burst(ResourceSettings(), cores=float(case["cores"]), host_cpus=case["hostCpus"])
        expect("periodUs", burst.period_us, expected["periodUs"])
        expect("quotaUs", burst.quota_us, expected["quotaUs"])
        expect("burstUs", burst.burst_us, expected["burstUs"])

    return each("i_misc.cpuBurst", section, check, ("cores",))


@register("lifecycle", "i_misc.hardwareValidation")
def hardware(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        case = fields(case, "name node apps removed")
        node = fields(case["node"], "cpuCores ram ssdStorage")
        needs = []
        for app in case["apps"]:
            app = fields(app, "name height", "cpu ram hdd")
            if "cpu" in app:  # else its specification is missing: it cannot be judged
                needs.append(Need(app["name"], app["height"], app["cpu"], app["ram"], app["hdd"]))
        machine = Machine(node["cpuCores"], node["ram"], node["ssdStorage"])
        expect("removed", apps_without_room(machine, needs, ResourceSettings()), case["removed"])

    return each("i_misc.hardwareValidation", section, check)


@register("lifecycle", "i_misc.daemonHealth")
def daemon_health(section: Any, context: Context) -> Iterator[Outcome]:
    limit_s = MonitorSettings().unsynced_removal_s

    def check(case: Any) -> None:
        case = fields(case, "name trace")
        health, now_s = DaemonHealth(), 0.0
        for number, step in enumerate(case["trace"]):
            step = fields(step, "synced advancedMs removals")
            now_s += step["advancedMs"] / 1000
            due = False
            if step["synced"] != "busy":
                health, due = after_check(health, synced=step["synced"], now_s=now_s, limit_s=limit_s)
            expect(f"removals of step {number}", [REMOVAL] if due else [], step["removals"])

    return each("i_misc.daemonHealth", section, check)


@register("lifecycle", "i_misc.eventStream")
def event_stream(section: Any, context: Context) -> Iterator[Outcome]:
    """Asked of the whole application, as the tests of the API do."""
    harness = _api_harness()

    def check(case: Any) -> None:
        case = fields(
            case,
            "enabled publishedBefore status headers json body",
            "publishedAfter lastEventId tickMs bytesAfterClose",
        )
        request = trio.run(_ask, harness.Harness(), case, clock=MockClock(autojump_threshold=0))
        body = request.body.decode()
        expect("status", request.status, case["status"])
        if case["json"] is not None:
            expect("json", json.loads(body), case["json"])
            return
        for name, value in case["headers"].items():
            expect(name, request.headers.get(name), value)
        wanted = case["body"]
        if isinstance(wanted, str):
            # an event of ours is always an object: who publishes nothing publishes an empty one
            expect("body", body, wanted.replace("data: null", "data: {}"))
            return
        wanted = fields(wanted, "length startsWith endsWith")
        expect("length", len(body), wanted["length"])
        expect("begin", body[: len(wanted["startsWith"])], wanted["startsWith"])
        expect("end", body[-len(wanted["endsWith"]) :], wanted["endsWith"])

    return each("i_misc.eventStream", section, check)


async def _ask(node: Any, case: dict[str, Any]) -> Any:
    node.configure("api", event_stream=case["enabled"])
    for name, data in _published(case["publishedBefore"]):
        node.bus.publish(name, data)
    headers = {"Last-Event-ID": case["lastEventId"]} if "lastEventId" in case else {}
    request = node.raw("GET", "/flux/eventstream", **headers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(request.run)
        await trio.sleep(0.1)
        for name, data in _published(case.get("publishedAfter", [])):
            node.bus.publish(name, data)
        await trio.sleep(0.1 + case.get("tickMs", 0) / 1000)
        request.leave()
    length = len(request.body)
    node.bus.publish("late", {})
    await trio.sleep(1)
    expect("bytes after the close", len(request.body) - length, case.get("bytesAfterClose", 0))
    return request


def _published(value: Any) -> list[tuple[str, Any]]:
    """The events of a case, which are a list or the words "1030 events e1..e1030"."""
    if isinstance(value, str):
        return [(f"e{number}", number) for number in range(1, int(value.split()[0]) + 1)]
    return [(name, data) for name, data in value]


def _api_harness() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conformance_api_harness", API_HARNESS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
