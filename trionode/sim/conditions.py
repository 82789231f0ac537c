"""What the virtual network does to messages: delay, loss, duplication, reordering, blockage.

Values only; `sim.network` applies them. The fault model and what it leaves out: docs/simulator.md.
"""

from __future__ import annotations

from typing import Literal

import msgspec

LossMeans = Literal["vanish", "retransmit", "reset"]
BlockMeans = Literal["hold", "vanish"]


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """The weather on a link. Times are virtual; probabilities are per message, 0 to 1.

    Time limits (handshake, close, send, unacknowledged bytes) are those of each node's own settings.

    A peer link is a reliable stream, so losing one message needs a meaning:

    - `vanish`: it is gone and both ends stay connected. Harsher than any TCP connection, and what a
      peer's rate limit or full queue does to frames (docs/spec/wire.md §5).
    - `retransmit`: it, and everything behind it, arrives `retransmit_ms` later.
    - `reset`: the connection breaks; both ends see 1006.
    """

    latency_min_ms: int = 5
    latency_max_ms: int = 60
    jitter_ms: int = 10
    pong_grid_ms: int = 1
    """Pongs arrive at multiples of this; a coarse grid lets long runs of many nodes go faster."""
    loss: float = 0.0
    loss_means: LossMeans = "vanish"
    retransmit_ms: int = 200
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_ms: int = 100
    bandwidth_bytes_s: int | None = None
    window_bytes: int = 1024 * 1024
    """Bytes one end may have under way or unread before its next send waits."""
    blocked_means: BlockMeans = "hold"
    """On a blocked path: `hold` is TCP retransmitting, `vanish` a hung program behind a live kernel."""

    @property
    def is_faulty(self) -> bool:
        """Whether single messages may be lost, doubled or overtaken."""
        return bool(self.loss or self.duplicate or self.reorder)


CALM = Conditions()
"""Latency and jitter, no faults."""

ROUGH = Conditions(loss=0.02, duplicate=0.01, reorder=0.05)
"""Two in a hundred messages vanish, one is doubled, five are overtaken."""
