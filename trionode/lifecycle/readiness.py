"""What a node needs to be READY, and in words what it still waits for (docs/spec/lifecycle.md §8)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from trionode.lifecycle.phases import Facts, Phase, State

KIND_WORDS = {
    "apprunning": "running apps",
    "appinstalling": "apps being installed",
    "apperrors": "failed installations",
}


class Condition(msgspec.Struct, frozen=True):
    """One of the conditions of READY. `meaning` is for the documentation."""

    name: str
    meaning: str
    holds: Callable[[State, Facts], bool]
    wait: Callable[[State, Facts], str]


def _wait_for_hashes(state: State, facts: Facts) -> str:
    if state.run is not None and state.run.kind == "first":
        return f"the messages behind payments are being fetched (try {state.run.attempt})"
    if state.retry_pending:
        return f"fetching the messages behind payments failed (try {state.attempt}); it is tried again soon"
    if state.is_held_for_peers:
        return "a few more peers before the messages behind payments are fetched"
    if not state.capable:
        return "the right to send, before the messages behind payments are fetched"
    return "the messages behind payments"


def _wait_for_specs(state: State, facts: Facts) -> str:
    if state.rebuilding:
        return "the current specifications are being made anew"
    return "the current specifications, made anew from all messages"


def _wait_for_answers(state: State, facts: Facts) -> str:
    needed = facts.min_completions
    if not state.node_list:
        return "the node list, before peers are asked for app state"
    if not state.enough_peers:
        return "more peers, before they are asked for app state"
    if not state.asked and not state.asking:
        return (
            f"peers that have been up for long enough to be asked for app state: {state.eligible} of {needed}"
        )
    lacking = {
        KIND_WORDS[kind]: needed - len(peers)
        for kind, peers in state.completions().items()
        if len(peers) < needed
    }
    words = [f"{count} more about {what}" for what, count in lacking.items()]
    return f"answers of peers: {', '.join(words)}"


CONDITIONS: tuple[Condition, ...] = (
    Condition(
        "chain read",
        "the chain was read to its tip",
        lambda state, facts: state.chain_read,
        lambda state, facts: "the chain is being read",
    ),
    Condition(
        "hashes",
        "the first hash sync has ended, or the blocks waive it",
        lambda state, facts: state.hash_done or state.is_waived,
        _wait_for_hashes,
    ),
    Condition(
        "specifications",
        "the current specifications were made anew (when the blocks waive the rest: at once)",
        lambda state, facts: state.db_done,
        _wait_for_specs,
    ),
    Condition(
        "app state",
        "enough different peers have answered about running, installing and failed apps, or the blocks "
        "waive it",
        lambda state, facts: state.all_complete or state.is_waived,
        _wait_for_answers,
    ),
    Condition(
        "capability",
        "this node may send signed messages",
        lambda state, facts: state.capable,
        lambda state, facts: "the right to send: confirmed, and listed with our own key at our address",
    ),
)
"""All must hold."""


def is_ready(state: State, facts: Facts) -> bool:
    """Whether a syncing node may become READY."""
    return all(condition.holds(state, facts) for condition in CONDITIONS)


def waits_for(state: State, facts: Facts) -> tuple[str, ...]:
    """What a node that is not READY waits for, each as a part of a sentence."""
    if state.phase is Phase.READY:
        return ()
    if state.phase is Phase.DEGRADED:
        return ("enough peers again: there are too few to know what happens",)
    waits = [condition.wait(state, facts) for condition in CONDITIONS if not condition.holds(state, facts)]
    if waits and state.chain_read and state.waive_after is not None and not state.is_waived:
        left = state.waive_after - state.blocks
        blocks = "1 more block, which waives" if left == 1 else f"{left} more blocks, which waive"
        waits.append(f"at the latest {blocks} what peers have not answered")
    return tuple(waits)
