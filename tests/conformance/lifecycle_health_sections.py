"""lifecycle.json, sections f and j: health of containers, election of primaries.

The advised answer of a known defect is checked in place of the file's; each id in deviations.toml stands
for all cases of that one defect.
"""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable, Collection, Iterator
from typing import Any

from runner import Context, Outcome, deviates, each, expect, fields, one, register

from trionode.config.tree import MonitorSettings
from trionode.lifecycle.local import InstalledApp, components_of
from trionode.lifecycle.names import container_name
from trionode.plans.election import (
    AskManager,
    Election,
    ElectionFacts,
    FolderStep,
    Member,
    Memory,
    Need,
    StartPrimary,
    StopApp,
    elect,
    manager_urls,
    may_elect,
)
from trionode.plans.health import (
    HealthFacts,
    Leave,
    NoteTampering,
    Recreate,
    Remember,
    StartContainer,
    after_failure,
    plan_health,
    standing_by,
)

NOW_MS = 1_700_000_000_000


def known_defect(
    context: Context, section: str, case: Any, check: Callable[[Any], None], ways: Any
) -> Outcome:
    """The outcome of a case, or of the advised answer of the first defect it shows."""
    case_id = f"{section} {case.get('name', '')}"
    plain = one(case_id, check, case)
    if plain.status == "passed":
        return plain
    for defect, advise in ways.items():
        advised = advise(copy.deepcopy(case))
        if advised is None:
            continue
        told = one(case_id, check, advised)
        if told.status != "passed":
            return told
        outcome = deviates(f"lifecycle.{section}.{defect}", "bug", context)
        return Outcome(case_id, outcome.status, outcome.detail)
    return plain


# ---- f: health ---------------------------------------------------------------------------------------


@register("lifecycle", "f_containerHealth")
def health(section: Any, context: Context) -> Iterator[Outcome]:
    ways = {"D-2": without_flag, "D-8": version_three, "D-7": held_app, "D-25": only_what_exists}
    for case in section:
        yield known_defect(context, "f_containerHealth", case, check_health, ways)


def check_health(case: Any) -> None:
    given = fields(
        fields(case, "name now input passes")["input"],
        "installed",
        "running existing passes globalSpecs backup restore location startFails volumeMounted "
        "recreateFails appearsDuringRecreate flags busy",
    )
    world = HealthWorld(given, case["now"])
    for number, theirs in enumerate(case["passes"]):
        fields(theirs, "calls startedApps masterSlaveAppsInstalled")
        world.look()
        expect(f"calls of pass {number}", world.calls, theirs["calls"])
        expect(f"started in pass {number}", world.started, theirs["startedApps"])
        # the file names an app once for each of its components; who announces it does so once
        listed = list(dict.fromkeys(theirs["masterSlaveAppsInstalled"]))
        expect(f"standing by after pass {number}", world.standing, listed)


class HealthWorld:
    """An engine and a clock around the plan."""

    def __init__(self, given: Any, now_ms: int) -> None:
        self.given = given
        self.now_ms = now_ms
        self.apps = [InstalledApp(spec["name"], "", components_of(spec) or ()) for spec in given["installed"]]
        self.states = {container_name(name): "exited" for name in given.get("existing", ())}
        self.states |= {container_name(name): "running" for name in given.get("running", ())}
        self.seen: dict[str, int] = {}
        self.calls: list[list[Any]] = []
        self.started: list[str] = []
        self.standing: list[str] = []

    def look(self) -> None:
        self.calls, self.started = [], []
        given = self.given
        names = [app.name for app in self.apps]
        location = given.get("location")
        since = {} if location is None else dict.fromkeys(names, as_ms(location["runningSince"]))
        every = [part.identifier for app in self.apps for part in app.components]
        facts = HealthFacts(
            apps=self.apps,
            states=dict(self.states),
            known=frozenset(given.get("globalSpecs", names)),
            held=frozenset([*given.get("backup", ()), *given.get("restore", ())]),
            since_ms=since,
            seen_ms=dict(self.seen),
            crash_waits_s=MonitorSettings().crash_backoff_s,
            mounted=frozenset(every if given.get("volumeMounted", True) else ()),
            busy=bool(given.get("busy")) or any(given.get("flags", {}).values()),
            now_ms=self.now_ms,
        )
        removed: set[str] = set()
        for action in plan_health(facts):
            if action.app in removed or isinstance(action, Leave):
                continue
            if isinstance(action, Remember):
                self.seen[action.identifier] = self.now_ms
            elif not self.carry_out(action):
                removed.add(action.app)
        self.standing = list(standing_by(facts, self.states))

    def carry_out(self, action: StartContainer | Recreate) -> bool:
        """Whether the app is still there afterwards."""
        name, given = action.identifier, self.given
        if isinstance(action, StartContainer):
            self.calls.append(["start", name])
            fails = given.get("startFails")
            problem = "nope" if fails is True or (fails and name in fails) else None
        else:
            if action.tampering:
                self.calls.append(["tamper", action.app, action.tampering])
            self.calls.append(["installSoft" if action.keeps_volume else "installHard", name])
            problem = given.get("recreateFails")
        if problem is None:
            self.states[container_name(name)] = "running"
            if not (isinstance(action, Recreate) and action.elected):
                self.calls.append(["monitor", name])
                self.started.append(name)
            else:
                self.states[container_name(name)] = "created"
            return True
        exists = bool(given.get("appearsDuringRecreate"))
        if exists:
            self.states[container_name(name)] = "exited"
        consequences = after_failure(action, problem, exists=exists, busy=False)
        for step in consequences:
            if isinstance(step, NoteTampering):
                self.calls.append(["tamper", step.app, step.kind])
            else:
                self.calls.append(["remove", step.app, None, False, True, True])
                for container in [n for n in self.states if n.endswith(f"_{step.app}")]:
                    del self.states[container]
                return False
        return True


