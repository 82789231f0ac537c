"""InstalledApps: the local table in memory, over the store that keeps it (docs/spec/lifecycle.md §12, D-14).

Rows hold what the network registered; an encrypted specification is kept closed and opened when somebody
needs its components. What was opened once stays opened in memory, never on disk. Reading is immediate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from trionode.config.tree import ResourceSettings
from trionode.containers.actions import Spec
from trionode.lifecycle.local import Component, InstalledApp
from trionode.plans.parts import Part, is_encrypted, parts_of
from trionode.plans.requirements import Amount, locked_by
from trionode.registry.rows import CurrentSpec
from trionode.runtime.appturns import AppTurns
from trionode.runtime.counters import Counters
from trionode.runtime.logs import get_logger
from trionode.store.localapps import LocalAppStore
from trionode.wire.jsjson import stringify

CLOSED_VERSION = 8
"""From this version on an encrypted specification hides all of its components."""
_BESIDE = ("hash", "height")

log = get_logger("containers.installed")


class Opener(Protocol):
    """Opens encrypted specifications; only secure nodes have one (`store.appregistry_ports`)."""

    async def open(self, spec: Mapping[str, Any], height: int) -> Mapping[str, Any] | None:
        """With compose and contacts in clear; None when that cannot be done."""
        ...


class LocalRow(msgspec.Struct, frozen=True):
    """One installed app. `spec`: as stored (an encrypted one closed), with `hash` and `height`."""

    name: str
    hash: str
    height: int
    spec: Spec

    @property
    def is_closed(self) -> bool:
        """Its components can only be read by opening it."""
        return is_closed(self.spec)


class InstalledApps:
    """The table of one node. `load` before use; `opener` is None where nothing encrypted can be read."""

    def __init__(
        self, store: LocalAppStore, opener: Opener | None = None, counters: Counters | None = None
    ) -> None:
        self._turns = AppTurns("installed", counters if counters is not None else Counters())
        self._unreadable: set[tuple[str, str]] = set()
        self._store = store
        self._opener = opener
        self._rows: dict[str, LocalRow] = {}
        self._opened: dict[str, Spec] = {}
        self._listeners: list[Callable[[], None]] = []

    async def load(self) -> None:
        """Read the table, and open what can be opened. Raises StoreError."""
        rows = [_row(stored) for stored in await self._store.rows()]
        self._rows = {row.name: row for row in rows}
        self._opened.clear()
        for row in rows:
            if await self.opened(row.name) is None:
                log.warning("an installed app cannot be opened here", app=row.name)
        self._tell()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change of the table; it must be quick and must not raise."""
        self._listeners.append(listener)

    # Reading

    def rows(self) -> tuple[LocalRow, ...]:
        """All rows, by name."""
        return tuple(self._rows[name] for name in sorted(self._rows))

    def names(self) -> frozenset[str]:
        return frozenset(self._rows)

    def get(self, name: str) -> LocalRow | None:
        """The row of exactly that name."""
        return self._rows.get(name)

    async def opened(self, name: str) -> Spec | None:
        """The specification with everything in clear; None: not here, or it cannot be opened."""
        row = self._rows.get(name)
        if row is None:
            return None
        if not row.is_closed:
            return row.spec
        if name not in self._opened and self._opener is not None:
            bare = {key: value for key, value in row.spec.items() if key not in _BESIDE}
            found = await self._opener.open(bare, row.height)
            if found is not None and self._rows.get(name) is row:
                self._opened[name] = {**found, "hash": row.hash, "height": row.height}
        return self._opened.get(name)

    def opened_now(self, name: str) -> Spec | None:
        """`opened` without waiting: what has been opened already."""
        row = self._rows.get(name)
        return None if row is None else self._opened.get(name) if row.is_closed else row.spec

    def parts(self, name: str, tier: str | None = None) -> tuple[Part, ...]:
        """Its components in order; none when it is not here or not opened yet."""
        spec = self.opened_now(name)
        if spec is None or (name, str(spec.get("hash"))) in self._unreadable:
            return ()
        with self._turns.of(name):
            return parts_of(spec, tier) or ()
        # one app that cannot be read must not hide all the others: it counts as one that is not opened
        self._unreadable.add((name, str(spec.get("hash"))))
        return ()

    def installed(self) -> tuple[InstalledApp, ...]:
        """All apps by name, with the components of those that are opened."""
        return tuple(
            InstalledApp(
                row.name,
                row.hash,
                tuple(Component(part.identifier, part.container_data) for part in self.parts(row.name)),
            )
            for row in self.rows()
        )

    def owners(self) -> dict[str, Any]:
        """Installed app -> owner."""
        return {row.name: row.spec.get("owner") for row in self.rows()}

    def locked(
        self, settings: ResourceSettings, tier: str | None = None, *, without: str | None = None
    ) -> Amount:
        """What installed apps take of this machine, encrypted ones included (D-14)."""
        names = [name for name in self._rows if name != without]
        return locked_by((self.parts(name, tier) for name in names), settings)

    # Writing

    async def put(self, spec: Spec) -> None:
        """Add or replace the row of an opened specification; an encrypted one is stored closed."""
        closed = closed_form(spec)
        stored = CurrentSpec(
            str(spec["name"]),
            stringify({key: value for key, value in closed.items() if key not in _BESIDE}),
            str(spec.get("hash", "")),
            int(spec.get("height", 0)),
        )
        await self._store.put(stored)
        row = _row(stored)
        self._rows[row.name] = row
        self._opened.pop(row.name, None)
        if row.is_closed and not is_closed(spec):
            self._opened[row.name] = {**spec, "hash": row.hash, "height": row.height}
        self._tell()

    async def delete(self, name: str) -> None:
        """Delete the row, if there is one."""
        await self._store.delete(name)
        self._opened.pop(name, None)
        if self._rows.pop(name, None) is not None:
            self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()


def is_closed(spec: Spec) -> bool:
    """Whether its components are only in its encrypted part."""
    hides = is_encrypted(spec) and spec.get("version", 0) >= CLOSED_VERSION
    return hides and not spec.get("compose")


def closed_form(spec: Spec) -> Spec:
    """As it is stored: an encrypted specification without what was opened (compose, contacts)."""
    if not is_encrypted(spec) or spec.get("version", 0) < CLOSED_VERSION:
        return spec
    emptied: dict[str, list[Any]] = {key: [] for key in ("contacts", "compose") if key in spec}
    return {**spec, **emptied}


def _row(stored: CurrentSpec) -> LocalRow:
    spec = {**stored.spec(), "hash": stored.hash, "height": stored.height}
    return LocalRow(stored.name, stored.hash, stored.height, spec)
