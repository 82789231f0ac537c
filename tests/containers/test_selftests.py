"""Images that test themselves are asked in a test install, and nobody else is (lifecycle.md §12)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
from appworld import AppWorld, Life, app, part, settled

from trionode.containers.actions import Outcome
from trionode.containers.install.appactions import AppLifecycle
from trionode.containers.memory.objects import RegistryImage
from trionode.containers.node.outside import OutsideError

pytestmark = pytest.mark.trio

IMAGE = "runonflux/orbit:latest"


class Source:
    """Answers in turn, the last one again and again."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def get_json(self, url: str) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked.append(url)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def tried(source: Source, image: str = IMAGE, *, test: bool = True) -> tuple[Outcome, Life, AppWorld]:
    world = AppWorld()
    life = await settled(world)
    world.images.push(image)
    world.engine.registry[image] = RegistryImage()
    bench = msgspec.structs.replace(life.bench, outside=source)
    before = await world.everything()
    actions = AppLifecycle(bench, life.operations)
    spec = app("built", part("site", image=image, ports=(31050,)))
    outcome = await actions.install(spec, reason="the test", test=test)
    if test:
        assert await world.everything() == before
    return outcome, life, world


async def test_one_that_works(autojump_clock: trio.abc.Clock) -> None:
    source = Source(OutsideError("not up yet"), {"initialTestStatus": False}, {"initialTestStatus": True})
    outcome, _, _ = await tried(source)
    assert outcome.ok, outcome
    assert source.asked == ["http://127.0.0.1:31050/api/status"] * 3


@pytest.mark.parametrize(
    ("answer", "asked"),
    [({"initialTestStatus": "failed"}, 1), ({}, 24), ([], 24), (OutsideError("away"), 24)],
)
async def test_one_that_does_not(answer: Any, asked: int, autojump_clock: trio.abc.Clock) -> None:
    source = Source(answer)
    outcome, _, world = await tried(source)
    assert not outcome.ok
    assert "own test" in outcome.problem
    assert len(source.asked) == asked
    assert world.news.errors == []


async def test_others_are_not_asked(autojump_clock: trio.abc.Clock) -> None:
    source = Source({})
    for image, test in (("library/db:1", True), (IMAGE, False)):
        outcome, _, _ = await tried(source, image, test=test)
        assert outcome.ok, outcome
    assert source.asked == []
