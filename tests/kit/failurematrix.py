"""Every step of an install with every way in which it can go wrong, on the machine of values.

`CASES` are (step, fault) with how to bring the fault about; `play` runs one on a fresh machine and says what
came of it. The tests demand that the machine is as before; `scripts/failure_matrix.py` prints the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import trio
from appworld import AppWorld, Life, settled, shop

from trionode.containers.disk import CREATE_STEPS
from trionode.containers.engine import Conflict
from trionode.containers.images.registry import ImageFault

NEVER_S = 1e7
"""Longer than any limit."""
CANCEL_AFTER_S = 5.0

Set = Callable[[AppWorld], None]


class Case(msgspec.Struct, frozen=True):
    """One fault at one step. `hang`: it is broken off while it waits there; `kill`: the process dies there.

    `heal` takes a lasting fault away again, so that the next start can clear up.
    """

    step: str
    fault: str
    set: Set
    hang: bool = False
    kill: bool = False
    heal: Set | None = None
    succeeds: bool = False

    @property
    def id(self) -> str:
        return f"{self.step}: {self.fault}"


class Result(msgspec.Struct, frozen=True):
    """What came of it. `left`: what differs from before at once, `left_later`: after the next start."""

    ok: bool
    step: str
    problem: str
    left: tuple[str, ...]
    left_later: tuple[str, ...]
    is_busy: bool
    announced: int

    @property
    def words(self) -> str:
        if self.ok:
            return "installed"
        if not self.left:
            return "undone"
        return "undone at the next start" if not self.left_later else "LEFT: " + ", ".join(self.left_later)


async def play(case: Case) -> Result:
    """Install the shop on a machine with `base`, with this fault."""
    world = AppWorld(**({"undo_limit_s": 0.0} if case.kill else {}))
    life = await settled(world)
    before = await world.everything()
    case.set(world)
    ok, step, problem = await _install(case, world, life)
    world.store.failing.clear()
    world.engine.unreachable = False
    if case.heal is not None:
        case.heal(world)
    world.engine.takes_s.clear()
    world.disk.hanging.clear()
    world.firewall.hanging.clear()
    world.storage.hangs = False
    world.disk.is_killed = False
    left = _difference(before, await world.everything())
    later = left
    if left and not ok:
        await world.life()
        later = _difference(before, await world.everything())
    return Result(ok, step, problem, left, later, life.operations.is_busy, len(world.news.errors))


async def _install(case: Case, world: AppWorld, life: Life) -> tuple[bool, str, str]:
    if not (case.hang or case.kill):
        outcome = await life.actions.install(shop(), reason="the test")
        return outcome.ok, outcome.step, outcome.problem
    with trio.move_on_after(CANCEL_AFTER_S) as scope:
        if case.kill:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_die, world)
                await life.actions.install(shop(), reason="the test")
                nursery.cancel_scope.cancel()
        else:
            await life.actions.install(shop(), reason="the test")
    return not scope.cancelled_caught, "broken off", ""


async def _die(world: AppWorld) -> None:
    """From shortly before it is cancelled on, nothing the process does has any effect."""
    await trio.sleep(CANCEL_AFTER_S - 0.1)
    world.store.failing |= {"put", "delete", "put_meta"}
    world.disk.is_killed = True
    world.engine.unreachable = True


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(kind for kind in before if before[kind] != after[kind])


# --- how faults are brought about ---------------------------------------------------------------------


def fails(operation: str, target: str = "") -> Set:
    return lambda world: world.engine.fail_next(operation, target=target)


def answer_lost(operation: str, target: str = "") -> Set:
    return lambda world: world.engine.fail_next(operation, target=target, after=True)


def waits(operation: str) -> Set:
    return lambda world: world.engine.takes_s.update({operation: NEVER_S})


def conflicts(operation: str) -> Set:
    def order(world: AppWorld) -> None:
        world.engine.fail_next(operation, Conflict("somebody was faster", status=409))

    return order


def goes_away(operation: str, target: str = "") -> Set:
    """The engine is gone from this call on."""

    def order(world: AppWorld) -> None:
        engine, before = world.engine, world.engine.before

        async def watching(asked: str, name: str = "", *, at_most_s: float = math.inf) -> None:
            if asked == operation and target in ("", name):
                engine.unreachable = True
            await before(asked, name, at_most_s=at_most_s)

        engine.before = watching  # type: ignore[method-assign, assignment]

    return order


def comes_back(world: AppWorld) -> None:
    del world.engine.before
    world.engine.unreachable = False


def disk_fails(step: str, name: str = "") -> Set:
    return lambda world: world.disk.failing.update({f"{step} {name}".strip(): 1})


def disk_waits(step: str) -> Set:
    return lambda world: world.disk.hanging.add(step)


def firewall_fails(what: str) -> Set:
    return lambda world: world.firewall.failing.update({what: 1})


def firewall_waits(what: str) -> Set:
    return lambda world: world.firewall.hanging.add(what)


def firewall_answers(world: AppWorld) -> None:
    world.firewall.hanging.clear()


def store_fails(call: str) -> Set:
    return lambda world: world.store.failing.add(call)


def registry_says(fault: ImageFault, image: str = "library/db:1") -> Set:
    return lambda world: world.images.faults.update({image: fault})


def registry_waits(world: AppWorld) -> None:
    world.images.delay_s = NEVER_S


def engine_is_full(world: AppWorld) -> None:
    world.engine.disk_full = True


def disk_is_full(world: AppWorld) -> None:
    world.disk.free_gb = 30


def no_facts(world: AppWorld) -> None:
    world.node.problem = "the benchmark does not answer"


def no_lists(world: AppWorld) -> None:
    world.lists.problem = "the lists cannot be had"


def no_storage(world: AppWorld) -> None:
    world.storage.problem = "the storage does not answer"


def odd_storage(world: AppWorld) -> None:
    world.storage.answer = {"not": "a list"}


def storage_waits(world: AppWorld) -> None:
    world.storage.hangs = True


def port_taken(world: AppWorld) -> None:
    world.engine.busy_ports.add(31001)


def mount_lost(world: AppWorld) -> None:
    """The volume is made, but it is no live mount."""
    disk = world.disk
    create = disk.create_volume

    async def creating(request: Any) -> None:
        await create(request)
        disk.lose_mount(request.name)

    disk.create_volume = creating  # type: ignore[method-assign]


def _everywhere(step: str, operation: str, waits_at: Set) -> list[Case]:
    """The faults of a call to the engine."""
    return [
        Case(step, "refused", fails(operation)),
        Case(step, "answer lost", answer_lost(operation)),
        Case(step, "engine gone", goes_away(operation), heal=comes_back),
        Case(step, "hangs", waits_at),
        Case(step, "cancelled", waits_at, hang=True),
        Case(step, "killed", waits_at, kill=True),
    ]


CASES: tuple[Case, ...] = (
    Case("check", "node unknown", no_facts),
    Case("check", "block lists unknown", no_lists),
    Case("check", "refused", fails("info")),
    Case("check", "engine gone", goes_away("info"), heal=comes_back),
    Case("record", "store fails", store_fails("put_meta")),
    Case("prune", "refused", fails("volumes"), succeeds=True),
    *_everywhere("network", "create_network", waits("create_network")),
    Case("network", "every range taken", lambda w: _always(w, "create_network")),
    Case("network", "rules fail", firewall_fails("guard")),
    Case("network", "rules hang", firewall_waits("guard"), hang=True, heal=firewall_answers),
    Case("local row", "store fails", store_fails("put")),
    Case("ports", "first fails", firewall_fails("allow 31001")),
    Case("ports", "second fails", firewall_fails("allow 31002")),
    Case("ports", "of a later component", firewall_fails("allow 31003")),
    Case("ports", "hangs", firewall_waits("allow 31002")),
    Case("ports", "cancelled", firewall_waits("allow 31002"), hang=True),
    Case("ports", "killed", firewall_waits("allow 31003"), kill=True),
    *(Case("image check", fault.value, registry_says(fault)) for fault in ImageFault),
    Case("image check", "cancelled", registry_waits, hang=True),
    *_everywhere("pull", "pull", waits("pull")),
    Case("pull", "no room in the engine", engine_is_full),
    *(Case("volume", f"{step} fails", disk_fails(step, "fluxdb_shop")) for step in CREATE_STEPS),
    *(Case("volume", f"{step} cancelled", disk_waits(step), hang=True) for step in CREATE_STEPS),
    *(Case("volume", f"{step} killed", disk_waits(step), kill=True) for step in CREATE_STEPS),
    Case("volume", "disk full", disk_is_full),
    Case("mount", "not mounted", mount_lost),
    Case("mount", "cannot be looked at", disk_fails("is_mounted", "fluxdb_shop")),
    Case("container", "storage away", no_storage),
    Case("container", "storage answers nonsense", odd_storage),
    Case("container", "storage cancelled", storage_waits, hang=True),
    *_everywhere("container", "create", waits("create")),
    Case("container", "name taken meanwhile", conflicts("create")),
    *_everywhere("links", "connect", waits("connect")),
    *_everywhere("start", "start", waits("start")),
    Case("start", "port taken", port_taken),
)


def _always(world: AppWorld, operation: str) -> None:
    world.engine.fail_next(operation, Conflict("overlaps", status=409), times=100)


def table(results: Mapping[Case, Result]) -> str:
    """A line for each fault of each step."""
    lines = ["| step | fault | failed at | outcome |", "|---|---|---|---|"]
    for case, result in results.items():
        at = result.step if not result.ok else ""
        lines.append(f"| {case.step} | {case.fault} | {at} | {result.words} |")
    return "\n".join(lines)
