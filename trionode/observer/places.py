"""The log as an observer shows it: signed locations, and beside them those that wait for a signature."""

from __future__ import annotations

from collections.abc import Sequence

from trionode.api.context import LocationRow
from trionode.appstate.decision import Decision, Refusal
from trionode.appstate.documents import InstallErrorRow, InstallingRow
from trionode.appstate.explain import Step
from trionode.appstate.index import LocationIndex
from trionode.appstate.messages import Running, read_message
from trionode.observer.unverified import Unverified, UnverifiedRow
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import WallClock
from trionode.store.eventlog import EventLog
from trionode.wire.envelope import Envelope


class ConfirmingLog:
    """Takes verified messages into the event log and settles unverified rows by them; relays nothing.

    Published: `observer:settled` {ip, confirmed, contradicted, unverified} whenever rows were settled.
    """

    def __init__(self, log: EventLog, unverified: Unverified, bus: EventBus, clock: WallClock) -> None:
        self._log = log
        self._unverified = unverified
        self._bus = bus
        self._clock = clock

    async def ingest(self, envelope: Envelope, *, received_at_ms: int | None = None) -> Decision:
        """Judge a verified envelope; returns when its changes are durable. Raises StoreError."""
        decision = await self._log.ingest(envelope, received_at_ms=received_at_ms)
        self._settle(envelope, decision.accepted)
        return Decision(accepted=decision.accepted, stop=decision.stop, reason=decision.reason)

    def _settle(self, envelope: Envelope, accepted: bool) -> None:
        try:
            message = read_message(envelope.data, self._clock.now_ms(), self._log.windows)
        except Refusal:
            return
        # A withdrawal counts also when the log had nothing to withdraw; a row is only confirmed by what is
        # in the log from now on.
        if isinstance(message, Running) and not accepted:
            return
        settled = self._unverified.settle(message)
        if settled:
            self._bus.publish(
                "observer:settled",
                {
                    "ip": settled.ip,
                    "confirmed": list(settled.confirmed),
                    "contradicted": list(settled.contradicted),
                    "unverified": len(self._unverified),
                },
            )


class Places:
    """`api.context.IndexPort`: the index of the log with the unverified rows it has no better row for."""

    def __init__(self, index: LocationIndex, unverified: Unverified, clock: WallClock) -> None:
        self._index = index
        self._unverified = unverified
        self._clock = clock

    def locations(self, name: str | None = None, ip: str | None = None) -> Sequence[LocationRow]:
        """Signed rows first. The answer may be shared."""
        signed: Sequence[LocationRow] = self._index.locations(name, ip)
        waiting = self._waiting(name, ip)
        return (*signed, *waiting) if waiting else signed

    def names(self) -> Sequence[str]:
        names = self._index.names()
        waiting = self._waiting(None, None)
        return tuple(dict.fromkeys((*names, *(row.name for row in waiting)))) if waiting else names

    def __len__(self) -> int:
        return len(self._index) + len(self._waiting(None, None))

    def _waiting(self, name: str | None, ip: str | None) -> list[UnverifiedRow]:
        if not len(self._unverified):
            return []
        waiting: list[UnverifiedRow] = []
        signed: dict[str, set[str]] = {}
        for row in self._unverified.rows(name, ip, self._clock.now_ms()):
            places = signed.get(row.name)
            if places is None:
                rows = self._index.locations(row.name)
                places = signed[row.name] = {place.ip for place in rows if place.name == row.name}
            if row.ip not in places:
                waiting.append(row)
        return waiting


class ObservedLog:
    """`api.context.LogPort` of an observer."""

    def __init__(self, log: EventLog, unverified: Unverified, clock: WallClock) -> None:
        self._log = log
        self._unverified = unverified
        self._clock = clock

    @property
    def index(self) -> Places:
        return Places(self._log.index, self._unverified, self._clock)

    def installing(self, name: str | None = None) -> Sequence[InstallingRow]:
        return self._log.installing(name)

    def install_errors(self, name: str | None = None) -> Sequence[InstallErrorRow]:
        return self._log.install_errors(name)

    async def explain(self, name: str, ip: str | None = None) -> Sequence[Step]:
        """What signed messages say; raises StoreError."""
        return await self._log.explain(name, ip)
