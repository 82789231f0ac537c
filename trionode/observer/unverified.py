"""Locations that other nodes told over HTTP and no signed message has confirmed yet. Pure.

They are kept beside the event log, never in it. A signed message of the address settles every row that is
not newer than it: the row is confirmed (the log has it now) or contradicted, and gone from here either way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from trionode.appstate.messages import IpChanged, Message, NodeSigterm, Removed, Running
from trionode.appstate.source import Source
from trionode.appstate.windows import Windows
from trionode.observer.answers import ToldLocation


class UnverifiedRow(msgspec.Struct, frozen=True, gc=False):
    """One location nobody has signed for, as far as we know. `told_by` of `asked` sources tell it."""

    name: str
    hash: str
    ip: str
    broadcasted_at_ms: int
    expire_at_ms: int
    running_since_ms: int
    os_uptime: float | None
    static_ip: bool | None
    told_by: int
    asked: int


class Settlement(msgspec.Struct, frozen=True):
    """What one signed message did: names confirmed and contradicted at an address."""

    ip: str
    confirmed: tuple[str, ...] = ()
    contradicted: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.confirmed or self.contradicted)


class Unverified:
    """The rows, by address and name."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self._rows: dict[str, dict[str, UnverifiedRow]] = {}
        self._count = 0
        self.confirmed = 0
        self.contradicted = 0
        self.expired = 0
        self.unlisted = 0
        """Rows dropped because their address is not in the node list."""

    def __len__(self) -> int:
        return self._count

    def addresses(self) -> int:
        """How many addresses have rows."""
        return len(self._rows)

    def put(
        self,
        told: Iterable[tuple[ToldLocation, int]],
        asked: int,
        now_ms: int,
        known: Callable[[str], Source | None],
    ) -> int:
        """Take rows over; how many. Not taken: expired ones, ones from the future, and those that the
        signed facts of their address (`known`) settle already."""
        taken = 0
        for row, told_by in told:
            expire_at_ms = min(row.expire_at_ms, row.broadcasted_at_ms + self._windows.running_ms)
            if expire_at_ms <= now_ms or row.broadcasted_at_ms > now_ms + self._windows.future_ms:
                continue
            source = known(row.ip)
            if source is not None and is_settled(source, row.name, row.broadcasted_at_ms):
                continue
            held = self._rows.get(row.ip, {}).get(row.name)
            if held is not None and held.broadcasted_at_ms >= row.broadcasted_at_ms:
                continue
            since_ms = row.running_since_ms
            self._set(
                UnverifiedRow(
                    row.name,
                    row.hash,
                    row.ip,
                    row.broadcasted_at_ms,
                    expire_at_ms,
                    row.broadcasted_at_ms if since_ms is None else since_ms,
                    row.os_uptime,
                    row.static_ip,
                    told_by,
                    asked,
                )
            )
            taken += 1
        return taken

    def settle(self, message: Message) -> Settlement:
        """Judge the rows of one address by a verified message of it."""
        if isinstance(message, Running):
            names = {app.name for app in message.apps}
            whole = message.dedup_key == "v2"
            return self._settle(
                message.ip, message.at_ms, confirms=names.__contains__, touches=lambda n: whole or n in names
            )
        if isinstance(message, Removed):
            return self._settle(message.ip, message.at_ms, touches=lambda name: name == message.app_name)
        if isinstance(message, IpChanged):
            return self._settle(message.old_ip, message.at_ms, touches=lambda _: True)
        if isinstance(message, NodeSigterm):
            self._shorten(message.ip, message.at_ms)
        return Settlement("")

    def keep_only(self, listed: Callable[[str], bool]) -> None:
        """Drop the rows of addresses that are no nodes."""
        for ip in [ip for ip in self._rows if not listed(ip)]:
            self.unlisted += len(self._rows[ip])
            for name in list(self._rows[ip]):
                self._drop(ip, name)

    def advance(self, now_ms: int) -> None:
        """Let rows expire."""
        over = [row for rows in self._rows.values() for row in rows.values() if row.expire_at_ms <= now_ms]
        for row in over:
            self._drop(row.ip, row.name)
        self.expired += len(over)

    def rows(self, name: str | None, ip: str | None, now_ms: int) -> Sequence[UnverifiedRow]:
        """Rows of an app (any letter case), of an address, of both, or all of them."""
        places = self._rows.values() if not ip else [self._rows.get(ip, {})]
        wanted = name.lower() if name else None
        return [
            row
            for place in places
            for row in place.values()
            if row.expire_at_ms > now_ms and (wanted is None or row.name.lower() == wanted)
        ]

    def _settle(
        self,
        ip: str,
        at_ms: int,
        *,
        touches: Callable[[str], bool],
        confirms: Callable[[str], bool] = lambda _: False,
    ) -> Settlement:
        confirmed: list[str] = []
        contradicted: list[str] = []
        for row in list(self._rows.get(ip, {}).values()):
            if row.broadcasted_at_ms > at_ms or not touches(row.name):
                continue
            (confirmed if confirms(row.name) else contradicted).append(row.name)
            self._drop(ip, row.name)
        self.confirmed += len(confirmed)
        self.contradicted += len(contradicted)
        return Settlement(ip, tuple(confirmed), tuple(contradicted))

    def _shorten(self, ip: str, at_ms: int) -> None:
        """A node says goodbye: its rows live until the end of its grace, as signed ones would."""
        end_ms = at_ms + self._windows.sigterm_grace_ms
        for row in list(self._rows.get(ip, {}).values()):
            if row.broadcasted_at_ms <= at_ms and row.expire_at_ms > end_ms:
                self._set(msgspec.structs.replace(row, expire_at_ms=end_ms))

    def _set(self, row: UnverifiedRow) -> None:
        place = self._rows.setdefault(row.ip, {})
        self._count += row.name not in place
        place[row.name] = row

    def _drop(self, ip: str, name: str) -> None:
        place = self._rows[ip]
        del place[name]
        self._count -= 1
        if not place:
            del self._rows[ip]


def is_settled(source: Source, name: str, at_ms: int) -> bool:
    """Whether the signed facts of an address already say what became of a row told for `at_ms`."""
    for fact in source.running.values():
        if fact.at_ms >= at_ms and (fact.apps is not None or fact.name == name):
            return True
    removal = source.removed.get(name) if source.removed else None
    over = (removal, source.sigterm, source.evicted, source.moved)
    return any(fact is not None and fact.at_ms >= at_ms for fact in over)
