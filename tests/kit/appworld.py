"""One node's containers in memory with the real app lifecycle on top: what installs, removes and redeploys.

`AppWorld` is the machine and what lives elsewhere; `life()` is a process of the node on it. A second `life()`
finds what the first one left, as after a restart.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import msgspec
import trio

from trionode.config.tree import InstallerSettings, ResourceSettings
from trionode.containers.actions import Spec
from trionode.containers.health.linking import Linker
from trionode.containers.health.prunes import Pruner
from trionode.containers.images.memory import MemoryImageRegistry
from trionode.containers.images.registry import ImageFault
from trionode.containers.install.appactions import AppLifecycle
from trionode.containers.install.records import InstallRecords
from trionode.containers.install.workbench import NoSecrets, Workbench
from trionode.containers.installedapps import InstalledApps
from trionode.containers.memory.disk import MemoryDisk, MemoryFirewall
from trionode.containers.memory.engine import MemoryEngine
from trionode.containers.memory.objects import RegistryImage
from trionode.containers.operations import Operations
from trionode.errors import HostError
from trionode.lifecycle.limits import Machine
from trionode.plans.environment import Fetched
from trionode.plans.requirements import NodeFacts, Place
from trionode.registry.images import BlockLists
from trionode.runtime.counters import Counters
from trionode.store.localapps import MemoryLocalApps

OWNER = "1OwnerOfTheShop"
ADDRESS = "198.51.100.7:16127"
SECRET = "hunter2-very-secret"
IMAGES = ("library/web:1", "library/db:1", "library/worker:1")


def part(name: str, *, image: str = "", ports: tuple[int, ...] = (), **members: Any) -> dict[str, Any]:
    """A component of version 8."""
    return {
        "name": name,
        "description": "",
        "repotag": image or f"library/{name}:1",
        "ports": list(ports),
        "domains": ["" for _ in ports],
        "environmentParameters": [],
        "commands": [],
        "containerPorts": [80 + number for number in range(len(ports))],
        "containerData": "/data",
        "cpu": 0.5,
        "ram": 500,
        "hdd": 5,
        "repoauth": "",
        **members,
    }


def app(name: str, *parts: Mapping[str, Any], description: str = "", **members: Any) -> dict[str, Any]:
    """An app of version 8."""
    return {
        "version": 8,
        "name": name,
        "description": description,
        "owner": OWNER,
        "compose": [dict(one) for one in parts],
        "instances": 3,
        "contacts": [],
        "geolocation": [],
        "expire": 88000,
        "nodes": [],
        "staticip": False,
        "enterprise": "",
        "hash": f"{sum(name.encode()):064x}",
        "height": 2_100_000,
        **members,
    }


def base() -> dict[str, Any]:
    """The app that is there before: it shares the image of `web` with the shop."""
    return app("base", part("core", image="library/web:1", ports=(31100,)))


def shop(**members: Any) -> dict[str, Any]:
    """Three components that need everything an install can do, linked to `base`."""
    return app(
        "shop",
        part("web", ports=(31001, 31002), environmentParameters=[f"TOKEN={SECRET}"]),
        part(
            "db",
            ports=(31003,),
            containerData="g:/data|m:config:/config|f:init.sql:/init.sql",
            environmentParameters=["F_S_ENV=https://storage.test/env"],
        ),
        part("worker", containerData="r:/data|0:/web"),
        **{"description": "networkWith: [base]", **members},
    )


class FakeNode:
    """What the node is. `problem`: it cannot tell."""

    def __init__(self) -> None:
        self.problem = ""
        self.facts_now = NodeFacts(
            machine=Machine(16, 64_000, 2000),
            address=ADDRESS,
            collateral=f"{'c' * 64}:0",
            tier="stratus",
            place=Place("EU", "DE", "HE"),
        )

    async def facts(self) -> NodeFacts:
        await trio.lowlevel.checkpoint()
        if self.problem:
            raise HostError(self.problem, remedy="wait")
        return self.facts_now


class FakeStorage:
    """What owners keep elsewhere."""

    def __init__(self) -> None:
        self.problem = ""
        self.fails: Exception | None = None
        self.asked = 0
        self.hangs = False
        self.answer: Any = [f"FETCHED={SECRET}"]

    async def fetch(self, url: str, *, app: str) -> Fetched:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if self.hangs:
            await trio.sleep_forever()
        if self.problem:
            raise HostError(self.problem, remedy="see whether it runs")
        if self.fails is not None:
            raise self.fails
        return Fetched(self.answer)


class FakeSpecs:
    """Specifications in force."""

    def __init__(self) -> None:
        self.known: dict[str, Spec] = {}

    async def in_force(self, app: str) -> Spec | None:
        await trio.lowlevel.checkpoint()
        return self.known.get(app)


class FakeNews:
    """What was told: install errors to the network, the rest at home."""

    def __init__(self) -> None:
        self.errors: list[tuple[str, str, str]] = []
        self.told: list[tuple[str, str]] = []
        self.removals: list[tuple[str, str, str]] = []

    async def install_error(self, app: str, hash: str, error: str) -> bool:
        await trio.lowlevel.checkpoint()
        self.errors.append((app, hash, error))
        return True

    def app_installed(self, app: str, hash: str) -> None:
        self.told.append(("installed", app))

    def app_removed(self, app: str, *, tell_peers: bool) -> None:
        self.told.append(("removed" if tell_peers else "removed silently", app))

    def removal(self, app: str, *, reason: str, problem: str) -> None:
        self.removals.append((app, reason, problem))


class FakeLists:
    """The block lists."""

    def __init__(self) -> None:
        self.now = BlockLists()
        self.problem = ""

    async def lists(self) -> BlockLists:
        await trio.lowlevel.checkpoint()
        if self.problem:
            raise HostError(self.problem, remedy="wait")
        return self.now


class FakeOpener:
    """Opens encrypted specifications: what is in them is known here by name."""

    def __init__(self) -> None:
        self.inside: dict[str, Mapping[str, Any]] = {}

    async def open(self, spec: Mapping[str, Any], height: int) -> Mapping[str, Any] | None:
        await trio.lowlevel.checkpoint()
        found = self.inside.get(str(spec["name"]))
        return None if found is None else {**spec, **found}


class Life(msgspec.Struct, frozen=True):
    """One process of the node."""

    actions: AppLifecycle
    bench: Workbench
    operations: Operations
    installed: InstalledApps
    records: InstallRecords


class AppWorld:
    """The machine and the world around it. Faults are set on its parts."""

    def __init__(self, **settings: Any) -> None:
        self.settings = InstallerSettings(**settings)
        self.engine = MemoryEngine(registry={image: RegistryImage() for image in IMAGES})
        self.disk = MemoryDisk()
        self.firewall = MemoryFirewall()
        self.images = MemoryImageRegistry()
        for image in IMAGES:
            self.images.push(image)
        self.store = MemoryLocalApps()
        self.node = FakeNode()
        self.storage = FakeStorage()
        self.specs = FakeSpecs()
        self.news = FakeNews()
        self.lists = FakeLists()
        self.opener = FakeOpener()

    async def life(self, *, recovers: bool = True) -> Life:
        """A new process: it loads what is there, and ends what was half done."""
        installed = InstalledApps(self.store, self.opener)
        records, operations, counters = InstallRecords(self.store), Operations(), Counters()
        bench = Workbench(
            engine=self.engine,
            disk=self.disk,
            firewall=self.firewall,
            images=self.images,
            lists=self.lists,
            storage=self.storage,
            secrets=NoSecrets(),
            pruner=Pruner(self.engine, installed, records, operations, counters),
            links=Linker(self.engine, installed, counters),
            node=self.node,
            specs=self.specs,
            installed=installed,
            records=records,
            announcements=self.news,
            news=self.news,
            settings=self.settings,
            resources=ResourceSettings(),
            rng=random.Random(5),
            host_service_ip="169.254.43.43",
        )
        actions = AppLifecycle(bench, operations)
        await actions.load()
        if recovers:
            await actions.recover()
        return Life(actions, bench, operations, installed, records)

    def push(self, image: str) -> None:
        """A new image under a name, at its registry and for the engine."""
        digest = self.images.push(image)
        self.engine.registry[image] = RegistryImage(digest=digest)

    async def everything(self) -> dict[str, Any]:
        """All that a machine can have of apps, for a comparison of before and after."""
        rows = await self.store.rows()
        return {
            **{kind: sorted(names) for kind, names in self.engine.everything().items()},
            "image ids": sorted(image.id for image in await self.engine.images()),
            "endpoints": {
                network.name: sorted(network.endpoints)
                for network in [await self.engine.network(n.name) for n in await self.engine.networks()]
            },
            "states": {row.name: row.state for row in await self.engine.containers()},
            "volumes of apps": {
                name: (v.is_mounted, v.survives_reboot) for name, v in self.disk.held.items()
            },
            "open ports": dict(sorted(self.firewall.open.items())),
            "guarded": self.firewall.guarded,
            "rows": {row.name: row.spec_text for row in rows},
            "records": await self.store.get_meta("installRecords"),
        }

    def refuse_image(self, image: str, fault: ImageFault | None) -> None:
        """What its registry answers from now on."""
        if fault is None:
            self.images.faults.pop(image, None)
        else:
            self.images.faults[image] = fault


async def settled(world: AppWorld) -> Life:
    """A process on a machine with `base` installed."""
    life = await world.life()
    outcome = await life.actions.install(base(), reason="the test")
    assert outcome.ok, outcome.problem
    return life
