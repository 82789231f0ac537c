"""The orchestrator's rules of peers: when they are asked for app state, and whose answers count.

Facts: docs/spec/lifecycle.md §8 "State sync", docs/spec/events.md §10.1. Ours: peers are looked for again
while nobody could be asked, and further ones are asked when the window ends with answers missing, or in the
place of a peer whose link went.
"""

from __future__ import annotations

from trionode.lifecycle.hashrules import check, hold_no_longer
from trionode.lifecycle.phases import (
    KINDS,
    AskPeers,
    ForgetMarks,
    Happening,
    LookForPeers,
    OpenFirstBroadcast,
    PeerAnswered,
    PeerLost,
    PeersAsked,
    PeersEligible,
    Phase,
    StartTimer,
    State,
    StopTimer,
)
from trionode.lifecycle.turn import PEERS_ENOUGH, PEERS_TOO_FEW, Turn


def peers_enough(turn: Turn, event: Happening) -> None:
    turn.set(enough_peers=True, threshold_seen=True)
    _network_ready(turn)
    hold_no_longer(turn)


def node_list_known(turn: Turn, event: Happening) -> None:
    turn.set(node_list=True)
    _network_ready(turn)


def _network_ready(turn: Turn) -> None:
    state = turn.state
    if not (state.node_list and state.threshold_seen):
        return
    if not state.first_broadcast:
        turn.set(first_broadcast=True)
        turn.do(OpenFirstBroadcast())
    if state.enough_peers and not turn.fire(PEERS_ENOUGH) and not state.asking:
        turn.do(LookForPeers())


def peers_too_few(turn: Turn, event: Happening) -> None:
    turn.set(enough_peers=False)
    turn.fire(PEERS_TOO_FEW)


def look_again(turn: Turn, event: Happening | None = None) -> None:
    """Ask further peers while answers are missing and nobody is being waited for."""
    state = turn.state
    wanted = state.phase is not Phase.DEGRADED and not state.all_complete
    waited_for = state.window_open and not state.leavers
    if wanted and state.node_list and state.enough_peers and not state.asking and not waited_for:
        turn.do(LookForPeers())


def eligible(turn: Turn, event: PeersEligible) -> None:
    state, needed = turn.state, turn.facts.min_completions
    turn.set(eligible=len(event.keys))
    if state.asking or state.phase is Phase.DEGRADED:
        return
    fresh = tuple(key for key in event.keys if key not in state.asked)
    if state.window_open and state.leavers:
        if fresh:
            turn.set(asking=True)
            turn.do(AskPeers(fresh[: state.leavers]))
    elif fresh and (state.asked or len(fresh) >= needed):
        turn.set(asking=True)
        turn.do(AskPeers(fresh[:needed]))
    elif state.asked and not (fresh or state.window_open or state.pausing or state.all_complete):
        # Nobody is left: those that never finished are asked once more when they may answer again.
        turn.set(pausing=True)
        turn.do(StartTimer("ask pause"))


def asked(turn: Turn, event: PeersAsked) -> None:
    state = turn.state
    if state.phase is Phase.DEGRADED:  # the peers have gone meanwhile, and with them the cycle
        turn.do(ForgetMarks())
        return
    left = max(0, state.leavers - len(event.keys))
    turn.set(asking=False, asked=state.asked | set(event.keys), leavers=left)
    if event.keys and not state.window_open and not state.all_complete:
        turn.set(window_open=True)
        turn.do(StartTimer("sync window"))


def asking_failed(turn: Turn, event: Happening) -> None:
    turn.set(asking=False)


def window_ended(turn: Turn, event: Happening) -> None:
    if turn.state.window_open:
        turn.set(window_open=False, leavers=0)
        turn.do(ForgetMarks())
        look_again(turn)


def lost(turn: Turn, event: PeerLost) -> None:
    """Two nodes that dial each other at once keep one link: what was asked on the other has no answer."""
    state = turn.state
    if event.peer not in state.asked - _finished(state) or not state.window_open:
        return
    turn.set(asked=state.asked - {event.peer}, leavers=min(state.leavers + 1, turn.facts.min_completions))
    look_again(turn)


def pause_ended(turn: Turn, event: Happening) -> None:
    if turn.state.pausing:
        turn.set(pausing=False, asked=turn.state.asked & _finished(turn.state))
        look_again(turn)


def _finished(state: State) -> frozenset[str]:
    """The peers that have answered everything."""
    return frozenset.intersection(*state.completions().values())


_FIELDS = dict(zip(KINDS, ("running_from", "installing_from", "errors_from"), strict=True))


def answered(turn: Turn, event: PeerAnswered) -> None:
    state, needed = turn.state, turn.facts.min_completions
    peers = state.completions().get(event.kind)
    if peers is None or event.peer in peers or state.all_complete:
        return
    turn.set(**{_FIELDS[event.kind]: peers | {event.peer}})
    turn.publish(
        "ephemeralSync:peerComplete", syncType=event.kind, completions=len(peers) + 1, required=needed
    )
    counts = {kind: len(found) for kind, found in turn.state.completions().items()}
    if min(counts.values()) >= needed:
        turn.set(all_complete=True, window_open=False, leavers=0, pausing=False)
        turn.do(StopTimer("sync window"), StopTimer("ask pause"), ForgetMarks())
        turn.publish("ephemeralSync:allComplete", **counts)
        check(turn)
