"""The orchestrator's rules of hash syncs, of the current specifications, and the readiness check.

Facts: docs/spec/lifecycle.md §8 "Hash sync run". One run at a time and one rebuild at a time (D-6).
"""

from __future__ import annotations

from trionode.lifecycle.phases import (
    AskForNewMessages,
    Happening,
    HashesUnresolved,
    HashSyncEnded,
    HashSyncFailed,
    OperatorAsked,
    Phase,
    Rebuild,
    RebuildFailed,
    Rebuilt,
    RetryDue,
    Run,
    RunHashSync,
    RunKind,
    StartTimer,
    State,
    StopTimer,
)
from trionode.lifecycle.turn import CHECK, Turn

# ---- the hash sync -----------------------------------------------------------------------------------


def want_first_run(turn: Turn) -> None:
    """Begin a first run, as soon as no other is under way and peers were waited for."""
    state = turn.state
    if state.run is not None:
        turn.set(is_run_wanted=state.is_run_wanted or state.run.kind != "first")
    elif not (state.peer_grace_over or state.enough_peers):
        turn.set(is_held_for_peers=True)
    else:
        if state.retry_pending:
            turn.do(StopTimer("retry"))
        turn.set(attempt=state.attempt + 1, retry_pending=False, is_run_wanted=False, is_held_for_peers=False)
        start_run(turn, "first", state.tip)


def start_run(turn: Turn, kind: RunKind, height: int, *, force: bool = False) -> None:
    turn.set(run=Run(kind, turn.state.attempt, height), has_news=False)
    turn.do(RunHashSync(kind, height, force))


def run_if_due(turn: Turn, height: int) -> None:
    """A block is there: look for what is still missing, when it is time."""
    state = turn.state
    if not state.capable or state.run is not None or height < state.next_retry_height:
        return
    if state.hash_done:
        # News that comes while it runs must find this undone.
        turn.set(next_retry_height=height + turn.facts.recheck_blocks)
        start_run(turn, "retry", height)
    elif _is_used_up(turn):
        want_first_run(turn)


def _is_used_up(turn: Turn) -> bool:
    """All tries have failed, and none is to come by itself."""
    state = turn.state
    return state.attempt > 0 and state.attempt >= turn.facts.max_retries and not state.retry_pending


def _first_run_allowed(state: State) -> bool:
    return state.capable or state.phase is Phase.RESYNCING


def hold_no_longer(turn: Turn) -> None:
    if turn.state.is_held_for_peers and _first_run_allowed(turn.state):
        want_first_run(turn)


def _end_run(turn: Turn) -> Run | None:
    run = turn.state.run
    turn.set(run=None)
    return run


def _begin_waiting_run(turn: Turn) -> None:
    state = turn.state
    if state.run is not None:
        return
    if state.wish:
        turn.set(wish="")
        _wished_run(turn, force=state.wish == "force")
    elif state.is_run_wanted:
        turn.set(is_run_wanted=False)
        if not state.hash_done:
            if _first_run_allowed(state):
                want_first_run(turn)
        elif not (state.db_done or state.rebuilding):
            _retry_later(turn)


def _wished_run(turn: Turn, *, force: bool) -> None:
    # With height 0 ladders stay as they are: that is how an operator asks for everything.
    start_run(turn, "wish", 0 if force else turn.state.tip, force=force)


def hash_sync_ended(turn: Turn, event: HashSyncEnded) -> None:
    run = _end_run(turn)
    if run is None:
        return
    if run.kind == "first":
        if turn.state.retry_pending:
            turn.do(StopTimer("retry"))
        turn.set(
            hash_done=True,
            retry_pending=False,
            next_retry_height=_next_height(turn, run, event.next_retry_height),
            untold=(run.attempt, event.missing),
        )
        _rebuild(turn)  # its end is when readiness is looked at
    else:
        if run.kind == "retry" and not turn.state.has_news:
            turn.set(next_retry_height=_next_height(turn, run, event.next_retry_height))
        check(turn)
    _begin_waiting_run(turn)


