"""No READY without its guards (docs/spec/lifecycle.md §8): counted here anew from what the node tells.

Ready iff the chain has been read, messages may be sent, and, unless enough blocks have passed since then:
the hash sync is done and the registry rebuilt, and of each kind of state three different peers have
answered. Losing the peers takes all of it back.
"""

from __future__ import annotations

import msgspec
import trio

from trionode.node import NodeCore
from trionode.runtime.bus import Event
from trionode.sim.node import SimNode
from trionode.sim.world import World

KINDS = ("apprunning", "appinstalling", "apperrors")


class _Reached(msgspec.Struct):
    """What one life of a node has reached since it last lost its peers."""

    chain_read: bool = False
    height: int | None = None
    blocks: int = 0
    hashes_done: bool = False
    answers: dict[str, set[str]] = msgspec.field(default_factory=lambda: {kind: set() for kind in KINDS})

    def take_back(self) -> None:
        self.blocks = 0
        self.hashes_done = False
        self.answers = {kind: set() for kind in KINDS}


class ReadyGuards:
    """Watches all nodes of a world. `count`: how often READY was entered and rightly so."""

    def __init__(self, world: World, nursery: trio.Nursery) -> None:
        self._world = world
        self._nursery = nursery
        self._reached: dict[int, _Reached] = {}
        self._lives: dict[int, int] = {}
        self.count = 0
        world.on_event.append(self._on_event)

    def _of(self, node: SimNode) -> _Reached:
        """What the present life of this node has reached; begun with its first event."""
        if self._lives.get(node.number) != node.starts:
            self._lives[node.number] = node.starts
            reached = self._reached[node.number] = _Reached()

            def answered(kind: str, peer: str) -> None:
                reached.answers[kind].add(peer)

            node.running.state_sync.on_done(answered)
        return self._reached[node.number]

    def _on_event(self, node: SimNode, event: Event) -> None:
        reached = self._of(node)
        match event.name:
            case "explorer:synced" | "explorer:blocksProcessed":
                reached.chain_read = True
                if event.name == "explorer:blocksProcessed":
                    height = int(event.data["height"])
                    reached.blocks += 1 if reached.height is None else height - reached.height
                    reached.height = height
            case "hashSync:complete":
                reached.hashes_done = True
            case "orchestrator:stateChanged":
                if event.data["to"] == "DEGRADED":
                    reached.take_back()
                elif event.data["to"] == "READY":
                    self._nursery.start_soon(self._check, node, node.running, reached)

    async def _check(self, node: SimNode, core: NodeCore, reached: _Reached) -> None:
        """Once the step is over in which READY was entered: this listener is told of answers last."""
        can_send, blocks, hashes_done = core.chain.can_send, reached.blocks, reached.hashes_done
        answers = {kind: len(peers) for kind, peers in reached.answers.items()}
        await trio.lowlevel.checkpoint()
        answers = {kind: max(answers[kind], len(peers)) for kind, peers in reached.answers.items()}
        settings = core.settings.state_sync
        waived = blocks >= settings.ready_after_blocks
        missing = []
        if not reached.chain_read:
            missing.append("the chain was never read")
        if not can_send:
            missing.append("it may not send")
        if not (hashes_done or waived):
            missing.append("the hash sync is not done")
        if not waived and min(answers.values()) < settings.min_completions:
            missing.append(f"only so many peers answered: {answers}")
        if missing:
            self._world.violate(node.name, f"READY after {blocks} blocks, but {', '.join(missing)}")
        self.count += 1
