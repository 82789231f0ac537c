"""Whatever way a peer cuts its answer, and however three peers' answers mix: the index is the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trionode.appstate.batch import BatchRecord, chunk_steps, judge_chunk
from trionode.appstate.state import AppState
from trionode.appstate.windows import Windows
from trionode.config.tree import AppStateSettings
from trionode.wire.envelope import Envelope
from trionode.wire.jsjson import stringify

NOW_MS = 1_760_000_000_000
WINDOWS = Windows.from_settings(AppStateSettings())
IPS = ("1.1.1.1", "2.2.2.2", "3.3.3.3")
NAMES = ("a", "b", "c")
MINUTE_MS = 60_000


def record(kind: str, ip: str, other: str, names: Sequence[str], at_ms: int) -> BatchRecord:
    """A record as it is after verification. `at_ms` is unlike that of every other record."""
    if kind == "evicted":
        return BatchRecord("evicted", None, ip, at_ms)
    head: dict[str, Any] = {"ip": ip, "broadcastedAt": at_ms}
    apps = [{"name": name, "hash": f"h{at_ms}"} for name in names]
    data, outer = {
        "v2": (head | {"type": "fluxapprunning", "version": 2, "apps": apps}, "apprunning"),
        "v1": (head | {"type": "fluxapprunning", "version": 1, "name": names[0], "hash": "h"}, "apprunning"),
        "removed": (head | {"type": "fluxappremoved", "version": 1, "appName": names[0]}, "appremoved"),
        "sigterm": (head | {"type": "fluxnodesigterm", "version": 1}, "sigterm"),
        "moved": (
            {"type": "fluxipchanged", "version": 1, "oldIP": ip, "newIP": other, "broadcastedAt": at_ms},
            "ipchanged",
        ),
    }[kind]
    return BatchRecord(outer, Envelope(1, at_ms, "key", "signature", data, stringify(data)))


kinds = st.sampled_from(("v2", "v2", "v2", "v1", "v1", "removed", "sigterm", "moved", "evicted"))
drafts = st.lists(
    st.tuples(
        kinds,
        st.sampled_from(IPS),
        st.sampled_from((*IPS, "4.4.4.4")),
        st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True),
        st.integers(0, 140),
    ),
    max_size=12,
)


def made(drawn: Sequence[Any]) -> list[BatchRecord]:
    """From 140 minutes ago to now; two at one millisecond have no order anywhere in the network."""
    records = []
    for number, (kind, ip, other, names, age_minutes) in enumerate(drawn):
        if kind != "moved" or ip != other:
            records.append(record(kind, ip, other, names, NOW_MS - age_minutes * MINUTE_MS - number))
    return records


def index_of(state: AppState) -> list[str]:
    return sorted(repr(row) for row in state.index.locations())


def empty() -> AppState:
    return AppState(WINDOWS, NOW_MS)


@given(drawn=drafts, data=st.data())
def test_any_cut_and_any_mixture_gives_the_same_index(drawn: Any, data: st.DataObject) -> None:
    records = made(drawn)
    whole = empty()
    judge_chunk(whole, "apprunning", records, NOW_MS, "peer")

    mixed = empty()
    waiting = []
    for peer in ("one", "two", "three"):
        # every peer knows part of it, and everything is known to somebody
        known = [r for n, r in enumerate(records) if n % 3 == len(waiting) or data.draw(st.booleans())]
        known = data.draw(st.permutations(known))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(known)), max_size=3)))
        chunks = [known[a:b] for a, b in zip([0, *cuts], [*cuts, len(known)], strict=True)]
        waiting.append(work(mixed, peer, chunks))
    while waiting:
        turn = data.draw(st.integers(0, len(waiting) - 1))
        if next(waiting[turn], None) is None:
            del waiting[turn]
    assert index_of(mixed) == index_of(whole)


def work(state: AppState, peer: str, chunks: Sequence[Sequence[BatchRecord]]) -> Any:
    """One peer's answers in their order, giving way after every record as the log does after some."""
    for chunk in chunks:
        for _ in chunk_steps(state, "apprunning", chunk, NOW_MS, peer, slice_records=1):
            yield True
