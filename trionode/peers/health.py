"""Is it the others, or is it us? The network-health probe (docs/spec/wire.md §4, last paragraph).

When many links break at once in steady state, all peers left are pinged; if none answers, some nodes
that are no peers are asked. `HealthState` and its steps are pure; `NetworkHealth` keeps it current.
Published: `network:health` {state} at every change. Local only: nothing is told to other nodes.
"""

from __future__ import annotations

import enum
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec
import trio

from trionode.config.tree import PeerSettings
from trionode.errors import WireError
from trionode.peers.closecodes import DEAD, LOST
from trionode.peers.facts import NetworkFacts
from trionode.peers.peer import Peer
from trionode.peers.table import PeerTable
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.wire.address import peer_key, split_address

HISTORY_CHECKS = 50

log = get_logger("peers.health")


class Health(enum.Enum):
    """What is known of the own connection."""

    HEALTHY = "HEALTHY"
    NOT_AFFECTED = "NOT_AFFECTED"
    """Links broke, but every peer that is left answers: the others had the trouble."""
    DEGRADED = "DEGRADED"
    IP_CHANGE = "IP_CHANGE"
    """No peer answers, other nodes do: our links hang on an address we no longer have."""
    NETWORK_LOSS = "NETWORK_LOSS"

    @property
    def is_sound(self) -> bool:
        """Whether what we see of others can be trusted."""
        return self in (Health.HEALTHY, Health.NOT_AFFECTED)


class HealthState(msgspec.Struct, frozen=True):
    """Times are seconds of any steady clock. `losses`: when links were lost that count."""

    health: Health = Health.HEALTHY
    first_peer_s: float | None = None
    losses: tuple[float, ...] = ()
    checked_s: float | None = None


def after_connect(state: HealthState, total: int, now_s: float, settings: PeerSettings) -> HealthState:
    """A link came to be; `total` links there are now."""
    first_s = now_s if state.first_peer_s is None else state.first_peer_s
    recovered = total >= settings.health_recovered_peers
    return msgspec.structs.replace(
        state, first_peer_s=first_s, health=Health.HEALTHY if recovered else state.health
    )


def after_loss(
    state: HealthState, link_age_s: float, code: int | None, now_s: float, settings: PeerSettings
) -> HealthState:
    """A link is gone. One that was closed by word of either side says nothing about the network."""
    recent = tuple(at_s for at_s in state.losses if at_s > now_s - settings.health_window_s)
    if code in (None, LOST, DEAD) and link_age_s >= settings.health_link_age_s:
        recent = (*recent, now_s)[-settings.health_losses :]
    return msgspec.structs.replace(state, losses=recent)


def is_steady(state: HealthState, now_s: float, settings: PeerSettings) -> bool:
    """The first peer came long enough ago for losses to mean something."""
    return state.first_peer_s is not None and now_s - state.first_peer_s >= settings.health_steady_s


def wants_check(state: HealthState, now_s: float, settings: PeerSettings) -> bool:
    """Enough links were lost, or the last check found trouble; and that check is not too fresh."""
    if state.checked_s is not None and now_s - state.checked_s < settings.health_cooldown_s:
        return False
    recent = sum(at_s > now_s - settings.health_window_s for at_s in state.losses)
    doubt = is_steady(state, now_s, settings) and recent >= settings.health_losses
    return doubt or not state.health.is_sound


def after_check(
    state: HealthState, *, answered: int, peers: int, others_answer: bool, since_s: float, now_s: float
) -> HealthState:
    """`answered` of `peers` pings came back; `others_answer` counts only if none did.

    `since_s`: when the check began; links lost after that raise doubts anew.
    """
    if peers and answered == peers:
        health = Health.NOT_AFFECTED
    elif answered:
        health = Health.DEGRADED
    else:
        health = Health.IP_CHANGE if others_answer else Health.NETWORK_LOSS
    later = tuple(at_s for at_s in state.losses if at_s > since_s)
    return HealthState(health, state.first_peer_s, later, now_s)


