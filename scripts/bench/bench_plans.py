#!/usr/bin/env python3
"""How long the plans take at 200 installed apps: each is to stay below 5 ms."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from _harness import Bench, seconds_per_call

from trionode.lifecycle.local import Container, InstalledApp, components_of
from trionode.lifecycle.names import container_name
from trionode.lifecycle.reconcile import plan_reconcile
from trionode.plans.candidates import Candidate
from trionode.plans.createoptions import create_options, docker_body
from trionode.plans.crontab import mount_job, plan_jobs
from trionode.plans.deferrals import Kind
from trionode.plans.election import ElectionFacts, Member, Memory, elect, manager_urls
from trionode.plans.environment import command, environment
from trionode.plans.health import HealthFacts, plan_health
from trionode.plans.logs import LogFile
from trionode.plans.networks import NetworkState, Subnet, network_name, plan_network
from trionode.plans.networkwith import plan_links, plan_reverse
from trionode.plans.parts import parts_of
from trionode.plans.prune import EngineObject, plan_orphans, plan_prune
from trionode.plans.prune import Kind as ObjectKind
from trionode.plans.spawn import plan_spawn
from trionode.plans.spawnchoice import SpawnFacts, SpawnRules
from trionode.plans.spawnmemory import SpawnMemory

APPS = 200
CANDIDATES = 2000
GOAL_MS = 5.0
SPAWN_ANSWERS: dict[str, Any] = {
    "LookRunning": [],
    "LookInstalling": [],
    "CountErrors": 0,
    "IsVetted": True,
    "ProbePeers": True,
    "Install": True,
}


def spec(number: int) -> dict[str, Any]:
    """An app of three components that links to another; every tenth is elected."""
    flag = "g:" if number % 10 == 0 else ""
    parts = [
        {
            "name": name,
            "repotag": "r/i:1",
            "ports": [31_000 + number * 3 + place],
            "containerPorts": [80],
            "containerData": f"{flag}/d|m:logs:/var/log|f:c.yml:/c.yml",
            "environmentParameters": ["A=1", "B=2"],
            "commands": ["run"],
            "cpu": 0.5,
            "ram": 500,
            "hdd": 5,
        }
        for place, name in enumerate(("web", "db", "cache"))
    ]
    text = f"An app. networkWith:[app{number + 1}]"
    return {"version": 8, "name": f"app{number}", "owner": "o", "description": text, "compose": parts}


def main() -> int:
    bench = Bench(f"plans at {APPS} apps of three components")
    specs = [spec(number) for number in range(APPS)]
    apps = [InstalledApp(one["name"], "h", components_of(one) or ()) for one in specs]
    names = [container_name(part.identifier) for app in apps for part in app.components]
    well = dict.fromkeys(names, "running")
    by_app = {app.name: [container_name(p.identifier) for p in app.components] for app in apps}
    ill = {name: "exited" for number, name in enumerate(names) if number % 3}
    known = frozenset(app.name for app in apps)

    def add(name: str, call: Callable[[], object]) -> None:
        bench.add(name, seconds_per_call(call) * 1000, "ms", goal=GOAL_MS, better="lower")

    add("plan_health, all well", lambda: plan_health(HealthFacts(apps=apps, states=well, known=known)))
    add("plan_health, none well", lambda: plan_health(HealthFacts(apps=apps, states=ill, known=known)))
    containers = [Container(name, "exited") for name in names]
    parts = {app.name: app.components for app in apps}
    add("plan_reconcile (boot)", lambda: plan_reconcile(apps, containers, parts.get, lambda app: True))
    add("plan_links", lambda: plan_links(specs, by_app.__getitem__))
    add("plan_reverse", lambda: plan_reverse("app7", specs, by_app.__getitem__))
    objects = [
        EngineObject(kind, f"{kind.value}{number}", frozenset({f"app{number % (APPS + 20)}"}))
        for kind in ObjectKind
        for number in range(3 * APPS)
    ]
    add("plan_prune, 2,400 objects", lambda: plan_prune(objects, known))
    add(
        "plan_orphans",
        lambda: plan_orphans(apps, containers, is_app=lambda name: True, listed=lambda name: True),
    )
    jobs = [
        mount_job(p.identifier, f"/m/{p.identifier}FLUXFSVOL", "/a") for app in apps for p in app.components
    ]
    add("plan_jobs", lambda: plan_jobs(jobs, names))
    networks = {network_name(f"app{number}"): [Subnet(number).cidr] for number in range(APPS)}
    add("plan_network", lambda: plan_network("new", networks, random.Random(1), tries=21))
    add("create options and body", lambda: container_of(specs[1]))
    add("election, one app of 100 nodes", election)
    add("spawner round, 2,000 candidates", lambda: spawn_round(specs[1]))
    return bench.finish()


def container_of(one: dict[str, Any]) -> object:
    parts = parts_of(one) or ()
    taken = frozenset(f"172.23.1.{number}" for number in range(2, 200))
    options = create_options(
        parts[0],
        [part.identifier for part in parts],
        environment=environment(parts[0].environment, app="a", own_ip="1.2.3.4"),
        command=command(parts[0].commands),
        log=LogFile(),
        network=NetworkState("172.23.1.0/24", "172.23.1.1", taken),
        apps_dir="/apps",
        host_service_ip="169.254.43.43",
    )
    return docker_body(options)


def election() -> object:
    members = [Member(f"1.1.{number}.1:16127", number) for number in range(100)]
    facts = ElectionFacts(
        app="app0",
        components=components_of(spec(0)) or (),
        members=members,
        own_address="1.1.99.1:16127",
        now_ms=10,
    )
    return finish(elect(facts, Memory(None, 5), manager_urls("app0")), lambda need: [])


def spawn_round(one: dict[str, Any]) -> object:
    candidates = tuple(
        Candidate(name=f"c{n}", hash=f"h{n}", geolocation=("acEU",)) for n in range(CANDIDATES)
    )
    facts = SpawnFacts(kind=Kind(address="1.2.3.4:16127"), place="EU_CZ_Prague")
    steps = plan_spawn(facts, SpawnMemory(lambda: 0), SpawnRules(), random.Random(1))
    answers = {**SPAWN_ANSWERS, "ListCandidates": candidates, "ReadSpec": one}
    return finish(steps, lambda need: answers.get(type(need).__name__))


def finish(steps: Any, answer: Callable[[Any], Any]) -> object:
    """Run a plan that asks to its end."""
    try:
        need = next(steps)
        while True:
            need = steps.send(answer(need))
    except StopIteration as end:
        return end.value


if __name__ == "__main__":
    raise SystemExit(main())
