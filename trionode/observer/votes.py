"""What several sources say, put to the vote. Pure: whatever a minority says changes nothing.

A row counts when more than half of the sources that answered have it, and at least three answered.
Honest nodes differ a little, because they are a block apart; a number they differ in becomes the middle one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from trionode.observer.answers import ToldLocation, ToldSpec
from trionode.wire.address import with_port
from trionode.wire.nodelist import NodeEntry

LEAST_SOURCES = 3
SAMPLE_ROWS = 5

Row = TypeVar("Row")
Key = TypeVar("Key")
Value = TypeVar("Value", int, str)


class Dissent(msgspec.Struct, frozen=True):
    """How far one source is from what was agreed. `sample`: some of the rows in words."""

    source: str
    missing: int
    extra: int
    sample: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return self.missing + self.extra


class NodeVote(msgspec.Struct, frozen=True):
    """The rows the majority has, and who differs."""

    entries: tuple[NodeEntry, ...]
    answered: int
    needed: int
    dissents: tuple[Dissent, ...]


def shared(ballots: Mapping[str, Sequence[Row]]) -> dict[str, tuple[Row, ...]]:
    """The same ballots with equal rows kept once: honest sources tell the same thousands of rows."""
    pool: dict[Row, Row] = {}
    return {source: tuple([pool.setdefault(row, row) for row in rows]) for source, rows in ballots.items()}


def majority_of(answered: int) -> int:
    """How many sources must agree; 0 when too few answered for any majority."""
    return answered // 2 + 1 if answered >= LEAST_SOURCES else 0


def agreed_height(told: Collection[int]) -> int | None:
    """The greatest height that a majority says is reached; None when too few sources tell one."""
    needed = majority_of(len(told))
    return sorted(told, reverse=True)[needed - 1] if needed else None


def _identity(entry: NodeEntry) -> tuple[str, str, str, str]:
    """What makes two rows the same node: who may speak for which address, by which collateral."""
    return with_port(entry.ip), entry.pubkey, entry.txhash, entry.outidx


def agreed_nodes(ballots: Mapping[str, Sequence[NodeEntry]]) -> NodeVote | None:
    """Count the node lists of several sources; None when there are too few."""
    needed = majority_of(len(ballots))
    if not needed:
        return None
    carried = _gather(ballots, _identity, lambda entry: bool(entry.ip and entry.pubkey))
    chosen = {key: rows for key, rows in carried.items() if len(rows) >= needed}
    entries = tuple(_merged(list(rows.values()), needed) for rows in chosen.values())
    return NodeVote(
        entries,
        answered=len(ballots),
        needed=needed,
        dissents=_dissents(ballots, carried, chosen, lambda key: f"{key[0]} with key {key[1][:12]}"),
    )


def _gather(
    ballots: Mapping[str, Iterable[Row]], key_of: Callable[[Row], Key], counts: Callable[[Row], bool]
) -> dict[Key, dict[str, Row]]:
    """Rows by what they are about, and by who tells them; of repeated rows of one source the last counts."""
    carried: dict[Key, dict[str, Row]] = {}
    for source, rows in ballots.items():
        for row in rows:
            if counts(row):
                carried.setdefault(key_of(row), {})[source] = row
    return carried


def _dissents(
    sources: Iterable[str],
    carried: Mapping[Key, Mapping[str, Row]],
    chosen: Mapping[Key, Mapping[str, Row]],
    words: Callable[[Key], str],
) -> tuple[Dissent, ...]:
    missing: Counter[str] = Counter()
    extra: Counter[str] = Counter()
    samples: dict[str, list[str]] = {source: [] for source in sources}
    for key, rows in carried.items():
        if key in chosen:
            if len(rows) == len(samples):
                continue
            for source in samples.keys() - rows.keys():
                _note(source, missing, samples, f"lacks {words(key)}")
        else:
            for source in rows:
                _note(source, extra, samples, f"only a minority tells {words(key)}")
    return tuple(
        Dissent(source, missing[source], extra[source], tuple(samples[source]))
        for source in samples
        if missing[source] or extra[source]
    )


def _note(source: str, count: Counter[str], samples: Mapping[str, list[str]], text: str) -> None:
    count[source] += 1
    if len(samples[source]) < SAMPLE_ROWS:
        samples[source].append(text[:120])


def _merged(rows: Sequence[NodeEntry], needed: int) -> NodeEntry:
    """One row out of several tellings of it."""
    first = rows[0]
    if all(row == first for row in rows):
        return first
    made: dict[str, Any] = {}
    for name in first.__struct_fields__:
        values = [getattr(row, name) for row in rows]
        made[name] = values[0] if name == "ip" else _agreed_value(values, needed)
    return NodeEntry(**made)


def _agreed_value(values: Sequence[Value], needed: int) -> Value | str:
    """A value that a majority tells; else the middle number, and of texts none."""
    value, votes = Counter(values).most_common(1)[0]
    if votes >= needed:
        return value
    if isinstance(value, str):
        return ""
    return middle(values)


def middle(values: Sequence[Value]) -> Value:
    """The lower middle value."""
    return sorted(values)[(len(values) - 1) // 2]


class LocationVote(msgspec.Struct, frozen=True):
    """Locations with the number of sources that tell each. `by_majority` False: whatever anybody told."""

    rows: tuple[tuple[ToldLocation, int], ...]
    answered: int
    by_majority: bool


def agreed_locations(ballots: Mapping[str, Sequence[ToldLocation]]) -> LocationVote:
    """Count the locations that several sources tell; with too few sources all of them are taken."""
    needed = majority_of(len(ballots))
    carried = _gather(ballots, lambda row: (row.name, row.ip), lambda row: True)
    rows = []
    for told in carried.values():
        if len(told) < needed:
            continue
        tellings = list(told.values())
        at_ms = middle([row.broadcasted_at_ms for row in tellings])
        row = next(row for row in tellings if row.broadcasted_at_ms == at_ms)
        hashes = Counter(telling.hash for telling in tellings if telling.broadcasted_at_ms == at_ms)
        row = msgspec.structs.replace(
            row,
            hash=hashes.most_common(1)[0][0],
            expire_at_ms=middle([telling.expire_at_ms for telling in tellings]),
        )
        rows.append((row, len(told)))
    return LocationVote(tuple(rows), len(ballots), by_majority=needed > 0)


def agreed_specs(ballots: Mapping[str, Sequence[ToldSpec]]) -> tuple[ToldSpec, ...] | None:
    """The specifications that a majority tells in the same words; None when too few sources tell any."""
    needed = majority_of(len(ballots))
    if not needed:
        return None
    carried = _gather(ballots, lambda spec: (spec.name, spec.digest), lambda _: True)
    return tuple(next(iter(told.values())) for told in carried.values() if len(told) >= needed)
