"""The virtual network: hosts, paths between them, and the one courier that delivers everything.

All parcels of the network lie in buckets of one virtual millisecond; a single task sleeps until the
next bucket and hands its parcels to the receiving link ends. Partitions, blocked directions, half-open
links, killed links and power cuts are changes of the paths; the fault model is in docs/simulator.md.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import trio

from trionode.errors import StartupError
from trionode.sim.clock import IDLE_HOOK, NEVER
from trionode.sim.conditions import CALM, BlockMeans, Conditions
from trionode.sim.link import (
    KIND_LETTERS,
    MESSAGE,
    PING,
    Item,
    Parcel,
    VirtualLink,
    now_ms,
)
from trionode.sim.message import VirtualMessage
from trionode.sim.trace import Trace

if TYPE_CHECKING:
    from trionode.sim.transport import VirtualTransport


class Monitor(Protocol):
    """Watches what nodes put on the wire (sim.invariants)."""

    def sent(self, sender: VirtualLink, message: VirtualMessage) -> None:
        """Called for every message a node sends, before faults."""
        ...

    def closed(self, link_id: int) -> None:
        """This end is closed; nothing will be sent on it any more."""
        ...


class VirtualNetwork:
    """Paths between IP addresses and the parcels under way on them."""

    def __init__(
        self,
        rng: random.Random,
        conditions: Conditions = CALM,
        trace: Trace | None = None,
        *,
        tick_ms: int = 1,
    ) -> None:
        """Arrivals are rounded up to whole ticks: a coarser tick delivers more parcels per wake-up."""
        self.rng = rng
        self.tick_ms = tick_ms
        self.trace = trace if trace is not None else Trace()
        self.monitor: Monitor | None = None
        self.delivered = 0
        self._conditions = conditions
        self._path_conditions: dict[tuple[str, str], Conditions] = {}
        self._base_ms: dict[tuple[str, str], int] = {}
        self._due: list[int] = []
        self._buckets: dict[int, list[Parcel]] = {}
        self._alarm: trio.CancelScope | None = None
        self._work = trio.Event()
        self._ends: dict[int, VirtualLink] = {}
        self._stuck: dict[int, VirtualLink] = {}
        self._listeners: dict[tuple[str, int], VirtualTransport] = {}
        self._next_id = 0
        self._group: dict[str, int] = {}
        self._group_one_way = False
        self._blocked: dict[tuple[str, str], BlockMeans] = {}
        self._down: dict[str, None] = {}

    # --- the courier ---

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Deliver parcels at their time until cancelled."""
        task_status.started()
        hook = IDLE_HOOK.get()
        if hook is not None:
            hook.next_due_s, hook.deliver = self._next_due_s, self._deliver_next
            try:
                await trio.sleep_forever()
            finally:
                hook.next_due_s = hook.deliver = None
        while True:
            if not self._due:
                self._work = trio.Event()
                await self._work.wait()
            elif self._due[0] / 1000 > trio.current_time():
                with trio.CancelScope(deadline=self._due[0] / 1000) as self._alarm:
                    await trio.sleep_forever()
                self._alarm = None
            else:
                self._deliver_next()
                await trio.lowlevel.checkpoint_if_cancelled()

    def _next_due_s(self) -> float:
        return self._due[0] / 1000 if self._due else NEVER

    def _deliver_next(self) -> None:
        at_ms = heapq.heappop(self._due)
        parcels = self._buckets.pop(at_ms)
        self.delivered += len(parcels)
        add = self.trace.add
        for receiver, kind, item in parcels:
            if kind == MESSAGE:
                add(f"{at_ms} M {receiver.id} {item.mark:x}")  # type: ignore[union-attr]
            elif kind != PING:
                add(f"{at_ms} {KIND_LETTERS[kind]} {receiver.id}")
            receiver.arrive(kind, item)

    def post(self, at_ms: int, receiver: VirtualLink, kind: int, item: Item) -> None:
        """Put a parcel into the bucket of its tick."""
        at_ms += -at_ms % self.tick_ms
        bucket = self._buckets.get(at_ms)
        if bucket is not None:
            bucket.append((receiver, kind, item))
            return
        self._buckets[at_ms] = [(receiver, kind, item)]
        heapq.heappush(self._due, at_ms)
        if self._alarm is not None:
            if at_ms / 1000 < self._alarm.deadline:
                self._alarm.deadline = at_ms / 1000
        else:
            self._work.set()

    def sent(self, sender: VirtualLink, message: VirtualMessage) -> None:
        if self.monitor is not None:
            self.monitor.sent(sender, message)

    def stuck(self, sender: VirtualLink) -> None:
        self._stuck[sender.id] = sender

    def forget(self, end: VirtualLink) -> None:
        self._ends.pop(end.id, None)
        self._stuck.pop(end.id, None)
        if self.monitor is not None:
            self.monitor.closed(end.id)

    # --- listeners ---

    def add_listener(self, transport: VirtualTransport) -> None:
        """Open `ip:port` of the transport for dials; one listener per address."""
        where = (transport.ip, transport.port)
        if where in self._listeners:
            raise StartupError(
                f"virtual address {transport.ip}:{transport.port} is already in use",
                remedy="stop the node that listens there, or give the new one another address",
            )
        self._listeners[where] = transport

    def remove_listener(self, transport: VirtualTransport) -> None:
        self._listeners.pop((transport.ip, transport.port), None)

    def listener(self, ip: str, port: int) -> VirtualTransport | None:
        return self._listeners.get((ip, port))

    # --- links ---

    def add_pair(self, first: VirtualLink, second: VirtualLink) -> None:
        """Make two ends one connection."""
        first.other, second.other = second, first
        for end in (first, second):
            end.blocked = self.blocked(end.local_ip, end.remote_ip)
            self._ends[end.id] = end

    def new_link_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def links(self) -> list[VirtualLink]:
        """Every open end, oldest first."""
        return list(self._ends.values())

    def links_between(self, a: str, b: str) -> list[VirtualLink]:
        """The open ends of the connections between two hosts, in both directions."""
        return [end for end in self._ends.values() if (end.local_ip, end.remote_ip) in ((a, b), (b, a))]

    def kill_links(self, a: str, b: str) -> int:
        """Break every connection between two hosts (both see 1006); how many ends there were."""
        ends = self.links_between(a, b)
        for end in ends:
            end.break_off()
        return len(ends)

    # --- the weather ---

    def conditions(self, source: str, target: str) -> Conditions:
        return self._path_conditions.get((source, target), self._conditions)

    def set_conditions(
        self, conditions: Conditions, *, source: str | None = None, target: str | None = None
    ) -> None:
        """Change the weather everywhere, or on the one-way path from `source` to `target`."""
        if source is None or target is None:
            self._conditions = conditions
        else:
            self._path_conditions[source, target] = conditions
        for end in self._ends.values():
            end.conditions = self.conditions(end.local_ip, end.remote_ip)

    def base_latency_ms(self, source: str, target: str) -> int:
        """One-way delay between two hosts: drawn once per pair, the same in both directions, >= 1."""
        pair = (source, target) if source <= target else (target, source)
        known = self._base_ms.get(pair)
        if known is None:
            weather = self._conditions
            drawn = self.rng.randint(
                weather.latency_min_ms, max(weather.latency_min_ms, weather.latency_max_ms)
            )
            known = self._base_ms[pair] = max(1, drawn)
        return known

    # --- the paths ---

    def blocked(self, source: str, target: str) -> BlockMeans | None:
        """What happens to parcels from `source` to `target`; None if the path is open."""
        means = self._blocked.get((source, target))
        if means is not None:
            return means
        if source in self._down or target in self._down:
            return "hold"
        ours, theirs = self._group.get(source), self._group.get(target)
        if ours is None or theirs is None or ours == theirs:
            return None
        if self._group_one_way and ours < theirs:
            return None
        return self.conditions(source, target).blocked_means

    def is_up(self, ip: str) -> bool:
        return ip not in self._down

    def partition(self, *groups: Sequence[str], one_way: bool = False) -> None:
        """Cut the paths between the groups; with `one_way`, earlier groups still reach later ones.

        Hosts in no group reach everybody. A new partition replaces the one before.
        """
        self._group = {ip: number for number, group in enumerate(groups) for ip in group}
        self._group_one_way = one_way
        self._paths_changed(f"partition {[list(group) for group in groups]} one_way={one_way}")

    def block(self, source: str, target: str, means: BlockMeans = "hold") -> None:
        """Cut one direction. `vanish` makes a half-open link: the sender notices nothing but silence."""
        self._blocked[source, target] = means
        self._paths_changed(f"block {source} {target} {means}")

    def unblock(self, source: str, target: str) -> None:
        self._blocked.pop((source, target), None)
        self._paths_changed(f"unblock {source} {target}")

    def set_blocked(self, paths: Mapping[tuple[str, str], BlockMeans], what: str) -> None:
        """Replace all single blocks at once; `what` stands in the trace."""
        self._blocked = dict(paths)
        self._paths_changed(what)

    def reset_host(self, ip: str) -> None:
        """A process at this address died: its kernel resets every connection it had."""
        for end in self.links():
            if end.local_ip == ip:
                end.terminate()

    def power_cut(self, ip: str) -> None:
        """The host is gone without a word: no reset reaches its peers, nothing answers."""
        self._down[ip] = None
        self._paths_changed(f"power cut {ip}")
        for end in self.links():
            if end.local_ip == ip:
                end.vanish()

    def power_up(self, ip: str) -> None:
        self._down.pop(ip, None)
        self._paths_changed(f"power up {ip}")

    def heal(self) -> None:
        """Open every path: no partition, no blocked direction (hosts without power stay down)."""
        self._group = {}
        self._blocked = {}
        self._paths_changed("heal")

    def _paths_changed(self, what: str) -> None:
        self.trace.add(f"{now_ms()} paths {what}")
        for end in self._ends.values():
            end.blocked = self.blocked(end.local_ip, end.remote_ip)
        for end in list(self._stuck.values()):
            if end.blocked is None:
                del self._stuck[end.id]
                end.release()
