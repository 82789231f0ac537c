"""InstallRecords: what apps have on this machine, noted before it is made (docs/spec/lifecycle.md §12, §15).

A record is written before the first side effect of an install and deleted after the last of a removal. So
whatever a sudden death leaves behind has a record that says how far things were: `recover` removes what was
being installed, tested or removed, and health makes again what is missing of an installed app. A record
names containers, volumes, ports and images also when the specification cannot be opened any more, and no
image is removed while the record of another app names it. It holds no secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import msgspec
import trio

from trionode.plans.parts import Part
from trionode.plans.texts import odd_in
from trionode.runtime.logs import get_logger
from trionode.store.localapps import LocalAppStore

KEY = "installRecords"

Phase: TypeAlias = Literal["installing", "testing", "installed", "removing"]

log = get_logger("containers.records")


class PartRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One component: its identifier, its image, its ports on this machine."""

    identifier: str
    image: str = ""
    ports: tuple[int, ...] = ()


class AppRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One app; `parts` in order of the specification."""

    app: str
    phase: Phase
    parts: tuple[PartRecord, ...] = ()

    @property
    def is_unfinished(self) -> bool:
        return self.phase != "installed"


def records_of(parts: Sequence[Part]) -> tuple[PartRecord, ...]:
    """What is noted of components. A name that no image can have is none, and could not be written down."""
    images = ["" if odd_in(part.repotag) else part.repotag for part in parts]
    return tuple(
        PartRecord(part.identifier, image, part.ports) for part, image in zip(parts, images, strict=True)
    )


class InstallRecords:
    """The records of one node. `load` before use; every change is durable when it returns."""

    def __init__(self, store: LocalAppStore) -> None:
        self._store = store
        self._records: dict[str, AppRecord] = {}
        self._turn = trio.Lock()
        self._entered = trio.Event()

    async def load(self) -> None:
        """Read them. Raises StoreError. What cannot be understood is dropped with a line in the log."""
        text = await self._store.get_meta(KEY)
        records: list[AppRecord] = []
        if text is not None:
            try:
                records = msgspec.json.decode(text, type=list[AppRecord])
            except msgspec.DecodeError as error:
                log.error("install records cannot be read, they are begun anew", problem=str(error))
        self._records = {record.app: record for record in records}

    def all(self) -> tuple[AppRecord, ...]:
        return tuple(self._records.values())

    def get(self, app: str) -> AppRecord | None:
        return self._records.get(app)

    def unfinished(self) -> tuple[AppRecord, ...]:
        """Operations that are under way, or ended before they were through."""
        return tuple(record for record in self._records.values() if record.is_unfinished)

    def leaving(self) -> frozenset[str]:
        """Apps whose removal has begun: half an app is neither healed nor announced."""
        return frozenset(record.app for record in self._records.values() if record.phase == "removing")

    async def some_unfinished(self) -> None:
        """Wait until there is one."""
        while not self.unfinished():
            await self._entered.wait()

    async def put(self, record: AppRecord) -> None:
        """Add a record, or replace that of the app."""
        await self._change(record.app, lambda _: record)

    async def enter(self, app: str, phase: Phase) -> None:
        """The app's record is in another phase now; without one nothing happens."""
        await self._change(
            app, lambda known: None if known is None else msgspec.structs.replace(known, phase=phase)
        )

    async def forget(self, app: str) -> None:
        """Nothing of the app is left."""
        await self._change(app, lambda _: None)

    async def _change(self, app: str, change: Callable[[AppRecord | None], AppRecord | None]) -> None:
        """One change at a time: a removal by force may go on beside another operation."""
        async with self._turn:
            before = self._records.get(app)
            after = change(before)
            if after == before:
                return
            records = {name: record for name, record in self._records.items() if name != app}
            if after is not None:
                records[app] = after
            await self._store.put_meta(KEY, msgspec.json.encode(list(records.values())).decode())
            self._records = records
            self._entered.set()
            self._entered = trio.Event()
