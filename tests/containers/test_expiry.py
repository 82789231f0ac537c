"""Ended apps are removed one after the other, by force, and the peers are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing
from fakeactions import FakeActions

from trionode.config.tree import InstallerSettings
from trionode.containers.monitors.expiry import ExpiredApps
from trionode.registry.constants import MAINNET
from trionode.registry.housekeeping import Life
from trionode.runtime.counters import Counters


@dataclass(frozen=True)
class OneRow:
    name: str
    height: int = 2_100_000
    spec: Mapping[str, Any] = field(default_factory=dict)


class OneTable:
    def __init__(self, *names: str) -> None:
        self.names = list(names)

    def rows(self) -> list[OneRow]:
        return [OneRow(name) for name in self.names]


class Rows:
    def __init__(self, *rows: OneRow) -> None:
        self._rows = rows

    def rows(self) -> Sequence[OneRow]:
        return self._rows


def expired(
    table: OneTable | Rows,
    actions: FakeActions,
    *,
    height: int = 0,
    in_force: Mapping[str, Life] | None = None,
) -> ExpiredApps:
    return ExpiredApps(
        InstallerSettings(expiry_spacing_s=60),
        table,
        actions,
        Counters(),
        constants=MAINNET,
        life=(in_force or {}).get,
        scanned_height=lambda: height,
    )


def test_an_app_ends_by_the_specification_it_was_installed_with() -> None:
    rows = Rows(OneRow("web", 2_100_000, {"expire": 20_000}), OneRow("free", 0))
    lives = expired(rows, FakeActions()).installed()
    assert [(life.name, life.height) for life in lives] == [("web", 2_100_000), ("free", None)]
    assert lives[0].end_height == 2_120_000


@pytest.mark.trio
async def test_named_apps_are_removed_a_minute_apart(autojump_clock: trio.testing.MockClock) -> None:
    table, actions = OneTable("a", "b"), FakeActions()
    apps = expired(table, actions)
    async with trio.open_nursery() as nursery:
        await nursery.start(apps.run)
        await apps.remove(("a", "b", "a"))
        await trio.sleep(59)
        assert [call.app for call in actions.removed] == ["a"]
        await trio.sleep(2)
        assert [call.app for call in actions.removed] == ["a", "b"]
        assert all(call.force and call.tell_peers for call in actions.removed)
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_an_app_that_left_meanwhile_is_passed_over(autojump_clock: trio.testing.MockClock) -> None:
    table, actions = OneTable("a", "b"), FakeActions()
    apps = expired(table, actions)
    async with trio.open_nursery() as nursery:
        await nursery.start(apps.run)
        await apps.remove(("a", "b"))
        await trio.sleep(30)
        table.names.remove("b")
        await trio.sleep(60)
        assert [call.app for call in actions.removed] == ["a"]
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_the_plan_tells_what_the_next_passes_name(autojump_clock: trio.testing.MockClock) -> None:
    end = 2_120_000
    rows = Rows(
        OneRow("web", 2_100_000, {"expire": 20_000}),
        OneRow("late", 2_100_000, {"expire": 40_000}),
        OneRow("free", 0),
    )
    actions = FakeActions()
    assert [step.app for step in expired(rows, actions, height=end - 2880).plan()] == ["free"]
    assert [step.app for step in expired(rows, actions, height=end - 2879).plan()] == ["web", "free"]
    soon = expired(rows, actions, height=end - 5).plan()
    assert [(step.kind, step.app, step.height) for step in soon] == [
        ("remove", "web", end + 8),
        ("remove", "free", end),
    ]
    assert soon[0].reason == f"it ends with block {end} unless it is prolonged"
    over = expired(rows, actions, height=end + 1).plan()
    assert (over[0].app, over[0].reason, over[0].height) == ("web", "it has ended", end + 8)
    # deleted from the registry with this pass, whatever was installed
    late = {"late": Life("late", 1_000_000, end)}
    assert {step.app for step in expired(rows, actions, height=end + 1, in_force=late).plan()} == {
        "web",
        "late",
        "free",
    }
    assert actions.done == []


@pytest.mark.trio
async def test_named_apps_that_wait_are_planned_with_their_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    table, actions = OneTable("a", "b"), FakeActions()
    apps = expired(table, actions, height=2_100_000)
    async with trio.open_nursery() as nursery:
        await nursery.start(apps.run)
        await apps.remove(("a", "b"))
        await trio.sleep(10)
        (step,) = apps.plan()
        assert (step.app, step.reason, step.due_s) == ("b", "it has ended", trio.current_time() + 50)
        nursery.cancel_scope.cancel()
