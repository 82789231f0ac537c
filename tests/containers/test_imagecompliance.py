"""Block lists: fetched when asked for, kept for hours, and what they do to installed apps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import trio
import trio.testing
from fakeactions import FakeActions

from trionode.config.tree import HostingSettings, ImageSettings
from trionode.containers.monitors.imagecompliance import BlockedImages, ImageCompliance, ListsUnknown
from trionode.containers.node.outside import OutsideError
from trionode.runtime.counters import Counters

SPEC = {"name": "web", "version": 3, "owner": "1Owner", "repotag": "bad/miner:1", "hash": "aa"}


class Lists:
    """The files of the network."""

    def __init__(self) -> None:
        self.blocked: Any = []
        self.asked = 0
        self.away = False

    async def get_json(self, url: str) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if self.away:
            raise OutsideError("not there")
        return self.blocked if url == "http://lists/helpers/blockedrepositories.json" else []


class Apps:
    def names(self) -> frozenset[str]:
        return frozenset({"web", "closed"})

    async def opened(self, name: str) -> Mapping[str, Any] | None:
        return self.opened_now(name)

    def opened_now(self, name: str) -> Mapping[str, Any] | None:
        return SPEC if name == "web" else None


def images(source: Lists, *, url: str = "http://lists/", own: tuple[str, ...] = ()) -> BlockedImages:
    return BlockedImages(ImageSettings(), HostingSettings(blocked_repositories=own), url, source)


@pytest.mark.trio
async def test_lists_are_kept_and_outlive_their_source(autojump_clock: trio.testing.MockClock) -> None:
    source = Lists()
    blocked = images(source)
    assert (await blocked.lists()).blocked == ()
    await blocked.lists()
    assert source.asked == 2
    source.blocked, source.away = ["bad/miner"], True
    await trio.sleep(6 * 3600)
    assert (await blocked.lists()).blocked == ()
    source.away = False
    await trio.sleep(300)
    assert (await blocked.lists()).blocked == ("bad/miner",)


@pytest.mark.trio
@pytest.mark.parametrize("answer", [{"a": 1}, [1], None])
async def test_a_list_that_was_never_had_says_nothing(answer: Any) -> None:
    source = Lists()
    source.blocked = answer
    with pytest.raises(ListsUnknown, match=r"http://lists"):
        await images(source).lists()


@pytest.mark.trio
async def test_without_a_source_only_the_operator_blocks() -> None:
    source = Lists()
    lists = await images(source, url="", own=("some/image",)).lists()
    assert (lists.operator, source.asked) == (("some/image",), 0)


@pytest.mark.trio
async def test_a_blocked_app_leaves_within_the_hour(autojump_clock: trio.testing.MockClock) -> None:
    source, actions = Lists(), FakeActions()
    service = ImageCompliance(
        ImageSettings(), blocked=images(source), apps=Apps(), actions=actions, counters=Counters()
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        await trio.sleep(2 * 3600)
        assert actions.removed == []
        source.blocked = ["bad/miner:2"]
        await trio.sleep(8 * 3600)
        (removal, *_) = actions.removed
        assert (removal.app, removal.force, removal.tell_peers) == ("web", False, True)
        assert "bad/miner" in removal.reason
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_the_plan_judges_by_the_lists_there_are(autojump_clock: trio.testing.MockClock) -> None:
    source, actions = Lists(), FakeActions()
    source.blocked = ["bad/miner"]
    blocked = images(source)
    service = ImageCompliance(
        ImageSettings(), blocked=blocked, apps=Apps(), actions=actions, counters=Counters()
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        await trio.testing.wait_all_tasks_blocked()
        assert service.plan() == ()
        assert source.asked == 0
        await blocked.lists()
        (step,) = service.plan()
        assert (step.kind, step.app, step.due_s) == ("remove", "web", trio.current_time() + 3600)
        await trio.sleep(3601)
        assert actions.removed[0].reason == step.reason
        nursery.cancel_scope.cancel()
