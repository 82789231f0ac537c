"""A node's containers without a node: engine, disk and table in memory, actions that do as they are told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import trio

from trionode.containers.actions import NoProgress, Outcome, Progress, Spec
from trionode.containers.health.holds import Holds
from trionode.containers.health.operatorstops import OperatorStops
from trionode.containers.health.tampering import TamperingLog
from trionode.containers.installedapps import InstalledApps
from trionode.containers.memory.disk import MemoryDisk
from trionode.containers.memory.engine import MemoryEngine
from trionode.containers.memory.objects import RegistryImage
from trionode.containers.node.geolocation import Located
from trionode.containers.node.nodeside import InstallNews
from trionode.containers.operations import Operations, Work
from trionode.containers.planned import PlannedAction
from trionode.containers.spawning.portwatch import PortStatus
from trionode.containers.spawning.spawner import SpawnerStatus
from trionode.hosting.port import RunningApp
from trionode.lifecycle.names import container_name
from trionode.plans.crashes import Crashes
from trionode.plans.createoptions import CreateOptions
from trionode.plans.networks import Subnet
from trionode.registry.images import BlockLists
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.runtime.counters import Counters
from trionode.store.localapps import MemoryLocalApps

IMAGE = "library/web:1"


def composed(
    name: str, owner: str, *parts: str, data: Mapping[str, str] | None = None, first_port: int = 31000
) -> dict[str, Any]:
    """A specification of version 8 with components of these names."""
    return {
        "version": 8,
        "name": name,
        "description": "a shop",
        "owner": owner,
        "compose": [
            {
                "name": part,
                "description": "",
                "repotag": IMAGE,
                "ports": [first_port + number],
                "domains": [""],
                "environmentParameters": [f"TOKEN=secret-{part}"],
                "commands": [],
                "containerPorts": [80],
                "containerData": (data or {}).get(part, "/data"),
                "cpu": 0.5,
                "ram": 500,
                "hdd": 5,
                "repoauth": "",
            }
            for number, part in enumerate(parts)
        ],
        "instances": 3,
        "contacts": [],
        "geolocation": [],
        "expire": 88000,
        "nodes": [],
        "staticip": False,
        "enterprise": "",
        "hash": "ab" * 32,
        "height": 2_099_000,
    }


class FakeHost:
    """Starts and stops containers of the engine, as EngineHost does."""

    def __init__(self, engine: MemoryEngine) -> None:
        self._engine = engine
        self.failing: set[str] = set()

    def apps(self) -> tuple[RunningApp, ...]:
        return (RunningApp("shop", "ab"),)

    async def start(self, identifier: str) -> None:
        await self._engine.start(container_name(identifier))

    async def stop(self, container: str, grace_s: float) -> None:
        await self._engine.stop(container, grace_s)


class FakeActions:
    """Tells its steps, takes its time, and answers what it is told to. `asked` are the calls."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.outcome = Outcome(True)
        self.messages: list[Mapping[str, Any]] = [
            {"status": "Pulling image"},
            {"status": "Downloading", "id": "aa", "progressDetail": {"current": 1, "total": 9}},
            {"status": "Pull complete", "id": "aa"},
        ]
        self.takes_s = 0.0
        self.finished: list[str] = []
        self.during: Callable[[], Awaitable[None]] | None = None

    async def _do(
        self, work: Work, app: str, progress: Progress, *, beside: bool = False, **members: Any
    ) -> Outcome:
        self.asked.append((work.value, app, members))
        with self._operations.doing(work, app, beside=beside):
            for message in self.messages:
                progress.tell(message)
            await trio.sleep(self.takes_s)
            if self.during is not None:
                await self.during()
        self.finished.append(app)
        return self.outcome

    async def install(
        self,
        spec: Spec,
        *,
        reason: str,
        test: bool = False,
        tell_failure: bool = True,
        progress: Progress = NoProgress(),  # noqa: B008
    ) -> Outcome:
        return await self._do(Work.INSTALL, str(spec["name"]), progress, spec=spec, test=test)

    async def remove(
        self,
        app: str,
        *,
        reason: str,
        force: bool = False,
        tell_peers: bool = True,
        progress: Progress = NoProgress(),  # noqa: B008
    ) -> Outcome:
        return await self._do(Work.REMOVE, app, progress, beside=force, force=force, tell_peers=tell_peers)

    async def redeploy(
        self,
        app: str,
        *,
        hard: bool,
        reason: str,
        progress: Progress = NoProgress(),  # noqa: B008
    ) -> Outcome:
        return await self._do(Work.HARD_REDEPLOY if hard else Work.SOFT_REDEPLOY, app, progress)

    async def redeploy_component(
        self,
        identifier: str,
        *,
        hard: bool,
        reason: str,
        progress: Progress = NoProgress(),  # noqa: B008
    ) -> Outcome:
        return await self._do(Work.HARD_REDEPLOY if hard else Work.SOFT_REDEPLOY, identifier, progress)


