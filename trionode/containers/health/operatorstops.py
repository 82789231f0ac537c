"""Components that somebody stopped on purpose, so that nothing starts them by itself (docs/spec/api.md §8.2).

Health pass, boot decision and election leave them alone until they are started again through the API or
their app is removed. The list survives the process and a power cut: it lies beside the installed apps.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec
import trio

from trionode.errors import StoreError
from trionode.hosting.port import APP_REMOVED
from trionode.runtime.bus import EventBus
from trionode.runtime.logs import get_logger

META = "operatorStops"

log = get_logger("containers.stops")


class MetaStore(Protocol):
    """Named values that last (`store.localapps.LocalAppStore`). Both raise StoreError."""

    async def get_meta(self, key: str) -> str | None: ...

    async def put_meta(self, key: str, value: str) -> None: ...


class OperatorStops:
    """Service "operator stops": ready when the list is read; forgets apps that are removed."""

    name = "operator stops"

    def __init__(self, store: MetaStore, bus: EventBus) -> None:
        self._store = store
        self._bus = bus
        self._names: frozenset[str] = frozenset()
        self._writing = trio.Lock()

    @property
    def names(self) -> frozenset[str]:
        """Identifiers of the components."""
        return self._names

    async def load(self) -> None:
        """Read the list; `run` does it too. Raises StoreError."""
        text = await self._store.get_meta(META)
        try:
            self._names = frozenset(msgspec.json.decode(text, type=list[str]) if text else ())
        except msgspec.DecodeError as error:
            raise StoreError(
                f"the list of apps stopped on purpose cannot be read: {error}",
                remedy=f"delete the value {META!r}: they are started again then",
            ) from error

    async def add(self, identifiers: Iterable[str]) -> None:
        """Stopped on purpose from now on. Raises StoreError; nothing has changed then."""
        await self._change(add=frozenset(identifiers))

    async def drop(self, identifiers: Iterable[str]) -> None:
        """No longer. Raises StoreError; nothing has changed then."""
        await self._change(drop=frozenset(identifiers))

    async def _change(self, add: frozenset[str] = frozenset(), drop: frozenset[str] = frozenset()) -> None:
        async with self._writing:
            names = (self._names | add) - drop
            if names == self._names:
                return
            with trio.CancelScope(shield=True):  # store and memory must not part
                await self._store.put_meta(META, msgspec.json.encode(sorted(names)).decode())
                self._names = names

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with self._bus.subscribe(APP_REMOVED) as removed:
            await self.load()
            task_status.started()
            async for event in removed:
                app = event.data.get("name")
                gone = [name for name in self._names if name == app or name.partition("_")[2] == app]
                if gone:
                    await self.drop(gone)
                    log.info("stop forgotten", app=app)
