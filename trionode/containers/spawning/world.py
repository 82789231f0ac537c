"""What a round of the spawner needs, found out and done (docs/spec/lifecycle.md §11; `plans.spawnneeds`).

One method per need, in a table. Everything is handed in as a narrow port.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import trio

from trionode.appstate.documents import InstallErrorRow, InstallingRow
from trionode.appstate.source import LocationView
from trionode.config.tree import ResourceSettings
from trionode.containers.actions import AppActions, Spec
from trionode.containers.operations import Busy
from trionode.errors import HostError, TrionodeError
from trionode.plans import spawnneeds as need
from trionode.plans.candidates import Candidate
from trionode.plans.requirements import NodeFacts, Refusal, refusal
from trionode.registry.images import BlockLists, find_block, is_vetted
from trionode.runtime.bus import EventBus
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.wire.address import split_address

REASON = "chosen by the spawner"

log = get_logger("containers.spawner")


class AppLog(Protocol):
    """The event log: who runs, installs and failed to install what (`store.eventlog.EventLog`)."""

    def locations(self, name: str | None = None, ip: str | None = None) -> Sequence[LocationView]: ...
    def installing(self, name: str | None = None) -> Sequence[InstallingRow]: ...
    def install_errors(self, name: str | None = None) -> Sequence[InstallErrorRow]: ...


class Candidates(Protocol):
    """`containers.spawning.candidatelist.CandidateList`."""

    def select(self, daemon_height: int) -> tuple[Candidate, ...]: ...


class KnownSpecs(Protocol):
    """Specifications in force."""

    async def in_force(self, app: str) -> Spec | None:
        """Opened, with `hash` and `height`; None when there is none, or it cannot be opened here."""
        ...


class Lists(Protocol):
    """The block lists in force (`containers.monitors.imagecompliance`)."""

    async def lists(self) -> BlockLists:
        """Raises HostError while they are not known."""
        ...


class Images(Protocol):
    """Asks image registries for all images of an app (`containers.images.specimages.SpecImages`)."""

    async def problem(self, spec: Spec) -> str | None:
        """Why this machine cannot have one of them, in a sentence."""
        ...


class Ports(Protocol):
    """Whether an app can have its ports here (`containers.spawning.porttest.PortCheck`)."""

    async def problem(self, spec: Spec) -> str | None:
        """Why not, in a sentence."""
        ...


class NodeSide(Protocol):
    """What this node is (`containers.node.view.NodeView`)."""

    async def facts(self) -> NodeFacts:
        """Raises HostError while that cannot be told."""
        ...


class PeerProbe(Protocol):
    """Whether anybody answers at an API port (`sync.nodeprobe.HttpNodeProbe`)."""

    async def reaches(self, ip: str, port: int) -> bool: ...


class InstallNews(Protocol):
    """Tells the network of an install (`containers.spawning.announcements.Announcements`)."""

    async def installing(self, app: str) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class SpawnParts:
    """What a SpawnWorld is given. `height`: of the chain; `expire`: removes apps that have ended."""

    candidates: Candidates
    height: Callable[[], int]
    log: AppLog
    specs: KnownSpecs
    lists: Lists
    images: Images
    ports: Ports
    node: NodeSide
    probe: PeerProbe
    news: InstallNews
    actions: AppActions
    expire: Callable[[], Awaitable[object]]
    bus: EventBus
    counters: Counters
    resources: ResourceSettings
    probe_timeout_s: float = 10.0


class SpawnWorld:
    """Answers needs."""

    def __init__(self, parts: SpawnParts) -> None:
        self._parts = parts

    def candidates(self) -> tuple[Candidate, ...]:
        """The apps that run too few times, by what is known here."""
        return self._parts.candidates.select(self._parts.height())

    async def answer(self, wanted: need.Need) -> Any:
        """Find out or do what is wanted. Raises TrionodeError when that breaks off."""
        return await _CARRY[type(wanted)](self, wanted)

    async def remove_own(self, wanted: need.RemoveOwn) -> None:
        """Give the app up again; what goes wrong is for the log."""
        self._parts.counters.add("spawner.removed_own")
        try:
            outcome = await self._parts.actions.remove(wanted.app, reason=wanted.reason, force=True)
        except TrionodeError as error:
            log.error("surplus app not removed", app=wanted.app, problem=error.one_line())
            return
        if not outcome.ok:
            log.error("surplus app not removed whole", app=wanted.app, problem=outcome.problem)

    # ---- looking -------------------------------------------------------------------------------------

    async def _list(self, wanted: need.ListCandidates) -> tuple[Candidate, ...]:
        await trio.lowlevel.checkpoint()
        return self.candidates()

    async def _running(self, wanted: need.LookRunning) -> list[need.Instance]:
        rows = self._parts.log.locations(wanted.app)
        return need.places(need.Instance(row.ip, row.running_since_ms) for row in rows)

    async def _installing(self, wanted: need.LookInstalling) -> list[need.Instance]:
        rows = self._parts.log.installing(wanted.app)
        return need.places(need.Instance(row.ip, row.broadcasted_at_ms) for row in rows)

    async def _errors(self, wanted: need.CountErrors) -> int:
        rows = self._parts.log.install_errors(wanted.app)
        return len({row.ip for row in rows if row.hash == wanted.hash})

    async def _spec(self, wanted: need.ReadSpec) -> Spec | None:
        return await self._parts.specs.in_force(wanted.app)

    async def _peers(self, wanted: need.ProbePeers) -> bool:
        """All at once: one that hangs costs its time limit and not that of all."""
        silent: list[str] = []

        async def probe(address: str) -> None:
            answered = False
            with trio.move_on_after(self._parts.probe_timeout_s):
                answered = await self._parts.probe.reaches(*split_address(address))
            if not answered:
                silent.append(address)

        async with trio.open_nursery() as nursery:
            for address in wanted.addresses:
                nursery.start_soon(probe, address)
        return not silent

    # ---- judging ---------------------------------------------------------------------------------------

    async def _vetted(self, wanted: need.IsVetted) -> bool:
        try:
            lists = await self._parts.lists.lists()
        except HostError:
            return False
        return is_vetted(wanted.spec, str(wanted.spec.get("hash", "")), lists)

    async def _blocked(self, wanted: need.CheckImages) -> need.ImageProblem | None:
        try:
            lists = await self._parts.lists.lists()
        except HostError as error:
            return need.ImageProblem(error.message, unreachable=True)
        block = find_block(wanted.spec, str(wanted.spec.get("hash", "")), lists)
        return None if block is None else need.ImageProblem(block.sentence)

    async def _requirements(self, wanted: need.CheckRequirements) -> Refusal | None:
        facts = await self._parts.node.facts()
        return refusal(wanted.spec, facts, self._parts.resources, spawning=True)

    async def _ports(self, wanted: need.CheckPorts) -> str | None:
        return await self._parts.ports.problem(wanted.spec)

    async def _images(self, wanted: need.VerifyImages) -> str | None:
        return await self._parts.images.problem(wanted.spec)

    # ---- doing -------------------------------------------------------------------------------------------

    async def _expire(self, wanted: need.ExpireApps) -> None:
        await self._parts.expire()

    async def _announce(self, wanted: need.Announce) -> bool:
        return await self._parts.news.installing(wanted.app)

    async def _wait(self, wanted: need.Wait) -> None:
        await trio.sleep(wanted.seconds)

    async def _install(self, wanted: need.Install) -> bool | None:
        app = wanted.spec["name"]
        try:
            outcome = await self._parts.actions.install(wanted.spec, reason=REASON)
        except Busy as busy:
            log.info("install put off", app=app, why=busy.message)
            return None
        self._parts.counters.add("spawner.installed" if outcome.ok else "spawner.install_failed")
        if not outcome.ok:
            log.warning("install failed", app=app, step=outcome.step, problem=outcome.problem)
        return outcome.ok

    async def _publish(self, wanted: need.Publish) -> None:
        self._parts.bus.publish(wanted.name, wanted.data)


_CARRY: dict[type[need.Need], Callable[[SpawnWorld, Any], Awaitable[Any]]] = {
    need.ListCandidates: SpawnWorld._list,
    need.LookRunning: SpawnWorld._running,
    need.LookInstalling: SpawnWorld._installing,
    need.CountErrors: SpawnWorld._errors,
    need.ReadSpec: SpawnWorld._spec,
    need.ProbePeers: SpawnWorld._peers,
    need.IsVetted: SpawnWorld._vetted,
    need.CheckImages: SpawnWorld._blocked,
    need.CheckRequirements: SpawnWorld._requirements,
    need.CheckPorts: SpawnWorld._ports,
    need.VerifyImages: SpawnWorld._images,
    need.ExpireApps: SpawnWorld._expire,
    need.Announce: SpawnWorld._announce,
    need.Wait: SpawnWorld._wait,
    need.Install: SpawnWorld._install,
    need.Publish: SpawnWorld._publish,
}
