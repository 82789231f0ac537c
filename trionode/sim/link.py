"""One end of a virtual peer link: the `peers.link.Link` of the simulator (docs/spec/wire.md §1, §2).

Two ends belong to one connection. Whatever an end puts on its way is handed to the network's courier
as (arrival time, receiving end, kind, item); no task exists per link or per message. A send is
charged against the window of its direction until the other side reads it, as socket buffers do.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Protocol

import trio

from trionode.config.tree import PeerSettings
from trionode.peers.link import Hello, LinkClosed, PreparedMessage
from trionode.sim.conditions import BlockMeans, Conditions
from trionode.sim.message import Slot, VirtualMessage

MESSAGE, PING, PONG, CLOSE, CLOSE_REPLY, RESET, UNACKNOWLEDGED = range(7)
KIND_LETTERS = "MpPCcRU"

FRAME_COST_BYTES = 64
"""Charged per message beside its payload, so that a window also bounds the number of messages."""


Item = VirtualMessage | LinkClosed | int | None
Parcel = tuple["VirtualLink", int, Item]


class Courier(Protocol):
    """What a link end needs of the network."""

    rng: random.Random

    def post(self, at_ms: int, receiver: VirtualLink, kind: int, item: Item) -> None:
        """Deliver (kind, item) to the receiving end at virtual millisecond `at_ms`."""
        ...

    def sent(self, sender: VirtualLink, message: VirtualMessage) -> None:
        """A node has put a message on the wire (before any fault)."""
        ...

    def blocked(self, source: str, target: str) -> BlockMeans | None:
        """What happens to parcels from `source` to `target`; None if the path is open."""
        ...

    def stuck(self, sender: VirtualLink) -> None:
        """The end holds parcels for a blocked path; release them when it opens."""
        ...

    def forget(self, end: VirtualLink) -> None:
        """The end is closed."""
        ...


def now_ms() -> int:
    """Virtual milliseconds since the start of the run."""
    return round(trio.current_time() * 1000)


def copy_of(closed: LinkClosed) -> LinkClosed:
    """A fresh exception for every task that meets the closed link (tracebacks are not shared)."""
    return LinkClosed(closed.close_code, closed.reason, by_us=closed.by_us)


class VirtualLink:
    """One end. Created in pairs by the network when an upgrade is accepted."""

    __slots__ = (
        "_base_ms",
        "_closed",
        "_closing",
        "_courier",
        "_free_at_ms",
        "_held",
        "_held_since_ms",
        "_inbox",
        "_last_at_ms",
        "_on_pong",
        "_ping_serial",
        "_pings",
        "_reader",
        "_reply",
        "_settings",
        "_window",
        "_writers",
        "blocked",
        "bytes_received",
        "bytes_sent",
        "conditions",
        "id",
        "local_ip",
        "other",
        "remote_hello",
        "remote_ip",
    )

    def __init__(
        self,
        courier: Courier,
        link_id: int,
        local_ip: str,
        remote_ip: str,
        hello: Hello,
        conditions: Conditions,
        base_ms: int,
        settings: PeerSettings,
    ) -> None:
        self.id = link_id
        self.local_ip = local_ip
        self.remote_ip = remote_ip
        self.remote_hello = hello
        self.bytes_received = 0
        self.bytes_sent = 0
        self.conditions = conditions
        self.blocked: BlockMeans | None = None
        self._settings = settings
        self.other: VirtualLink = self
        self._courier = courier
        self._base_ms = base_ms
        self._last_at_ms = 0
        self._free_at_ms = 0
        self._window = 0
        self._inbox: deque[VirtualMessage] = deque()
        self._held: deque[tuple[int, Item]] = deque()
        self._held_since_ms = -1
        self._reader = Slot()
        # Of several tasks, as on a real link: whoever finds the window used up waits here.
        self._writers = trio.lowlevel.ParkingLot()
        self._pings: dict[int, Slot] = {}
        self._on_pong: dict[int, Callable[[], None]] = {}
        self._ping_serial = 0
        self._reply = trio.Event()
        self._closing = False
        self._closed: LinkClosed | None = None

    @property
    def is_open(self) -> bool:
        return self._closed is None and not self._closing

    async def receive(self) -> str | bytes:
        """Next message; what arrived before the other side closed is still handed out."""
        inbox = self._inbox
        if inbox:
            # Waiting would notice a cancellation; taking what is there must do it as well.
            await trio.lowlevel.checkpoint_if_cancelled()
        while not inbox:
            if self._closed is not None:
                raise copy_of(self._closed)
            await self._reader.wait()
        message = inbox.popleft()
        self.bytes_received += message.size_bytes
        self.other._read(message.size_bytes)
        return message.payload

    def _read(self, size_bytes: int) -> None:
        """The other side has read a message of ours."""
        self._window -= size_bytes + FRAME_COST_BYTES
        if self._writers:
            self._writers.unpark_all()

    async def send(self, message: PreparedMessage) -> None:
        """Put a message on its way; waits while the window of this direction is used up."""
        if not isinstance(message, VirtualMessage):
            raise TypeError(f"a virtual link sends what its transport prepared, not {type(message).__name__}")
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._window > self.conditions.window_bytes:
            await self._room()
        if not self.is_open:
            raise copy_of(self._closed) if self._closed is not None else LinkClosed(1000, by_us=True)
        self.bytes_sent += message.size_bytes
        self._courier.sent(self, message)
        if self.conditions.is_faulty and self._suffer(message):
            return
        self._window += message.size_bytes + FRAME_COST_BYTES
        self._put(MESSAGE, message)

    async def _room(self) -> None:
        """Wait until the other side has read enough; a send cut short here ends the link."""
        done = False
        try:
            with trio.move_on_after(self._settings.send_timeout_s):
                while self._window > self.conditions.window_bytes and self.is_open:
                    await self._writers.park()
                done = True
        finally:
            if not done:
                self.terminate()

    def _suffer(self, message: VirtualMessage) -> bool:
        """Apply the faults of the weather; True if nothing is left to send."""
        weather, rng = self.conditions, self._courier.rng
        if weather.loss and rng.random() < weather.loss:
            if weather.loss_means == "vanish":
                return True
            if weather.loss_means == "reset":
                self._courier.post(now_ms() + self._base_ms, self.other, RESET, None)
                self._finish(LinkClosed(1006, "reset by the network"))
                return True
            self._last_at_ms = max(self._last_at_ms, now_ms() + self._base_ms) + weather.retransmit_ms
        if weather.duplicate and rng.random() < weather.duplicate:
            self._window += message.size_bytes + FRAME_COST_BYTES
            self._put(MESSAGE, message)
        if weather.reorder and rng.random() < weather.reorder and self.blocked is None:
            # Not noted as the last arrival, so what is sent later may overtake it.
            late_ms = 1 + rng.randrange(weather.reorder_ms)
            self._window += message.size_bytes + FRAME_COST_BYTES
            self._courier.post(now_ms() + self._base_ms + late_ms, self.other, MESSAGE, message)
            return True
        return False

    def _put(self, kind: int, item: Item) -> None:
        """Hand a parcel to the courier, in order, at the speed of the path."""
        if self.blocked is not None:
            if self.blocked == "hold":
                self._hold(kind, item)
            elif kind == MESSAGE and isinstance(item, VirtualMessage):
                self._read(item.size_bytes)
            return
        weather = self.conditions
        start_ms = now_ms()
        if weather.bandwidth_bytes_s is not None and isinstance(item, VirtualMessage):
            start_ms = max(start_ms, self._free_at_ms)
            start_ms += (item.size_bytes + FRAME_COST_BYTES) * 1000 // weather.bandwidth_bytes_s
            self._free_at_ms = start_ms
        at_ms = start_ms + self._base_ms
        if weather.jitter_ms:
            at_ms += int(self._courier.rng.random() * weather.jitter_ms)
        if at_ms < self._last_at_ms:
            at_ms = self._last_at_ms
        else:
            self._last_at_ms = at_ms
        self._courier.post(at_ms, self.other, kind, item)

    def _hold(self, kind: int, item: Item) -> None:
        if not self._held:
            self._held_since_ms = now_ms()
            give_up_ms = self._held_since_ms + self._settings.tcp_user_timeout_ms
            self._courier.post(give_up_ms, self, UNACKNOWLEDGED, self._held_since_ms)
            self._courier.stuck(self)
        self._held.append((kind, item))

    def open_after(self, answer_to: VirtualLink) -> None:
        """Our 101 travels to the dialler first; what we send cannot overtake it."""
        self._last_at_ms = max(self._last_at_ms, now_ms() + answer_to._base_ms)

    def release(self) -> None:
        """The path is open again: retransmit what was held."""
        held, self._held = self._held, deque()
        for kind, item in held:
            self._put(kind, item)

    async def ping(self) -> None:
        """Wait for the pong of this ping or of a later one."""
        if not self.is_open:
            raise copy_of(self._closed) if self._closed is not None else LinkClosed(1000, by_us=True)
        self._ping_serial += 1
        serial = self._ping_serial
        slot = self._pings[serial] = Slot()
        self._send_ping(serial)
        try:
            await slot.wait()
        finally:
            self._pings.pop(serial, None)
        if self._closed is not None:
            raise copy_of(self._closed)

    def ping_soon(self, on_pong: Callable[[], None]) -> None:
        """Empty ping without waiting; see `peers.link.Link`."""
        if self.is_open:
            self._ping_serial += 1
            self._on_pong[self._ping_serial] = on_pong
            self._send_ping(self._ping_serial)

    def _send_ping(self, serial: int) -> None:
        if self.blocked is None and self.other.blocked is None:
            # Both ways are open: the pong comes after one round trip. One parcel instead of two.
            at_ms = now_ms() + 2 * self._base_ms
            at_ms += -at_ms % self.conditions.pong_grid_ms
            self._courier.post(at_ms, self, PONG, serial)
        else:
            self._put(PING, serial)

    def _pong(self, answered: int) -> None:
        if self.other._closed is not None:
            # Nobody was there to answer: what our ping met was a dead end.
            if self.blocked is None and self.other.blocked is None:
                self._finish(LinkClosed(1006, "connection reset"))
            return
        # Serials rise, and dictionaries keep their order: the answered ones come first.
        while self._on_pong and (serial := next(iter(self._on_pong))) <= answered:
            self._on_pong.pop(serial)()
        while self._pings and (serial := next(iter(self._pings))) <= answered:
            self._pings.pop(serial).wake()

    async def close(self, code: int, reason: str) -> None:
        """Close handshake, bounded by `peers.close_timeout_s`, then abort."""
        if not self.is_open:
            await trio.lowlevel.checkpoint()
            return
        self._closing = True
        self._writers.unpark_all()
        self._put(CLOSE, LinkClosed(code, reason))
        done = False
        try:
            with trio.move_on_after(self._settings.close_timeout_s):
                await self._reply.wait()
                done = True
        finally:
            if not done and self._closed is None:
                self._put(RESET, None)
            self._finish(LinkClosed(code, reason, by_us=True))

    def terminate(self) -> None:
        """Abort without a close frame."""
        if self._closed is None:
            self._put(RESET, None)
            self._finish(LinkClosed(1006, "terminated", by_us=True))

    def break_off(self) -> None:
        """The connection breaks in the middle: this end sees 1006 now (call it on both ends)."""
        self._finish(LinkClosed(1006, "connection broken"))

    def vanish(self) -> None:
        """The machine of this end lost its power: nobody is told."""
        self._finish(LinkClosed(1006, "power lost", by_us=True))

    def _finish(self, closed: LinkClosed) -> None:
        if self._closed is not None:
            return
        self._closed = closed
        if closed.by_us:
            self._inbox.clear()
        self._held.clear()
        self._on_pong.clear()
        self._reply.set()
        self._reader.wake()
        self._writers.unpark_all()
        for slot in list(self._pings.values()):
            slot.wake()
        self._courier.forget(self)

    def arrive(self, kind: int, item: Item) -> None:
        """The courier is here."""
        if kind == UNACKNOWLEDGED:
            if self._held and self._held_since_ms == item:
                self._finish(LinkClosed(1006, "connection timed out"))
        elif self._closed is not None:
            if kind in (MESSAGE, PING) and not self._courier.blocked(self.local_ip, self.remote_ip):
                # The network no longer keeps this end informed of its path.
                self._courier.post(now_ms() + self._base_ms, self.other, RESET, None)
        elif kind == MESSAGE and isinstance(item, VirtualMessage):
            if self._closing:
                self.other._read(item.size_bytes)
            elif item.size_bytes > self._settings.max_message_bytes:
                self._put(CLOSE, LinkClosed(1009, "message too big"))
                self._finish(LinkClosed(1009, "message too big", by_us=True))
            else:
                self._inbox.append(item)
                self._reader.wake()
        elif kind == PING:
            self._put(PONG, item)
        elif kind == PONG and isinstance(item, int):
            self._pong(item)
        elif kind == CLOSE and isinstance(item, LinkClosed):
            self._put(CLOSE_REPLY, None)
            if self._closing:
                self._reply.set()
            else:
                self._finish(item)
        elif kind == CLOSE_REPLY:
            self._reply.set()
        elif kind == RESET:
            self._finish(LinkClosed(1006, "connection reset"))
