"""Ended apps are removed one after the other, by force, and the peers are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing
from fakeactions import FakeActions

from trionode.config.tree import InstallerSettings
from trionode.containers.monitors.expiry import ExpiredApps
from trionode.registry.constants import MAINNET
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


def expired(table: OneTable, actions: FakeActions) -> ExpiredApps:
    settings = InstallerSettings(expiry_spacing_s=60)
    return ExpiredApps(settings, table, actions, Counters(), constants=MAINNET)


def test_an_app_ends_by_the_specification_it_was_installed_with() -> None:
    class Rows:
        def rows(self) -> list[OneRow]:
            return [OneRow("web", 2_100_000, {"expire": 20_000}), OneRow("free", 0)]

    lives = ExpiredApps(InstallerSettings(), Rows(), FakeActions(), Counters(), constants=MAINNET).installed()
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
