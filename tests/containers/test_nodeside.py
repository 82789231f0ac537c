"""Every removal says why, on the bus and for the API (docs/spec/lifecycle.md §15)."""

from __future__ import annotations

import msgspec
import pytest
import trio
from appworld import AppWorld, base

from trionode.containers.install.appactions import AppLifecycle
from trionode.containers.node.nodeside import REMOVALS_KEPT, REMOVED, InstallNews
from trionode.runtime.bus import EventBus
from trionode.runtime.clock import VirtualClock


@pytest.mark.trio
async def test_a_removal_says_why(autojump_clock: trio.abc.Clock) -> None:
    world, bus = AppWorld(), EventBus()
    life = await world.life()
    news = InstallNews(bus, VirtualClock(7_000))
    actions = AppLifecycle(msgspec.structs.replace(life.bench, news=news), life.operations)
    assert (await actions.install(base(), reason="the test")).ok
    assert (await actions.remove("base", reason="its time is over")).ok
    told = [event.data for event in bus.replay() if event.name == REMOVED]
    assert told == [{"name": "base", "reason": "its time is over", "problem": ""}]
    assert [(found.app, found.reason) for found in news.removals] == [("base", "its time is over")]
    assert not (await actions.remove("base", reason="once more")).ok
    assert len(news.removals) == 1


@pytest.mark.trio
async def test_what_is_left_is_told_too(autojump_clock: trio.abc.Clock) -> None:
    world = AppWorld()
    life = await world.life()
    assert (await life.actions.install(base(), reason="the test")).ok
    world.disk.failing["delete"] = None
    assert not (await life.actions.remove("base", reason="must go", force=True)).ok
    ((app, reason, problem),) = world.news.removals
    assert (app, reason) == ("base", "must go")
    assert "volume fluxcore_base" in problem


@pytest.mark.trio
async def test_only_the_last_ones_are_kept(autojump_clock: trio.abc.Clock) -> None:
    news = InstallNews(EventBus(), VirtualClock(7_000))
    for number in range(REMOVALS_KEPT + 1):
        news.removal(f"app{number}", reason="", problem="")
    assert len(news.removals) == REMOVALS_KEPT
    assert news.removals[0].app == f"app{REMOVALS_KEPT}"