def _next_height(turn: Turn, run: Run, found: int | None) -> int:
    if found is not None:
        return found
    return run.height + turn.facts.recheck_blocks


def hash_sync_failed(turn: Turn, event: HashSyncFailed) -> None:
    run = _end_run(turn)
    if run is None:
        return
    if run.kind == "first":
        next_waits = turn.state.is_run_wanted
        is_last = run.attempt >= turn.facts.max_retries or turn.state.phase is Phase.DEGRADED
        will_retry = next_waits or not is_last
        turn.publish(
            "hashSync:failed",
            attempt=run.attempt,
            maxRetries=turn.facts.max_retries,
            willRetry=will_retry,
            error=event.error,
        )
        if turn.state.phase is not Phase.DEGRADED and not next_waits:
            _after_failure(turn, will_retry=will_retry)
    check(turn)
    _begin_waiting_run(turn)


def _after_failure(turn: Turn, *, will_retry: bool) -> None:
    state, facts = turn.state, turn.facts
    if will_retry or (state.hash_done and not state.db_done):
        _retry_later(turn)
    else:
        # Ours: when the blocks have waived them, the messages are still wanted.
        pause = (state.waive_after or facts.ready_after_blocks) + facts.recheck_blocks
        turn.set(next_retry_height=state.tip + pause)


def _retry_later(turn: Turn) -> None:
    if not turn.state.retry_pending:
        turn.set(retry_pending=True)
        turn.do(StartTimer("retry"))


def retry_due(turn: Turn, event: RetryDue) -> None:
    if not turn.state.retry_pending:
        return
    turn.set(retry_pending=False)
    state = turn.state
    if not state.hash_done and state.attempt < turn.facts.max_retries and _first_run_allowed(state):
        want_first_run(turn)
    elif not state.db_done and (state.hash_done or state.is_waived):
        _rebuild(turn)


def operator_asked(turn: Turn, event: OperatorAsked) -> None:
    if turn.state.run is None:
        _wished_run(turn, force=event.force)
    else:
        turn.set(wish="force" if event.force or turn.state.wish == "force" else "due")


def news_of_hashes(turn: Turn, event: Happening) -> None:
    if not turn.state.hash_done:
        return
    turn.set(next_retry_height=0, has_news=True)
    if isinstance(event, HashesUnresolved) and turn.state.capable:
        turn.do(AskForNewMessages())


# ---- the current specifications ----------------------------------------------------------------------


def _rebuild(turn: Turn) -> None:
    if turn.state.rebuilding:
        turn.set(is_rebuild_wanted=True)
        return
    turn.set(rebuilding=True)
    turn.do(Rebuild())


def rebuilt(turn: Turn, event: Rebuilt) -> None:
    turn.set(rebuilding=False, db_done=True)
    _after_rebuild(turn)


def rebuild_failed(turn: Turn, event: RebuildFailed) -> None:
    turn.set(rebuilding=False)
    if not turn.state.is_rebuild_wanted and turn.state.phase is not Phase.DEGRADED:
        _retry_later(turn)
    _after_rebuild(turn, may_begin=False)


def _after_rebuild(turn: Turn, *, may_begin: bool = True) -> None:
    if turn.state.is_rebuild_wanted:
        turn.set(is_rebuild_wanted=False)
        _rebuild(turn)
        return
    if turn.state.untold is not None:
        attempt, missing = turn.state.untold
        turn.set(untold=None)
        turn.publish("hashSync:complete", attempt=attempt, missing=missing)
    check(turn, may_rebuild=may_begin)


def check(turn: Turn, *, may_rebuild: bool = True) -> None:
    """Is it time to be READY? When the blocks waive the rest, the specifications are made anew at once."""
    state = turn.state
    if state.phase not in (Phase.SYNCING, Phase.RESYNCING):
        return
    if may_rebuild and state.is_waived and not state.db_done and not state.rebuilding:
        _rebuild(turn)
    turn.fire(CHECK)


def grace_ended(turn: Turn, event: Happening) -> None:
    turn.set(peer_grace_over=True)
    hold_no_longer(turn)
