"""How much every node holds, against what it may hold: nothing may grow without a bound.

The census walks everything reachable from a node's process and looks at the size of every container it
meets, by the class and attribute that hold it. What has a bound of its own is declared in `BOUNDS`;
anything else may hold a few entries per node of the network. So a new queue or cache needs no entry here,
until a run shows that it grows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import msgspec

from trionode.appstate.bounds import MAX_PER_ADDRESS
from trionode.config.tree import Settings
from trionode.node import NodeCore
from trionode.peers.gossip import CACHE_CHARS

PER_NODE = 8
ANYWAY = 64
"""What a container without a declared bound may hold: so many entries, and so many per node."""

OUTSIDE = (
    "trionode.config",
    "trionode.sim",
    "trionode.wire.nodelist",
    "trionode.wire.keys",
    "trionode.store.memory",
    "trionode.store.registry_memory",
)
"""Modules whose objects are no part of the process: settings, the world around it, the chain, disks."""

WINDOW_S = 7_500

BOUNDS: dict[str, Callable[[Settings], int]] = {
    "MessageCache._items": lambda s: s.gossip.cache_entries,
    "ExpiringMap._items": lambda s: s.gossip.cache_entries,
    "Envelope.data[]": lambda s: s.gossip.max_text_bytes // 20,
    "BlockWindow._hashes": lambda s: max(100, s.explorer.restore_blocks),
    "Inventory._refused": lambda s: 4096,
    "Inventory._wanted": lambda s: 512 * 64,
    "Inventory._deadlines": lambda s: 512 * 64,
    "_Line.items": lambda s: s.gossip.intake_queue_messages,
    "Lane._queue": lambda s: 256,
    "EventBus._ring": lambda s: s.api.event_ring,
    "Subscription._buffer": lambda s: 1024,
    "PeerTable.history": lambda s: 1000,
    "RateLimiter._buckets": lambda s: s.peers.rate_limit_keys,
    "EventLog._queue": lambda s: s.store.queue_batches,
    "Address.rows": lambda s: MAX_PER_ADDRESS,
    "Address.installing": lambda s: MAX_PER_ADDRESS,
    "Address.errors": lambda s: MAX_PER_ADDRESS,
    "Address.copies": lambda s: 2 * MAX_PER_ADDRESS,
    "Source.running": lambda s: MAX_PER_ADDRESS,
    "Source.removed": lambda s: MAX_PER_ADDRESS,
    "Source.rows": lambda s: MAX_PER_ADDRESS + s.appstate.max_apps_per_node,
    "LocationIndex._by_name": lambda s: 64 * MAX_PER_ADDRESS,
    "LocationIndex._spellings": lambda s: 64 * MAX_PER_ADDRESS,
    "LocationIndex._name_answers": lambda s: 64 * MAX_PER_ADDRESS,
    "LocationIndex._whole_answer": lambda s: 64 * MAX_PER_ADDRESS,
    "Counters._values": lambda s: 600,
}
"""By the class and attribute that hold a container."""


def census(core: NodeCore) -> dict[str, int]:
    """The largest size of each container of a node, by class and attribute."""
    sizes: dict[str, int] = {}
    seen: set[int] = {id(core)}
    todo: deque[tuple[str, Any]] = deque([("", core)])
    while todo:
        owner, value = todo.popleft()
        if isinstance(value, Mapping | Sequence | Set | deque) and not isinstance(value, str | bytes):
            sizes[owner] = max(sizes.get(owner, 0), len(value))
            inside: Iterator[Any] = iter(value.values() if isinstance(value, Mapping) else value)
            found = [(f"{owner}[]", item) for item in inside]
            if isinstance(value, Mapping):
                found += [(f"{owner}[]", key) for key in value if not isinstance(key, str | int)]
        else:
            found = [(f"{type(value).__name__}.{name}", part) for name, part in _parts(value)]
        for place, part in found:
            if _is_inside(part) and id(part) not in seen:
                seen.add(id(part))
                todo.append((place, part))
    return sizes


def _is_inside(value: Any) -> bool:
    if isinstance(value, str | bytes | int | float | bool | None | type):
        return False
    if isinstance(value, Mapping | Sequence | Set | deque):
        return True
    module = type(value).__module__
    return module.startswith("trionode.") and not module.startswith(OUTSIDE)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, msgspec.Struct):
        names: set[str] = set(value.__struct_fields__)
    else:
        names = set(getattr(value, "__dict__", ()))
        for kind in type(value).__mro__:
            slots = getattr(kind, "__slots__", ())
            names.update((slots,) if isinstance(slots, str) else slots)
    for name in sorted(names):
        if name not in ("__dict__", "__weakref__"):
            yield name, getattr(value, name, None)


def too_much(core: NodeCore, nodes: int) -> list[str]:
    """What holds more than it may."""
    found = []
    if core.peers.gossip.cached_chars > CACHE_CHARS:
        found.append(f"the message cache holds {core.peers.gossip.cached_chars} characters")
    for place, size in census(core).items():
        declared = BOUNDS.get(place)
        bound = declared(core.settings) if declared is not None else ANYWAY + PER_NODE * nodes
        if size > bound:
            kind = "its bound" if declared is not None else "any undeclared bound"
            found.append(f"{place} holds {size} entries, {kind} is {bound}")
    return found
