"""Section runners of lifecycle.json: orchestrator, confirmation, gate (docs/spec/lifecycle.md §2, §6, §8).

Every orchestrator trace runs through the whole service on a clock that jumps; hash sync, state sync and
chain are stood in for. Each completion comes from a peer of its own, since ours counts peers, not chunks.
Where the original errs in a known way (D-5, D-6) the trace is followed to the step that shows it, our
advised answer is checked there, and the rest of the trace, which builds on the error, is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import trio
from runner import Context, Mismatch, Outcome, deviates, each, expect, fields, one, register
from trio.testing import MockClock, wait_all_tasks_blocked

from trionode.chain.confirmation import Confirmation
from trionode.config.tree import ChainSettings, HashSyncSettings, Settings
from trionode.errors import ChainError, PeerError
from trionode.lifecycle.phases import KINDS
from trionode.runtime.bus import Event, EventBus
from trionode.runtime.clock import VirtualClock
from trionode.runtime.counters import Counters
from trionode.runtime.gate import Gate
from trionode.sync.orchestrator import Orchestrator
from trionode.sync.ports import ChainReader, Table
from trionode.sync.report import SyncReport

SECTION = "a_orchestrator"
FRAMES_PER_PEER = 4
BOOT_CONTEXT = {
    "machineRebooted": False,
    "downtimeMs": 0,
    "cleanShutdown": True,
    "currentBootId": "boot-A",
    "firstBoot": False,
}
INTERNAL = {"spawner:resumed": "spawnerReady", "spawner:paused": "readinessLost"}
PUBLIC = ("orchestrator:", "hashSync:complete", "hashSync:failed", "ephemeralSync:")


class StubHashSync:
    """Hash syncs that end as a trace says."""

    is_running = False
    left = 0
    progress = None
    last = None

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.runs = self.rebuilds = 0
        self.rebuild_fails = False
        self.pending: trio.Event | None = None

    async def first_run(self, height: int) -> SyncReport:
        await trio.lowlevel.checkpoint()
        self.runs += 1
        result = self.results.pop(0) if self.results else {}
        if result == "throw":
            raise RuntimeError("boom")
        if result == "hang":
            self.pending = trio.Event()
            await self.pending.wait()
            result = {}
        fields(result, "", "resolved missing nextRetryHeight unreachable")
        return SyncReport(missing=result.get("missing", 0), next_retry_height=result.get("nextRetryHeight"))

    async def later_run(self, height: int, *, force: bool = False) -> SyncReport:
        return await self.first_run(height)

    async def rebuild(self) -> int | None:
        await trio.lowlevel.checkpoint()
        self.rebuilds += 1
        if self.rebuild_fails:
            raise RuntimeError("boom")
        return 0

    def ask_for_new(self) -> None:
        pass


class StubStateSync:
    """Peers that may be asked, numbered from 1."""

    def __init__(self, bus: EventBus, *, key_fails: bool) -> None:
        self._bus = bus
        self._key_fails = key_fails
        self.available = 0
        self.frames = 0
        self._listeners: list[Callable[[Any, str], None]] = []
        self._done: dict[str, int] = {}

    def eligible(self) -> list[str]:
        return [f"10.0.0.{number}:16127" for number in range(1, self.available + 1)]

    async def request(self, keys: Sequence[str]) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        if self._key_fails:
            raise PeerError("no key", remedy="give it one")
        self.frames += FRAMES_PER_PEER * len(keys)
        self._bus.publish("ephemeralSync:requested", {"peerCount": len(keys), "peers": list(keys)})
        return tuple(keys)

    def forget_marks(self) -> None:
        pass

    def on_done(self, listener: Callable[[Any, str], None]) -> None:
        self._listeners.append(listener)

    def on_lost(self, listener: Callable[[str], None]) -> None:
        pass

    def complete(self, kind: str) -> None:
        self._done[kind] = number = self._done.get(kind, 0) + 1
        for listener in self._listeners:
            listener(kind, f"peer {number}")


class StubTable:
    threshold_reached = False


class StubChain:
    is_synced = False
    scanned_height = 0
    can_send = False


class World:
    """The service of one trace, and what it did since the last look."""

    def __init__(self, options: dict[str, Any]) -> None:
        fields(options, "", "keyFails enterprise isEnterprise enterpriseIdentity")
        self.bus = EventBus(ring=5000)
        self.events: list[Event] = []
        self.bus.tap(self.events.append)
        self.hash_sync = StubHashSync()
        self.state_sync = StubStateSync(self.bus, key_fails=options.get("keyFails", False))
        self.table, self.chain = StubTable(), StubChain()
        self.is_enterprise = any(value is True for name, value in options.items() if name != "keyFails")
        self.boot_context: dict[str, Any] = BOOT_CONTEXT
        self.started = False
        self.service = Orchestrator(
            Settings(hash_sync=HashSyncSettings(peer_grace_s=0)),
            hash_sync=self.hash_sync,
            state_sync=self.state_sync,
            explorer=cast("ChainReader", self.chain),
            table=cast("Table", self.table),
            facts=self.chain,
            node_list=Gate(is_open=True),
            bus=self.bus,
            counters=Counters(),
            clock=VirtualClock(),
            boot_context=lambda: self.boot_context,
            is_enterprise=lambda: self.is_enterprise,
        )
        self._seen = self._counts()

    def _counts(self) -> dict[str, int]:
        return {
            "hashSync": self.hash_sync.runs,
            "reindex": self.hash_sync.rebuilds,
            "broadcastStart": int(self.service.first_broadcast.is_open),
            "framesSent": self.state_sync.frames,
        }

    async def do(self, nursery: trio.Nursery, op: str, arg: Any) -> None:
        match op:
            case "start":
                self.boot_context = arg if isinstance(arg, dict) else BOOT_CONTEXT
                self.started = True
                await nursery.start(self.service.run)
            case "capability":
                self.chain.can_send = arg
                self.bus.publish("chain:capability", {"capable": arg})
            case "block":
                await self._block(arg)
            case "blocks":
                for height in range(arg[0], arg[1] + 1):
                    await self._block(height)
            case "eligiblePeers":
                self.state_sync.available = arg
            case "peerThresholdReached" | "peersBelowThreshold":
                self.table.threshold_reached = op == "peerThresholdReached"
                name = "peers:thresholdReached" if self.table.threshold_reached else "peers:belowThreshold"
                self.bus.publish(name, {"count": arg})
            case "syncComplete":
                self.state_sync.complete(arg)
            case "syncCompleteAll":
                for _ in range(arg):
                    for kind in KINDS:
                        self.state_sync.complete(kind)
            case "queueHashResults":
                self.hash_sync.results += arg
            case "resolvePendingHash":
                if self.hash_sync.pending is not None:
                    self.hash_sync.pending.set()
            case "reindexMode":
                self.hash_sync.rebuild_fails = arg == "throw"
            case "hashUnresolved":
                self.bus.publish("registry:hashesUnresolved", {"count": 1})
            case "hashesChanged":
                self.bus.publish("explorer:hashesChanged", {"changed": 1})
            case "advanceMs":
                await trio.sleep(arg / 1000)
            case _:
                raise Mismatch(f"unknown step {op!r}")
        await wait_all_tasks_blocked()

    async def _block(self, height: int) -> None:
        self.bus.publish("explorer:blocksProcessed", {"height": height})
        await wait_all_tasks_blocked()

    def line(self) -> dict[str, Any]:
        """What came of the step, as the file writes it."""
        state = self.service.phase.value
        line: dict[str, Any] = {"state": state, "dbReady": self.service.db_ready.is_open}
        events, self.events[:] = list(self.events), []
        published = [{"event": e.name, "data": dict(e.data)} for e in events if e.name.startswith(PUBLIC)]
        internal = [INTERNAL[event.name] for event in events if event.name in INTERNAL]
        counts = self._counts()
        calls = {name: counts[name] - seen for name, seen in self._seen.items() if counts[name] != seen}
        self._seen = counts
        frames = calls.pop("framesSent", 0)
        parts = (
            ("published", published),
            ("calls", calls),
            ("framesSent", frames),
            ("internalEvents", internal),
        )
        line.update({name: part for name, part in parts if part})
        return line


def aligned(line: dict[str, Any]) -> dict[str, Any]:
    """The line with requests first among the events: when they leave within a step is not specified."""
    events = line.get("published")
    if events is None:
        return line
    return {**line, "published": sorted(events, key=lambda e: e["event"] != "ephemeralSync:requested")}


def without_ready(line: dict[str, Any]) -> dict[str, Any]:
    """The line as it is when READY is not entered yet."""
    kept = {name: part for name, part in line.items() if name != "internalEvents"}
    kept["state"] = "?"
    kept["published"] = [
        event for event in line.get("published", []) if event["data"].get("to") not in ("READY",)
    ]
    return kept


def defect(op: str, before: str, was_degraded: bool, ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Which known difference explains this step, the advised answer being checked; empty: none."""
    if op == "peersBelowThreshold" and before == "RESYNCING" and theirs["state"] == "RESYNCING":
        change = {"event": "orchestrator:stateChanged", "data": {"from": "RESYNCING", "to": "DEGRADED"}}
        advised = {"state": "DEGRADED", "dbReady": False, "published": [change]}
        return "D-5" if ours == advised else ""
    if was_degraded and theirs["state"] == "READY" and ours["state"] == "RESYNCING":
        same = without_ready(aligned(ours)) == without_ready(aligned(theirs))
        return "D-6" if same else ""
    if ours.get("calls", {}).get("reindex") == 1 and theirs.get("calls", {}).get("reindex", 0) > 1:
        calls = {**theirs["calls"], "reindex": 1}
        return "D-6" if aligned(ours) == aligned({**theirs, "calls": calls}) else ""
    return ""


