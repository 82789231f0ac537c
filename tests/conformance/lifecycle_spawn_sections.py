"""lifecycle.json, section g: one round of the spawner."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from runner import Context, Outcome, deviates, expect, fields, one, register

from trionode.config.tree import Settings
from trionode.plans.candidates import Candidate
from trionode.plans.deferrals import Kind
from trionode.plans.requirements import Refusal
from trionode.plans.spawn import plan_spawn
from trionode.plans.spawnchoice import SpawnFacts, SpawnRules
from trionode.plans.spawnmemory import Cache, Deferred, SpawnMemory
from trionode.plans.spawnneeds import (
    Announce,
    CheckImages,
    CheckPorts,
    CheckRequirements,
    CountErrors,
    ImageProblem,
    Install,
    Instance,
    IsVetted,
    ListCandidates,
    LookInstalling,
    LookRunning,
    Need,
    ProbePeers,
    Publish,
    ReadSpec,
    RemoveOwn,
    VerifyImages,
    Wait,
)

NOW_MS = 1_700_000_000_000
OWN = "50.60.70.80:16127"
TIERS = {"basic": "cumulus", "super": "nimbus", "bamf": "stratus"}
UNREACHABLE = "Unable to communicate with Flux Services"
COMPONENT = {
    "name": "web",
    "repotag": "r/i:1",
    "ports": [31000],
    "containerPorts": [80],
    "containerData": "/d",
}


class FixedRandom(random.Random):
    """A source that always draws the same."""

    def __init__(self, value: float) -> None:
        super().__init__(0)
        self._value = value

    def random(self) -> float:
        return self._value


@register("lifecycle", "g_spawner.note")
def note(section: Any, context: Context) -> Iterator[Outcome]:
    """No case: the defaults, which the runner below sets up."""
    yield Outcome("g_spawner.note", "passed" if isinstance(section, str) else "failed")


@register("lifecycle", "g_spawner.cases")
def cases(section: Any, context: Context) -> Iterator[Outcome]:
    ways = {
        "directory_named_logs_counts_as_syncthing": "D-2",
        "geo_all_suffix_filtered_by_spawner": "D-19",
    }
    for case in section:
        case_id, defect = f"g_spawner {case.get('name', '')}", ways.get(case.get("name", ""))
        if defect is None:
            yield one(case_id, check_round, case)
            continue
        advised = one(case_id, check_round, {**case, **installed("appA")})
        known = deviates(f"lifecycle.g_spawner.{defect}", "bug", context)
        yield advised if advised.status != "passed" else Outcome(case_id, known.status, known.detail)


def installed(app: str) -> dict[str, Any]:
    """What a round looks like whose app nothing speaks against."""
    calls = [
        ["storeInstalling", "fluxappinstalling", 1, app, OWN],
        ["broadcast", "fluxappinstalling", app],
        ["delay", 90_000],
        ["register", app],
        ["delay", 60_000],
    ]
    return {"returnDelayMs": 1_800_000, "calls": calls, "shortCache": {f"h_{app}": "default"}}


def check_round(case: Any) -> None:
    fields(
        case,
        "name input returnDelayMs published calls shortCache longCache deferred deferredSyncthing "
        "notConfirmedFlag",
    )
    world = World(case["input"])
    expect("pause", world.run(), case["returnDelayMs"])
    expect("published", world.published, case["published"])
    expect("calls", world.calls, case["calls"])
    memory = world.memory
    expect("tried", shown(memory.tried, 43_200_000), case["shortCache"])
    expect("failed", shown(memory.failed, 604_800_000), case["longCache"])
    expect("deferred", [row(entry) for entry in memory.deferred], case["deferred"])
    waiting = [row(entry) for entry in memory.deferred_for_peers]
    expect("deferred for peers", waiting, case["deferredSyncthing"])
    expect("was not confirmed", memory.was_unconfirmed, case["notConfirmedFlag"])


def shown(cache: Cache, usual_ms: int) -> dict[str, Any]:
    times = {hash: until_ms - NOW_MS for hash, until_ms in cache._until_ms.items()}
    return {hash: "default" if ttl_ms == usual_ms else ttl_ms for hash, ttl_ms in times.items()}


def row(entry: Deferred) -> dict[str, Any]:
    return {
        "appName": entry.app,
        "hash": entry.hash,
        "required": entry.required,
        "inMs": entry.due_ms - NOW_MS,
    }


class World:
    """Everything around one round."""

    def __init__(self, given: Any) -> None:
        fields(
            given,
            "",
            "enterpriseNode synced dbReady dos confirmed wasNotConfirmed benchError myIP containers "
            "candidates random longCache shortCache geo noHeadroom nodeStatic nodeDatacenter arcane spec "
            "component hw tier later laterSyncthing locations installing installed blockedPorts vetted "
            "compliance requirements repoError noSpec errorCount registerThrows registerFails portsUsed "
            "portsUnreachable "
            "peersUnreachable",
        )
        self.given = given
        self.calls: list[list[Any]] = []
        self.published: list[dict[str, Any]] = []
        self.running = looks(given.get("locations", []), "runningSince")
        self.installing = looks(given.get("installing", []), "broadcastedAt")
        self.memory = SpawnMemory(lambda: NOW_MS)
        self.memory.was_unconfirmed = bool(given.get("wasNotConfirmed"))
        settings = Settings().spawner
        for cache, name, ttl_s in (
            (self.memory.tried, "shortCache", settings.tried_ttl_s),
            (self.memory.failed, "longCache", settings.failed_ttl_s),
        ):
            for hash in given.get(name, ()):
                cache.put(hash, ttl_s)
        self.memory.deferred = [put_off(entry) for entry in given.get("later", ())]
        self.memory.deferred_for_peers = [put_off(entry) for entry in given.get("laterSyncthing", ())]

    def run(self) -> int:
        given, settings = self.given, Settings()
        enterprise = given.get("enterpriseNode", False)
        own = given.get("myIP", OWN)
        kind = Kind(
            address=own or "",
            tier=TIERS.get(given.get("tier", "basic")),
            enterprise=bool(enterprise),
            arcane=bool(given.get("arcane")),
            static_ip=bool(given.get("nodeStatic")),
            datacenter=bool(given.get("nodeDatacenter")),
        )
        facts = SpawnFacts(
            kind=kind if own else None,
            enterprise=enterprise,
            synced=given.get("synced", True),
            db_ready=given.get("dbReady", True),
            dos=bool(given.get("dos")),
            confirmed=given.get("confirmed", True) is True,
            benchmark_ok=not given.get("benchError"),
            containers=given.get("containers", 0),
            place=given.get("geo", "EU_CZ_Prague"),
            installed=frozenset(given.get("installed", ())),
        )
        rules = SpawnRules(
            spawner=settings.spawner,
            enterprise_owners=settings.enterprise.owners,
            blocked_ports=given.get("blockedPorts", ()),
        )
        steps = plan_spawn(facts, self.memory, rules, FixedRandom(given.get("random", 0)))
        try:
            need = next(steps)
            while True:
                need = steps.send(self.answer(need))
        except StopIteration as end:
            return round(end.value.pause_s * 1000)

    def answer(self, need: Need) -> Any:
        given = self.given
        match need:
            case ListCandidates():
                return tuple(candidate(entry) for entry in given.get("candidates", ()))
            case LookRunning():
                return self.running()
            case LookInstalling():
                return self.installing()
            case CountErrors():
                return given.get("errorCount", 0)
            case ReadSpec(app):
                return None if given.get("noSpec") else self.spec(app)
            case IsVetted():
                return bool(given.get("vetted"))
            case CheckImages():
                text = given.get("compliance")
                return None if text is None else ImageProblem(text, text.startswith(UNREACHABLE))
            case CheckRequirements():
                text = given.get("requirements") or ("no headroom" if given.get("noHeadroom") else None)
                return None if text is None else Refusal("x", text)
            case CheckPorts():
                used = given.get("portsUsed") or given.get("portsUnreachable")
                return "ports" if used else None
            case ProbePeers():
                return not given.get("peersUnreachable")
            case VerifyImages():
                return "no image" if given.get("repoError") else None
            case Publish(name, data):
                self.published.append({"event": name, "data": dict(data)})
            case Announce(app, address):
                self.calls.append(["storeInstalling", "fluxappinstalling", 1, app, address])
                self.calls.append(["broadcast", "fluxappinstalling", app])
            case Wait(seconds):
                self.calls.append(["delay", round(seconds * 1000)])
            case Install(spec):
                self.calls.append(["register", spec["name"]])
                return not (given.get("registerThrows") or given.get("registerFails"))
            case RemoveOwn(app):
                self.calls.append(["remove", app, None, True, None, True])
        return None

    def spec(self, app: str) -> dict[str, Any]:
        chosen = next((e for e in self.given.get("candidates", ()) if e["name"] == app), {"name": app})
        component = {**COMPONENT, "cpu": 0.5, "ram": 500, "hdd": 5}
        component |= self.given.get("hw", {}) | self.given.get("component", {})
        return {"version": 8, **chosen, **self.given.get("spec", {}), "compose": [component]}


def candidate(entry: Any) -> Candidate:
    fields(entry, "name", "version owner nodes geolocation enterprise required hash instances")
    return Candidate(
        name=entry["name"],
        hash=f"h_{entry['name']}",
        required=entry.get("required", 3),
        version=entry.get("version", 8),
        owner=entry.get("owner", ""),
        nodes=tuple(entry.get("nodes", ())),
        geolocation=tuple(entry.get("geolocation", ())),
        encrypted=bool(entry.get("enterprise")),
    )


def put_off(entry: Any) -> Deferred:
    return Deferred(entry["appName"], entry["hash"], entry["required"], NOW_MS + entry["inMs"])


def looks(given: Any, time_field: str) -> Callable[[], Sequence[Instance]]:
    """One list for every look, or one for each; the last stays."""
    lists = [given] if isinstance(given, list) else list(given["seq"])

    def look() -> list[Instance]:
        rows = lists[0]
        if len(lists) > 1:
            lists.pop(0)
        return [Instance(row["ip"], as_ms(row.get(time_field))) for row in rows]

    return look


def as_ms(value: Any) -> int | None:
    if value is None or isinstance(value, int):
        return value
    if value.isdigit():
        return int(value)
    return round(datetime.datetime.fromisoformat(value).timestamp() * 1000)