class NetworkHealth:
    """Service "networkhealth". `reaches(ip, port)`: whether a node that is no peer answers at all."""

    name = "networkhealth"

    def __init__(
        self,
        settings: PeerSettings,
        table: PeerTable,
        facts: NetworkFacts,
        bus: EventBus,
        counters: Counters,
        clock: WallClock,
        rng: random.Random,
        *,
        reaches: Callable[[str, int], Awaitable[bool]],
    ) -> None:
        self._settings = settings
        self._table = table
        self._facts = facts
        self._bus = bus
        self._counters = counters
        self._clock = clock
        self._rng = rng
        self._reaches = reaches
        self._state = HealthState()
        self._doubt = trio.Event()
        self._history: deque[dict[str, Any]] = deque(maxlen=HISTORY_CHECKS)
        table.on_change(self._on_change)

    @property
    def health(self) -> Health:
        return self._state.health

    @property
    def is_sound(self) -> bool:
        """Whether what we see of others can be trusted: no doubt is open, and somebody is connected."""
        return self.health.is_sound and not self._doubt.is_set() and len(self._table) > 0

    def snapshot(self) -> dict[str, Any]:
        """As /flux/networkhealth shows it. Needs a running Trio loop."""
        return {
            "status": self.health.value,
            "inSteadyState": is_steady(self._state, trio.current_time(), self._settings),
            "history": list(self._history),
        }

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Check whenever there is doubt; while there is trouble, again after each cooldown."""
        task_status.started()
        while True:
            await self._until_doubt()
            now_s = trio.current_time()
            if self._state.checked_s is not None:
                await trio.sleep_until(self._state.checked_s + self._settings.health_cooldown_s)
                now_s = trio.current_time()
            self._doubt = trio.Event()
            if wants_check(self._state, now_s, self._settings):
                await self._check()

    async def _until_doubt(self) -> None:
        if self.health.is_sound:
            await self._doubt.wait()
            return
        with trio.move_on_after(self._settings.health_cooldown_s):
            await self._doubt.wait()

    def _on_change(self, event: Literal["added", "removed"], peer: Peer) -> None:
        now_s, settings = trio.current_time(), self._settings
        if event == "added":
            self._enter(after_connect(self._state, len(self._table), now_s, settings))
            return
        age_s = (self._clock.now_ms() - peer.connected_at_ms) / 1000
        self._state = after_loss(self._state, age_s, peer.close_code, now_s, settings)
        if is_steady(self._state, now_s, settings) and len(self._state.losses) >= settings.health_losses:
            self._doubt.set()

    async def _check(self) -> None:
        since_s, peers = trio.current_time(), list(self._table)
        answered = 0

        async def ping(peer: Peer) -> None:
            nonlocal answered
            if await peer.pinger.answers_within(self._settings.health_ping_timeout_s):
                answered += 1

        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(ping, peer)
        others_answer = not answered and await self._others_answer()
        self._counters.add("peers.health.checked")
        found = after_check(
            self._state,
            answered=answered,
            peers=len(peers),
            others_answer=others_answer,
            since_s=since_s,
            now_s=trio.current_time(),
        )
        self._history.append(
            {
                "time": self._clock.now_ms(),
                "status": found.health.value,
                "peers": len(peers),
                "answered": answered,
            }
        )
        self._enter(found)

    async def _others_answer(self) -> bool:
        """Whether one of a few random nodes answers that is neither a peer nor ourselves."""
        own = self._facts.own_address
        found: list[tuple[str, int]] = []
        listed = self._facts.nodes.addresses()
        for address in self._rng.sample(listed, len(listed)):
            try:
                ip, port = split_address(address)
            except WireError:
                continue
            if address != own and peer_key(ip, port) not in self._table:
                found.append((ip, port))
            if len(found) == self._settings.health_probe_nodes:
                break
        answer = False

        async def ask(ip: str, port: int) -> None:
            nonlocal answer
            with trio.move_on_after(self._settings.health_probe_timeout_s):
                if await self._reaches(ip, port):
                    answer = True
                    nursery.cancel_scope.cancel(reason="one answer is enough")

        async with trio.open_nursery() as nursery:
            for ip, port in found:
                nursery.start_soon(ask, ip, port)
        return answer

    def _enter(self, state: HealthState) -> None:
        before, self._state = self._state.health, state
        if state.health is not before:
            self._counters.add(f"peers.health.{state.health.value.lower()}")
            log.warning("network health", was=before.value, now=state.health.value)
            self._bus.publish("network:health", {"state": state.health.value})
