"""What to do with the apps found at a start: boot context and boot decision (docs/spec/lifecycle.md §4).

The alive record of the last life and the machine's boot id give the context. `decide` walks the table
of rules; where a rule needs a fact that is not there yet it answers with what to wait for, and for how
long is the caller's business.
"""

from __future__ import annotations

import enum
import math

import msgspec

SIGTERM = "sigterm"


class AliveRecord(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The heartbeat as stored.

    `pending` is the record of the life before, kept until the boot decision has been carried out: a
    process that dies in between must not take its own heartbeat for proof that the apps were running.
    """

    last_alive: int | None = None
    machine_boot_id: str | None = None
    shutdown_reason: str | None = None
    pending: AliveRecord | None = None


NO_LIFE = AliveRecord()
"""Stands for "there was none" as a pending record: a first start that ended early is a first start again."""


class BootContext(msgspec.Struct, frozen=True, rename="camel"):
    """What is known about the time before this start. Times in milliseconds."""

    machine_rebooted: bool
    downtime_ms: float
    clean_shutdown: bool
    current_boot_id: str | None
    first_boot: bool

    def as_json(self) -> dict[str, object]:
        """The form of events and of the API: a time nobody knows is null."""
        shown: dict[str, object] = msgspec.to_builtins(self)
        shown["downtimeMs"] = self.downtime_ms if math.isfinite(self.downtime_ms) else None
        return shown


UNKNOWN_CONTEXT = BootContext(True, math.inf, False, None, True)
"""When the record cannot be read: the most careful assumption."""


def former_life(record: AliveRecord | None) -> AliveRecord | None:
    """The record to measure this start against.

    While a boot decision was pending the apps of the life before were never brought back, so that one
    counts, even if the process has been alive since.
    """
    return record if record is None or record.pending is None else record.pending


def boot_context(record: AliveRecord | None, boot_id: str | None, now_ms: int) -> BootContext:
    """Compare the stored record with the present boot id and time."""
    former = former_life(record)
    if record is None or former is None or record.pending == NO_LIFE:
        return BootContext(True, math.inf, False, boot_id, True)
    downtime_ms = math.nan if former.last_alive is None else float(now_ms - former.last_alive)
    return BootContext(
        machine_rebooted=not boot_id or former.machine_boot_id != boot_id,
        downtime_ms=downtime_ms,
        clean_shutdown=former.shutdown_reason == SIGTERM,
        current_boot_id=boot_id,
        first_boot=False,
    )


class BootAction(enum.Enum):
    """What happens to the installed apps."""

    NOTHING = "none"
    RECONCILE = "reconcile"
    REMOVE_ALL = "remove_all"


class BootDecision(msgspec.Struct, frozen=True):
    """`rule`: the row of the table that matched; `reason`: why, for people."""

    rule: int
    action: BootAction
    reason: str


class BootWait(enum.Enum):
    """A fact the next rule needs."""

    DAEMON = "daemon"
    STATUS = "status"
    DATA = "data"


class BootLimits(msgspec.Struct, frozen=True):
    """How long a machine may have been away, in milliseconds; one more is too long."""

    clean_ms: int = 420_000
    power_cut_ms: int = 7_500_000


class BootFacts(msgspec.Struct, frozen=True):
    """What has become known since the start. None: not yet; False of a gate: its time is over."""

    daemon_ready: bool | None = None
    status_known: bool | None = None
    confirmed: bool = False
    dos: bool = False
    data_ready: bool | None = None


def decide(context: BootContext, facts: BootFacts, limits: BootLimits) -> BootDecision | BootWait:
    """The first rule that matches, or what must be waited for before the next one can be asked."""
    if not context.machine_rebooted:
        return BootDecision(1, BootAction.NOTHING, "only the process was restarted")
    too_long = _away_too_long(context, limits)
    if too_long:
        return BootDecision(2, BootAction.REMOVE_ALL, too_long)
    if facts.daemon_ready is None:
        return BootWait.DAEMON
    if not facts.daemon_ready:
        return BootDecision(3, BootAction.REMOVE_ALL, "the chain daemon did not answer in time")
    if facts.status_known is None:
        return BootWait.STATUS
    if not (facts.status_known and facts.confirmed):
        known = "the node is not confirmed" if facts.status_known else "the confirmation stayed unknown"
        return BootDecision(4, BootAction.REMOVE_ALL, known)
    if facts.dos:
        return BootDecision(5, BootAction.REMOVE_ALL, "the node's penalty is too high")
    if facts.data_ready is None:
        return BootWait.DATA
    if not facts.data_ready:
        return BootDecision(6, BootAction.REMOVE_ALL, "the app data was not complete in time")
    if context.first_boot:
        return BootDecision(7, BootAction.RECONCILE, "no earlier start is known")
    return BootDecision(7, BootAction.RECONCILE, "the machine was restarted within the bounds")


def _away_too_long(context: BootContext, limits: BootLimits) -> str:
    """Rule 2. A downtime that is not a number is not too long."""
    if context.first_boot:
        return ""
    minutes = context.downtime_ms / 60_000
    if context.clean_shutdown and context.downtime_ms > limits.clean_ms:
        return f"the machine was shut down for {minutes:.1f} min"
    if context.downtime_ms > limits.power_cut_ms:
        return f"the machine was away for {minutes:.1f} min"
    return ""
