"""The words of the orchestrator: its phases, its state, what happens to it and what it wants done.

Facts: docs/spec/lifecycle.md §8. The rules themselves are in `lifecycle.orchestrator`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

KINDS = ("apprunning", "appinstalling", "apperrors")
"""What peers are asked for and counted by; temporary messages are asked for too, but not counted."""

RunKind = Literal["first", "retry", "wish"]


class Phase(enum.Enum):
    """How much of the network's app state this node holds, and whether it may act on it."""

    INITIALIZING = "INITIALIZING"
    SYNCING = "SYNCING"
    RESYNCING = "RESYNCING"
    READY = "READY"
    DEGRADED = "DEGRADED"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What holds besides the state: the settings in force, and what kind of node this is."""

    min_completions: int = 3
    ready_after_blocks: int = 250
    ready_after_blocks_enterprise: int = 124
    max_retries: int = 3
    recheck_blocks: int = 100
    waits_for_peers: bool = False
    """The first hash sync waits a while for enough peers."""
    is_enterprise: bool = False


def with_enterprise(facts: Facts) -> Facts:
    """The same for an enterprise node."""
    return msgspec.structs.replace(facts, is_enterprise=True)


class Run(msgspec.Struct, frozen=True):
    """The hash sync under way. `attempt` counts first runs; `height` is that of the run."""

    kind: RunKind
    attempt: int
    height: int


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the orchestrator remembers."""

    phase: Phase = Phase.INITIALIZING
    # what is known of the world
    capable: bool = False
    node_list: bool = False
    enough_peers: bool = False
    threshold_seen: bool = False
    first_broadcast: bool = False
    # blocks
    chain_read: bool = False
    tip: int = 0
    """The height read to, as far as it was told."""
    last_height: int | None = None
    """Of the last block that was counted or passed over."""
    blocks: int = 0
    waive_after: int | None = None
    # the hash sync
    run: Run | None = None
    attempt: int = 0
    is_run_wanted: bool = False
    """A first run waits for the run under way to end."""
    is_held_for_peers: bool = False
    """A first run waits for peers, for a while."""
    peer_grace_over: bool = False
    wish: Literal["", "due", "force"] = ""
    """What an operator asked for while a run was under way."""
    hash_done: bool = False
    next_retry_height: int = 0
    has_news: bool = False
    """Something to look for came up while a run was under way."""
    retry_pending: bool = False
    # the current specifications
    rebuilding: bool = False
    is_rebuild_wanted: bool = False
    """The one under way began too early: another follows it."""
    db_done: bool = False
    untold: tuple[int, int] | None = None
    """Attempt and missing count of a first run that is told when the specifications are made anew."""
    # the state sync
    eligible: int = 0
    asking: bool = False
    asked: frozenset[str] = frozenset()
    leavers: int = 0
    """Asked peers whose links went before they had finished: so many are asked in their place at once."""
    window_open: bool = False
    pausing: bool = False
    running_from: frozenset[str] = frozenset()
    installing_from: frozenset[str] = frozenset()
    errors_from: frozenset[str] = frozenset()
    all_complete: bool = False

    def completions(self) -> dict[str, frozenset[str]]:
        """By kind: the peers that have answered it to its end."""
        return dict(zip(KINDS, (self.running_from, self.installing_from, self.errors_from), strict=True))

    @property
    def is_waived(self) -> bool:
        """So many blocks have passed that what is missing is waived."""
        return self.waive_after is not None and self.blocks >= self.waive_after


# ---- what happens ------------------------------------------------------------------------------------


class Happening(msgspec.Struct, frozen=True):
    """An event of the orchestrator."""


class Started(Happening, frozen=True):
    """The service runs."""

    boot_context: Mapping[str, Any]


class NodeListKnown(Happening, frozen=True):
    """There is a node list."""


class CapabilityChanged(Happening, frozen=True):
    """This node may send from now on, or may not any more."""

    capable: bool


class ChainRead(Happening, frozen=True):
    """The chain is read to its tip (ours: without waiting for the next block)."""

    height: int


class BlockProcessed(Happening, frozen=True):
    """A block at the tip was read."""

    height: int


class PeersEnough(Happening, frozen=True):
    """The number of peers has climbed to the threshold."""


class PeersTooFew(Happening, frozen=True):
    """The number of peers has fallen below the lower mark."""


class PeersChanged(Happening, frozen=True):
    """A new peer."""


class PeersEligible(Happening, frozen=True):
    """The answer to `LookForPeers`: who could be asked, in random order."""

    keys: tuple[str, ...]


class PeersAsked(Happening, frozen=True):
    """These got the requests."""

    keys: tuple[str, ...]


class AskingFailed(Happening, frozen=True):
    """Nobody was asked: the requests could not be signed."""


class PeerAnswered(Happening, frozen=True):
    """A peer has answered one kind to its end."""

    kind: str
    peer: str


class PeerLost(Happening, frozen=True):
    """The link of a peer that was asked is gone; the same peer may be back on another one."""

    peer: str


class SyncWindowEnded(Happening, frozen=True):
    """Who has not answered by now is late."""


class AskPauseEnded(Happening, frozen=True):
    """Peers that never finished may be asked again."""


class HashSyncEnded(Happening, frozen=True):
    """A hash sync came to its end; `missing` messages nobody had."""

    missing: int
    next_retry_height: int | None


class HashSyncFailed(Happening, frozen=True):
    """A hash sync broke off."""

    error: str


class RetryDue(Happening, frozen=True):
    """The pause after a failure is over."""


class PeerGraceEnded(Happening, frozen=True):
    """Peers have been waited for long enough."""


class Rebuilt(Happening, frozen=True):
    """The current specifications were made anew."""


class RebuildFailed(Happening, frozen=True):
    """They could not be made anew."""

    error: str


class HashesUnresolved(Happening, frozen=True):
    """A payment of a new block has no message."""


class HashesChanged(Happening, frozen=True):
    """The audit has changed payments."""


class OperatorAsked(Happening, frozen=True):
    """Somebody wants a hash sync now; `force`: also for what is given up or not due."""

    force: bool


# ---- what is to be done ------------------------------------------------------------------------------


class Effect(msgspec.Struct, frozen=True):
    """Something the service carries out. Those with a result report it as an event."""


class Publish(Effect, frozen=True):
    """Tell it on the bus."""

    name: str
    data: Mapping[str, Any]


class OpenFirstBroadcast(Effect, frozen=True):
    """Own apps may be announced from now on."""


class RunHashSync(Effect, frozen=True):
    """Ends in HashSyncEnded or HashSyncFailed."""

    kind: RunKind
    height: int
    force: bool = False


class Rebuild(Effect, frozen=True):
    """Make the current specifications anew: Rebuilt or RebuildFailed."""


class AskForNewMessages(Effect, frozen=True):
    """Ask single peers for the messages of the newest block."""


class LookForPeers(Effect, frozen=True):
    """Answered by PeersEligible."""


class AskPeers(Effect, frozen=True):
    """Send the four requests to these: PeersAsked or AskingFailed."""

    keys: tuple[str, ...]


class ForgetMarks(Effect, frozen=True):
    """What still comes from asked peers is not taken any more."""


Timer = Literal["retry", "peer grace", "sync window", "ask pause"]


class StartTimer(Effect, frozen=True):
    """Ends in RetryDue, PeerGraceEnded, SyncWindowEnded or AskPauseEnded."""

    timer: Timer


class StopTimer(Effect, frozen=True):
    """It does not ring any more."""

    timer: Timer
