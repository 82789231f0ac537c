"""Removals and redeploys with every fault, played to their end: the next start, and what health does then.

Whatever happened, the app must be there whole in the end, or gone without a trace.
`scripts/failure_matrix.py` prints what came of each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import trio
from appworld import AppWorld, Life, settled, shop
from failurematrix import (
    CANCEL_AFTER_S,
    Set,
    answer_lost,
    comes_back,
    disk_fails,
    disk_waits,
    fails,
    firewall_fails,
    goes_away,
    registry_says,
    store_fails,
    waits,
)

from trionode.containers.actions import Outcome
from trionode.containers.images.registry import ImageFault

Do = Callable[[Life], Awaitable[Outcome]]

OPERATIONS: Mapping[str, Do] = {
    "removal": lambda life: life.actions.remove("shop", reason="the test"),
    "removal by force": lambda life: life.actions.remove("shop", reason="the test", force=True),
    "soft redeploy": lambda life: life.actions.redeploy("shop", hard=False, reason="the test"),
    "hard redeploy": lambda life: life.actions.redeploy("shop", hard=True, reason="the test"),
    "redeploy of a component": lambda life: life.actions.redeploy_component(
        "web_shop", hard=True, reason="the test"
    ),
}


class Fault(msgspec.Struct, frozen=True):
    """What goes wrong. `hang`: broken off while it waits there; `kill`: the process dies there."""

    what: str
    set: Set
    hang: bool = False
    kill: bool = False
    heal: Set | None = None


def _calls(operation: str) -> list[Fault]:
    return [
        Fault(f"{operation} refused", fails(operation)),
        Fault(f"{operation}, answer lost", answer_lost(operation)),
        Fault(f"engine gone at {operation}", goes_away(operation), heal=comes_back),
        Fault(f"cancelled at {operation}", waits(operation), hang=True),
        Fault(f"killed at {operation}", waits(operation), kill=True),
    ]


FAULTS: tuple[Fault, ...] = (
    Fault("nothing", lambda world: None),
    *_calls("stop"),
    *_calls("remove"),
    *_calls("create"),
    *_calls("connect"),
    *_calls("start"),
    *_calls("remove_network"),
    Fault("registry away", registry_says(ImageFault.UNREACHABLE, "*")),
    Fault("pull refused", fails("pull")),
    Fault("unmount fails", disk_fails("unmount", "fluxweb_shop")),
    Fault("delete fails", disk_fails("delete", "fluxweb_shop")),
    Fault("format fails", disk_fails("format", "fluxweb_shop")),
    Fault("killed at delete", disk_waits("delete"), kill=True),
    Fault("killed at format", disk_waits("format"), kill=True),
    Fault("a port cannot be closed", firewall_fails("forget 31001")),
    Fault("a port cannot be opened", firewall_fails("allow 31001")),
    Fault("row cannot be written", store_fails("put")),
    Fault("row cannot be deleted", store_fails("delete")),
    Fault("record cannot be written", store_fails("put_meta")),
)


class End(msgspec.Struct, frozen=True):
    """What came of it. `here`: right after the operation the app has a row; `whole`, `gone`: in the end."""

    ok: bool
    here: bool
    whole: bool
    gone: bool
    left: tuple[str, ...]

    @property
    def words(self) -> str:
        if self.gone:
            return "gone" if self.ok or not self.here else "gone after the next start"
        if self.whole:
            return "done" if self.ok else "the app runs"
        return "LEFT: " + ", ".join(self.left)


async def play(operation: str, fault: Fault) -> End:
    """Do it to an installed shop, with this fault, and go on to the end."""
    world = AppWorld(call_grace_s=1.0, **({"undo_limit_s": 0.0} if fault.kill else {}))
    life = await settled(world)
    without = await _traces(world)
    assert (await life.actions.install(shop(), reason="the test")).ok
    whole = await _traces(world)
    fault.set(world)
    outcome = await _broken_off(fault, world, OPERATIONS[operation](life))
    world.store.failing.clear()
    world.engine.unreachable = False
    here = any(row.name == "shop" for row in await world.store.rows())
    if fault.heal is not None:
        fault.heal(world)
    world.engine.planned.clear()
    world.engine.takes_s.clear()
    world.disk.failing.clear()
    world.disk.hanging.clear()
    world.disk.is_killed = False
    world.firewall.failing.clear()
    await _health(world, await world.life())
    end = await _traces(world)
    left = tuple(kind for kind in end if end[kind] not in (without[kind], whole[kind]))
    return End(outcome.ok, here, end == whole, end == without, left or tuple(end))


async def _broken_off(fault: Fault, world: AppWorld, call: Awaitable[Outcome]) -> Outcome:
    with trio.move_on_after(CANCEL_AFTER_S if fault.hang or fault.kill else float("inf")):
        async with trio.open_nursery() as nursery:
            if fault.kill:
                nursery.start_soon(_die, world)
            outcome = await call
            nursery.cancel_scope.cancel()
        return outcome
    return Outcome(False, "broken off")


async def _die(world: AppWorld) -> None:
    await trio.sleep(CANCEL_AFTER_S - 0.1)
    world.store.failing |= {"put", "delete", "put_meta"}
    world.disk.is_killed = True
    world.engine.unreachable = True


async def _health(world: AppWorld, life: Life) -> None:
    """What a health pass does to an app: missing containers are made, stopped ones started."""
    for part in life.installed.parts("shop"):
        start = not part.flags & {"g", "r"}
        states = {row.name: row.state for row in await world.engine.containers()}
        if part.container not in states:
            made = await life.actions.recreate("shop", part.identifier, keeps_volume=True, start=start)
            assert made.ok, made
        elif start:
            await world.engine.start(part.container)
    await life.bench.links.reverse("base")


async def _traces(world: AppWorld) -> dict[str, Any]:
    """What there is, but for ids and what runs by election or file sync."""
    everything = await world.everything()
    for kind in ("states", "endpoints", "image ids", "guarded"):
        everything.pop(kind)
    return everything


def table(ends: Mapping[tuple[str, str], End]) -> str:
    """A line for each fault, a column for each operation."""
    lines = [f"| fault | {' | '.join(OPERATIONS)} |", "|---" * (len(OPERATIONS) + 1) + "|"]
    for fault in FAULTS:
        cells = [ends[operation, fault.what].words for operation in OPERATIONS]
        lines.append(f"| {fault.what} | {' | '.join(cells)} |")
    return "\n".join(lines)
