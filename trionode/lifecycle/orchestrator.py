"""The orchestrator as pure rules: what each event does to the phase of the node, and what is to be done.

Facts: docs/spec/lifecycle.md §8, docs/spec/testnet.md §7. The phases change only by `TRANSITIONS`, READY is
entered only by `readiness.CONDITIONS`; docs/lifecycle.md is drawn from both. The rules of single parts are
in `hashrules` and `peerrules`.

Done right where the original errs (§21): losing the peers while resyncing degrades too (D-5), blocks are
counted anew after that, and one rebuild at a time (D-6); completions count once per peer (events.md §13.5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trionode.lifecycle import hashrules as hashes
from trionode.lifecycle import peerrules as peers
from trionode.lifecycle.phases import (
    AskingFailed,
    AskPauseEnded,
    BlockProcessed,
    CapabilityChanged,
    ChainRead,
    Effect,
    Facts,
    ForgetMarks,
    Happening,
    HashesChanged,
    HashesUnresolved,
    HashSyncEnded,
    HashSyncFailed,
    LookForPeers,
    NodeListKnown,
    OperatorAsked,
    PeerAnswered,
    PeerGraceEnded,
    PeerLost,
    PeersAsked,
    PeersChanged,
    PeersEligible,
    PeersEnough,
    PeersTooFew,
    Phase,
    RebuildFailed,
    Rebuilt,
    RetryDue,
    Started,
    StartTimer,
    State,
    StopTimer,
    SyncWindowEnded,
)
from trionode.lifecycle.readiness import is_ready
from trionode.lifecycle.turn import (
    CAPABILITY_LOST,
    CHAIN_READ,
    CHECK,
    PEERS_ENOUGH,
    PEERS_TOO_FEW,
    Transition,
    Turn,
)


def step(state: State, event: Happening, facts: Facts) -> tuple[State, tuple[Effect, ...]]:
    """What `event` makes of `state`, and what is to be done in this order."""
    turn = Turn(state, facts, TRANSITIONS)
    HANDLERS[type(event)](turn, event)
    return turn.state, tuple(turn.effects)


# ---- the table ---------------------------------------------------------------------------------------


def _begin_syncing(turn: Turn) -> None:
    facts = turn.facts
    blocks = facts.ready_after_blocks_enterprise if facts.is_enterprise else facts.ready_after_blocks
    turn.set(waive_after=blocks)
    if facts.waits_for_peers and not turn.state.enough_peers:
        turn.do(StartTimer("peer grace"))
    else:
        turn.set(peer_grace_over=True)
    if turn.state.capable:
        hashes.want_first_run(turn)


def _take_all_back(turn: Turn) -> None:
    turn.set(
        attempt=0,
        blocks=0,
        is_run_wanted=False,
        is_held_for_peers=False,
        hash_done=False,
        db_done=False,
        retry_pending=False,
        asking=False,
        asked=frozenset(),
        leavers=0,
        window_open=False,
        pausing=False,
        running_from=frozenset(),
        installing_from=frozenset(),
        errors_from=frozenset(),
        all_complete=False,
    )
    turn.do(StopTimer("retry"), StopTimer("sync window"), StopTimer("ask pause"), ForgetMarks())


def _resync(turn: Turn) -> None:
    turn.do(LookForPeers())
    hashes.want_first_run(turn)
    if turn.state.attempt == 0:  # one of the time before is under way; should it fail, another follows
        turn.set(is_run_wanted=True)
    hashes.check(turn)


TRANSITIONS: tuple[Transition, ...] = (
    Transition(
        (Phase.INITIALIZING,),
        CHAIN_READ,
        Phase.SYNCING,
        "fix the number of blocks that waive what is missing; first hash sync if this node may send",
        effect=_begin_syncing,
    ),
    Transition(
        (Phase.SYNCING, Phase.RESYNCING),
        CHECK,
        Phase.READY,
        "`spawner:resumed`",
        "all conditions hold (below)",
        guard=is_ready,
    ),
    Transition(
        (Phase.READY,),
        CAPABILITY_LOST,
        Phase.SYNCING,
        "`spawner:paused`; what was reached is kept",
    ),
    Transition(
        (Phase.READY, Phase.SYNCING, Phase.RESYNCING),
        PEERS_TOO_FEW,
        Phase.DEGRADED,
        "close `dbReady`; forget hash sync, tries, asked peers, answers and counted blocks; stop the timers",
        effect=_take_all_back,
    ),
    Transition(
        (Phase.DEGRADED,),
        PEERS_ENOUGH,
        Phase.RESYNCING,
        "ask peers for app state; hash sync, also without the right to send; readiness check",
        "the node list is known",
        guard=lambda state, facts: state.node_list,
        effect=_resync,
    ),
)


# ---- blocks and capability ---------------------------------------------------------------------------


def _chain_read(turn: Turn, event: ChainRead | BlockProcessed) -> None:
    turn.set(chain_read=True, tip=event.height)
    turn.fire(CHAIN_READ)


def _block(turn: Turn, event: BlockProcessed) -> None:
    _chain_read(turn, event)
    _count(turn, event.height)
    hashes.run_if_due(turn, event.height)
    peers.look_again(turn)
    hashes.check(turn)


def _count(turn: Turn, height: int) -> None:
    """The first block counts 1, later ones by their distance, which a reorganisation makes negative."""
    state = turn.state
    if state.phase is not Phase.DEGRADED:
        turn.set(blocks=state.blocks + (1 if state.last_height is None else height - state.last_height))
    turn.set(last_height=height)


def _capability(turn: Turn, event: CapabilityChanged) -> None:
    if event.capable == turn.state.capable:
        return
    turn.set(capable=event.capable)
    if not event.capable:
        turn.fire(CAPABILITY_LOST)
    elif turn.state.chain_read and not turn.state.hash_done:
        hashes.want_first_run(turn)
    else:
        hashes.check(turn)


# ---- which event leads where -------------------------------------------------------------------------


def _started(turn: Turn, event: Started) -> None:
    turn.publish("orchestrator:started", state=turn.state.phase.value, bootContext=dict(event.boot_context))


HANDLERS: dict[type[Happening], Callable[[Turn, Any], None]] = {
    Started: _started,
    NodeListKnown: peers.node_list_known,
    CapabilityChanged: _capability,
    ChainRead: _chain_read,
    BlockProcessed: _block,
    PeersEnough: peers.peers_enough,
    PeersTooFew: peers.peers_too_few,
    PeersChanged: peers.look_again,
    PeersEligible: peers.eligible,
    PeersAsked: peers.asked,
    AskingFailed: peers.asking_failed,
    PeerAnswered: peers.answered,
    PeerLost: peers.lost,
    SyncWindowEnded: peers.window_ended,
    AskPauseEnded: peers.pause_ended,
    HashSyncEnded: hashes.hash_sync_ended,
    HashSyncFailed: hashes.hash_sync_failed,
    RetryDue: hashes.retry_due,
    PeerGraceEnded: hashes.grace_ended,
    Rebuilt: hashes.rebuilt,
    RebuildFailed: hashes.rebuild_failed,
    HashesUnresolved: hashes.news_of_hashes,
    HashesChanged: hashes.news_of_hashes,
    OperatorAsked: hashes.operator_asked,
}
"""Every event has its rule."""
