"""LocationIndex at 8,000 addresses x 5 apps: build, queries, one event, memory (docs/spec/events.md §6).

The yardstick is the pure view over the same 8,000 documents: what a query costs without an index.
"""

from __future__ import annotations

import gc
import random
import sys
import time
import tracemalloc

from _harness import Bench, seconds_per_call

from trionode.appstate.documents import EventRow, LocationRow, Row
from trionode.appstate.facts import fact_of
from trionode.appstate.index import LocationIndex
from trionode.appstate.messages import date_ms
from trionode.appstate.state import AppState
from trionode.appstate.view import documents_of, view
from trionode.appstate.windows import Windows
from trionode.config.tree import AppStateSettings
from trionode.wire.jsjson import stringify

ADDRESSES, APPS, NAMES = 8_000, 5, 1_000
NOW_MS = 1_760_000_000_000
WINDOWS = Windows.from_settings(AppStateSettings())


def stored_rows(rng: random.Random) -> tuple[list[EventRow], list[LocationRow]]:
    """What the store holds of a network of this size."""
    events: list[EventRow] = []
    locations: list[LocationRow] = []
    for number in range(ADDRESSES):
        ip = f"10.{number >> 8}.{number & 255}.1:16127"
        at_ms = NOW_MS - rng.randrange(3_600_000)
        names = rng.sample(range(NAMES), APPS)
        since = "2025-10-01T00:00:00.000Z"
        apps = [{"name": f"app{name}", "hash": f"{name:064x}", "runningSince": since} for name in names]
        data = {
            "type": "fluxapprunning",
            "version": 2,
            "apps": apps,
            "ip": ip,
            "broadcastedAt": at_ms,
            "osUptime": 12345.67,
            "staticIp": True,
        }
        expire_at_ms = at_ms + WINDOWS.running_ms
        events.append(
            EventRow(ip, "apprunning", "v2", expire_at_ms, broadcasted_at_ms=at_ms, data_text=stringify(data))
        )
        for app in apps:
            row_id, since_ms = len(locations) + 1, date_ms(since)
            name, hash_ = app["name"], app["hash"]
            locations.append(
                LocationRow(row_id, name, hash_, ip, at_ms, expire_at_ms, since_ms, 12345.67, True)
            )
    return events, locations


def build(events: list[EventRow]) -> LocationIndex:
    index = LocationIndex(WINDOWS, NOW_MS)
    for row in events:
        index.put(row.key, fact_of(row))
    return index


def memory_mib(events: list[EventRow], locations: list[LocationRow]) -> tuple[float, float]:
    """MiB of the index alone, and of the whole state (index and cache rows), texts not counted."""
    rows: list[Row] = [*events, *locations]
    found = []
    for make in (lambda: build(events), lambda: AppState.from_rows(WINDOWS, rows, NOW_MS)):
        gc.collect()
        tracemalloc.start()
        kept = make()
        gc.collect()
        found.append(tracemalloc.get_traced_memory()[0] / 2**20)
        tracemalloc.stop()
        del kept
    return found[0], found[1]


def main() -> int:
    bench = Bench(f"LocationIndex, {ADDRESSES:,} addresses x {APPS} apps of {NAMES:,} names")
    events, locations = stored_rows(random.Random(1))
    documents = documents_of(events)

    def one_by_view() -> object:
        return view(documents, NOW_MS, appname="app7")

    bench.add("one app by the pure view", 1e6 * seconds_per_call(one_by_view, seconds=1), "us")

    began = time.thread_time()
    index = build(events)
    built_s = time.thread_time() - began
    assert len(index) == ADDRESSES * APPS
    bench.add("build from stored events", built_s, "s", goal=1.5, better="lower")
    rows: list[Row] = [*events, *locations]
    began = time.thread_time()
    AppState.from_rows(WINDOWS, rows, NOW_MS)
    bench.add("build of the whole state", time.thread_time() - began, "s", goal=1.5, better="lower")

    def changed(name: str) -> None:
        """Forget the kept answer, as a change of the app does."""
        index._name_answers.pop(name, None)
        index._whole_answer = None

    def first_ask() -> object:
        changed("app7")
        return index.locations("app7")

    def whole() -> object:
        changed("app7")
        return index.locations()

    yardstick = "one app by the pure view"
    ask_us = 1e6 * seconds_per_call(lambda: index.locations("app7"))
    bench.add("one app, asked again", ask_us, "us", baseline=yardstick, goal=50, better="lower")
    first_us = 1e6 * seconds_per_call(first_ask)
    found = len(index.locations("app7"))
    note = f"{found} rows"
    bench.add(
        "one app, after a change", first_us, "us", baseline=yardstick, goal=50, better="lower", note=note
    )
    whole_ms = 1e3 * seconds_per_call(whole)
    bench.add("full list, after a change", whole_ms, "ms", goal=40, better="lower")
    facts = [(row.key, fact_of(row)) for row in events[:500]]

    def again() -> None:
        for key, fact in facts:
            index.put(key, fact)

    bench.add("one event, nothing new", 1e6 * seconds_per_call(again) / len(facts), "us")
    newer = [
        (
            row.key,
            fact_of(
                EventRow(row.ip, row.type, "v2", row.expire_at_ms, row.at_ms + 1, data_text=row.data_text)
            ),
        )
        for row in events[:500]
    ]

    def turn_by_turn() -> None:
        for key, fact in newer:
            index.put(key, fact)
        for key, fact in facts:
            index.put(key, fact)

    bench.add("one event of 5 apps", 1e6 * seconds_per_call(turn_by_turn) / 2 / len(facts), "us")
    index_mib, state_mib = memory_mib(events, locations)
    bench.add("memory of the index", index_mib, "MiB")
    bench.add("memory of the whole state", state_mib, "MiB", note="index, cache rows, expiry")
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