def run(work: Callable[[], Any]) -> Any:
    """Run to the end on a clock that jumps; a lone error comes out of its groups."""
    try:
        return trio.run(work, clock=MockClock(autojump_threshold=0))
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from None


async def follow(trace: dict[str, Any]) -> str:
    """Run one trace; the known difference that ended it, if any. Raises Mismatch."""
    world = World(trace["options"])
    before, was_degraded = "INITIALIZING", False
    async with trio.open_nursery() as nursery:
        for number, theirs in enumerate(trace["trace"]):
            fields(theirs, "step state dbReady", "published calls framesSent internalEvents")
            made = fields(theirs["step"], "op", "arg")
            await world.do(nursery, made["op"], made.get("arg"))
            ours, theirs = world.line(), {name: part for name, part in theirs.items() if name != "step"}
            if aligned(ours) != aligned(theirs):
                found = defect(made["op"], before, was_degraded, ours, theirs)
                if found:
                    nursery.cancel_scope.cancel()
                    return found
                raise Mismatch(f"step {number} {made}: ours {ours}, file {theirs}")
            before, was_degraded = ours["state"], was_degraded or ours["state"] == "DEGRADED"
        nursery.cancel_scope.cancel()
    return ""


@register("lifecycle", SECTION)
def orchestrator(section: Any, context: Context) -> Iterator[Outcome]:
    fields(section, "traces", "dsl")
    for number, trace in enumerate(section["traces"]):
        found = ""

        def check(trace: Any) -> None:
            nonlocal found
            fields(trace, "name trace options", "note")
            found = run(partial(follow, trace))

        name = trace.get("name", "") if isinstance(trace, dict) else ""
        case_id = f"{SECTION}[{number}] {name}"
        outcome = one(case_id, check, trace)
        if found:
            told = deviates(f"lifecycle.{SECTION}.{found}", "bug", context)
            outcome = Outcome(case_id, told.status, told.detail)
        yield outcome


