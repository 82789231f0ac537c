"""Hostile hosts: they speak the wire to honest nodes, and lie (docs/spec/wire.md §9, §11).

A liar lets others dial it, dials, listens to what is said, and plays its tricks on its links. A listed one
signs with a key that stands in the node list; what it says of itself counts, the rest must not.

| trick | what it does |
|---|---|
| forge | running messages and goodbyes in the name of others: by a wrong key, or a true text altered |
| replay | true messages of others again, soon and late, many times |
| relabel | true records of others under another type, or at another address, in sync answers |
| evict | evictions of honest nodes in sync answers, which nobody can verify |
| flood | far more frames than a link may send |
| hollow | announcements of messages that it never delivers, or delivers forged |
| twofaced | of itself, other news to everybody, at one and the same time |
| future | of itself, news from just within and just outside of the accepted future |
| oversize | sync answers with too many records, and long texts |
| hoard | of itself, rightly signed, ever new names: removals, installs, failed installs, apps |
| empty | sync answers without a record, said to be complete |
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator

import trio

from trionode.peers.link import CAPABILITIES, DialError, Hello, InboundRequest, Link, LinkClosed
from trionode.sim.runs.lies import Lies
from trionode.sim.runs.plan import LiarPlan, Trick
from trionode.sim.transport import VirtualTransport
from trionode.sim.world import World
from trionode.wire.frames import HashPresent, HashRequest, SyncRequest, decode_frame
from trionode.wire.keys import NodeKey

OVERHEARD = 60
REDIAL_S = 10.0
FLOOD_FRAMES = 200
HOARD = 3


def liar_ip(number: int) -> str:
    """The address of a liar: a /16 of its own, outside of those of the nodes."""
    return f"190.{1 + number}.10.1"


class Liar:
    """One hostile host of a world."""

    def __init__(self, world: World, plan: LiarPlan) -> None:
        self.world = world
        self.plan = plan
        self.ip = liar_ip(plan.number)
        self.rng = random.Random(f"{world.seed}/liar {plan.number}")
        self.key = NodeKey.generate(self.rng, compressed=True)
        self.transport = VirtualTransport(world.network, self.ip)
        self._links: dict[int, Link] = {}
        self._serial = 0
        self.overheard: deque[str] = deque(maxlen=OVERHEARD)
        """Signed texts of others, newest last."""
        self.lies = Lies(self.ip, self.key, self.rng, self.overheard, [node.address for node in world.nodes])
        self.hello = Hello(
            capabilities=frozenset(CAPABILITIES), version="8.13.0", uptime_s=self.rng.choice((10, 100_000))
        )

    async def run(self) -> None:
        """Live until `until_s`, or until cancelled."""
        until_s = float("inf") if self.plan.until_s is None else self.plan.until_s
        with trio.move_on_at(until_s):
            async with trio.open_nursery() as nursery:
                await nursery.start(self.transport.serve, self._on_peer)
                nursery.start_soon(self._play)
                dials = min(self.plan.dials, len(self.world.nodes))
                for node in self.rng.sample(self.world.nodes, dials):
                    nursery.start_soon(self._keep_dialling, node.ip)

    async def _on_peer(self, request: InboundRequest) -> None:
        try:
            async with request.accept(self.hello) as link:
                await self._attend(link)
        except* (LinkClosed, DialError):
            pass

    async def _keep_dialling(self, ip: str) -> None:
        while True:
            try:
                async with self.transport.dial(ip, 16127, self.hello, own_port=16127) as link:
                    await self._attend(link)
            except* (LinkClosed, DialError):
                pass
            await trio.sleep(REDIAL_S)

    async def _attend(self, link: Link) -> None:
        """Read until the link is gone."""
        serial = self._serial = self._serial + 1
        self._links[serial] = link
        try:
            await self._listen(link)
        finally:
            del self._links[serial]

    async def _play(self) -> None:
        """A trick after each pause, on one or two links."""
        while True:
            await trio.sleep(self.plan.pause_s * self.rng.uniform(0.5, 1.5))
            trick = self.rng.choice(self.plan.tricks)
            links = list(self._links.values())
            for link in self.rng.sample(links, min(2, len(links))):
                try:
                    for payload in self._tricks(trick):
                        await self._send(link, payload)
                except LinkClosed:
                    continue

    async def _listen(self, link: Link) -> None:
        while True:
            message = await link.receive()
            if isinstance(message, str):
                if '"signature"' in message:
                    self.overheard.append(message[message.find("{") :])
                continue
            frame = decode_frame(message)
            if isinstance(frame, SyncRequest):
                for text in self.lies.sync_answer(frame.kind, self.plan.tricks, self._now_ms()):
                    await self._send(link, text)
            elif isinstance(frame, HashPresent):
                await self._send(link, b"\x02" + bytes.fromhex(frame.hash))
            elif isinstance(frame, HashRequest) and "hollow" in self.plan.tricks:
                forged = self.lies.forged_copy()
                if forged is not None and self.rng.random() < 0.5:
                    await self._send(link, forged)

    async def _send(self, link: Link, payload: str | bytes) -> None:
        await link.send(self.transport.prepare(payload))

    def _now_ms(self) -> int:
        return self.world.nodes[0].clock.epoch_ms + round(trio.current_time() * 1000)

    def _tricks(self, trick: Trick) -> Iterator[str | bytes]:
        """What goes over one link now."""
        lies, rng, now_ms = self.lies, self.rng, self._now_ms()
        match trick:
            case "forge":
                yield lies.by_a_wrong_key(now_ms)
                altered = lies.forged_copy()
                if altered is not None:
                    yield altered
            case "replay":
                known = list(self.overheard)
                for text in rng.sample(known, min(5, len(known))):
                    yield text
                    yield text
            case "flood":
                for _ in range(FLOOD_FRAMES):
                    yield rng.randbytes(rng.randrange(1, 60))
            case "hollow":
                for _ in range(20):
                    yield b"\x01" + rng.randbytes(20)
                yield from lies.announcements()
            case "twofaced":
                # the same moment on every link
                yield lies.of_itself(now_ms - now_ms % 60_000, f"face{rng.randrange(1 << 30)}")
            case "future":
                yield lies.of_itself(now_ms + rng.choice((29_000, 119_000, 125_000, 900_000)), "later")
            case "hoard":
                for _ in range(HOARD):
                    yield lies.new_name(now_ms)
            case "oversize":
                yield '{"version":1,"timestamp":1,"pubKey":"' + "a" * rng.choice((5_000, 600_000)) + '"}'
            case _:
                pass  # the rest is for those who ask
