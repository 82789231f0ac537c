"""The mark of a database that `trionode store copy` fills, and who may use one (docs/storage.md).

While it is being filled its event log carries the named value MARKER. What the copy brought of the installed
apps, which nobody else has, is listed there by digest: whatever else is found was put there by a node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from trionode.errors import StartupError, StoreError
from trionode.registry.rows import CurrentSpec
from trionode.store.port import Store

MARKER: Final = "copy"
"""Meta key of the event log."""
UNFINISHED: Final = "unfinished"
FINISHED: Final = "finished"
KEPT: Final = "kept"
"""Somebody decided that an unfinished copy is to be used as it is (`trionode store keep`)."""
_HEARTBEAT: Final = "heartbeat"
_REPEAT: Final = "finish it with the same `trionode store copy FROM TO`"


class _Alive(msgspec.Struct, rename="camel"):
    last_alive: float | None = None


def is_unfinished(mark: str | None) -> bool:
    """Whether this value of MARKER says that a copy was not finished."""
    return mark is not None and mark.partition(":")[0] == UNFINISHED


def unfinished(brought: Iterable[str]) -> str:
    """The value while a copy runs. `brought`: digests of what it brings of installed apps."""
    return f"{UNFINISHED}:{','.join(sorted(set(brought)))}"


def brought_by(mark: str | None) -> frozenset[str]:
    """The digests in such a value."""
    return frozenset(part for part in (mark or "").partition(":")[2].split(",") if part)


async def refuse_unfinished(log: Store) -> None:
    """Raise StartupError when a node is to run on half a copy."""
    if is_unfinished(await log.get_meta(MARKER)):
        raise StartupError(
            "the database of store.url is an unfinished copy",
            remedy=f"{_REPEAT}, name an empty database, or accept what is there with `trionode store keep`",
        )


def refuse_filled(name: str, held: Mapping[str, int]) -> None:
    """Raise StoreError when a target holds documents, `held` by kind."""
    found = [f"{count} {kind}" for kind, count in held.items() if count]
    if found:
        raise StoreError(
            f"{name} is not empty: it holds {', '.join(found)}",
            remedy="name an empty database (another file, another prefix), or delete this one first",
        )


def refuse_lived_in(
    name: str,
    strange: Iterable[CurrentSpec | tuple[str, str]],
    source_heartbeat: str | None,
    heartbeat: str | None,
) -> None:
    """Raise StoreError when a node has run on an unfinished copy: continuing would overwrite what it stored.

    `strange`: what is held of installed apps and no copy brought.
    """
    signs = sorted(row.name if isinstance(row, CurrentSpec) else row[0] for row in strange)
    told = f"it holds {', '.join(signs)}, which no copy brought" if signs else ""
    if not told and _alive_ms(heartbeat) > _alive_ms(source_heartbeat):
        told = "it has a later heartbeat than FROM"
    if told:
        raise StoreError(
            f"{name} is an unfinished copy on which a node has run: {told}",
            remedy="copy to an empty database; to use this one as it is: `trionode store keep`",
        )


def _alive_ms(heartbeat: str | None) -> float:
    if heartbeat is None:
        return 0.0
    try:
        return msgspec.json.decode(heartbeat, type=_Alive).last_alive or 0.0
    except msgspec.DecodeError:
        return 0.0