def as_ms(text: str) -> int:
    return round(datetime.datetime.fromisoformat(text).timestamp() * 1000)


def specs_of(case: Any) -> list[dict[str, Any]]:
    return [part for spec in case["input"]["installed"] for part in spec.get("compose", [spec])]


def without_flag(case: Any) -> Any:
    """D-2: a letter before a colon somewhere is no flag, so the component is started like any other."""
    if case["name"] != "directory_named_config_counts_as_g":
        return None
    nothing = {"calls": [], "startedApps": [], "masterSlaveAppsInstalled": []}
    started = {**nothing, "calls": [["start", "web_appC"], ["monitor", "web_appC"]]}
    case["passes"] = [nothing, {**started, "startedApps": ["web_appC"]}]
    return case


def version_three(case: Any) -> Any:
    """D-8: an app of version 3 is made again like any other."""
    if case["name"] != "legacy_v3_missing_always_removed":
        return None
    calls = [["tamper", "old", "container_vanished"], ["installSoft", "old"], ["monitor", "old"]]
    case["passes"] = [{"calls": calls, "startedApps": ["old"], "masterSlaveAppsInstalled": []}]
    return case


def held_app(case: Any) -> Any:
    """D-7: what is named by its app is held too, so nothing of it is touched."""
    held = {*case["input"].get("backup", ()), *case["input"].get("restore", ())}
    apps = {spec["name"] for spec in case["input"]["installed"]}
    if not apps or not apps <= held:
        return None
    for row in case["passes"]:
        row["calls"], row["startedApps"] = [], []
    return case


def only_what_exists(case: Any) -> Any:
    """D-25: an app with a container missing after the pass is not announced."""
    existing = {*case["input"].get("existing", ()), *case["input"].get("running", ())}
    changed = False
    for row in case["passes"]:
        removed = {call[1] for call in row["calls"] if call[0] == "remove"}
        made = {c[1] for c in row["calls"] if c[0].startswith("install") and c[1] in row["startedApps"]}
        for spec in case["input"]["installed"]:
            parts = [f"{part['name']}_{spec['name']}" for part in spec.get("compose", ())]
            if spec["name"] in removed or any(part not in existing | made for part in parts):
                kept = [name for name in row["masterSlaveAppsInstalled"] if name != spec["name"]]
                changed = changed or kept != row["masterSlaveAppsInstalled"]
                row["masterSlaveAppsInstalled"] = kept
    return case if changed else None


# ---- j: election -------------------------------------------------------------------------------------


@register("lifecycle", "j_masterSlave.note")
def note(section: Any, context: Context) -> Iterator[Outcome]:
    """No case: what all cases have in common, which the runner below sets up."""
    yield Outcome("j_masterSlave.note", "passed" if isinstance(section, str) else "failed")


@register("lifecycle", "j_masterSlave.cycles")
def cycles(section: Any, context: Context) -> Iterator[Outcome]:
    ways = {"D-12": silent_managers, "D-13": not_asking_oneself}
    for case in section:
        yield known_defect(context, "j_masterSlave", case, check_cycles, ways)


