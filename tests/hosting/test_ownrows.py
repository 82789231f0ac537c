"""Whichever form its address is announced in, a node finds its own rows (docs/spec/events.md §14)."""

from __future__ import annotations

from typing import Any

import pytest

from trionode.appstate.documents import EventRow
from trionode.appstate.facts import fact_of
from trionode.appstate.index import LocationIndex
from trionode.appstate.windows import Windows
from trionode.config.tree import AppStateSettings
from trionode.hosting.ownrows import OwnRows
from trionode.wire.jsjson import stringify

BARE, WITH_PORT, OTHER = "198.51.100.7", "198.51.100.7:16127", "198.51.100.7:16137"


class Side:
    """Chain and log."""

    def __init__(self, own_address: str | None) -> None:
        self.own_address = own_address
        self.index = LocationIndex(Windows.from_settings(AppStateSettings()), 0)

    def put(self, ip: str, name: str, at_ms: int, kind: str = "apprunning", **members: Any) -> None:
        data = {"apps": [{"name": name, "hash": "h"}], **members}
        row = EventRow(ip, kind, kind, at_ms + 7_000_000, broadcasted_at_ms=at_ms, data_text=stringify(data))
        self.index.put(row.key, fact_of(row))


@pytest.mark.parametrize("listed", [BARE, WITH_PORT])
@pytest.mark.parametrize("own", [BARE, WITH_PORT])
def test_rows_of_either_form_are_ours(listed: str, own: str) -> None:
    side = Side(own)
    side.put(listed, "shop", 5_000)
    rows = OwnRows(side, side)
    assert rows.names_at(own) == ["shop"]
    assert rows.listed("shop")
    assert rows.may_be_listed("shop")
    assert rows.since_ms("shop") == 5_000
    assert not rows.listed("Shop")
    assert not rows.may_be_listed("other")


@pytest.mark.parametrize(
    ("listed", "own"), [(OTHER, BARE), (OTHER, WITH_PORT), (BARE, OTHER), (WITH_PORT, OTHER)]
)
def test_a_neighbour_behind_the_same_address_is_somebody_else(listed: str, own: str) -> None:
    side = Side(own)
    side.put(listed, "shop", 5_000)
    rows = OwnRows(side, side)
    assert rows.names_at(own) == []
    assert not rows.may_be_listed("shop")
    assert rows.since_ms("shop") is None


def test_of_two_rows_the_older_start_counts() -> None:
    side = Side(BARE)
    side.put(BARE, "shop", 9_000)
    side.put(WITH_PORT, "shop", 5_000)
    assert OwnRows(side, side).since_ms("shop") == 5_000


def test_without_an_address_nobody_can_say_that_it_is_not_listed() -> None:
    rows = OwnRows(Side(None), Side(None))
    assert rows.may_be_listed("shop")
    assert not rows.listed("shop")
    assert rows.since_ms("shop") is None


def test_rows_that_moved_here_are_ours() -> None:
    side = Side(BARE)
    side.put("198.51.100.1", "shop", 5_000)
    side.put("198.51.100.1", "shop", 6_000, "ipchanged", oldIP="198.51.100.1", newIP=WITH_PORT)
    rows = OwnRows(side, side)
    assert rows.names_at(BARE) == ["shop"]
    assert rows.listed("shop")