# ---- confirmation ------------------------------------------------------------------------------------

LISTENERS = {"confirmation:changed": "confirmation", "chain:capability": "capability", "chain:stale": "stale"}


class StubDaemon:
    """A daemon, our own key (read once) and the key our address is listed with."""

    def __init__(self) -> None:
        self.rpc: str = "CONFIRMED"
        self.pubkey: str | None = "04aa"
        self.listed: str | None = "04aa"
        self._own_key: str | None = None

    def set(self, arg: dict[str, Any]) -> None:
        fields(arg, "", "rpc pubkey nodePubkey")
        self.rpc = arg.get("rpc", self.rpc)
        self.pubkey = arg.get("pubkey", self.pubkey)
        self.listed = arg.get("nodePubkey", self.listed)

    async def call(self, method: str, params: Any = (), *, fresh: bool = False) -> Any:
        await trio.lowlevel.checkpoint()
        if self.rpc in ("throw", "error"):
            raise ChainError("no answer")
        return None if self.rpc == "nodata" else {"status": self.rpc}

    async def batch(self, calls: Any) -> list[Any]:
        raise AssertionError("no batches here")

    async def is_listed(self) -> bool:
        await trio.lowlevel.checkpoint()
        if self._own_key is None and self.pubkey != "ERR":
            self._own_key = self.pubkey
        return self._own_key is not None and self._own_key == self.listed