@register("lifecycle", "j_masterSlave.fdmIndex")
def manager_groups(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "app requests")
        expect("urls", list(manager_urls(case["app"])), case["requests"])

    yield from each("j_masterSlave.fdmIndex", section, check, ("app",))


class ElectionWorld:
    """The network around one node through its cycles."""

    def __init__(self, given: Any) -> None:
        fields(given, "cycles", "locations ready flags myIP backup restore running")
        self.given = given
        self.memory = Memory()
        self.now_ms = NOW_MS
        self.folder_type = "receiveonly"
        self.asked: list[str] = []
        self.calls: list[list[Any]] = []

    def cycle(self, row: Any) -> None:
        fields(row, "", "fdm remote advanceMs syncthingDown folderType running")
        self.asked, self.calls = [], []
        self.now_ms += row.get("advanceMs", 0)
        self.folder_type = row.get("folderType", self.folder_type)
        actions = self.decide(row)
        self.calls.append(["wait", 30_000])
        for action in actions:
            self.carry_out(action)

    def decide(self, row: Any) -> list[StartPrimary | StopApp]:
        given = self.given
        if not may_elect(
            busy=any(given.get("flags", {}).values()), files_in_order=not row.get("syncthingDown")
        ):
            return []
        spec = {
            "version": 8,
            "name": "appG",
            "compose": [{"name": "db", "containerData": "g:/d"}, {"name": "web"}],
        }
        facts = ElectionFacts(
            app="appG",
            components=components_of(spec) or (),
            members=[
                Member(place["ip"], as_ms(place["runningSince"]) if "runningSince" in place else None)
                for place in given.get("locations", ())
            ],
            own_address=given.get("myIP", "50.60.70.80:16127"),
            running=frozenset(container_name(name) for name in row.get("running", given.get("running", ()))),
            ready=given.get("ready", True) or self.folder_type == "sendreceive",
            held="appG" in [*given.get("backup", ()), *given.get("restore", ())],
            now_ms=self.now_ms,
        )
        result = self.run(facts, row)
        self.memory = result.memory
        return [] if result.action is None else [result.action]

    def run(self, facts: ElectionFacts, row: Any) -> Election:
        steps = elect(facts, self.memory, manager_urls(facts.app))
        try:
            need = next(steps)
            while True:
                need = steps.send(self.answer(need, row))
        except StopIteration as end:
            result: Election = end.value
            return result

    def answer(self, need: Need, row: Any) -> Collection[str] | None:
        if isinstance(need, AskManager):
            self.asked.append(need.url)
            told = row.get("fdm", [])
            return None if told == "down" else [] if told == "404" else told
        self.calls.append(["ask", f"http://{need.address}/apps/listrunningapps"])
        found: Collection[str] | None = row.get("remote", {}).get(need.address)
        return found

    def carry_out(self, action: StartPrimary | StopApp) -> None:
        if isinstance(action, StopApp):
            self.calls += [["stop", name] for name in action.identifiers]
            return
        for step in action.steps:
            self.step(step)

    def step(self, step: FolderStep) -> None:
        if step.what == "restart":
            self.calls.append(["restart", step.target])
        elif step.what == "open":
            self.calls.append(["shell", f"sudo chmod -R 777 /flux/ZelApps/{step.target}"])
        elif step.folder_type != self.folder_type:
            self.folder_type = step.folder_type
            self.calls.append(["folderType", step.folder_type])


def check_cycles(case: Any) -> None:
    fields(case, "name input cycles")
    world = ElectionWorld(case["input"])
    for row, theirs in zip(case["input"]["cycles"], case["cycles"], strict=True):
        fields(theirs, "cycle fdmRequests calls")
        world.cycle(row)
        expect(f"managers asked in cycle {theirs['cycle']}", world.asked, theirs["fdmRequests"])
        expect(f"calls of cycle {theirs['cycle']}", world.calls, theirs["calls"])


def silent_managers(case: Any) -> Any:
    """D-12: while no manager answers nobody starts."""
    rows = [number for number, row in enumerate(case["input"]["cycles"]) if row.get("fdm") == "down"]
    for number in rows:
        case["cycles"][number]["calls"] = [["wait", 30_000]]
    return case if rows else None


def not_asking_oneself(case: Any) -> Any:
    """D-13: a node that was primary itself need not ask itself."""
    own = case["input"].get("myIP", "50.60.70.80:16127").partition(":")[0]
    changed = False
    for row in case["cycles"]:
        kept = [call for call in row["calls"] if not (call[0] == "ask" and f"//{own}:" in call[1])]
        changed = changed or kept != row["calls"]
        row["calls"] = kept
    return case if changed else None
