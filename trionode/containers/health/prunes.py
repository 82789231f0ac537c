"""Pruner: clears away what apps that left have left behind (docs/spec/lifecycle.md §12, prune guard).

`plans.prune` judges each object by our labels and install records. The engine's own prune is never called:
it takes stopped for unwanted, and deleted the waiting container of an encrypted `g:` app that way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from trionode.containers.engine import Conflict, ContainerRow, Engine, EngineError, Image, NotFound
from trionode.containers.install.records import AppRecord
from trionode.containers.memory.objects import familiar
from trionode.containers.operations import Operations
from trionode.plans import labels
from trionode.plans.prune import EngineObject, Keep, Kind, Prune, plan_prune
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger

log = get_logger("containers.prunes")


class InstalledNames(Protocol):
    """The local table (`containers.installedapps.InstalledApps`)."""

    def names(self) -> frozenset[str]: ...


class Records(Protocol):
    """What apps have on this machine (`containers.install.records.InstallRecords`)."""

    def all(self) -> tuple[AppRecord, ...]: ...


class Pruner:
    """`last` are the decisions of the last time, for status pages."""

    def __init__(
        self,
        engine: Engine,
        installed: InstalledNames,
        records: Records,
        operations: Operations,
        counters: Counters,
    ) -> None:
        self._engine = engine
        self._installed = installed
        self._records = records
        self._operations = operations
        self._counters = counters
        self.last: tuple[Prune | Keep, ...] = ()

    async def plan(self, app: str = "") -> tuple[Prune | Keep, ...]:
        """What would be cleared away now. `app`: about to be installed. Raises EngineError."""
        objects = await self._objects()
        installing = self._operations.names() | ({app} if app else set())
        return plan_prune(
            objects, self._installed.names(), installing, busy=bool(self._operations.names() - {app})
        )

    async def prune(self, app: str = "") -> None:
        """Clear away what can be; the rest is logged and left. Raises EngineError: nothing known."""
        self.last = await self.plan(app)
        for step in self.last:
            if isinstance(step, Prune):
                await self._remove(step)

    async def _remove(self, step: Prune) -> None:
        try:
            if step.kind is Kind.CONTAINER:
                await self._engine.remove(step.name, force=True, volumes=True)
            elif step.kind is Kind.NETWORK:
                await self._engine.remove_network(step.name)
            elif step.kind is Kind.VOLUME:
                await self._engine.remove_volume(step.name)
            else:
                await self._engine.remove_image(step.name)
        except NotFound:
            return
        except Conflict as error:
            log.info("in use, kept", kind=step.kind.value, name=step.name, problem=error.one_line())
        except EngineError as error:
            self._counters.add("containers.prune.failed")
            log.error("not pruned", kind=step.kind.value, name=step.name, problem=error.one_line())
        else:
            self._counters.add(f"containers.prune.{step.kind.value}")
            log.warning("pruned", kind=step.kind.value, name=step.name, why=step.reason)

    async def _objects(self) -> list[EngineObject]:
        containers = await self._engine.containers()
        networks, volumes = await self._engine.networks(), await self._engine.volumes()
        images = await self._engine.images()
        found = [EngineObject(Kind.CONTAINER, row.name, _owner(row.labels)) for row in containers]
        found += [
            EngineObject(Kind.NETWORK, net.name, _owner(net.labels), in_use=bool(net.endpoints))
            for net in networks
        ]
        found += [EngineObject(Kind.VOLUME, volume.name, _owner(volume.labels)) for volume in volumes]
        found += [self._image(image, containers) for image in images]
        return found

    def _image(self, image: Image, containers: Iterable[ContainerRow]) -> EngineObject:
        """An image says nothing of its apps; install records do."""
        apps = {
            record.app
            for record in self._records.all()
            for part in record.parts
            if part.image and familiar(part.image) in image.tags
        }
        in_use = any(row.image_id == image.id or row.image in image.tags for row in containers)
        return EngineObject(Kind.IMAGE, image.id, frozenset(apps), in_use=in_use)


def _owner(marks: Mapping[str, str]) -> frozenset[str]:
    owner = marks.get(labels.OWNER)
    return frozenset({owner}) if owner else frozenset()