async def confirm(trace: list[dict[str, Any]]) -> None:
    daemon, bus = StubDaemon(), EventBus(ring=5000)
    service = Confirmation(ChainSettings(), daemon, bus, Counters(), daemon.is_listed)
    released = started = False

    async def waiter() -> None:
        nonlocal released
        await service.confirmed.wait()
        released = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waiter)
        for line in trace:
            fields(
                line,
                "atMs isConfirmed canSendMessages isDaemonStale",
                "step before_start statusGateOpen confirmedWaiterResolved published listeners",
            )
            seen = bus.last_id
            made = line.get("step", {"op": "none"})
            match made["op"]:
                case "set":
                    daemon.set(made["arg"])
                case "start" if not started:
                    started = True
                    nursery.start_soon(service.run)
                case "advanceMs":
                    await trio.sleep(made["arg"] / 1000)
                case "start" | "none":
                    pass
                case _:
                    raise Mismatch(f"unknown step {made!r}")
            await wait_all_tasks_blocked()
            events = [(event.name, dict(event.data)) for event in bus.replay(seen)]
            told = [[LISTENERS[name], *data.values()] for name, data in events if name in LISTENERS]
            public = [{"event": n, "data": data} for n, data in events if not n.startswith("chain:")]
            ours = {
                "atMs": round(trio.current_time() * 1000),
                "isConfirmed": service.state.confirmed,
                "canSendMessages": service.state.can_send,
                "isDaemonStale": service.state.stale,
                "statusGateOpen": service.known.is_open,
                "confirmedWaiterResolved": released,
                "published": public,
                "listeners": told,
            }
            for name, value in ours.items():
                expect(f"{made}: {name}", value, line.get(name, type(value)()))
        nursery.cancel_scope.cancel()


@register("lifecycle", "e_confirmation")
def confirmation(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "name trace", "note")
        run(partial(confirm, case["trace"]))

    return each("e_confirmation", section, check)


# ---- the gate ----------------------------------------------------------------------------------------


async def open_and_close(trace: list[dict[str, Any]]) -> None:
    gate = Gate()
    released: list[bool] = []

    async def wait(number: int) -> None:
        await gate.wait()
        released[number] = True

    async with trio.open_nursery() as nursery:
        for line in trace:
            fields(line, "op ready waitersResolved")
            match line["op"]:
                case "wait":
                    released.append(False)
                    nursery.start_soon(wait, len(released) - 1)
                case "open":
                    gate.open()
                case "close":
                    gate.close()
                case _:
                    raise Mismatch(f"unknown step {line!r}")
            await wait_all_tasks_blocked()
            expect("open", gate.is_open, line["ready"])
            expect("released", released, line["waitersResolved"])
        nursery.cancel_scope.cancel()


@register("lifecycle", "i_misc.asyncGate")
def async_gate(section: Any, context: Context) -> Iterator[Outcome]:
    def check(case: Any) -> None:
        fields(case, "name trace", "note")
        run(partial(open_and_close, case["trace"]))

    return each("asyncGate", section, check)
