"""OwnRows: the location rows of this node, whichever form of its address they bear (docs/spec/events.md §14).

A node of version 8.17 always announces `ip:port`, before that the default port was left out, and all keys are
raw text (wire.md §15). Who takes over from either finds the rows of both: else its apps would count as gone,
or be counted twice. Rows that moved here from another address are stored under that one, and are found too.
"""

from __future__ import annotations

from typing import Protocol

from trionode.appstate.index import LocationIndex
from trionode.appstate.source import LocationView
from trionode.wire.address import forms


class Chain(Protocol):
    """`chain.facts.ChainFacts`."""

    @property
    def own_address(self) -> str | None: ...


class Log(Protocol):
    """`store.eventlog.EventLog`."""

    @property
    def index(self) -> LocationIndex: ...


class OwnRows:
    """As the network knows them."""

    def __init__(self, chain: Chain, log: Log) -> None:
        self._chain = chain
        self._log = log

    def names_at(self, address: str) -> list[str]:
        """The apps listed at an address."""
        return list(dict.fromkeys(row.name for row in self._rows(address)))

    def of(self, app: str) -> LocationView | None:
        """The row of an app at our address, of two the older start; None without one, or while the address is
        not known."""
        address = self._chain.own_address
        rows = [] if address is None else self._rows(address, app)
        return min(rows, key=lambda row: row.running_since_ms, default=None)

    def listed(self, app: str) -> bool:
        """Whether the network lists us as a place of the app."""
        return self.of(app) is not None

    def may_be_listed(self, app: str) -> bool:
        """The same, but while our address is not known nobody can say that the app is not listed here."""
        return self._chain.own_address is None or self.listed(app)

    def since_ms(self, app: str) -> int | None:
        """Since when it runs here, as the network was told."""
        row = self.of(app)
        return None if row is None else row.running_since_ms

    def _rows(self, address: str, app: str | None = None) -> list[LocationView]:
        index, ours = self._log.index, forms(address)
        stored = [row for form in ours for row in index.locations(ip=form)]
        moved = [row for row in index.locations(app) if row.ip in ours]
        rows = {(row.name, row.ip): row for row in (*stored, *moved)}
        return [row for row in rows.values() if app is None or row.name == app]
