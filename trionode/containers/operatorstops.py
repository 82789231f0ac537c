"""Components that somebody stopped on purpose, so that nothing starts them by itself (docs/spec/api.md §8.2).

Health pass, boot decision and election leave them alone until they are started again through the API or
their app is removed. The list survives the process and a power cut.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import msgspec
import trio

from trionode.errors import HostError
from trionode.hosting.port import APP_REMOVED
from trionode.runtime.bus import EventBus
from trionode.runtime.logs import get_logger

log = get_logger("containers.stops")


class StopsFile(Protocol):
    """Where the list is kept."""

    async def read(self) -> tuple[str, ...]: ...

    async def write(self, names: tuple[str, ...]) -> None:
        """Durable when it returns. Raises HostError."""
        ...


class MemoryStops:
    """For the simulator and tests; it outlives the process of its node when that is made anew."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()

    async def read(self) -> tuple[str, ...]:
        return self.names

    async def write(self, names: tuple[str, ...]) -> None:
        self.names = names


class StopsOnDisk:
    """A small JSON file, replaced whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self) -> tuple[str, ...]:
        return await trio.to_thread.run_sync(self._read)

    async def write(self, names: tuple[str, ...]) -> None:
        await trio.to_thread.run_sync(self._write, names)

    def _read(self) -> tuple[str, ...]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=tuple[str, ...])
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.DecodeError) as error:
            raise HostError(
                f"cannot read {self._path}: {error}",
                remedy="delete it: apps that were stopped on purpose are then started again",
            ) from error

    def _write(self, names: tuple[str, ...]) -> None:
        draft = self._path.with_name(f"{self._path.name}.new")
        try:
            with draft.open("wb") as file:
                file.write(msgspec.json.encode(names))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise HostError(
                f"cannot write {self._path}: {error}", remedy="see that the data folder has room"
            ) from error


class OperatorStops:
    """Service "operator stops": ready when the list is read; forgets apps that are removed."""

    name = "operator stops"

    def __init__(self, file: StopsFile, bus: EventBus) -> None:
        self._file = file
        self._bus = bus
        self._names: frozenset[str] = frozenset()
        self._writing = trio.Lock()

    @property
    def names(self) -> frozenset[str]:
        """Identifiers of the components."""
        return self._names

    async def add(self, identifiers: Iterable[str]) -> None:
        """Stopped on purpose from now on. Raises HostError; nothing has changed then."""
        await self._change(add=frozenset(identifiers))

    async def drop(self, identifiers: Iterable[str]) -> None:
        """No longer. Raises HostError; nothing has changed then."""
        await self._change(drop=frozenset(identifiers))

    async def _change(self, add: frozenset[str] = frozenset(), drop: frozenset[str] = frozenset()) -> None:
        async with self._writing:
            names = (self._names | add) - drop
            if names == self._names:
                return
            with trio.CancelScope(shield=True):  # file and memory must not part
                await self._file.write(tuple(sorted(names)))
                self._names = names

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with self._bus.subscribe(APP_REMOVED) as removed:
            self._names = frozenset(await self._file.read())
            task_status.started()
            async for event in removed:
                app = event.data.get("name")
                gone = [name for name in self._names if name == app or name.partition("_")[2] == app]
                if gone:
                    await self.drop(gone)
                    log.info("stop forgotten", app=app)
