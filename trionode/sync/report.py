"""What a hash sync says of itself (docs/spec/registry.md §12)."""

from __future__ import annotations

from typing import Any

import msgspec

from trionode.chain.progress import Progress


class StreamOutcome(msgspec.Struct, frozen=True):
    """What one peer's list of all messages gave."""

    peer: str
    objects: int = 0
    """Objects in the list."""
    handed: int = 0
    """Messages that were missing, given to the batch processor."""
    resolved: int = 0
    problem: str = ""
    """Why it ended early; empty when it was read to its end, or to the last missing message."""

    def sentence(self) -> str:
        told = f"list of {self.peer}: {self.resolved} of {self.handed} missing messages were right"
        return f"{told}; {self.problem}" if self.problem else told


class SyncReport(msgspec.Struct, frozen=True):
    """The result of one run. `missing` and `unreachable` are counted over what is due at its height."""

    resolved: int = 0
    missing: int = 0
    unreachable: int = 0
    next_retry_height: int | None = None
    """None: nothing is left to be retried."""
    skipped: bool = False
    """Another run was under way; nothing was done."""
    started_with: int = 0
    """How many messages were missing."""
    streamed: tuple[StreamOutcome, ...] = ()
    rounds: int = 0
    """Rounds of requests to connected peers."""
    peers_asked: int = 0
    ephemeral: int = 0
    """Short links that were opened."""
    took_s: float = 0.0
    why: tuple[str, ...] = ()
    """The course of the run, in sentences."""

    def document(self) -> dict[str, Any]:
        """For events and routes."""
        return {
            "resolved": self.resolved,
            "missing": self.missing,
            "unreachable": self.unreachable,
            "nextRetryHeight": self.next_retry_height,
            "skipped": self.skipped,
            "startedWith": self.started_with,
            "streamed": [msgspec.to_builtins(outcome) for outcome in self.streamed],
            "rounds": self.rounds,
            "peersAsked": self.peers_asked,
            "ephemeral": self.ephemeral,
            "tookSeconds": round(self.took_s, 3),
            "why": list(self.why),
        }


class HashSyncStatus(msgspec.Struct, frozen=True):
    """Where the sync stands. `left` counts down while a run is under way."""

    is_running: bool
    left: int
    is_done: bool
    is_ready: bool
    is_degraded: bool
    attempt: int
    next_retry_height: int | None
    last_error: str | None
    last: SyncReport | None
    progress: Progress | None = None

    def document(self) -> dict[str, Any]:
        """For routes."""
        return {
            "running": self.is_running,
            "left": self.left,
            "progress": None if self.progress is None else self.progress.event(),
            "done": self.is_done,
            "ready": self.is_ready,
            "degraded": self.is_degraded,
            "attempt": self.attempt,
            "nextRetryHeight": self.next_retry_height,
            "lastError": self.last_error,
            "last": None if self.last is None else self.last.document(),
        }


class OrchestratorStatus(msgspec.Struct, frozen=True):
    """The phase of the node and what it still waits for. `since_ms` is wall time, `for_s` a duration."""

    phase: str
    since_ms: int | None
    for_s: float | None
    waits_for: tuple[str, ...]
    """What is missing for READY, each as a part of a sentence an operator can read."""
    db_ready: bool
    can_send: bool
    blocks: int
    waived_after_blocks: int | None
    asked: int
    required: int
    completions: dict[str, int]

    def document(self) -> dict[str, Any]:
        """For routes."""
        return {
            "phase": self.phase,
            "sinceMs": self.since_ms,
            "forS": None if self.for_s is None else round(self.for_s, 1),
            "waitsFor": list(self.waits_for),
            "dbReady": self.db_ready,
            "canSend": self.can_send,
            "blocks": self.blocks,
            "waivedAfterBlocks": self.waived_after_blocks,
            "stateSync": {"asked": self.asked, "required": self.required, "completions": self.completions},
        }
