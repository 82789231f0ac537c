"""Components that somebody stopped on purpose, so that nothing starts them by itself (docs/spec/api.md §8.2).

Health pass, boot decision and election leave them alone until they are started again through the API or
their app is removed. The list survives the process and a power cut: it lies beside the installed apps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

import msgspec
import trio

from trionode.errors import StoreError
from trionode.hosting.port import APP_REMOVED
from trionode.runtime.bus import EventBus
from trionode.runtime.logs import get_logger

META = "operatorStops"
AGAIN_S = 60.0
"""After this long a stop that could not be forgotten is tried again."""

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
        self._gone: set[str] = set()
        self._writing = trio.Lock()

    @property
    def names(self) -> frozenset[str]:
        """Identifiers of the components; those of a removed app no longer, written or not."""
        return self._names - self._gone

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
            gone = frozenset(self._gone)
            # What is stopped anew stays, though an app of that name was removed before.
            names = ((self._names - gone) | add) - drop
            if names != self._names:
                with trio.CancelScope(shield=True):  # store and memory must not part
                    await self._store.put_meta(META, msgspec.json.encode(sorted(names)).decode())
                    self._names = names
            self._gone -= gone

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with self._bus.subscribe(APP_REMOVED) as removed:
            await self.load()
            task_status.started()
            while True:
                # An app that is installed again must start: what could not be written is tried again.
                with trio.move_on_after(AGAIN_S if self._gone else math.inf):
                    event = await removed.receive()
                    app = event.data.get("name")
                    self._gone |= {name for name in self._names if app in (name, name.partition("_")[2])}
                await self._forget()

    async def _forget(self) -> None:
        gone = sorted(self._gone)
        if not gone:
            return
        try:
            await self._change()
        except StoreError as error:
            log.error("stops of a removed app not forgotten, tried again", problem=error.one_line())
        else:
            log.info("stops forgotten", components=gone)
