"""Rows beside the log: what confirms them, what contradicts them, what ends them."""

from __future__ import annotations

from typing import Any

import pytest

from trionode.appstate.facts import MoveFact, PointFact, running_fact
from trionode.appstate.messages import read_message
from trionode.appstate.source import Source
from trionode.appstate.windows import Windows
from trionode.config.tree import AppStateSettings
from trionode.observer.answers import ToldLocation
from trionode.observer.unverified import Unverified, is_settled

WINDOWS = Windows.from_settings(AppStateSettings())
NOW_MS = 1_800_000_000_000
AT_MS = NOW_MS - 60_000
IP = "9.1.0.1"


def told(name: str = "shop", ip: str = IP, at_ms: int = AT_MS, **changes: Any) -> ToldLocation:
    expire_at_ms = changes.pop("expire_at_ms", at_ms + WINDOWS.running_ms)
    return ToldLocation(name, "aa", ip, at_ms, expire_at_ms, None, None, None)


def holding(*rows: ToldLocation, source: Source | None = None) -> Unverified:
    made = Unverified(WINDOWS)
    made.put([(row, 3) for row in rows], 5, NOW_MS, lambda _: source)
    return made


def names(unverified: Unverified, **filters: Any) -> list[str]:
    found = unverified.rows(filters.get("name"), filters.get("ip"), filters.get("now_ms", NOW_MS))
    return sorted(row.name for row in found)


def message(kind: str, **data: Any) -> Any:
    payload = {"type": kind, "version": 1, "ip": IP, "broadcastedAt": NOW_MS, **data}
    return read_message(payload, NOW_MS, WINDOWS)


def running(*apps: str, at_ms: int = NOW_MS) -> Any:
    listed = [{"name": name, "hash": "aa"} for name in apps]
    return message("fluxapprunning", version=2, apps=listed, broadcastedAt=at_ms)


def test_a_list_confirms_what_it_names_and_contradicts_the_rest() -> None:
    unverified = holding(told("shop"), told("web"), told("shop", ip="9.2.0.1"))
    settled = unverified.settle(running("shop", "new"))
    assert (settled.confirmed, settled.contradicted) == (("shop",), ("web",))
    assert len(unverified) == 1
    assert names(unverified, ip=IP) == []
    assert (unverified.confirmed, unverified.contradicted) == (1, 1)


def test_an_empty_list_contradicts_everything_there() -> None:
    unverified = holding(told("shop"), told("web"))
    assert unverified.settle(running()).contradicted == ("shop", "web")
    assert len(unverified) == 0


def test_an_older_list_says_nothing_of_a_newer_row() -> None:
    unverified = holding(told("shop", at_ms=NOW_MS))
    assert not unverified.settle(running("web", at_ms=NOW_MS - 1))
    assert names(unverified) == ["shop"]


def test_a_single_app_confirms_only_itself() -> None:
    unverified = holding(told("shop"), told("web"))
    single = message("fluxapprunning", name="shop", hash="aa")
    assert unverified.settle(single).confirmed == ("shop",)
    assert names(unverified) == ["web"]


def test_a_removal_takes_one_app_and_a_move_all() -> None:
    unverified = holding(told("shop"), told("web"), told("blog"))
    assert unverified.settle(message("fluxappremoved", appName="web")).contradicted == ("web",)
    moved = message("fluxipchanged", oldIP=IP, newIP="9.9.0.1")
    assert set(unverified.settle(moved).contradicted) == {"shop", "blog"}


def test_a_goodbye_leaves_the_grace() -> None:
    unverified = holding(told("shop"))
    unverified.settle(message("fluxnodesigterm"))
    assert names(unverified, now_ms=NOW_MS + WINDOWS.sigterm_grace_ms - 1) == ["shop"]
    assert names(unverified, now_ms=NOW_MS + WINDOWS.sigterm_grace_ms) == []


def test_expired_and_future_rows_are_not_taken_and_rows_never_outlive_a_signed_one() -> None:
    unverified = holding(
        told("old", at_ms=NOW_MS - WINDOWS.running_ms),
        told("ahead", at_ms=NOW_MS + WINDOWS.future_ms + 1),
        told("shop", expire_at_ms=NOW_MS + 10**12),
    )
    assert names(unverified) == ["shop"]
    (row,) = unverified.rows(None, None, NOW_MS)
    assert row.expire_at_ms == AT_MS + WINDOWS.running_ms
    assert (row.told_by, row.asked) == (3, 5)
    unverified.advance(row.expire_at_ms)
    assert (len(unverified), unverified.expired) == (0, 1)


def test_a_second_reading_does_not_bring_older_rows() -> None:
    unverified = holding(told("shop"))
    assert unverified.put([(told("shop", at_ms=AT_MS - 5), 3)], 3, NOW_MS, lambda _: None) == 0
    assert unverified.put([(told("shop", at_ms=AT_MS + 5), 3)], 3, NOW_MS, lambda _: None) == 1
    assert len(unverified) == 1


def test_rows_of_addresses_that_are_no_nodes_go() -> None:
    unverified = holding(told("shop"), told("shop", ip="6.6.6.6"))
    unverified.keep_only(lambda ip: ip == IP)
    assert [row.ip for row in unverified.rows("SHOP", None, NOW_MS)] == [IP]
    assert unverified.unlisted == 1


def facts(kind: str, at_ms: int) -> Source:
    source = Source(IP)
    point = PointFact(at_ms, at_ms + 10**7)
    if kind == "list":
        apps = {"apps": [{"name": "other", "hash": "aa"}]}
        source.running["v2"] = running_fact(apps, at_ms, at_ms + 10**7)
    elif kind == "same":
        source.running["v1:shop"] = running_fact({"name": "shop", "hash": "aa"}, at_ms, at_ms + 10**7)
    elif kind == "other":
        source.running["v1:web"] = running_fact({"name": "web", "hash": "aa"}, at_ms, at_ms + 10**7)
    elif kind == "removed":
        source.removed = {"shop": point}
    elif kind == "sigterm":
        source.sigterm = point
    elif kind == "evicted":
        source.evicted = point
    else:
        source.moved = MoveFact(at_ms, at_ms + 10**7, "9.9.0.1")
    return source


@pytest.mark.parametrize("kind", ["list", "same", "removed", "sigterm", "evicted", "moved"])
def test_signed_facts_settle_rows_that_are_not_newer(kind: str) -> None:
    assert is_settled(facts(kind, AT_MS), "shop", AT_MS)
    assert not is_settled(facts(kind, AT_MS - 1), "shop", AT_MS)
    assert len(holding(told("shop"), source=facts(kind, AT_MS))) == 0


def test_facts_of_another_app_settle_nothing() -> None:
    assert not is_settled(facts("other", NOW_MS), "shop", AT_MS)