class FakeHealth:
    def __init__(self) -> None:
        self.crashes: dict[str, Crashes] = {}


class FakeLists:
    def __init__(self) -> None:
        self.found = BlockLists()

    async def lists(self) -> BlockLists:
        return self.found


class FakeSpecs:
    """`SpecsPort`: opens the apps whose components it was told."""

    def __init__(self) -> None:
        self.inside: dict[str, list[dict[str, Any]]] = {}
        self.can_open = True

    async def opened(self, spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
        if not spec.get("enterprise"):
            return spec
        compose = self.inside.get(spec["name"])
        return None if compose is None else {**spec, "compose": compose}


class FakeNewImages:
    """`NewImagesPort`: a sentence per image that it refuses."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}

    async def problem(self, spec: Mapping[str, Any]) -> str | None:
        return next(
            (self.refused[part["repotag"]] for part in spec["compose"] if part["repotag"] in self.refused),
            None,
        )


class FakeNode:
    """`PlacePort`."""

    def __init__(self) -> None:
        self.located: Located | None = None


class Told:
    """Whatever has a status."""

    def __init__(self, status: Any) -> None:
        self.status = status


class FakeSpawning:
    """`SpawningPort`: a spawner that waits, ports that are in order."""

    def __init__(self) -> None:
        self.spawner = Told(SpawnerStatus("waiting", "", None, 0, 0, 0, 0, (), ()))
        self.ports = Told(PortStatus((), None, "", 0.0))


class HostedApps:
    """`api.containersport.ContainersPort` in memory."""

    def __init__(self, clock: WallClock, bus: EventBus) -> None:
        self.engine = MemoryEngine(clock, registry={IMAGE: RegistryImage()})
        self.disk = MemoryDisk()
        self.host: Any = FakeHost(self.engine)
        self.operations = Operations()
        self.actions: Any = FakeActions(self.operations)
        store = MemoryLocalApps()
        self.installed = InstalledApps(store)
        self.stops = OperatorStops(store, bus)
        self.holds = Holds(store, self.operations, bus, clock)
        self.news = InstallNews(bus, clock)
        self.health = FakeHealth()
        self.lists = FakeLists()
        self.specs = FakeSpecs()
        self.new_images = FakeNewImages()
        self.tampering = TamperingLog(store, bus, Counters(), clock)
        self.node = FakeNode()
        self.spawning = FakeSpawning()
        self.actions_planned: tuple[PlannedAction, ...] = ()
        self._subnet = 1

    engine_problem = ""

    async def present_plan(self, app: str = "") -> tuple[PlannedAction, ...]:
        return tuple(step for step in self.actions_planned if not app or step.app.lower() == app.lower())

    async def add(self, spec: Mapping[str, Any], *, stopped: Iterable[str] = ()) -> None:
        """Have this app installed, its containers running but for the components named."""
        await self.installed.put(spec)
        app = str(spec["name"])
        network = f"fluxDockerNetwork_{app}"
        await self.engine.create_network(network, Subnet(self._subnet), app)
        self._subnet += 1
        async with self.engine.pull(IMAGE) as messages:
            async for _ in messages:
                pass
        for part in self.installed.parts(app):
            await self.engine.create(
                CreateOptions(
                    name=part.container,
                    app=app,
                    identifier=part.identifier,
                    image=part.repotag,
                    hostname=part.name,
                    network=network,
                    environment=part.environment,
                    command=("/app", "--password", "secret"),
                    ports=tuple(zip(part.container_ports, part.ports, strict=True)),
                    nano_cpus=round(part.cpu * 1e9),
                )
            )
            if part.name not in stopped:
                await self.engine.start(part.container)

    async def states(self) -> dict[str, str]:
        return {row.name: row.state for row in await self.engine.containers()}
