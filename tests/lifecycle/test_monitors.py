"""The decisions of the monitors, as plain calls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionode.config.tree import MonitorSettings
from trionode.lifecycle.monitors import (
    DENIES,
    GONE,
    MASS_NODES,
    MOVING,
    OWN_OUTAGE,
    ROUNDS,
    DaemonHealth,
    Duty,
    Standing,
    Suspect,
    Word,
    after_check,
    is_mass_departure,
    next_round,
    pause_s,
    suspects,
    verdict,
)
from trionode.wire.nodelist import NodeEntry, NodeList

SETTINGS = MonitorSettings()


@pytest.mark.parametrize(
    ("standing", "duty", "rest_s"),
    [
        (Standing(penalty=100, stale=True, confirmed=False), Duty.REMOVE_ALL, 600),
        (Standing(penalty=99.99), Duty.SWEEP, 1200),
        (Standing(stale=True), Duty.REMOVE_ALL, 1200),
        (Standing(confirmed=False), Duty.REMOVE_ALL, 1200),
        (Standing(confirmed=None), Duty.WAIT, 120),
        (Standing(confirmed=None, penalty=100), Duty.REMOVE_ALL, 600),
        (Standing(), Duty.SWEEP, 1200),
    ],
)
def test_rounds(standing: Standing, duty: Duty, rest_s: float) -> None:
    row = next_round(standing)
    assert (row.duty, pause_s(row, SETTINGS)) == (duty, rest_s)


@given(
    st.builds(
        Standing,
        penalty=st.floats(0, 1000),
        stale=st.booleans(),
        confirmed=st.sampled_from([None, True, False]),
    )
)
def test_some_row_holds_for_every_standing(standing: Standing) -> None:
    assert next_round(standing) in ROUNDS
    if next_round(standing).duty is Duty.SWEEP:
        assert standing.confirmed
        assert not standing.stale
        assert standing.penalty < 100


def nodes(*addresses: str) -> NodeList:
    return NodeList(NodeEntry(ip=address, pubkey=f"key of {address}") for address in addresses)


def test_who_is_suspected() -> None:
    listed = nodes("1.0.0.1", "1.0.0.2:16137", "1.0.0.9")
    rows = [
        ("1.0.0.1:16127", ["1.0.0.1:16127"]),  # the same address, written out
        ("1.0.0.2", ["1.0.0.2"]),  # another port of a listed machine is another node
        ("1.0.0.3", ["1.0.0.3", "1.0.0.3"]),
        ("1.0.0.4", []),  # nothing served, nothing to withdraw
        ("1.0.0.5", ["1.0.0.1"]),  # moved to a listed address
        ("1.0.0.6", ["1.0.0.60"]),  # moved, not listed there yet
        ("1.0.0.9", ["1.0.0.90"]),  # listed at the old address only: asked as well
        ("1.0.0.10", ["1.0.0.10"]),  # no prefix of 1.0.0.1
        ("9.9.9.9", ["9.9.9.9"]),  # ourselves
        ("8.8.8.8", ["9.9.9.9:16127"]),  # ourselves, moved
    ]
    assert suspects(rows, listed, "9.9.9.9") == [
        Suspect("1.0.0.10", "1.0.0.10"),
        Suspect("1.0.0.2", "1.0.0.2"),
        Suspect("1.0.0.3", "1.0.0.3"),
        Suspect("1.0.0.6", "1.0.0.60"),
        Suspect("1.0.0.9", "1.0.0.90"),
    ]


@given(st.sets(st.integers(1, 60)), st.sets(st.integers(1, 60)))
def test_nobody_in_the_list_is_suspected(known: set[int], listed: set[int]) -> None:
    rows = [(f"1.0.0.{n}", [f"1.0.0.{n}"]) for n in known]
    found = suspects(rows, nodes(*(f"1.0.0.{n}" for n in listed)), None)
    assert {suspect.source for suspect in found} == {f"1.0.0.{n}" for n in known - listed}


@pytest.mark.parametrize(
    ("suspected", "known", "mass"),
    [(0, 0, False), (MASS_NODES, MASS_NODES, False), (17, 17, True), (17, 169, True), (17, 170, False)],
)
def test_mass_departure(suspected: int, known: int, mass: bool) -> None:
    assert is_mass_departure(suspected, known) is mass


def test_verdicts() -> None:
    for outward_works in (True, False):
        assert verdict(Word.CONFIRMED, outward_works=outward_works) is MOVING
        assert verdict(Word.OTHER, outward_works=outward_works) is DENIES
    assert verdict(Word.SILENT, outward_works=True) is GONE
    assert verdict(Word.SILENT, outward_works=False) is OWN_OUTAGE
    assert [v.evict for v in (MOVING, DENIES, GONE, OWN_OUTAGE)] == [False, True, True, False]


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3000)), max_size=40))
def test_daemon_health_removes_once_and_never_early(checks: list[tuple[bool, float]]) -> None:
    health, now_s, unsynced_since, told = DaemonHealth(), 0.0, None, False
    for synced, gap_s in checks:
        now_s += gap_s
        health, due = after_check(health, synced=synced, now_s=now_s, limit_s=7200)
        if synced:
            unsynced_since, told = None, False
            assert not due
            continue
        unsynced_since = now_s if unsynced_since is None else unsynced_since
        assert due == (not told and now_s - unsynced_since >= 7200)
        told = told or due
