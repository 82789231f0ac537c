"""Section runners of lifecycle.json: boot, container names, shutdown (docs/spec/lifecycle.md §4, §5, §13).

Decisions and departures run through the whole services on a clock that jumps, with the engine of values.
The original waits 0.1 s before it looks whether the machine goes down and 1 s before it ends, in place of
waiting for its peers; ours waits for them, so those two pauses are taken out of its timeline.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import msgspec
import trio
from runner import Context, Outcome, deviates, each, expect, fields, one, register
from trio.testing import MockClock

from trionode.appstate.decision import Decision
from trionode.config.tree import BootSettings, HostingSettings, NodeSettings, SystemSettings
from trionode.errors import HostError, PeerError, StoreError
from trionode.hosting.boot import BootGates, BootManager, BootResults
from trionode.hosting.departure import Departure
from trionode.hosting.heartbeat import META_KEY, Heartbeat
from trionode.hosting.machine import SystemMachine
from trionode.hosting.memory import MemoryHost
from trionode.hosting.removal import AppRemoval
from trionode.lifecycle.boot import BootLimits
from trionode.lifecycle.local import Component, Container, InstalledApp, components_of
from trionode.lifecycle.names import bare, container_name, containers_of, parse_name
from trionode.lifecycle.reconcile import starting_components
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.runtime.machine import MemoryMachine
from trionode.store.memory import MemoryStore
from trionode.wire.envelope import Envelope

NOW_MS = 1_700_000_000_000
FOREVER_S = 3600.0


def on_virtual_time(scene: Callable[[], Any]) -> Any:
    """Run an async function on a clock that jumps."""
    return trio.run(scene, clock=MockClock(autojump_threshold=0))


def now_ms() -> int:
    return round(trio.current_time() * 1000)


# ---- boot decision -----------------------------------------------------------------------------------


class FakeMachine(MemoryMachine):
    """A machine whose boot id is the content of a file."""

    def __init__(self, content: str | None) -> None:
        super().__init__()
        self._content = content

    def boot_id(self) -> str | None:
        return (self._content or "").strip() or None


class FailingStore(MemoryStore):
    """A store that cannot be read."""

    async def get_meta(self, key: str) -> str | None:
        await trio.lowlevel.checkpoint()
        raise StoreError("no database")


class TimedHost(MemoryHost):
    """An engine that notes when it was asked for what."""

    def __init__(self, apps: Sequence[InstalledApp]) -> None:
        super().__init__(apps)
        self.timed: list[tuple[int, list[Any]]] = []

    async def start(self, identifier: str) -> None:
        self.timed.append((now_ms(), ["start", identifier]))
        if identifier in self.failing:
            raise HostError("nope")
        await super().start(identifier)

    async def remove(self, app: str, *, reason: str) -> None:
        self.timed.append((now_ms(), ["remove", app]))
        await super().remove(app, reason=reason)

    async def link(self) -> None:
        self.timed.append((now_ms(), ["reconcileLinks"]))
        await super().link()


def opened_at(nursery: trio.Nursery, at_ms: int | None) -> Gate:
    """A gate that opens at that moment; one of a moment 0 is open."""
    gate = Gate(is_open=at_ms == 0)

    async def open_later(after_ms: int) -> None:
        await trio.sleep(after_ms / 1000)
        gate.open()

    if at_ms:
        nursery.start_soon(open_later, at_ms)
    return gate


class Boot:
    """A boot manager and what is around it."""

    def __init__(
        self, nursery: trio.Nursery, host: MemoryHost, given: dict[str, Any], gates: dict[str, Any]
    ) -> None:
        self.host = host
        self.bus = EventBus()
        counters = Counters()
        store = FailingStore() if given.get("dbError") else MemoryStore()
        if given.get("heartbeat") is not None:
            record = {name: value for name, value in given["heartbeat"].items() if name != "_id"}
            store._meta[META_KEY] = msgspec.json.encode(record).decode()
        clock = VirtualClock(epoch_ms=NOW_MS)
        self.heartbeat = Heartbeat(SystemSettings(), store, FakeMachine(given.get("bootId")), clock, counters)
        self.specs: dict[str, Sequence[Component] | None] = {}
        self.listed: Callable[[str], bool] = lambda app: True
        self.manager = BootManager(
            SystemSettings(),
            BootSettings(),
            HostingSettings(),
            BootLimits(),
            host=host,
            heartbeat=self.heartbeat,
            removal=AppRemoval(host, counters),
            gates=BootGates(
                daemon_ready=opened_at(nursery, gates["daemonReadyAtMs"]),
                status_known=opened_at(nursery, gates["statusKnownAtMs"]),
                db_ready=opened_at(nursery, gates["dbReadyAtMs"]),
                confirmed=lambda: bool(gates["confirmed"]),
                is_dos=lambda: bool(gates["dos"]),
                listed=lambda app: self.listed(app),
                specs=lambda app: self.specs.get(app),
            ),
            bus=self.bus,
            counters=counters,
        )

    async def settle(self, nursery: trio.Nursery) -> int | None:
        """Run until the decision is carried out; when that was, None if it never was."""
        await nursery.start(self.heartbeat.run)
        nursery.start_soon(self.manager.run)
        with trio.move_on_after(FOREVER_S):
            await self.manager.settled.wait()
            return now_ms()
        return None


def shown(number: float) -> float | str:
    """How the file writes numbers JSON does not know."""
    if math.isnan(number):
        return "NaN"
    return "Infinity" if math.isinf(number) else number


@register("lifecycle", "b_boot.decision")
def boot_decisions(section: Any, context: Context) -> Iterator[Outcome]:
    for case in section:
        case_id = f"b_boot.decision {case['name']}"
        if case_id in context.deviations:
            # D-23: no fact is waited for without an end, so the node is taken for not confirmed.
            outcome = {
                "finished": True,
                "action": "remove_all",
                "removeCalls": [["appA", None, True, False, True], ["appB", None, True, False, True]],
                "settledAtMs": 300_000,
                "published": [["boot:settled", {}]],
            }
            advised = one(case_id, check_decision, {**case, "outcome": outcome})
            yield deviates(case_id, "bug", context) if advised.status == "passed" else advised
        else:
            yield one(case_id, check_decision, case)


def check_decision(case: Any) -> None:
    fields(case, "name now input bootContext gates outcome")
    fields(case["outcome"], "finished action removeCalls settledAtMs published")

    async def scene() -> tuple[Boot, int | None]:
        async with trio.open_nursery() as nursery:
            host = TimedHost([InstalledApp(name, "", (Component(name),)) for name in ("appA", "appB")])
            boot = Boot(nursery, host, case["input"], case["gates"])
            settled_ms = await boot.settle(nursery)
            nursery.cancel_scope.cancel()
        return boot, settled_ms

    boot, settled_ms = on_virtual_time(scene)
    expect("now", NOW_MS, case["now"])
    ours = msgspec.to_builtins(boot.manager.context)
    expect("context", {**ours, "downtimeMs": shown(boot.manager.context.downtime_ms)}, case["bootContext"])
    outcome = case["outcome"]
    decision = boot.manager.decision
    expect("action", "none" if decision is None else decision.action.value, outcome["action"])
    removed = [call[1] for _, call in boot.host.timed if call[0] == "remove"]
    expect("removed", removed, [call[0] for call in outcome["removeCalls"]])
    expect("settled at", settled_ms, outcome["settledAtMs"])
    published = [[event.name, dict(event.data)] for event in boot.bus.replay()]
    expect("published", published, outcome["published"])


# ---- reconcile ---------------------------------------------------------------------------------------

OPEN_GATES = {"daemonReadyAtMs": 0, "statusKnownAtMs": 0, "confirmed": True, "dos": False, "dbReadyAtMs": 0}
REBOOTED = {"heartbeat": {"lastAlive": NOW_MS - 60_000, "machineBootId": "boot-A"}, "bootId": "boot-B"}


@register("lifecycle", "b_boot.reconcile")
def boot_reconciles(section: Any, context: Context) -> Iterator[Outcome]:
    for case in section:
        case_id = f"b_boot.reconcile {case['name']}"
        if case_id in context.deviations:
            # D-1: the container of an unprefixed name belongs to the app of that name.
            results = {**case["results"], "appsStarted": ["fluxcloud"], "appsSkippedNoSpec": []}
            case_ours = {
                **case,
                "input": {
                    **case["input"],
                    "locations": {"fluxcloud": [{"expireAt": "2023-11-14T22:14:20.000Z"}]},
                },
                "results": results,
                "calls": [["start", "fluxcloud"], ["delay", 2000], ["reconcileLinks"]],
            }
            advised = one(case_id, check_reconcile, case_ours)
            yield deviates(case_id, "bug", context) if advised.status == "passed" else advised
        else:
            yield one(case_id, check_reconcile, case)


def check_reconcile(case: Any) -> None:
    given = fields(
        fields(case, "name now input results calls")["input"],
        "installed containers specs",
        "locations locationError ip startFails",
    )

    async def scene() -> Boot:
        async with trio.open_nursery() as nursery:
            specs = {name: components_of(spec) for name, spec in given["specs"].items()}
            rows = [
                InstalledApp(name, "", specs.get(name) or (Component(name),)) for name in given["installed"]
            ]
            host = TimedHost(rows)
            host._states = {bare(name): state for name, state in given["containers"]}
            # a component without a container of its own can be started all the same, says the file
            for row in rows:
                for part in row.components:
                    host._states.setdefault(container_name(part.identifier), "running")
            host.failing = set(given.get("startFails", ()))
            boot = Boot(nursery, host, REBOOTED, OPEN_GATES)
            boot.specs = specs
            boot.listed = lambda app: is_listed(app, given)
            await boot.settle(nursery)
            nursery.cancel_scope.cancel()
        return boot

    boot = on_virtual_time(scene)
    expect("calls", boot.host.timed, timeline(case["calls"]))
    expect("results", results_of(boot.manager.results), case["results"])


def is_listed(app: str, given: dict[str, Any]) -> bool:
    if given.get("locationError") or given.get("ip", "known") is None:
        return True
    return any(
        datetime.datetime.fromisoformat(row["expireAt"]).timestamp() * 1000 > NOW_MS
        for row in given.get("locations", {}).get(app, ())
    )


def timeline(calls: Sequence[Sequence[Any]]) -> list[tuple[int, list[Any]]]:
    """The calls with the moment the pauses between them give each."""
    at_ms, found = 0, []
    for what, *arguments in calls:
        if what == "delay":
            at_ms += arguments[0]
        else:
            found.append((at_ms, [what, *arguments[:1]]))
    return found


def results_of(results: BootResults) -> dict[str, Any]:
    return {
        "appsChecked": results.checked,
        "appsStarted": results.started,
        "appsPartiallyStarted": results.partially_started,
        "appsSkippedGMode": results.left_to_election,
        "appsSkippedNoSpec": results.without_spec,
        "appsRemoved": results.removed,
        "appsFailed": [{"app": name, "error": problem} for name, problem in results.failed],
    }


# ---- names -------------------------------------------------------------------------------------------


@register("lifecycle", "d_docker.identifiers")
def identifiers(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "input containerName dockerListName")
        expect("container", container_name(case["input"]), case["containerName"])
        expect("listed", "/" + container_name(case["input"]), case["dockerListName"])

    yield from each("d_docker.identifiers", section, check, ("input",))


@register("lifecycle", "d_docker.parsed")
def parsed(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "dockerName expected")
        component, app = parse_name(case["dockerName"])
        expect("parts", {"componentName": component, "appName": app}, case["expected"])

    yield from each("d_docker.parsed", section, check, ("dockerName",))


@register("lifecycle", "d_docker.fromAppId")
def from_app_id(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "appId expected")
        expect("app", parse_name(case["appId"])[1], case["expected"])

    yield from each("d_docker.fromAppId", section, check, ("appId",))


@register("lifecycle", "d_docker.lookup")
def lookup(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "app containers expected")
        expect("containers", containers_of(case["app"], case["containers"]), case["expected"])

    yield from each("d_docker.lookup", section, check, ("app",))


@register("lifecycle", "d_docker.nonG")
def non_g(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "spec appName expected")
        spec = case["spec"]
        components = None if spec is None else components_of(spec)
        expect("started", list(starting_components(components or ())), case["expected"])

    for number, case in enumerate(section):
        case_id = f"d_docker.nonG[{number}]"
        if case_id in context.deviations:
            # D-2: a `g:` inside a path or a mount name is no flag, so the component is started.
            everything = [f"{part['name']}_{case['spec']['name']}" for part in case["spec"]["compose"]]
            advised = one(case_id, check, {**case, "expected": everything})
            yield deviates(case_id, "bug", context) if advised.status == "passed" else advised
        else:
            yield one(case_id, check, case)


# ---- shutdown ----------------------------------------------------------------------------------------


class FakeCommands:
    """Files that are there, commands and what they print, and which were asked."""

    def __init__(self, given: dict[str, Any]) -> None:
        fields(given, "", "files commands")
        self._files = given.get("files", [])
        self._outputs = given.get("commands", {})
        self.asked: list[str] = []
        self.limits_s: list[float] = []

    def exists(self, path: str) -> bool:
        return path in self._files

    async def output(self, command: Sequence[str], within_s: float) -> str:
        await trio.lowlevel.checkpoint()
        self.asked.append(" ".join(command))
        self.limits_s.append(within_s)
        return str(self._outputs.get(" ".join(command), ""))


@register("lifecycle", "h_shutdown.detect")
def detect(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "name input shuttingDown commands")
        commands = FakeCommands(case["input"])
        going_down = on_virtual_time(SystemMachine(SystemSettings(), commands).is_going_down)
        expect("going down", going_down, case["shuttingDown"])
        expect("commands", commands.asked, case["commands"])

    yield from each("h_shutdown.detect", section, check)


class Stage:
    """Everything a departure acts on; writes down what happens and when."""

    def __init__(self, given: dict[str, Any]) -> None:
        fields(
            given,
            "",
            "files commands containers runningApps stopMs stopFails killFails ip broadcastFails "
            "storeFails dockerFails",
        )
        self.given = given
        self.own_address = given.get("ip", "1.2.3.4:16127")
        self.said_ms = 0
        self.done: list[tuple[int, str, list[Any]]] = []
        self.commands = FakeCommands({k: v for k, v in given.items() if k in ("files", "commands")})
        self.machine = SystemMachine(SystemSettings(), self.commands)

    def note(self, action: str, *arguments: Any) -> None:
        self.done.append((now_ms(), action, list(arguments)))

    # peers and log
    def broadcast_last(self, data: dict[str, Any]) -> Envelope:
        self.note("broadcast", data)
        self.said_ms = data["broadcastedAt"]
        if self.given.get("broadcastFails"):
            raise PeerError("no key")
        return cast("Envelope", object())

    async def flushed(self) -> None:
        await trio.lowlevel.checkpoint()

    async def apply_local(self, envelope: Envelope) -> Decision:
        await trio.lowlevel.checkpoint()
        self.note("storeEvent", "sigterm", ["message", "envelope"])
        if self.given.get("storeFails"):
            raise StoreError("no database")
        # the end of our own rows follows from the event itself (docs/spec/events.md §7)
        self.note("updateLocations", {"ip": self.own_address}, {"$set": {"expireAt": self.said_ms + 420_000}})
        return Decision(accepted=True)

    # heartbeat
    async def record_shutdown(self, reason: str) -> None:
        await trio.lowlevel.checkpoint()
        self.note("writeShutdownReason", reason)

    # engine
    async def containers(self) -> tuple[Container, ...]:
        await trio.lowlevel.checkpoint()
        if self.given.get("dockerFails"):
            raise HostError("engine down")
        return tuple(Container(bare(name), "running") for name in self.given.get("containers", ()))

    async def stop(self, container: str, grace_s: float) -> None:
        self.note("stop", container, round(grace_s))
        await trio.sleep(self.given.get("stopMs", {}).get(container, 100) / 1000)
        if container in self.given.get("stopFails", ()):
            raise HostError("will not stop")

    async def kill(self, container: str) -> None:
        await trio.lowlevel.checkpoint()
        self.note("kill", container)
        if container in self.given.get("killFails", ()):
            raise HostError("will not die")


@register("lifecycle", "h_shutdown.flow")
def flow(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "name input timeline")
        stage = Stage(case["input"])
        asked: list[float] = []

        async def scene() -> None:
            departure = Departure(
                NodeSettings(),
                HostingSettings(),
                machine=stage.machine,
                host=stage,  # type: ignore[arg-type]
                heartbeat=stage,  # type: ignore[arg-type]
                peers=stage,
                own_log=stage,
                facts=stage,
                clock=VirtualClock(epoch_ms=100),
                counters=Counters(),
                running=lambda: case["input"].get("runningApps", ()),
                hush=lambda: None,
            )
            await departure.leave("SIGTERM", asked.append)

        on_virtual_time(scene)
        theirs = case["timeline"]
        wanted = [(row["atMs"] - 100, row["action"], row["args"]) for row in theirs]
        wanted = [row for row in wanted if row[1] not in ("delay", "verifyPoolStop", "exit", "command")]
        expect("timeline", in_order(stage.done), in_order(wanted))
        commands = [row["args"] for row in theirs if row["action"] == "command"]
        limits = [
            [name, round(s * 1000)]
            for name, s in zip(stage.commands.asked, stage.commands.limits_s, strict=True)
        ]
        expect("commands", limits, commands)
        expect("more time", bool(asked), any(row[1] == "stop" for row in wanted))

    yield from each("h_shutdown.flow", section, check)


def in_order(rows: Sequence[tuple[int, str, list[Any]]]) -> list[tuple[int, str, list[Any]]]:
    """By time and name: what ours does side by side has no order within one moment."""
    return sorted(rows, key=lambda row: (row[0], row[1], str(row[2])))
