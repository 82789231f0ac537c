"""What an observer knows, from whom, and what it does not know: the member `observer` of /trionode/status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from trionode.observer.bootstrap import Bootstrap
from trionode.observer.facts import ObservedFacts
from trionode.observer.sources import Source
from trionode.observer.specs import Specs
from trionode.observer.unverified import Unverified, UnverifiedRow
from trionode.observer.votes import LEAST_SOURCES, majority_of
from trionode.runtime.counters import Counters


class ObserverReport:
    """`api.context.ObserverPort`."""

    def __init__(
        self,
        facts: ObservedFacts,
        unverified: Unverified,
        bootstrap: Bootstrap,
        specs: Specs,
        counters: Counters,
        *,
        links: Callable[[], int],
        max_links: int,
    ) -> None:
        self._facts = facts
        self._unverified = unverified
        self._bootstrap = bootstrap
        self._specs = specs
        self._counters = counters
        self._links = links
        self._max_links = max_links

    def is_unverified(self, row: object) -> bool:
        """Whether a location row stands on other nodes' word only."""
        return isinstance(row, UnverifiedRow)

    def document(self) -> dict[str, Any]:
        """Everything an operator may ask of an observer."""
        facts, unverified, bootstrap = self._facts, self._unverified, self._bootstrap
        return {
            "sources": {
                "asked": len(facts.book),
                "answered": facts.answered,
                "neededToAgree": majority_of(facts.answered) or None,
                "least": LEAST_SOURCES,
                "rounds": facts.rounds,
            },
            "nodes": _fact(facts.nodes_agreed_s, count=len(facts.nodes)),
            "height": _fact(
                facts.height_agreed_s, blocks=facts.height or None, headers=facts.headers or None
            ),
            "unknown": self._unknown(),
            "asked": [self._source(source) for source in facts.book],
            "disagreements": self._disagreements(),
            "locations": {
                "unverified": len(unverified),
                "unverifiedAddresses": unverified.addresses(),
                "confirmed": unverified.confirmed,
                "contradicted": unverified.contradicted,
                "expired": unverified.expired,
                "toldBy": bootstrap.told_by,
                "byMajority": bootstrap.by_majority,
                "readAgoS": _ago(bootstrap.loaded_s),
            },
            "specifications": _fact(
                self._specs.agreed_s, count=self._specs.count, toldBy=self._specs.told_by
            ),
            "links": {"open": self._links(), "most": self._max_links},
            "cost": {
                "requests": self._counters["observer.requests"],
                "unchanged": self._counters["observer.unchanged"],
                "failed": self._counters["observer.failed"],
                "bytesRead": self._counters["observer.bytes"],
            },
        }

    def _unknown(self) -> list[str]:
        """In sentences: what cannot be said, and why."""
        facts, told = self._facts, []
        if not facts.rounds:
            return ["everything: the sources have not been asked yet"]
        few = facts.last_error
        if facts.nodes_agreed_s is None:
            told.append(f"the node list: {few or 'the sources share no row'}; no signature can be checked")
        elif few:
            told.append(f"whether the node list is still right: {few}")
        if facts.height_agreed_s is None:
            told.append(f"the height of the chain: {facts.heights_told} sources told theirs")
        elif not majority_of(facts.heights_told):
            told.append(
                f"whether the height is still {facts.height}: {facts.heights_told} sources tell theirs"
            )
        elif not facts.synced:
            told.append("whether the chain moves: no majority told a new height lately")
        if len(self._unverified):
            told.append(f"who signed for {len(self._unverified)} locations: they are marked unverified")
            if not self._bootstrap.by_majority:
                told.append("whether these locations are true at all: fewer than three sources told them")
        if self._specs.agreed_s is None:
            told.append(f"what is registered: {self._specs.told_by} sources told specifications")
        if self._bootstrap.loaded_s is None:
            told.append("locations that were announced before the start: no source told them")
        return told

    def _source(self, source: Source) -> dict[str, Any]:
        dissent, height = source.dissent, source.height
        return {
            "address": source.key,
            "seed": source.is_seed,
            "nodes": len(source.entries) or None,
            "height": None if height is None else height.blocks,
            "missing": 0 if dissent is None else dissent.missing,
            "extra": 0 if dissent is None else dissent.extra,
            "failures": source.failures,
            "lastError": source.last_error or None,
            "answeredAgoS": _ago(source.last_answer_s),
        }

    def _disagreements(self) -> list[dict[str, Any]]:
        facts = self._facts
        rows: list[dict[str, Any]] = []
        for source in facts.book:
            dissent, height = source.dissent, source.height
            if dissent is not None:
                text = f"{dissent.missing} rows missing, {dissent.extra} that no majority has"
                rows.append(_row(source, "nodes", text, list(dissent.sample)))
            if height is not None and source.is_far:
                rows.append(_row(source, "height", f"{height.blocks} instead of {facts.height}", []))
        return rows


def _row(source: Source, about: str, text: str, sample: list[str]) -> dict[str, Any]:
    return {"source": source.key, "about": about, "text": text, "sample": sample}


def _fact(agreed_s: float | None, **values: Any) -> dict[str, Any]:
    return {"agreed": agreed_s is not None, "agreedAgoS": _ago(agreed_s), **values}


def _ago(at_s: float | None) -> float | None:
    return None if at_s is None else round(trio.current_time() - at_s, 1)
